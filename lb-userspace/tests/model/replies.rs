//! What a client gets back whose packet goes nowhere.

use super::bytes::{checksum, sum, u32_at};
use super::reference::{Headers, Outcome};

pub(crate) fn reset(frame: &[u8], packet: &Headers, reason: &'static str) -> Outcome {
    let tcp = packet.payload;
    if packet.protocol != 6 || frame[tcp + 13] & 4 != 0 {
        return Outcome::Drop(reason);
    }
    let flags = frame[tcp + 13];
    let data = packet.end - tcp - usize::from(frame[tcp + 12] >> 4) * 4;
    let taken = u32::try_from(data).expect("a length") + u32::from(flags >> 1 & 1) + u32::from(flags & 1);
    let mut segment = [&frame[tcp + 2..tcp + 4], &frame[tcp..tcp + 2]].concat();
    if flags & 0x10 == 0 {
        segment.extend([0; 4]);
        segment.extend(u32_at(frame, tcp + 4).wrapping_add(taken).to_be_bytes());
        segment.extend([0x50, 0x14, 0, 0, 0, 0, 0, 0]);
    } else {
        segment.extend(&frame[tcp + 8..tcp + 12]);
        segment.extend([0, 0, 0, 0, 0x50, 0x04, 0, 0, 0, 0, 0, 0]);
    }
    let frame = back(frame, packet, 6, &segment, 16);
    Outcome::Answer { reason, frame, is_limited: false }
}

/// An ICMP error about a packet, by type and code of each family.
pub(crate) fn answered(
    frame: &[u8],
    packet: &Headers,
    reason: &'static str,
    v4: [u8; 2],
    v6: [u8; 2],
    mtu: u16,
) -> Outcome {
    let is_v6 = packet.source.is_ipv6();
    let mut message = if is_v6 { v6 } else { v4 }.to_vec();
    message.extend([0; 4]);
    message.extend(mtu.to_be_bytes());
    message.extend(&frame[14..packet.end.min(14 + 128)]);
    let frame = back(frame, packet, if is_v6 { 58 } else { 1 }, &message, 2);
    Outcome::Answer { reason, frame, is_limited: true }
}

/// A packet back to where one came from, its payload's checksum at `at`.
fn back(frame: &[u8], packet: &Headers, protocol: u8, payload: &[u8], at: usize) -> Vec<u8> {
    let mut out = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
    let length = u16::try_from(payload.len()).expect("a length");
    let mut pseudo = u32::from(protocol) + u32::from(length);
    if packet.source.is_ipv6() {
        out.extend([0x60, 0, 0, 0]);
        out.extend(length.to_be_bytes());
        out.extend([protocol, 64]);
        out.extend(&frame[38..54]);
        out.extend(&frame[22..38]);
        pseudo += sum(&out[22..54]);
    } else {
        out.extend([0x45, 0]);
        out.extend((20 + length).to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        out.extend(&frame[30..34]);
        out.extend(&frame[26..30]);
        let header = checksum(sum(&out[14..34]));
        out[24..26].copy_from_slice(&header.to_be_bytes());
        pseudo = if protocol == 1 { 0 } else { pseudo + sum(&out[26..34]) };
    }
    let at = out.len() + at;
    out.extend(payload);
    let value = checksum(pseudo + sum(payload));
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    out
}
