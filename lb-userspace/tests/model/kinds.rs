//! What kind of packet it is.

use super::bytes::u16_at;
use super::reference::Headers;

/// Why a payload can't be read.
pub(crate) fn malformed(frame: &[u8], packet: &Headers) -> Option<&'static str> {
    let (at, end) = (packet.payload, packet.end);
    let is_icmp = if packet.source.is_ipv6() { 58 } else { 1 };
    match packet.protocol {
        6 if at + 20 > end => Some("tcp_truncated"),
        6 => {
            let length = usize::from(frame[at + 12] >> 4) * 4;
            (length < 20 || at + length > end).then_some("tcp_header")
        }
        17 if at + 8 > end => Some("udp_truncated"),
        17 => {
            let length = usize::from(u16_at(frame, at + 4));
            (length < 8 || packet.fragment.is_none() && at + length > end).then_some("udp_length")
        }
        protocol if protocol == is_icmp && at + 8 > end => Some("icmp_truncated"),
        _ => None,
    }
}

pub(crate) fn is_error(frame: &[u8], packet: &Headers) -> bool {
    match packet.protocol {
        1 if packet.source.is_ipv4() => matches!(frame[packet.payload], 3 | 11 | 12),
        58 if packet.source.is_ipv6() => matches!(frame[packet.payload], 1..=4),
        _ => false,
    }
}

/// Whether it is of a kind that services take: TCP, UDP or an echo request.
pub(crate) fn is_balanced(frame: &[u8], packet: &Headers) -> bool {
    let icmp = if packet.source.is_ipv6() { (58, [128, 0]) } else { (1, [8, 0]) };
    matches!(packet.protocol, 6 | 17)
        || packet.protocol == icmp.0 && frame[packet.payload..].starts_with(&icmp.1)
}

pub(crate) fn is_discovery(frame: &[u8], packet: &Headers) -> bool {
    let at = packet.payload;
    packet.protocol == 58
        && packet.source.is_ipv6()
        && matches!(frame[at], 131..=133 | 135 | 136 | 143)
        && frame[at + 1] == 0
}
