//! What an IP packet carries.

use super::{Fields, Frame, ICMP, Packet, TCP, UDP};
use crate::abi::{DropReason, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};

/// Bits of the TCP header's flags byte (RFC 9293, 3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// What an IP packet carries.
///
/// Longer than a word: the compiler would pass one that fits a word as a number, and put it
/// together and take it apart with shifts.
#[repr(u32, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Bits of [`tcp_flag`].
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// An ICMP or `ICMPv6` echo request.
    EchoRequest {
        /// The identifier: what tells one ping from another.
        identifier: u16,
    },
    /// An ICMP or `ICMPv6` echo reply.
    EchoReply {
        /// The identifier of the request.
        identifier: u16,
    },
    /// An ICMP or `ICMPv6` error, which quotes the packet that it is about.
    Error,
    /// Neighbour discovery as hosts send it, and multicast listener reports (RFC 4861, RFC 3810).
    Discovery,
    /// More IPv6 extension headers than are walked, or a route that isn't at its end.
    Unread,
    /// Any other protocol, other ICMP messages, and fragments without the payload's header.
    Other,
}

/// Reads the header of the payload. `whole` is whether all of the payload is here.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(
    frame: &F,
    protocol: u8,
    offset: usize,
    end: usize,
    whole: bool,
) -> Result<Transport, DropReason> {
    match protocol {
        PROTOCOL_TCP => tcp(frame, offset, end),
        PROTOCOL_UDP => udp(frame, offset, end, whole),
        PROTOCOL_ICMP => icmp(frame, offset, end, icmpv4_meaning),
        PROTOCOL_ICMPV6 => icmp(frame, offset, end, icmpv6_meaning),
        _ => Ok(Transport::Other),
    }
}

/// The TCP header without options (RFC 9293, 3.1), in network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    source: u16,
    destination: u16,
    sequence: u32,
    acknowledgement: u32,
    /// In its upper four bits, in words.
    data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

// SAFETY: its size, asserted below, is the sum of its integers'.
unsafe impl Fields for Tcp {}

/// The UDP header (RFC 768), in network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Udp {
    source: u16,
    destination: u16,
    length: u16,
    checksum: u16,
}

// SAFETY: as above.
unsafe impl Fields for Udp {}

const _: () = assert!(size_of::<Tcp>() == TCP && size_of::<Udp>() == UDP);

#[inline(always)]
fn tcp<F: Frame + ?Sized>(frame: &F, offset: usize, end: usize) -> Result<Transport, DropReason> {
    if offset + TCP > end {
        return Err(DropReason::TcpTruncated);
    }
    let header = frame.header::<Tcp>(offset).ok_or(DropReason::TcpTruncated)?;
    let header_length = (header.data_offset >> 4) as usize * 4;
    if header_length < TCP || offset + header_length > end {
        return Err(DropReason::TcpHeader);
    }
    Ok(Transport::Tcp {
        source: u16::from_be(header.source),
        destination: u16::from_be(header.destination),
        flags: header.flags,
    })
}

/// What a TCP segment says beside its ports and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sequence number of its first byte, or of its SYN.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// The bytes of its data.
    pub length: u32,
}

/// The numbers of a packet that was read as a TCP segment; `None` where the frame doesn't have them.
#[inline(always)]
pub fn segment<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> Option<Segment> {
    let header = frame.header::<Tcp>(packet.payload)?;
    let data = packet.payload + (header.data_offset >> 4) as usize * 4;
    Some(Segment {
        sequence: u32::from_be(header.sequence),
        acknowledgement: u32::from_be(header.acknowledgement),
        length: packet.end.saturating_sub(data) as u32,
    })
}

/// Whether the checksum of a TCP segment without data is right. A receiver ignores one whose checksum is wrong.
#[inline(always)]
pub fn is_intact<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> bool {
    /// The most words of options.
    const OPTIONS: usize = 10;
    let length = packet.end.saturating_sub(packet.payload);
    if length > TCP + 4 * OPTIONS {
        return false;
    }
    // One's complement sums are the same in any byte order (RFC 1071, 2), as long as all words are in the same: here, in that of
    // memory.
    let mut sum = u64::from((length as u16).to_be()) + u64::from(u16::from(PROTOCOL_TCP).to_be());
    let addresses = [packet.header.source.words(), packet.header.destination.words()];
    for [high, low] in addresses {
        let low = if packet.header.is_v6() { low } else { low & !MAPPED };
        sum += halves(high) + halves(low);
    }
    let mut word = 0;
    while word < TCP / 4 + OPTIONS {
        if 4 * word < length {
            let Some(bytes) = frame.read::<4>(packet.payload + 4 * word) else { return false };
            sum += halves(u64::from(u32::from_ne_bytes(bytes)));
        }
        word += 1;
    }
    halves(halves(sum)) == 0xffff
}

/// What the lower word of an IPv4-mapped address has beside the IPv4 address.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

/// The sum of a word's four parts of 16 bits.
#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word >> 48) + (word >> 32 & 0xffff) + (word >> 16 & 0xffff) + (word & 0xffff)
}

#[inline(always)]
fn udp<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    end: usize,
    whole: bool,
) -> Result<Transport, DropReason> {
    if offset + UDP > end {
        return Err(DropReason::UdpTruncated);
    }
    let header = frame.header::<Udp>(offset).ok_or(DropReason::UdpTruncated)?;
    let length = u16::from_be(header.length) as usize;
    if length < UDP || (whole && offset + length > end) {
        return Err(DropReason::UdpLength);
    }
    Ok(Transport::Udp { source: u16::from_be(header.source), destination: u16::from_be(header.destination) })
}

/// What an ICMP message is to the balancer.
enum Meaning {
    EchoRequest,
    EchoReply,
    Error,
    Discovery,
    Other,
}

#[inline(always)]
fn icmp<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    end: usize,
    meaning: impl Fn(u8, u8) -> Meaning,
) -> Result<Transport, DropReason> {
    if offset + ICMP > end {
        return Err(DropReason::IcmpTruncated);
    }
    let header = frame.read::<ICMP>(offset).ok_or(DropReason::IcmpTruncated)?;
    let identifier = u16::from_be_bytes([header[4], header[5]]);
    Ok(match meaning(header[0], header[1]) {
        Meaning::EchoRequest => Transport::EchoRequest { identifier },
        Meaning::EchoReply => Transport::EchoReply { identifier },
        Meaning::Error => Transport::Error,
        Meaning::Discovery => Transport::Discovery,
        Meaning::Other => Transport::Other,
    })
}

/// By type and code (RFC 792). Redirects and source quench are for routers and nobody.
#[inline(always)]
fn icmpv4_meaning(kind: u8, code: u8) -> Meaning {
    match (kind, code) {
        (8, 0) => Meaning::EchoRequest,
        (0, 0) => Meaning::EchoReply,
        // Destination unreachable, time exceeded, parameter problem.
        (3 | 11 | 12, _) => Meaning::Error,
        _ => Meaning::Other,
    }
}

/// By type and code (RFC 4443, RFC 4861, RFC 2710, RFC 3810).
#[inline(always)]
fn icmpv6_meaning(kind: u8, code: u8) -> Meaning {
    match (kind, code) {
        (128, 0) => Meaning::EchoRequest,
        (129, 0) => Meaning::EchoReply,
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        (1..=4, _) => Meaning::Error,
        // Multicast listener reports, router and neighbour solicitations, neighbour advertisements. Router
        // advertisements and redirects are a router's.
        (131 | 132 | 133 | 135 | 136 | 143, 0) => Meaning::Discovery,
        _ => Meaning::Other,
    }
}
