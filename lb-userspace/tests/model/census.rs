//! What kinds of packets there were: a run says nothing about a kind that it hasn't had.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::addresses::{Owner, owner};
use super::bytes::{checksum, headers, sum, u16_at, u32_at};
use super::kinds::malformed;
use super::payloads::is_in_window;
use super::reference::{Headers, untagged};
use super::talk::Talk;
use super::world::World;

/// How many packets of which kind there were.
pub(crate) type Census = BTreeMap<&'static str, u64>;

/// The kinds that a run must have had of clients' packets.
pub(crate) const WANTED: [&str; 27] = [
    "for another host's MAC",
    "for the broadcast MAC",
    "for a multicast MAC",
    "tag of no VLAN",
    "tag of a VLAN",
    "from a tenant's subnet",
    "from a VIP",
    "from 0/8",
    "from 127/8",
    "from 224/4",
    "from 240/4",
    "from 255.255.255.255",
    "from 169.254/16",
    "from ::/64",
    "from ff00::/8",
    "from fe80::/10",
    "wrong checksum, IPv4",
    "wrong checksum, TCP",
    "wrong checksum, UDP",
    "wrong checksum, ICMP",
    "live flow, RST in the window",
    "live flow, RST out of it",
    "live flow, FIN in the window",
    "live flow, FIN out of it",
    "live flow, SYN",
    "live flow, wrong checksum",
    "closed flow, late",
];

/// Counts a client's frame under each kind that it is of, before it has made anything of its flow.
pub(crate) fn count(census: &mut Census, world: &World, talk: &Talk, frame: &[u8]) {
    let mut is = |kind: &'static str| *census.entry(kind).or_default() += 1;
    match frame.get(..6) {
        Some([0xff, 0xff, ..]) => is("for the broadcast MAC"),
        Some([0x33 | 1, ..]) => is("for a multicast MAC"),
        Some(mac) if mac != crate::bed::UPLINK_MAC => is("for another host's MAC"),
        _ => {}
    }
    if frame.get(12..14) == Some(&[0x81, 0x00]) {
        is(if untagged(frame).len() == frame.len() { "tag of a VLAN" } else { "tag of no VLAN" });
    }
    let frame = &untagged(frame);
    let Ok(Some(packet)) = headers(frame) else { return };
    if let Some(kind) = source(packet.source) {
        is(kind);
    }
    if packet.source.is_ipv4() && checksum(sum(&frame[14..packet.payload])) != 0 {
        is("wrong checksum, IPv4");
    }
    if packet.fragment.is_some() || !packet.complete || malformed(frame, &packet).is_some() {
        return;
    }
    let wrong = wrong_checksum(frame, &packet);
    if let Some(kind) = wrong {
        is(kind);
    }
    let to_its_mac = frame.starts_with(&crate::bed::UPLINK_MAC);
    if let Some(kind) = to_its_mac.then(|| of_flow(world, talk, frame, &packet)).flatten() {
        is(kind);
        if wrong.is_some() && kind.starts_with("live") {
            is("live flow, wrong checksum");
        }
    }
}

fn source(address: IpAddr) -> Option<&'static str> {
    match (owner(address), address) {
        (Some(Owner::Tenant), _) => Some("from a tenant's subnet"),
        (Some(Owner::Vip), _) => Some("from a VIP"),
        (None, IpAddr::V4(address)) => match address.octets() {
            [255, 255, 255, 255] => Some("from 255.255.255.255"),
            [0, ..] => Some("from 0/8"),
            [127, ..] => Some("from 127/8"),
            [224..240, ..] => Some("from 224/4"),
            [240..=255, ..] => Some("from 240/4"),
            [169, 254, ..] => Some("from 169.254/16"),
            _ => None,
        },
        (None, IpAddr::V6(address)) => match address.segments() {
            [0, 0, 0, 0, ..] => Some("from ::/64"),
            [0xff00..=0xffff, ..] => Some("from ff00::/8"),
            [0xfe80..0xfec0, ..] => Some("from fe80::/10"),
            _ => None,
        },
    }
}

fn wrong_checksum(frame: &[u8], packet: &Headers) -> Option<&'static str> {
    let payload = &frame[packet.payload..packet.end];
    let addresses = if packet.source.is_ipv6() { 22..54 } else { 26..34 };
    let length = u32::try_from(payload.len()).expect("a length");
    let pseudo = sum(&frame[addresses]) + u32::from(packet.protocol) + length;
    let (kind, pseudo) = match packet.protocol {
        6 => ("wrong checksum, TCP", pseudo),
        17 if payload[6..8] == [0, 0] || usize::from(u16_at(payload, 4)) != payload.len() => return None,
        17 => ("wrong checksum, UDP", pseudo),
        1 if packet.source.is_ipv4() => ("wrong checksum, ICMP", 0),
        58 if packet.source.is_ipv6() => ("wrong checksum, ICMP", pseudo),
        _ => return None,
    };
    (checksum(pseudo + sum(payload)) != 0).then_some(kind)
}

/// What a segment claims of a flow of which all is known.
fn of_flow(world: &World, talk: &Talk, frame: &[u8], packet: &Headers) -> Option<&'static str> {
    if packet.protocol != 6 {
        return None;
    }
    let at = packet.payload;
    let (client_port, port) = (u16_at(frame, at), u16_at(frame, at + 2));
    let (place, _) = world.service(packet.destination, port, 6)?;
    let flow = (place, (packet.source, client_port, packet.destination, port, 6));
    if talk.is_closed(flow) {
        return Some("closed flow, late");
    }
    if !talk.is_open(flow) {
        return None;
    }
    let flags = frame[at + 13];
    Some(match (flags & 4 != 0, flags & 1 != 0, flags & 0x16 == 2, is_in_window(u32_at(frame, at + 4))) {
        (true, _, _, true) => "live flow, RST in the window",
        (true, _, _, false) => "live flow, RST out of it",
        (_, true, _, true) => "live flow, FIN in the window",
        (_, true, _, false) => "live flow, FIN out of it",
        (_, _, true, _) => "live flow, SYN",
        _ => "live flow, goes on",
    })
}
