//! What is answered to packets that go nowhere.

use super::{
    ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, IPV4, IPV6, Packet, Part, TCP, Transport, tcp_flag,
};
use crate::abi::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP};
use crate::checksum;

/// Length of the frame that [`reset_ipv4`] makes.
pub const RESET_IPV4: usize = ETHERNET + IPV4 + TCP;
/// Length of the frame that [`reset_ipv6`] makes.
pub const RESET_IPV6: usize = ETHERNET + IPV6 + TCP;

/// As much of a packet is quoted at most: its headers and more, in an answer that fits every link.
pub const LONGEST_QUOTE: usize = 128;

/// Hops that an answer may take.
const HOPS: u8 = 64;

/// Why a packet can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody takes what comes to its port.
    PortUnreachable,
    /// It is longer than the next link takes.
    TooLong {
        /// The bytes that the link takes.
        mtu: u16,
    },
}

impl Fault {
    /// ICMP's type, code and second word (RFC 792, RFC 1191).
    #[inline(always)]
    const fn icmp(self) -> [u8; ICMP] {
        match self {
            Self::PortUnreachable => [3, 3, 0, 0, 0, 0, 0, 0],
            Self::TooLong { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                [3, 4, 0, 0, 0, 0, high, low]
            }
        }
    }

    /// `ICMPv6`'s (RFC 4443, 3.1 and 3.2).
    #[inline(always)]
    const fn icmpv6(self) -> [u8; ICMP] {
        match self {
            Self::PortUnreachable => [1, 4, 0, 0, 0, 0, 0, 0],
            Self::TooLong { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                [2, 0, 0, 0, 0, 0, high, low]
            }
        }
    }
}

/// Whether an ICMP error may be sent about a packet: not about another error, nor a fragment but the first, nor to
/// something that isn't one host (RFC 1122, 3.2.2; RFC 4443, 2.4).
#[inline(always)]
#[must_use]
pub fn may_be_answered(packet: &Packet) -> bool {
    if matches!(packet.part, Part::Later { .. }) || matches!(packet.transport, Transport::Error) {
        return false;
    }
    packet.header.has_possible_source()
}

/// The sum over the first `length` bytes of a frame's packet: what an answer quotes.
#[inline(always)]
pub fn sum_of_quote<F: Frame + ?Sized>(frame: &F, length: usize) -> Option<u32> {
    let mut sum = 0;
    let mut at = 0;
    while at + 2 <= LONGEST_QUOTE {
        if at + 2 > length {
            break;
        }
        sum += u32::from(u16::from_be_bytes(frame.read::<2>(ETHERNET + at)?));
        at += 2;
    }
    if at < length && at < LONGEST_QUOTE {
        sum += u32::from(frame.read::<1>(ETHERNET + at)?[0]) << 8;
    }
    Some(sum)
}

/// The headers of the ICMP error about an IPv4 packet, to stand before the first `length` bytes of that packet, whose sum
/// is `sum`: Ethernet, IPv4 and ICMP. `ethernet` is the header that the packet came with.
#[inline(always)]
#[must_use]
pub fn error_head_ipv4(
    ethernet: &[u8; ETHERNET],
    from: [u8; 4],
    to: [u8; 4],
    fault: Fault,
    length: usize,
    sum: u32,
) -> [u8; ETHERNET + IPV4 + ICMP] {
    let mut head = [0; ETHERNET + IPV4 + ICMP];
    put(&mut head, 0, turned(ethernet, ETHERTYPE_IPV4));
    put_ipv4(&mut head, PROTOCOL_ICMP, ICMP + length, from, to);
    put(&mut head, ETHERNET + IPV4, fault.icmp());
    let sum = sum + sum_of(&head, ETHERNET + IPV4, ICMP);
    put(&mut head, ETHERNET + IPV4 + 2, (!checksum::fold(sum)).to_be_bytes());
    head
}

/// As [`error_head_ipv4`], for IPv6.
#[inline(always)]
#[must_use]
pub fn error_head_ipv6(
    ethernet: &[u8; ETHERNET],
    from: [u8; 16],
    to: [u8; 16],
    fault: Fault,
    length: usize,
    sum: u32,
) -> [u8; ETHERNET + IPV6 + ICMP] {
    let mut head = [0; ETHERNET + IPV6 + ICMP];
    put(&mut head, 0, turned(ethernet, ETHERTYPE_IPV6));
    put_ipv6(&mut head, PROTOCOL_ICMPV6, ICMP + length, from, to);
    put(&mut head, ETHERNET + IPV6, fault.icmpv6());
    let pseudo = sum_of(&head, ETHERNET + 8, 32) + u32::from(PROTOCOL_ICMPV6) + (ICMP + length) as u32;
    let sum = sum + pseudo + sum_of(&head, ETHERNET + IPV6, ICMP);
    put(&mut head, ETHERNET + IPV6 + 2, (!checksum::fold(sum)).to_be_bytes());
    head
}

