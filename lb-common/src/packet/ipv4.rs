//! IPv4 (RFC 791).

use super::{ETHERNET, Frame, Header, IPV4, Packet, Part, Transport, Version, transport};
use crate::abi::{Address, DropReason};

/// All but "don't fragment" and the reserved bit: more fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;
const OFFSET: u16 = 0x1fff;

/// Reads a frame that carries IPv4.
///
/// # Errors
///
/// The reason for which a malformed packet is to be dropped.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Packet, DropReason> {
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
    let part = part(&header);
    let transport = match (part, header[9]) {
        // ICMPv6 over IPv4 is nothing.
        (Part::Later { .. }, _) | (_, crate::abi::PROTOCOL_ICMPV6) => Transport::Other,
        (part, protocol) => transport::parse(frame, protocol, payload, end, part == Part::Whole)?,
    };
    Ok(Packet {
        header: Header {
            source: Address::v4([header[12], header[13], header[14], header[15]]),
            destination: Address::v4([header[16], header[17], header[18], header[19]]),
            version: Version::V4 {
                checksum: u16::from_ne_bytes([header[10], header[11]]),
                dont_fragment: header[6] & 0x40 != 0,
            },
        },
        hops: header[8],
        protocol: header[9],
        payload,
        end,
        part,
        transport,
    })
}

#[inline(always)]
fn part(header: &[u8; IPV4]) -> Part {
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
    if fragment & FRAGMENT == 0 {
        Part::Whole
    } else if fragment & OFFSET == 0 {
        Part::First { identification }
    } else {
        Part::Later { identification }
    }
}
