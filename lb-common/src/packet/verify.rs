//! Whether a segment's checksum is right.

use super::{Frame, Packet, Version};
use crate::checksum;

/// The longest TCP header (RFC 9293, 3.1).
const LONGEST: usize = 60;

/// Whether the checksum of a TCP segment without data is right; `None` for one with data, which isn't read. The segment is
/// one that was parsed from the frame.
#[inline(always)]
pub fn bare_segment_is_sound<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> Option<bool> {
    let length = packet.end.wrapping_sub(packet.payload);
    let [data_offset] = frame.read::<1>(packet.payload + 12)?;
    if length != (data_offset >> 4) as usize * 4 || length > LONGEST {
        return None;
    }
    // The pseudo header's words, as all others in the order of memory.
    let (source, destination) = (packet.header.source, packet.header.destination);
    let addresses = match packet.header.version {
        Version::V4 { .. } => words(source.v4_octets()) + words(destination.v4_octets()),
        Version::V6 => halves(source.words()) + halves(destination.words()),
    };
    let mut sum =
        addresses + u32::from(u16::from(packet.protocol).to_be()) + u32::from((length as u16).to_be());
    let mut at = 0;
    while at < LONGEST {
        if at >= length {
            break;
        }
        sum += words(frame.read::<4>(packet.payload + at)?);
        at += 4;
    }
    Some(checksum::fold(sum) == 0xffff)
}

#[inline(always)]
const fn words([a, b, c, d]: [u8; 4]) -> u32 {
    u16::from_ne_bytes([a, b]) as u32 + u16::from_ne_bytes([c, d]) as u32
}

#[inline(always)]
const fn halves([first, second]: [u64; 2]) -> u32 {
    checksum::halves(first) + checksum::halves(second)
}
