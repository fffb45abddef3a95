//! IPv4 (RFC 791).

use super::{ETHERNET, Fields, Frame, Header, IPV4, Packet, Part, Transport, Version, transport};
use crate::abi::{Address, DropReason};

/// All but "don't fragment" and the reserved bit: more fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;
const OFFSET: u16 = 0x1fff;
const DONT_FRAGMENT: u16 = 0x4000;

/// The header without options (RFC 791, 3.1), in network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    /// 4 bits of version and 4 of length, in words.
    version_and_length: u8,
    service: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    hops: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

// SAFETY: its size, asserted below, is the sum of its integers'.
unsafe impl Fields for Ipv4 {}

const _: () = assert!(size_of::<Ipv4>() == IPV4);

impl Ipv4 {
    #[inline(always)]
    fn part(&self) -> Part {
        let fragment = u16::from_be(self.fragment);
        let identification = u32::from(u16::from_be(self.identification));
        if fragment & FRAGMENT == 0 {
            Part::Whole
        } else if fragment & OFFSET == 0 {
            Part::First { identification }
        } else {
            Part::Later { identification }
        }
    }
}

/// Reads a frame that carries IPv4.
///
/// # Errors
///
/// The reason for which a malformed packet is to be dropped.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Packet, DropReason> {
    let header = frame.header::<Ipv4>(ETHERNET).ok_or(DropReason::Ipv4Truncated)?;
    // The mask bounds the length at 60 for the kernel's verifier.
    let header_length = (header.version_and_length & 0x0f) as usize * 4;
    if header.version_and_length >> 4 != 4 || header_length < IPV4 {
        return Err(DropReason::Ipv4Header);
    }
    let total_length = u16::from_be(header.total_length) as usize;
    if total_length < header_length || ETHERNET + total_length > frame.length() {
        return Err(DropReason::Ipv4Length);
    }
    let payload = ETHERNET + header_length;
    let end = ETHERNET + total_length;
    let part = header.part();
    let transport = match (part, header.protocol) {
        // ICMPv6 over IPv4 is nothing.
        (Part::Later { .. }, _) | (_, crate::abi::PROTOCOL_ICMPV6) => Transport::Other,
        (part, protocol) => transport::parse(frame, protocol, payload, end, part == Part::Whole)?,
    };
    Ok(Packet {
        header: Header {
            source: Address::v4(header.source.to_ne_bytes()),
            destination: Address::v4(header.destination.to_ne_bytes()),
            version: Version::V4 {
                checksum: header.checksum,
                dont_fragment: u16::from_be(header.fragment) & DONT_FRAGMENT != 0,
            },
        },
        hops: header.hops,
        protocol: header.protocol,
        payload,
        end,
        part,
        transport,
    })
}
