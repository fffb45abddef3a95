//! The packets that are measured.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use etherparse::{PacketBuilder, TcpHeader};
use lb_common::bench::FRAME;
use lb_userspace::net::MacAddr;

/// The port of the measured service.
pub(crate) const PORT: u16 = 80;

/// The client of the first known flow.
const FIRST_KNOWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The client of the first new flow: no known one has it.
const FIRST_NEW: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
/// Nobody's VIP (RFC 5737).
const NOT_OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// A kind of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A segment of an established TCP connection.
    Known,
    /// The first segment of a new one.
    Syn,
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
            Self::Syn => "TCP SYN, new flow",
            Self::Echo => "ICMP echo",
            Self::NotOurs => "not ours",
        }
    }

    /// Whether each packet begins a flow.
    pub(crate) fn is_new(self) -> bool {
        self == Self::Syn
    }

    /// The client of flow 0.
    pub(crate) fn first_client(self) -> Ipv4Addr {
        if self.is_new() { FIRST_NEW } else { FIRST_KNOWN }
    }

    /// The frame, from flow 0's client with port or identifier 0, to a VIP behind a MAC address.
    pub(crate) fn frame(self, vip: Ipv4Addr, mac: MacAddr) -> Result<[u8; FRAME]> {
        let to = if self == Self::NotOurs { NOT_OURS } else { vip };
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], mac.0).ipv4(
            self.first_client().octets(),
            to.octets(),
            64,
        );
        let mut frame = Vec::with_capacity(FRAME);
        if self == Self::Echo {
            builder.icmpv4_echo_request(0, 1).write(&mut frame, &[])?;
        } else {
            let mut header = TcpHeader::new(0, PORT, 1, 64_240);
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
    use std::net::Ipv4Addr;

    use lb_common::packet::{self, Parsed, Transport, tcp_flag};
    use lb_userspace::net::MacAddr;

    use super::{PORT, Packet};

    const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    fn parsed(packet: Packet) -> packet::Ipv4 {
        let frame = packet.frame(VIP, MacAddr([2; 6])).expect("a frame");
        match packet::parse(frame.as_slice()).expect("well formed") {
            Parsed::Ipv4(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn packets_are_what_they_are_called() {
        let tcp = |flags| Transport::Tcp { source: 0, destination: PORT, flags };
        assert_eq!(parsed(Packet::Known).transport, tcp(tcp_flag::ACK));
        assert_eq!(parsed(Packet::Syn).transport, tcp(tcp_flag::SYN));
        assert_eq!(parsed(Packet::Echo).transport, Transport::EchoRequest { identifier: 0 });
        assert_eq!(parsed(Packet::Syn).destination, VIP.octets());
        assert_ne!(parsed(Packet::NotOurs).destination, VIP.octets());
        assert_ne!(parsed(Packet::Known).source, parsed(Packet::Syn).source);
    }
}