/// The segment that answers `tcp` (the fixed part of its header) where nobody listens, as a frame without options:
/// RFC 9293, 3.5.2, group 1. `ethernet` and `packet` are the headers it came with.
///
/// A RST itself must not be answered; that is for the caller to see to.
#[inline(always)]
#[must_use]
pub fn reset_ipv4(
    ethernet: &[u8; ETHERNET],
    packet: &Packet,
    tcp: &[u8; TCP],
    from: [u8; 4],
    to: [u8; 4],
) -> [u8; RESET_IPV4] {
    let mut frame = [0; RESET_IPV4];
    put(&mut frame, 0, turned(ethernet, ETHERTYPE_IPV4));
    put_ipv4(&mut frame, PROTOCOL_TCP, TCP, from, to);
    put(&mut frame, ETHERNET + IPV4, segment(packet, tcp));
    let pseudo = sum_of(&frame, ETHERNET + 12, 8) + u32::from(PROTOCOL_TCP) + TCP as u32;
    let sum = pseudo + sum_of(&frame, ETHERNET + IPV4, TCP);
    put(&mut frame, ETHERNET + IPV4 + 16, (!checksum::fold(sum)).to_be_bytes());
    frame
}

/// As [`reset_ipv4`], for IPv6.
#[inline(always)]
#[must_use]
pub fn reset_ipv6(
    ethernet: &[u8; ETHERNET],
    packet: &Packet,
    tcp: &[u8; TCP],
    from: [u8; 16],
    to: [u8; 16],
) -> [u8; RESET_IPV6] {
    let mut frame = [0; RESET_IPV6];
    put(&mut frame, 0, turned(ethernet, ETHERTYPE_IPV6));
    put_ipv6(&mut frame, PROTOCOL_TCP, TCP, from, to);
    put(&mut frame, ETHERNET + IPV6, segment(packet, tcp));
    let pseudo = sum_of(&frame, ETHERNET + 8, 32) + u32::from(PROTOCOL_TCP) + TCP as u32;
    let sum = pseudo + sum_of(&frame, ETHERNET + IPV6, TCP);
    put(&mut frame, ETHERNET + IPV6 + 16, (!checksum::fold(sum)).to_be_bytes());
    frame
}

/// The header of the RST, its checksum 0.
#[inline(always)]
fn segment(packet: &Packet, tcp: &[u8; TCP]) -> [u8; TCP] {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let flags = tcp[13];
    let (sequence, acknowledge, flags) = if flags & ACK == 0 {
        let header_length = (tcp[12] >> 4) as usize * 4;
        let data = packet.end.wrapping_sub(packet.payload).wrapping_sub(header_length) as u32;
        let length = data.wrapping_add(u32::from(flags & SYN != 0)).wrapping_add(u32::from(flags & FIN != 0));
        let received = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        ([0; 4], received.wrapping_add(length).to_be_bytes(), RST | ACK)
    } else {
        ([tcp[8], tcp[9], tcp[10], tcp[11]], [0; 4], RST)
    };
    let mut segment = [0; TCP];
    put(&mut segment, 0, [tcp[2], tcp[3], tcp[0], tcp[1]]);
    put(&mut segment, 4, sequence);
    put(&mut segment, 8, acknowledge);
    put(&mut segment, 12, [0x50, flags]);
    segment
}

/// An Ethernet header back to where one came from.
#[inline(always)]
fn turned(e: &[u8; ETHERNET], ethertype: u16) -> [u8; ETHERNET] {
    let [high, low] = ethertype.to_be_bytes();
    [e[6], e[7], e[8], e[9], e[10], e[11], e[0], e[1], e[2], e[3], e[4], e[5], high, low]
}

/// An IPv4 header after the Ethernet header: version 4, five words; don't fragment.
#[inline(always)]
fn put_ipv4<const N: usize>(frame: &mut [u8; N], protocol: u8, length: usize, from: [u8; 4], to: [u8; 4]) {
    let [high, low] = ((IPV4 + length) as u16).to_be_bytes();
    put(frame, ETHERNET, [0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, protocol]);
    put(frame, ETHERNET + 12, from);
    put(frame, ETHERNET + 16, to);
    let sum = sum_of(frame, ETHERNET, IPV4);
    put(frame, ETHERNET + 10, (!checksum::fold(sum)).to_be_bytes());
}

/// An IPv6 header after the Ethernet header.
#[inline(always)]
fn put_ipv6<const N: usize>(frame: &mut [u8; N], protocol: u8, length: usize, from: [u8; 16], to: [u8; 16]) {
    let [high, low] = (length as u16).to_be_bytes();
    put(frame, ETHERNET, [0x60, 0, 0, 0, high, low, protocol, HOPS]);
    put(frame, ETHERNET + 8, from);
    put(frame, ETHERNET + 24, to);
}

/// Writes `bytes` at a place that is inside by construction; a place outside writes nothing.
#[inline(always)]
fn put<const N: usize, const M: usize>(frame: &mut [u8; N], at: usize, bytes: [u8; M]) {
    let mut i = 0;
    while i < M {
        if at + i < N {
            frame[at + i] = bytes[i];
        }
        i += 1;
    }
}

#[inline(always)]
fn sum_of<const N: usize>(frame: &[u8; N], at: usize, length: usize) -> u32 {
    let mut sum = 0;
    let mut i = at;
    while i + 1 < at + length && i + 1 < N {
        sum += u32::from(u16::from_be_bytes([frame[i], frame[i + 1]]));
        i += 2;
    }
    sum
}
