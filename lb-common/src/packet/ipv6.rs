//! IPv6 and its extension headers (RFC 8200).

use super::{ETHERNET, Frame, Header, IPV6, Packet, Part, Transport, Version, transport};
use crate::abi::{Address, DropReason, PROTOCOL_ICMP};

/// As many extension headers are walked; a sender that keeps to the order of RFC 8200, 4.1, needs no more without
/// encryption.
pub const MOST_EXTENSIONS: usize = 5;

/// Where the last extension header that is walked begins at the latest, after the fixed header.
pub const LONGEST_EXTENSIONS: usize = 256;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Reads a frame that carries IPv6.
///
/// # Errors
///
/// The reason for which a malformed packet is to be dropped.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Packet, DropReason> {
    let header = frame.read::<IPV6>(ETHERNET).ok_or(DropReason::Ipv6Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::Ipv6Header);
    }
    let end = ETHERNET + IPV6 + u16::from_be_bytes([header[4], header[5]]) as usize;
    if end > frame.length() {
        return Err(DropReason::Ipv6Length);
    }
    let chain = walk(frame, header[6], ETHERNET + IPV6, end)?;
    let transport = match (chain.part, chain.protocol) {
        _ if !chain.at_end => Transport::Unread,
        // ICMP over IPv6 is nothing.
        (Part::Later { .. }, _) | (_, PROTOCOL_ICMP) => Transport::Other,
        (part, protocol) => transport::parse(frame, protocol, chain.payload, end, part == Part::Whole)?,
    };
    Ok(Packet {
        header: Header {
            source: address(&header, 8),
            destination: address(&header, 24),
            version: Version::V6,
        },
        hops: header[7],
        protocol: chain.protocol,
        payload: chain.payload,
        end,
        part: chain.part,
        transport,
    })
}

/// Where a chain of extension headers leads.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    /// The protocol of what comes after it.
    pub(super) protocol: u8,
    /// Where that begins.
    pub(super) payload: usize,
    /// What a fragment header says.
    pub(super) part: Part,
    /// Whether the chain was walked to its end.
    pub(super) at_end: bool,
}

/// Walks the extension headers from `offset` on, the first of them of type `protocol`.
///
/// Every variable has a value from the start: what the compiler knows to be unused it would leave unset, and the kernel's
/// verifier takes an unset register for a defect.
#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(
    frame: &F,
    protocol: u8,
    offset: usize,
    end: usize,
) -> Result<Chain, DropReason> {
    let (mut protocol, mut payload) = (protocol, offset);
    let (mut fragment, mut identification) = (0, 0);
    let mut walked = 0;
    while walked < MOST_EXTENSIONS && is_extension(protocol) && fragment >> 3 == 0 {
        // Also what tells the kernel's verifier that offsets stay small.
        if payload > offset + LONGEST_EXTENSIONS {
            break;
        }
        if payload + 8 > end {
            return Err(DropReason::Ipv6Extension);
        }
        let header = frame.read::<8>(payload).ok_or(DropReason::Ipv6Extension)?;
        if protocol == ROUTING && header[3] != 0 {
            break;
        }
        let mut length = 8 + header[1] as usize * 8;
        if protocol == FRAGMENT {
            length = 8;
            fragment = u16::from_be_bytes([header[2], header[3]]);
            identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        }
        protocol = header[0];
        payload += length;
        if payload > end {
            return Err(DropReason::Ipv6Extension);
        }
        walked += 1;
    }
    let part = part(fragment, identification);
    let at_end = matches!(part, Part::Later { .. }) || !is_extension(protocol);
    Ok(Chain { protocol, payload, part, at_end })
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// What a fragment header says; one that is first and last at once is no fragment (RFC 6946).
#[inline(always)]
const fn part(fragment: u16, identification: u32) -> Part {
    if fragment >> 3 != 0 {
        Part::Later { identification }
    } else if fragment & 1 != 0 {
        Part::First { identification }
    } else {
        Part::Whole
    }
}

/// The address at a place of the header.
#[inline(always)]
pub(super) fn address(header: &[u8; IPV6], at: usize) -> Address {
    let word = |at: usize| {
        let bytes = [
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
            header[at + 4],
            header[at + 5],
            header[at + 6],
            header[at + 7],
        ];
        u64::from_ne_bytes(bytes)
    };
    Address::of_words([word(at), word(at + 8)])
}
