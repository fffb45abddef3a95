//! What the packet code does to frames whose every byte is known.

use super::{ETHERTYPE_IPV4, Parsed, Transport, parse};

#[test]
fn arp_is_arp() {
    let mut frame = [0; 42];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(parse(frame.as_slice()), Ok(Parsed::Arp));
}

#[test]
fn icmpv6_over_ipv4_is_nothing() {
    let mut frame = [0; 64];
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 58]);
    frame[34] = 128;
    let Ok(Parsed::Ip(packet)) = parse(frame.as_slice()) else { panic!("it is IPv4") };
    assert_eq!(packet.transport, Transport::Other);
}
