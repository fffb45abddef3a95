//! What a packet says of its flow.

use super::bytes::{checksum, sum, u32_at};
use super::reference::Headers;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A packet of a flow, as far as it matters to it.
#[derive(Clone, Copy)]
pub(crate) enum Said {
    /// Of a protocol without connections.
    Datagram,
    Segment(Segment),
}

/// A TCP segment.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) length: u32,
    pub(crate) is_intact: bool,
}

impl Said {
    pub(crate) fn of(frame: &[u8], packet: &Headers) -> Self {
        if packet.protocol != 6 {
            return Self::Datagram;
        }
        let at = packet.payload;
        let data = at + usize::from(frame[at + 12] >> 4) * 4;
        let addresses = if packet.source.is_ipv6() { sum(&frame[22..54]) } else { sum(&frame[26..34]) };
        let length = u32::try_from(packet.end - at).expect("a length");
        Self::Segment(Segment {
            flags: frame[at + 13],
            sequence: u32_at(frame, at + 4),
            acknowledgement: u32_at(frame, at + 8),
            length: u32::try_from(packet.end - data).expect("a length"),
            is_intact: checksum(addresses + 6 + length + sum(&frame[at..packet.end])) == 0,
        })
    }

    pub(crate) fn segment(&self) -> Option<&Segment> {
        if let Self::Segment(segment) = self { Some(segment) } else { None }
    }

    pub(crate) fn claims_an_end(&self) -> bool {
        self.segment().is_some_and(Segment::claims_an_end)
    }

    /// A segment that opens a connection.
    pub(crate) fn opens(&self) -> bool {
        self.segment().is_some_and(Segment::opens)
    }

    pub(crate) fn may_begin(&self) -> bool {
        self.segment().is_none_or(Segment::opens)
    }
}

impl Segment {
    /// A SYN alone.
    pub(crate) fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }

    pub(crate) fn claims_an_end(&self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    pub(crate) fn says_nothing(&self) -> bool {
        self.length == 0 && self.flags & FIN == 0
    }

    /// As much of its acknowledgement as an attempt keeps.
    pub(crate) fn acknowledged(&self) -> u16 {
        (self.acknowledgement & 0xffff).try_into().expect("16 bits")
    }

    /// As much of its sequence number.
    pub(crate) fn numbered(&self) -> u16 {
        (self.sequence & 0xffff).try_into().expect("16 bits")
    }
}
