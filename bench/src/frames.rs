//! The packets that are measured.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use etherparse::{PacketBuilder, TcpHeader};
use lb_common::bench::FRAME;

use crate::bed::Lane;

/// The port of the measured service.
pub(crate) const PORT: u16 = 80;

/// The port of a service all of whose slots have moved.
pub(crate) const MOVED_PORT: u16 = 81;

/// The client of the first known flow.
const FIRST_KNOWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The client of the first new flow: no known one has it.
const FIRST_NEW: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
/// A VIP that no host has (RFC 5737).
const NOT_OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// A kind of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A segment of an established TCP connection.
    Known,
    /// The same, shortly after so many SYNs that each flow may be in its handshake.
    KnownInFlood,
    /// The first segment of a new one.
    Syn,
    /// As [`Known`](Self::Known), to a service all of whose slots have moved to other backends.
    MovedKnown,
    /// As [`Syn`](Self::Syn), to that service.
    MovedSyn,
    /// An ICMP echo request of a running ping.
    Echo,
    /// A TCP segment to an address that is no VIP.
    NotOurs,
}

impl Packet {
    /// As in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Known => "TCP, existing flow",
            Self::KnownInFlood => "TCP, existing flow, in a flood of SYNs",
            Self::Syn => "TCP SYN, new flow",
            Self::MovedKnown => "TCP, existing flow, slot moved",
            Self::MovedSyn => "TCP SYN, new flow, slot moved",
            Self::Echo => "ICMP echo",
            Self::NotOurs => "not ours",
        }
    }

    /// Whether each packet begins a flow.
    pub(crate) fn is_new(self) -> bool {
        matches!(self, Self::Syn | Self::MovedSyn)
    }

    /// The address it goes to.
    pub(crate) fn to(self, lane: Lane) -> Ipv4Addr {
        if self == Self::NotOurs { NOT_OURS } else { lane.vip() }
    }

    /// The port it goes to; 0 for ICMP, which has none.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Known | Self::KnownInFlood | Self::Syn | Self::NotOurs => PORT,
            Self::MovedKnown | Self::MovedSyn => MOVED_PORT,
            Self::Echo => 0,
        }
    }

    fn first_client(self) -> Ipv4Addr {
        if self.is_new() { FIRST_NEW } else { FIRST_KNOWN }
    }

    /// The frame, from flow 0's client with port or identifier 0.
    pub(crate) fn frame(self, lane: Lane) -> Result<[u8; FRAME]> {
        let (from, to) = (self.first_client().octets(), self.to(lane).octets());
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], lane.uplink_mac().0).ipv4(from, to, 64);
        let mut frame = Vec::with_capacity(FRAME);
        if self == Self::Echo {
            builder.icmpv4_echo_request(0, 1).write(&mut frame, &[])?;
        } else {
            let mut header = TcpHeader::new(0, self.port(), 1, 64_240);
            (header.syn, header.ack) = (self.is_new(), !self.is_new());
            header.acknowledgment_number = u32::from(!self.is_new());
            builder.tcp_header(header).write(&mut frame, &[])?;
        }
        // Short packets are padded on the wire.
        frame.resize(FRAME, 0);
        frame.as_slice().try_into().context("the packet doesn't fit its frame")
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::Address;
    use lb_common::packet::{self, Parsed, Transport, tcp_flag};

    use super::{PORT, Packet};
    use crate::bed::Lane;

    fn parsed(packet: Packet) -> packet::Packet {
        let frame = packet.frame(Lane(1)).expect("a frame");
        match packet::parse(frame.as_slice()).expect("well formed") {
            Parsed::Ip(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn packets_are_what_they_are_called() {
        let tcp = |flags| Transport::Tcp { source: 0, destination: PORT, flags };
        assert_eq!(parsed(Packet::Known).transport, tcp(tcp_flag::ACK));
        assert_eq!(parsed(Packet::Syn).transport, tcp(tcp_flag::SYN));
        assert_eq!(parsed(Packet::Echo).transport, Transport::EchoRequest { identifier: 0 });
        assert_eq!(parsed(Packet::Syn).header.destination, Address::v4(Lane(1).vip().octets()));
        assert_ne!(parsed(Packet::NotOurs).header.destination, Address::v4(Lane(1).vip().octets()));
        assert_ne!(parsed(Packet::Known).header.source, parsed(Packet::Syn).header.source);
    }
}
