//! Reading a frame, and what it becomes.

use crate::abi::{Address, DropReason};
use crate::checksum;

/// Length of an Ethernet header without tags (IEEE 802.3).
pub const ETHERNET: usize = 14;
/// Length of an IPv4 header without options (RFC 791).
pub const IPV4: usize = 20;
/// Length of a TCP header without options (RFC 9293).
pub const TCP: usize = 20;
/// Length of an ICMP echo header (RFC 792).
pub const ICMP: usize = 8;

/// Length of the longest headers that [`parse`] reads: an IPv4 header with all its options, and a TCP header's fixed
/// part.
pub const LONGEST_HEADERS: usize = ETHERNET + 60 + TCP;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;

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

/// Bytes of a frame, wherever they are: an XDP buffer, a socket buffer, a slice.
pub trait Frame {
    /// The length of the frame on the wire, from the Ethernet header on.
    fn length(&self) -> usize;

    /// `N` bytes from `offset` on, if the frame has them.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Frame for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// IPv4.
    Ipv4(Ipv4),
    /// ARP for IPv4 and Ethernet.
    Arp,
    /// Something else: IPv6, VLAN tags, …
    Other,
}

/// An IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Its source address.
    pub source: [u8; 4],
    /// Its destination address.
    pub destination: [u8; 4],
    /// Its time to live.
    pub ttl: u8,
    /// The header checksum, as it stands in memory.
    pub checksum: u16,
    /// The payload's offset in the frame.
    pub payload: usize,
    /// The offset at which the packet ends; the frame may be padded beyond it.
    pub end: usize,
    /// What the packet carries.
    pub transport: Transport,
}

/// What an IPv4 packet carries.
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
    /// An ICMP echo request.
    EchoRequest {
        /// The identifier: what tells one ping from another.
        identifier: u16,
    },
    /// An ICMP echo reply.
    EchoReply {
        /// The identifier of the request.
        identifier: u16,
    },
    /// Part of a fragmented packet, the first part too.
    Fragment,
    /// Any other protocol, and ICMP messages other than echo.
    Other,
}

/// Reads a frame as far as balancing needs.
///
/// The IPv4 header checksum isn't verified: it is updated, so that a wrong one stays wrong and the receiver drops the
/// packet.
///
/// # Errors
///
/// The reason for which a malformed packet is to be dropped.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Parsed, DropReason> {
    let ethertype = frame.read::<2>(ETHERNET - 2).ok_or(DropReason::EthernetTruncated)?;
    match u16::from_be_bytes(ethertype) {
        ETHERTYPE_IPV4 => parse_ipv4(frame).map(Parsed::Ipv4),
        ETHERTYPE_ARP => Ok(Parsed::Arp),
        _ => Ok(Parsed::Other),
    }
}

#[inline(always)]
fn parse_ipv4<F: Frame + ?Sized>(frame: &F) -> Result<Ipv4, DropReason> {
    let header = frame.read::<IPV4>(ETHERNET).ok_or(DropReason::Ipv4Truncated)?;
    // A byte of 4 bits version and 4 bits length: the mask below bounds the length at 60 for the kernel's verifier.
    let header_length = (header[0] & 0x0f) as usize * 4;
    if header[0] >> 4 != 4 || header_length < IPV4 {
        return Err(DropReason::Ipv4Header);
    }
    let total_length = u16::from_be_bytes([header[2], header[3]]) as usize;
    if total_length < header_length || ETHERNET + total_length > frame.length() {
        return Err(DropReason::Ipv4Length);
    }
    let payload = ETHERNET + header_length;
    let end = ETHERNET + total_length;
    // All but "don't fragment" and the reserved bit: more fragments, or an offset.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let transport = match header[9] {
        _ if fragment => Transport::Fragment,
        crate::abi::PROTOCOL_TCP => parse_tcp(frame, payload, end)?,
        crate::abi::PROTOCOL_ICMP => parse_icmp(frame, payload, end)?,
        _ => Transport::Other,
    };
    Ok(Ipv4 {
        source: [header[12], header[13], header[14], header[15]],
        destination: [header[16], header[17], header[18], header[19]],
        ttl: header[8],
        checksum: u16::from_ne_bytes([header[10], header[11]]),
        payload,
        end,
        transport,
    })
}

#[inline(always)]
fn parse_tcp<F: Frame + ?Sized>(frame: &F, offset: usize, end: usize) -> Result<Transport, DropReason> {
    if offset + TCP > end {
        return Err(DropReason::TcpTruncated);
    }
    let header = frame.read::<TCP>(offset).ok_or(DropReason::TcpTruncated)?;
    let header_length = (header[12] >> 4) as usize * 4;
    if header_length < TCP || offset + header_length > end {
        return Err(DropReason::TcpHeader);
    }
    Ok(Transport::Tcp {
        source: u16::from_be_bytes([header[0], header[1]]),
        destination: u16::from_be_bytes([header[2], header[3]]),
        flags: header[13],
    })
}

