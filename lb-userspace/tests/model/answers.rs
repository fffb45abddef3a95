//! What `answer` does with a frame from the tenant: as `reference`, nothing of the code under test.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::addresses::{is_from_link, is_to_link, is_within, owner};
use super::bytes::{Changed, headers, u16_at};
use super::kinds::{is_discovery, is_error, malformed};
use super::reference::{FragmentId, Headers, LONGEST, fragment_id, quote};
use super::said::Said;
use super::shared::FlowOf;
use super::talk::{Talk, answered_flow};
use super::world::{World, octets};
use crate::bed::{GATEWAY, GATEWAY_6};

/// What is to become of a frame.
pub(crate) enum Outcome {
    /// The kernel's; counted under the reason, where there is one.
    Pass(Option<&'static str>),
    /// The kernel's too: it goes to the outside.
    Leave,
    /// Dropped, and counted under this reason.
    Drop(&'static str),
    /// Dropped, and not counted.
    Quiet,
    /// Sent to the client as this frame.
    Send {
        frame: Vec<u8>,
        /// A fragment that others follow, and the VIP that they get.
        leads: Option<(FragmentId, Vec<u8>)>,
        kind: &'static str,
    },
    /// Sent so, where its client has asked for it; else dropped.
    Answer {
        frame: Vec<u8>,
        leads: Option<(FragmentId, Vec<u8>)>,
        kind: &'static str,
        /// The flow that it answers.
        of: FlowOf,
        /// Whether it may leave also where nobody has asked for it.
        may_leave: bool,
    },
}

/// The VIP that the first fragment of a packet got.
pub(crate) type Fragments = HashMap<FragmentId, Vec<u8>>;

/// The TCP connections that instances have opened: from where and to where.
pub(crate) type Opened = HashSet<((IpAddr, u16), (IpAddr, u16))>;

/// `opened` where the tenant may go to the outside.
pub(crate) fn outcome(
    world: &World,
    fragments: &Fragments,
    opened: Option<&mut Opened>,
    talk: &mut Talk,
    frame: &[u8],
) -> Outcome {
    let packet = match headers(frame) {
        Ok(Some(packet)) => packet,
        Ok(None) if frame[12..14] == [0x08, 0x06] => return Outcome::Pass(None),
        Ok(None) if matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]) => return Outcome::Drop("vlan_tag"),
        Ok(None) => return Outcome::Drop("not_allowed"),
        Err(reason) => return Outcome::Drop(reason),
    };
    let is_read = packet.complete && packet.fragment.is_none_or(|(_, first)| first);
    if is_read && let Some(reason) = malformed(frame, &packet) {
        return Outcome::Drop(reason);
    }
    let is_ours = is_within(packet.source);
    if is_read && is_discovery(frame, &packet) {
        let to = packet.destination;
        return match is_ours || is_from_link(packet.source) {
            false => Outcome::Drop("source_spoofed"),
            _ if is_to_link(to) || to == GATEWAY_6 => Outcome::Pass(None),
            _ => Outcome::Drop("not_allowed"),
        };
    }
    if is_to_link(packet.destination) && (is_ours || is_from_link(packet.source)) {
        return Outcome::Quiet;
    }
    if !is_ours {
        return Outcome::Drop("source_spoofed");
    }
    if packet.destination == GATEWAY || packet.destination == GATEWAY_6 {
        return to_gateway(frame, &packet);
    }
    if packet.destination == IpAddr::from([19, 0, 0, 255]) {
        return Outcome::Quiet;
    }
    if owner(packet.destination).is_some() {
        return Outcome::Drop("not_allowed");
    }
    let Some(opened) = opened.filter(|_| packet.source.is_ipv4()) else {
        return answer(world, fragments, (talk, false), frame, &packet, is_read);
    };
    if is_own(opened, frame, &packet) {
        return Outcome::Leave;
    }
    match answer(world, fragments, (talk, true), frame, &packet, is_read) {
        Outcome::Drop("not_allowed" | "fragment" | "icmp_quote") => Outcome::Leave,
        outcome => outcome,
    }
}

fn answer(
    world: &World,
    fragments: &Fragments,
    (talk, may_leave): (&mut Talk, bool),
    frame: &[u8],
    packet: &Headers,
    is_read: bool,
) -> Outcome {
    match packet.fragment {
        Some((identification, false)) => later_fragment(fragments, frame, packet, identification),
        None if is_read && is_error(frame, packet) => error(world, frame, packet),
        _ if is_read => direct(world, (talk, may_leave), frame, packet),
        _ => Outcome::Drop("not_allowed"),
    }
}

/// Whether a packet is of a TCP connection that an instance opens with it, or has opened.
fn is_own(opened: &mut Opened, frame: &[u8], packet: &Headers) -> bool {
    if packet.protocol != 6 || packet.fragment.is_some() {
        return false;
    }
    let at = packet.payload;
    let connection = ((packet.source, u16_at(frame, at)), (packet.destination, u16_at(frame, at + 2)));
    match frame[at + 13] & 0x12 {
        0x02 => {
            opened.insert(connection);
            true
        }
        0x12 => false,
        _ => opened.contains(&connection),
    }
}

/// The gateway answers pings and DHCP. What begins nothing comes to nobody who didn't ask for it.
fn to_gateway(frame: &[u8], packet: &Headers) -> Outcome {
    let at = packet.payload;
    let echo = if packet.source.is_ipv6() { (58, [128, 129]) } else { (1, [8, 0]) };
    let is_answered = match (packet.fragment, packet.protocol) {
        (Some((_, false)), _) => true,
        _ if !packet.complete => false,
        (_, 6) => frame[at + 13] & 0x12 != 0x02,
        (_, 17) => u16_at(frame, at + 2) == 67,
        (_, protocol) if protocol == echo.0 => {
            is_error(frame, packet) || echo.1.contains(&frame[at]) && frame[at + 1] == 0
        }
        _ => false,
    };
    if is_answered { Outcome::Pass(None) } else { Outcome::Drop("not_allowed") }
}

