//! Reading bytes, and one's complement sums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::reference::Headers;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The sum of big-endian words, an odd last byte padded with a zero.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

pub(crate) fn checksum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// The words of a range before and after.
#[derive(Clone)]
pub(crate) struct Changed(Vec<(u16, u16)>);

impl Changed {
    pub(crate) fn of(before: &[u8], after: &[u8], range: Range<usize>) -> Self {
        let words = range.step_by(2).map(|at| (u16_at(before, at), u16_at(after, at)));
        Self(words.filter(|(before, after)| before != after).collect())
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// RFC 1624, equation 3.
    fn update(&self, old: u16) -> u16 {
        if self.0.is_empty() {
            return old;
        }
        checksum(u32::from(!old) + self.0.iter().map(|(m, n)| u32::from(!m) + u32::from(*n)).sum::<u32>())
    }

    pub(crate) fn apply(&self, bytes: &mut [u8], at: usize) {
        let new = self.update(u16_at(bytes, at));
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }

    /// RFC 768: 0 is no checksum, and one that is 0 is written as all ones.
    pub(crate) fn apply_udp(&self, bytes: &mut [u8], at: usize) {
        if u16_at(bytes, at) != 0 {
            let new = self.update(u16_at(bytes, at));
            bytes[at..at + 2].copy_from_slice(&if new == 0 { 0xffff } else { new }.to_be_bytes());
        }
    }
}

/// Reads the IP headers of a frame; `None` where it carries something else.
pub(crate) fn headers(frame: &[u8]) -> Result<Option<Headers>, &'static str> {
    match frame.get(12..14) {
        None => Err("ethernet_truncated"),
        Some([0x08, 0x00]) => ipv4(frame).map(Some),
        Some([0x86, 0xdd]) => ipv6(frame).map(Some),
        Some(_) => Ok(None),
    }
}

fn ipv4(frame: &[u8]) -> Result<Headers, &'static str> {
    let header = frame.get(14..34).ok_or("ipv4_truncated")?;
    let header_length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || header_length < 20 {
        return Err("ipv4_header");
    }
    let total = usize::from(u16_at(header, 2));
    if total < header_length || 14 + total > frame.len() {
        return Err("ipv4_length");
    }
    let address = |at: usize| IpAddr::V4(Ipv4Addr::from(u32_at(header, at)));
    let (more, offset) = (header[6] & 0x20 != 0, u16_at(header, 6) & 0x1fff);
    Ok(Headers {
        source: address(12),
        destination: address(16),
        protocol: header[9],
        hops: header[8],
        payload: 14 + header_length,
        end: 14 + total,
        fragment: (more || offset != 0).then(|| (u32::from(u16_at(header, 4)), offset == 0)),
        complete: true,
    })
}

fn ipv6(frame: &[u8]) -> Result<Headers, &'static str> {
    let header = frame.get(14..54).ok_or("ipv6_truncated")?;
    if header[0] >> 4 != 6 {
        return Err("ipv6_header");
    }
    let end = 54 + usize::from(u16_at(header, 4));
    if end > frame.len() {
        return Err("ipv6_length");
    }
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("an address");
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let mut read = Headers {
        source: address(8),
        destination: address(24),
        protocol: header[6],
        hops: header[7],
        payload: 54,
        end,
        fragment: None,
        complete: true,
    };
    extensions(frame, &mut read)?;
    Ok(read)
}

/// Walks at most five extension headers, none of which begins more than 256 bytes after the first.
fn extensions(frame: &[u8], read: &mut Headers) -> Result<(), &'static str> {
    for _ in 0..5 {
        let is_extension = matches!(read.protocol, 0 | 43 | 44 | 60);
        if !is_extension {
            return Ok(());
        }
        if read.payload > 54 + 256 {
            break;
        }
        if read.payload + 8 > read.end {
            return Err("ipv6_extension");
        }
        let header = &frame[read.payload..read.payload + 8];
        if read.protocol == 43 && header[3] != 0 {
            break;
        }
        let mut length = 8 + 8 * usize::from(header[1]);
        if read.protocol == 44 {
            length = 8;
            let (word, identification) = (u16_at(header, 2), u32_at(header, 4));
            read.fragment = (word & 0xfff9 != 0).then_some((identification, word >> 3 == 0));
        }
        read.protocol = header[0];
        read.payload += length;
        if read.payload > read.end {
            return Err("ipv6_extension");
        }
        if let Some((_, false)) = read.fragment {
            return Ok(());
        }
    }
    read.complete = !matches!(read.protocol, 0 | 43 | 44 | 60);
    Ok(())
}