#[inline(always)]
fn parse_icmp<F: Frame + ?Sized>(frame: &F, offset: usize, end: usize) -> Result<Transport, DropReason> {
    const ECHO_REPLY: u8 = 0;
    const ECHO_REQUEST: u8 = 8;
    if offset + ICMP > end {
        return Err(DropReason::IcmpTruncated);
    }
    let header = frame.read::<ICMP>(offset).ok_or(DropReason::IcmpTruncated)?;
    let identifier = u16::from_be_bytes([header[4], header[5]]);
    Ok(match (header[0], header[1]) {
        (ECHO_REQUEST, 0) => Transport::EchoRequest { identifier },
        (ECHO_REPLY, 0) => Transport::EchoReply { identifier },
        _ => Transport::Other,
    })
}

impl Ipv4 {
    /// The header checksum after the TTL was decremented and an address changed, as it is to stand in memory.
    #[inline(always)]
    #[must_use]
    pub fn checksum_after(&self, old_address: [u8; 4], new_address: [u8; 4]) -> u16 {
        // TTL and protocol share a 16-bit word; the TTL is its first byte.
        let ttl = checksum::update_u16(
            self.checksum,
            u16::from_ne_bytes([self.ttl, 0]),
            u16::from_ne_bytes([self.ttl.wrapping_sub(1), 0]),
        );
        checksum::update_u32(ttl, u32::from_ne_bytes(old_address), u32::from_ne_bytes(new_address))
    }

    /// Its source as an [`Address`].
    #[inline(always)]
    #[must_use]
    pub const fn source_address(&self) -> Address {
        Address::v4(self.source)
    }

    /// Its destination as an [`Address`].
    #[inline(always)]
    #[must_use]
    pub const fn destination_address(&self) -> Address {
        Address::v4(self.destination)
    }
}

/// Length of the frame that [`reset`] makes.
pub const RESET_FRAME: usize = ETHERNET + IPV4 + TCP;

/// The segment that answers `tcp` (the fixed part of its header) where nobody listens, as a frame without options:
/// RFC 9293, 3.5.2, group 1. `ethernet` and `packet` are the headers it came with.
///
/// A RST itself must not be answered; that is for the caller to see to.
#[inline(always)]
#[must_use]
pub fn reset(ethernet: &[u8; ETHERNET], packet: &Ipv4, tcp: &[u8; TCP]) -> [u8; RESET_FRAME] {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let flags = tcp[13];
    let (sequence, acknowledge, reset_flags) = if flags & ACK == 0 {
        let header_length = (tcp[12] >> 4) as usize * 4;
        let data = packet.end.wrapping_sub(packet.payload).wrapping_sub(header_length) as u32;
        let length = data.wrapping_add(u32::from(flags & SYN != 0)).wrapping_add(u32::from(flags & FIN != 0));
        let received = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        ([0; 4], received.wrapping_add(length).to_be_bytes(), RST | ACK)
    } else {
        ([tcp[8], tcp[9], tcp[10], tcp[11]], [0; 4], RST)
    };
    let mut frame = [0; RESET_FRAME];
    put(&mut frame, 0, [ethernet[6], ethernet[7], ethernet[8], ethernet[9], ethernet[10], ethernet[11]]);
    put(&mut frame, 6, [ethernet[0], ethernet[1], ethernet[2], ethernet[3], ethernet[4], ethernet[5]]);
    put(&mut frame, 12, ETHERTYPE_IPV4.to_be_bytes());
    // Version 4, five words; 40 bytes in all; don't fragment; 64 hops; TCP.
    put(&mut frame, ETHERNET, [0x45, 0, 0, (IPV4 + TCP) as u8, 0, 0, 0x40, 0, 64, crate::abi::PROTOCOL_TCP]);
    put(&mut frame, ETHERNET + 12, packet.destination);
    put(&mut frame, ETHERNET + 16, packet.source);
    let header_sum = sum_of(&frame, ETHERNET, IPV4);
    put(&mut frame, ETHERNET + 10, (!checksum::fold(header_sum)).to_be_bytes());
    let segment = ETHERNET + IPV4;
    put(&mut frame, segment, [tcp[2], tcp[3], tcp[0], tcp[1]]);
    put(&mut frame, segment + 4, sequence);
    put(&mut frame, segment + 8, acknowledge);
    put(&mut frame, segment + 12, [0x50, reset_flags]);
    // The pseudo header: both addresses, the protocol and the length (RFC 9293, 3.1).
    let pseudo = sum_of(&frame, ETHERNET + 12, 8) + u32::from(crate::abi::PROTOCOL_TCP) + TCP as u32;
    let segment_sum = pseudo + sum_of(&frame, segment, TCP);
    put(&mut frame, segment + 16, (!checksum::fold(segment_sum)).to_be_bytes());
    frame
}

/// Writes `bytes` at a place that is inside by construction; a place outside writes nothing.
#[inline(always)]
fn put<const N: usize>(frame: &mut [u8; RESET_FRAME], at: usize, bytes: [u8; N]) {
    let mut i = 0;
    while i < N {
        if at + i < RESET_FRAME {
            frame[at + i] = bytes[i];
        }
        i += 1;
    }
}

#[inline(always)]
fn sum_of(frame: &[u8; RESET_FRAME], at: usize, length: usize) -> u32 {
    let mut sum = 0;
    let mut i = at;
    while i + 1 < at + length && i + 1 < RESET_FRAME {
        sum += u32::from(u16::from_be_bytes([frame[i], frame[i + 1]]));
        i += 2;
    }
    sum
}