fn direct(world: &World, (talk, may_leave): (&mut Talk, bool), frame: &[u8], packet: &Headers) -> Outcome {
    let at = packet.payload;
    let port = match packet.protocol {
        // SYN without ACK.
        6 if frame[at + 13] & 0x12 == 0x02 => return Outcome::Drop("not_allowed"),
        6 | 17 => u16_at(frame, at),
        1 if packet.source.is_ipv4() && frame[at..at + 2] == [0, 0] => 0,
        58 if packet.source.is_ipv6() && frame[at..at + 2] == [129, 0] => 0,
        _ => return Outcome::Drop("not_allowed"),
    };
    let Some((place, service)) = world.answered(packet.source, port, packet.protocol) else {
        return Outcome::Drop("not_allowed");
    };
    if let Some(stopped) = stopped(frame, packet) {
        return stopped;
    }
    let vip = octets(service.vip);
    let (mut out, outer) = readdressed(frame, packet, &vip);
    let port = service.target_port.and(service.port).filter(|_| matches!(packet.protocol, 6 | 17));
    let from = service.member(&octets(packet.source)).expect("one of its");
    // Where another service has that port, no client's packet to it is this one's.
    let of = (place, answered_flow(frame, packet, service.vip, port));
    talk.backend(world, of, from, &Said::of(frame, packet));
    if let Some(port) = port {
        out[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
    let change = outer.clone().and(Changed::of(frame, &out, at..at + 2));
    match packet.protocol {
        6 => change.apply(&mut out, at + 16),
        17 => change.apply_udp(&mut out, at + 6),
        58 => outer.apply(&mut out, at + 2),
        _ => {}
    }
    let leads = packet.fragment.map(|(identification, _)| (fragment_id(packet, identification), vip));
    let kind = if packet.source.is_ipv6() { "answer, IPv6" } else { "answer, IPv4" };
    Outcome::Answer { frame: out, leads, kind, of, may_leave }
}

fn later_fragment(fragments: &Fragments, frame: &[u8], packet: &Headers, identification: u32) -> Outcome {
    let Some(vip) = fragments.get(&fragment_id(packet, identification)) else {
        return Outcome::Drop("fragment");
    };
    if let Some(stopped) = stopped(frame, packet) {
        return stopped;
    }
    let kind = "answer, later fragment";
    Outcome::Send { frame: readdressed(frame, packet, vip).0, leads: None, kind }
}

/// An error about what a client has sent.
fn error(world: &World, frame: &[u8], packet: &Headers) -> Outcome {
    let Some((quote, client, backend)) = quote(frame, packet) else { return Outcome::Drop("icmp_quote") };
    let at = quote.payload;
    let port = match (quote.protocol, frame[at], frame[at + 1]) {
        (6 | 17, ..) => Some(u16_at(frame, at + 2)),
        (1, 8, 0) | (58, 128, 0) => Some(0),
        // A reply, which no client sends.
        (1, 0, 0) | (58, 129, 0) => None,
        _ => return Outcome::Drop("icmp_quote"),
    };
    if client != packet.destination {
        return Outcome::Drop("not_allowed");
    }
    let Some(port) = port else { return Outcome::Drop("icmp_quote") };
    let Some((_, service)) = world.answered(backend, port, quote.protocol) else {
        return Outcome::Drop("not_allowed");
    };
    if let Some(stopped) = stopped(frame, packet) {
        return stopped;
    }
    let vip = octets(service.vip);
    let (mut out, outer) = readdressed(frame, packet, &vip);
    let port = service.target_port.and(service.port);
    let inner = quote.readdress(frame, &mut out, packet.end, false, port, &vip);
    let change = if packet.source.is_ipv6() { inner.and(outer) } else { inner };
    change.apply(&mut out, packet.payload + 2);
    let kind = if packet.source.is_ipv6() { "answer, error, IPv6" } else { "answer, error, IPv4" };
    Outcome::Send { frame: out, leads: None, kind }
}

/// A packet that can't take its next hop is the kernel's, but for one that the kernel would fragment.
fn stopped(frame: &[u8], packet: &Headers) -> Option<Outcome> {
    let may_be_fragmented = packet.source.is_ipv4() && frame[20] & 0x40 == 0;
    match (packet.hops, frame.len() > LONGEST) {
        (0 | 1, _) => Some(Outcome::Pass(Some("ttl_exceeded"))),
        (_, true) if may_be_fragmented => Some(Outcome::Drop("too_long")),
        (_, true) => Some(Outcome::Pass(Some("too_long"))),
        _ => None,
    }
}

/// The frame one hop on, from the VIP; and what has changed in its addresses.
fn readdressed(frame: &[u8], packet: &Headers, vip: &[u8]) -> (Vec<u8>, Changed) {
    let mut out = frame.to_vec();
    if packet.source.is_ipv6() {
        out[21] -= 1;
        out[22..38].copy_from_slice(vip);
        let change = Changed::of(frame, &out, 22..38);
        return (out, change);
    }
    out[22] -= 1;
    out[26..30].copy_from_slice(vip);
    let change = Changed::of(frame, &out, 26..30);
    Changed::of(frame, &out, 14..24).and(change.clone()).apply(&mut out, 24);
    (out, change)
}
