//! The packet that an ICMP error is about.

use super::{End, Frame, Header, ICMP, IPV4, IPV6, Packet, Part, Transport, Version, ipv6};
use crate::abi::{Address, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};

/// The packet that an ICMP error is about, as far as the error quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its header.
    pub header: Header,
    /// Its protocol number.
    pub protocol: u8,
    /// Its ports or its echo identifier; TCP flags aren't read.
    pub transport: Transport,
    /// Where its header begins in the frame.
    pub(super) at: usize,
    /// Where its payload begins in the frame.
    pub(super) payload: usize,
    /// Where the error ends.
    end: usize,
}

/// Reads what an ICMP error quotes: an IP header and at least eight bytes of a TCP, UDP or ICMP echo header (RFC 792, RFC
/// 4443). None where there is less, or something else.
#[inline(always)]
pub fn quoted<F: Frame + ?Sized>(frame: &F, error: &Packet) -> Option<Quote> {
    let at = error.payload + ICMP;
    let (header, protocol, payload) =
        if error.header.is_v6() { v6_header(frame, at, error.end)? } else { v4_header(frame, at)? };
    if payload + 8 > error.end {
        return None;
    }
    let start = frame.read::<8>(payload)?;
    let (first, second) =
        (u16::from_be_bytes([start[0], start[1]]), u16::from_be_bytes([start[2], start[3]]));
    let identifier = u16::from_be_bytes([start[4], start[5]]);
    let transport = match (protocol, start[0], start[1]) {
        (PROTOCOL_TCP, ..) => Transport::Tcp { source: first, destination: second, flags: 0 },
        (PROTOCOL_UDP, ..) => Transport::Udp { source: first, destination: second },
        (PROTOCOL_ICMP, 8, 0) | (PROTOCOL_ICMPV6, 128, 0) => Transport::EchoRequest { identifier },
        (PROTOCOL_ICMP, 0, 0) | (PROTOCOL_ICMPV6, 129, 0) => Transport::EchoReply { identifier },
        _ => return None,
    };
    Some(Quote { header, protocol, transport, at, payload, end: error.end })
}

#[inline(always)]
fn v4_header<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<(Header, u8, usize)> {
    let header = frame.read::<IPV4>(at)?;
    let header_length = (header[0] & 0x0f) as usize * 4;
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || header_length < IPV4 || offset != 0 || header[9] == PROTOCOL_ICMPV6 {
        return None;
    }
    let addresses = Header {
        source: Address::v4([header[12], header[13], header[14], header[15]]),
        destination: Address::v4([header[16], header[17], header[18], header[19]]),
        version: Version::V4 {
            checksum: u16::from_ne_bytes([header[10], header[11]]),
            dont_fragment: header[6] & 0x40 != 0,
        },
    };
    Some((addresses, header[9], at + header_length))
}

#[inline(always)]
fn v6_header<F: Frame + ?Sized>(frame: &F, at: usize, end: usize) -> Option<(Header, u8, usize)> {
    let header = frame.read::<IPV6>(at)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let chain = ipv6::walk(frame, header[6], at + IPV6, end).ok()?;
    let is_later = matches!(chain.part, Part::Later { .. });
    if !chain.at_end || is_later || chain.protocol == PROTOCOL_ICMP {
        return None;
    }
    let addresses = Header {
        source: ipv6::address(&header, 8),
        destination: ipv6::address(&header, 24),
        version: Version::V6,
    };
    Some((addresses, chain.protocol, chain.payload))
}

impl Quote {
    /// An end's port, if the packet has ports.
    #[inline(always)]
    #[must_use]
    pub const fn port(&self, end: End) -> Option<u16> {
        match (self.transport, end) {
            (Transport::Tcp { source, .. } | Transport::Udp { source, .. }, End::Source) => Some(source),
            (Transport::Tcp { destination, .. } | Transport::Udp { destination, .. }, End::Destination) => {
                Some(destination)
            }
            _ => None,
        }
    }

    /// Where the payload's checksum is, if it is quoted and covers the addresses.
    #[inline(always)]
    pub(super) const fn checksum_offset(&self) -> Option<usize> {
        let at = match self.transport {
            Transport::Tcp { .. } => self.payload + 16,
            Transport::Udp { .. } => self.payload + 6,
            _ if self.header.is_v6() => self.payload + 2,
            _ => return None,
        };
        if at + 2 <= self.end { Some(at) } else { None }
    }
}
