//! Frames, made by etherparse.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::Ipv4Addr;

use etherparse::{PacketBuilder, TcpHeader};

/// A frame's ends.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) source_mac: [u8; 6],
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) ttl: u8,
}

/// A TCP segment's own part.
#[derive(Clone, Copy, Default)]
pub(crate) struct Segment<'a> {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    /// Letters of S, A, F, R.
    pub(crate) flags: &'a str,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) data: &'a [u8],
}

pub(crate) fn tcp(ends: &Ends, segment: &Segment<'_>) -> Vec<u8> {
    let mut header = TcpHeader::new(segment.source, segment.destination, segment.sequence, 64_240);
    header.acknowledgment_number = segment.acknowledgement;
    header.syn = segment.flags.contains('S');
    header.ack = segment.flags.contains('A');
    header.fin = segment.flags.contains('F');
    header.rst = segment.flags.contains('R');
    let builder = PacketBuilder::ethernet2(ends.source_mac, ends.destination_mac)
        .ipv4(ends.source.octets(), ends.destination.octets(), ends.ttl)
        .tcp_header(header);
    let mut frame = Vec::new();
    builder.write(&mut frame, segment.data).expect("a segment");
    frame
}

pub(crate) fn udp(ends: &Ends, source: u16, destination: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ends.source_mac, ends.destination_mac)
        .ipv4(ends.source.octets(), ends.destination.octets(), ends.ttl)
        .udp(source, destination);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"some data").expect("a datagram");
    frame
}

pub(crate) fn echo(ends: &Ends, request: bool, identifier: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ends.source_mac, ends.destination_mac).ipv4(
        ends.source.octets(),
        ends.destination.octets(),
        ends.ttl,
    );
    let builder = if request {
        builder.icmpv4_echo_request(identifier, sequence)
    } else {
        builder.icmpv4_echo_reply(identifier, sequence)
    };
    let mut frame = Vec::new();
    builder.write(&mut frame, data).expect("an echo");
    frame
}
