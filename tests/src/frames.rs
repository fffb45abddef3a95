//! Frames as an attacker makes them: whole ones by etherparse, and what is wrong with them beside.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, IpHeaders, IpNumber, Ipv4Header, PacketBuilder,
    PacketBuilderStep, TcpHeader,
};
use lb_userspace::net::MacAddr;

/// The Ethernet addresses of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Macs {
    /// Who says to have sent it.
    pub source: MacAddr,
    /// For whom it is.
    pub destination: MacAddr,
}

/// The sender's and the receiver's address and port.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The sender.
    pub from: SocketAddrV4,
    /// The receiver.
    pub to: SocketAddrV4,
}

/// Sequence and acknowledgement number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    /// Of the segment's first byte.
    pub sequence: u32,
    /// Of the byte that is expected next.
    pub acknowledgement: u32,
}

/// What a fragment says of itself in its header.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// What packet it is a part of.
    pub identification: u16,
    /// Where it begins, in units of 8 bytes.
    pub offset: u16,
    /// Whether another part follows.
    pub more: bool,
}

const TTL: u8 = 64;
const ETHERNET: usize = 14;
const PAYLOAD: usize = ETHERNET + 20;

/// A segment; `flags` are letters of S, A, F, R, P.
///
/// # Panics
/// When it is longer than a packet can be.
#[must_use]
pub fn tcp(macs: Macs, ends: Ends, flags: &str, numbers: Numbers, data: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(ends.from.port(), ends.to.port(), numbers.sequence, 64_240);
    header.acknowledgment_number = numbers.acknowledgement;
    header.syn = flags.contains('S');
    header.ack = flags.contains('A');
    header.fin = flags.contains('F');
    header.rst = flags.contains('R');
    header.psh = flags.contains('P');
    written(|frame| {
        let builder = ip(macs, *ends.from.ip(), *ends.to.ip()).tcp_header(header);
        builder.write(frame, data).expect("a segment");
    })
}

/// A datagram.
///
/// # Panics
/// When it is longer than a packet can be.
#[must_use]
pub fn udp(macs: Macs, ends: Ends, data: &[u8]) -> Vec<u8> {
    written(|frame| {
        let builder = ip(macs, *ends.from.ip(), *ends.to.ip()).udp(ends.from.port(), ends.to.port());
        builder.write(frame, data).expect("a datagram");
    })
}

/// An echo request.
///
/// # Panics
/// When it is longer than a packet can be.
#[must_use]
pub fn ping(macs: Macs, from: Ipv4Addr, to: Ipv4Addr, identifier: u16, sequence: u16) -> Vec<u8> {
    written(|frame| {
        let builder = ip(macs, from, to).icmpv4_echo_request(identifier, sequence);
        builder.write(frame, b"who is there?").expect("an echo request");
    })
}

/// An echo reply.
///
/// # Panics
/// When it is longer than a packet can be.
#[must_use]
pub fn pong(macs: Macs, from: Ipv4Addr, to: Ipv4Addr, identifier: u16, sequence: u16) -> Vec<u8> {
    written(|frame| {
        let builder = ip(macs, from, to).icmpv4_echo_reply(identifier, sequence);
        builder.write(frame, b"it is me").expect("an echo reply");
    })
}

/// The frame's packet as a fragment of another: the first one (offset 0) as it is, any other without the header of its
/// protocol, as what comes later of a packet.
///
/// # Panics
/// When the frame isn't one of IPv4.
#[must_use]
pub fn fragment(mut frame: Vec<u8>, slice: Slice) -> Vec<u8> {
    if slice.offset > 0 {
        frame.splice(PAYLOAD.., [0x55; 64]);
        let length = u16::try_from(frame.len() - ETHERNET).unwrap_or(u16::MAX);
        frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes());
    }
    let place = slice.offset & 0x1fff | u16::from(slice.more) << 13;
    frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&slice.identification.to_be_bytes());
    frame[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&place.to_be_bytes());
    let header = Ipv4Header::from_slice(&frame[ETHERNET..]).map(|(header, _)| header.calc_header_checksum());
    let sum = header.expect("an IPv4 header");
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// An ARP packet of that operation, 1 for a request and 2 for a reply, to all.
#[must_use]
pub fn arp(mac: MacAddr, operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let everybody = MacAddr([0xff; 6]);
    let packet = ArpEthIpv4Packet {
        operation: ArpOperation(operation),
        sender_mac: mac.0,
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    let mut frame = ethernet(Macs { source: mac, destination: everybody }, EtherType::ARP);
    frame.extend(packet.to_bytes());
    frame
}

/// The frame with a tag of a VLAN.
#[must_use]
pub fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

/// The frame with a tag of a provider's VLAN.
#[must_use]
pub fn tagged_by_provider(frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let mut frame = tagged(frame, vlan);
    frame[12..14].copy_from_slice(&[0x88, 0xa8]);
    frame
}

/// The frame with a wrong checksum of its TCP segment, datagram or echo.
#[must_use]
pub fn torn(mut frame: Vec<u8>) -> Vec<u8> {
    let at = match IpNumber(frame[ETHERNET + 9]) {
        IpNumber::TCP => 16,
        IpNumber::UDP => 6,
        _ => 2,
    };
    frame[PAYLOAD + at] ^= 0x55;
    frame
}

/// The frame with a wrong checksum of its IP header.
#[must_use]
pub fn torn_header(mut frame: Vec<u8>) -> Vec<u8> {
    frame[ETHERNET + 10] ^= 0x55;
    frame
}

fn ip(macs: Macs, from: Ipv4Addr, to: Ipv4Addr) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(macs.source.0, macs.destination.0).ipv4(from.octets(), to.octets(), TTL)
}

fn ethernet(macs: Macs, kind: EtherType) -> Vec<u8> {
    [&macs.destination.0[..], &macs.source.0, &kind.0.to_be_bytes()].concat()
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame);
    frame
}
