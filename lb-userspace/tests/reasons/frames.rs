//! Frames that are unusual, or broken.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader};

use crate::bed::{CLIENT_MAC, UPLINK_MAC};
use crate::family::{Family, IN, Macs, What, frame};

/// The frame with these bytes in the place of its own.
pub(crate) fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The frame's IP packet, cut to a payload of so many bytes; the frame keeps its length.
pub(crate) fn cut(frame: &[u8], payload: u16) -> Vec<u8> {
    let is_v6 = frame[14] >> 4 == 6;
    if is_v6 {
        with(frame, 18, &payload.to_be_bytes())
    } else {
        with(frame, 16, &(20 + payload).to_be_bytes())
    }
}

/// An IPv6 packet with a header of another protocol before its payload.
pub(crate) fn extended(frame: &[u8], protocol: u8, mut header: Vec<u8>) -> Vec<u8> {
    let length = u16::from_be_bytes([frame[18], frame[19]]) + u16::try_from(header.len()).expect("short");
    header[0] = frame[20];
    let mut frame = with(&with(frame, 18, &length.to_be_bytes()), 20, &[protocol]);
    frame.splice(54..54, header);
    frame
}

pub(crate) fn of_protocol(from: IpAddr, to: IpAddr, protocol: u8) -> Vec<u8> {
    let frame = frame(IN, from, to, 64, &What::Udp(40_000, 53));
    if from.is_ipv6() {
        return with(&frame, 20, &[protocol]);
    }
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    let word = |protocol| u16::from_be_bytes([64, protocol]);
    let sum = lb_common::checksum::update_u16(sum, word(17), word(protocol));
    with(&with(&frame, 23, &[protocol]), 24, &sum.to_be_bytes())
}

/// What answers a packet to the VIP: an error that quotes 128 bytes of it.
pub(crate) fn error(family: &Family, about: &[u8], v4: Icmpv4Type, v6: Icmpv6Type) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(UPLINK_MAC, CLIENT_MAC);
    let quote = &about[14..about.len().min(14 + 128)];
    let mut frame = Vec::new();
    match (family.vip, family.client) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            builder.ipv4(vip.octets(), client.octets(), 64).icmpv4(v4).write(&mut frame, quote)
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            builder.ipv6(vip.octets(), client.octets(), 64).icmpv6(v6).write(&mut frame, quote)
        }
        _ => panic!("one family"),
    }
    .expect("an error");
    frame
}

/// Sources that no client of the VIP has: impossible ones, a tenant's, the VIP itself.
pub(crate) fn impossible_sources(Family { vip, backend, gateway, .. }: &Family) -> Vec<IpAddr> {
    let nobodys: &[&str] = if vip.is_ipv6() {
        &["::", "::1", "::ffff:198.51.100.7", "ff02::1", "ff0e::7", "fe80::7", "febf::7"]
    } else {
        &[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "224.0.0.1",
            "239.1.2.3",
            "240.1.2.3",
            "255.255.255.255",
        ]
    };
    let nobodys = nobodys.iter().map(|address| address.parse().expect("an address"));
    nobodys.chain([*backend, *gateway, *vip]).collect()
}

/// The frame with a VLAN tag of this kind.
pub(crate) fn tagged(frame: &[u8], ethertype: u16, vlan: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(12..12, [ethertype.to_be_bytes(), vlan.to_be_bytes()].concat());
    frame
}

/// What answers a segment that acknowledges 8, to a service without backends.
pub(crate) fn reset(family: &Family, port: u16) -> Vec<u8> {
    segment_back(family, |packet| packet.tcp(port, 40_000, 8, 0).rst())
}

/// What answers a SYN of sequence number 7 with nine bytes of data, to a closed port.
pub(crate) fn refused(family: &Family, port: u16) -> Vec<u8> {
    segment_back(family, |packet| packet.tcp(port, 40_000, 0, 0).rst().ack(17))
}

/// A segment from the VIP to the client.
pub(crate) fn segment_back(
    family: &Family,
    tcp: impl Fn(PacketBuilderStep<IpHeaders>) -> PacketBuilderStep<TcpHeader>,
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(UPLINK_MAC, CLIENT_MAC);
    let builder = match (family.vip, family.client) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => builder.ipv4(vip.octets(), client.octets(), 64),
        (IpAddr::V6(vip), IpAddr::V6(client)) => builder.ipv6(vip.octets(), client.octets(), 64),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    tcp(builder).write(&mut frame, &[]).expect("a segment");
    frame
}

/// A packet as long as no link takes it.
pub(crate) fn long(macs: Macs, from: IpAddr, to: IpAddr, [source, destination]: [u16; 2]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1);
    let builder = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    builder.udp(source, destination).write(&mut frame, &[0x5a; 1_600]).expect("a datagram");
    frame
}
