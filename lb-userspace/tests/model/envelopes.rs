//! The IP headers of random packets.

use fastrand::Rng;

use super::bytes::{checksum, sum};

fn hops(rng: &mut Rng) -> u8 {
    [64, 64, 64, 64, 64, 64, 2, 1, 0, 255][rng.usize(..10)]
}

/// Where a fragment begins, in eight bytes, and whether more come; mostly it isn't one.
fn fragment(rng: &mut Rng) -> (u16, bool) {
    [(0, false), (0, false), (0, false), (0, false), (0, false), (0, true), (1, true), (9, false)]
        [rng.usize(..8)]
}

pub(crate) fn ipv4(rng: &mut Rng, protocol: u8, payload: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let options = if rng.u8(..5) == 0 { rng.u8(..11) } else { 0 };
    let length = 20 + usize::from(options) * 4 + payload.len();
    let (offset, more) = fragment(rng);
    let mut packet = vec![0x45 + options, 0];
    packet.extend(u16::try_from(length).expect("a length").to_be_bytes());
    packet.extend([0, rng.u8(..4)]);
    packet.extend((offset | u16::from(more) << 13 | u16::from(rng.bool()) << 14).to_be_bytes());
    packet.extend([hops(rng), protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(vec![1; usize::from(options) * 4]);
    let value = checksum(sum(&packet)) ^ u16::from(rng.u8(..20) == 0);
    packet[10..12].copy_from_slice(&value.to_be_bytes());
    packet.extend(payload);
    packet
}

pub(crate) fn ipv6(rng: &mut Rng, protocol: u8, payload: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut next, mut body) = (protocol, payload);
    let (offset, more) = fragment(rng);
    if more || offset != 0 || rng.u8(..20) == 0 {
        let mut header = vec![next, 0];
        header.extend((offset << 3 | u16::from(more)).to_be_bytes());
        header.extend([0, 0, 0, rng.u8(..4)]);
        header.extend(body);
        (next, body) = (44, header);
    }
    let extensions = if rng.u8(..4) == 0 { rng.u8(..7) } else { 0 };
    for _ in 0..extensions {
        let words = if rng.u8(..8) == 0 { rng.u8(..40) } else { rng.u8(..3) };
        let mut header = vec![next, words, 0, u8::from(rng.u8(..8) == 0)];
        header.resize(8 + usize::from(words) * 8, 0);
        header.extend(body);
        (next, body) = ([0, 43, 60, 60][rng.usize(..4)], header);
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(body.len()).expect("a length").to_be_bytes());
    packet.extend([next, hops(rng)]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(body);
    packet
}
