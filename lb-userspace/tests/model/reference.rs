//! What `uplink` does with a frame, in plain Rust: slices and loops, nothing of the code under test.

use std::collections::HashMap;
use std::net::IpAddr;

use super::addresses::{Owner, is_possible, owner};
use super::bytes::{Changed, headers, sum, u16_at};
use super::flow::Member;
use super::kinds::{is_balanced, is_discovery, is_error, malformed};
use super::replies::{answered, reset};
use super::said::Said;
use super::talk::Talk;
use super::world::{Service, World};

/// What is to become of a frame.
pub(crate) enum Outcome {
    Pass,
    /// Dropped, and counted under this reason.
    Drop(&'static str),
    /// Counted under the reason and answered with this frame; dropped, where there were many answers lately.
    Answer {
        reason: &'static str,
        frame: Vec<u8>,
        is_limited: bool,
    },
    /// Sent to a backend.
    Forward(Forward),
}

/// A frame for a backend.
pub(crate) struct Forward {
    /// The service's place in the world.
    pub(crate) service: usize,
    /// What stays with one backend.
    pub(crate) follows: Follows,
    /// A fragment that others follow.
    pub(crate) leads: Option<FragmentId>,
    headers: Headers,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Payload,
    FragmentOnly,
    Error(Quote),
}

/// A flow: client, its port, VIP, the VIP's port, protocol.
pub(crate) type FlowId = (IpAddr, u16, IpAddr, u16, u8);
/// Source, destination, identification, protocol.
pub(crate) type FragmentId = (IpAddr, IpAddr, u32, u8);

#[derive(Clone, Copy)]
pub(crate) enum Follows {
    Flow(FlowId),
    Fragment(Member),
}

/// The reading of an IP packet.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hops: u8,
    pub(crate) payload: usize,
    pub(crate) end: usize,
    /// Its identification, and whether it has the payload's header.
    pub(crate) fragment: Option<(u32, bool)>,
    /// Whether extension headers were walked to the end.
    pub(crate) complete: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Quote {
    at: usize,
    pub(crate) payload: usize,
    pub(crate) protocol: u8,
    is_v6: bool,
}

/// The first fragments seen: service and backend.
pub(crate) type Fragments = HashMap<FragmentId, (usize, Member)>;

/// The longest frame that any link takes.
pub(crate) const LONGEST: usize = 14 + 1_500;

pub(crate) fn outcome(world: &World, fragments: &Fragments, talk: &mut Talk, frame: &[u8]) -> Outcome {
    let packet = match headers(frame) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Outcome::Pass,
        Err(reason) => return Outcome::Drop(reason),
    };
    let is_first_or_whole = packet.fragment.is_none_or(|(_, first)| first);
    if is_first_or_whole
        && packet.complete
        && let Some(reason) = malformed(frame, &packet)
    {
        return Outcome::Drop(reason);
    }
    if !is_first_or_whole {
        return kept_out(frame, &packet).unwrap_or_else(|| later_fragment(world, fragments, &packet));
    }
    if packet.complete && is_error(frame, &packet) {
        return kept_out(frame, &packet).unwrap_or_else(|| error(world, talk, frame, &packet));
    }
    if !packet.complete || !is_balanced(frame, &packet) {
        return kept_out(frame, &packet).unwrap_or_else(|| unserved(frame, &packet));
    }
    let (client_port, vip_port) = match (packet.protocol, frame[packet.payload..].first_chunk::<6>()) {
        (6 | 17, _) => (u16_at(frame, packet.payload), u16_at(frame, packet.payload + 2)),
        (1, Some([8, 0, _, _, high, low])) | (58, Some([128, 0, _, _, high, low])) => {
            (u16::from_be_bytes([*high, *low]), 0)
        }
        _ => return Outcome::Pass,
    };
    let Some((place, service)) = world.service(packet.destination, vip_port, packet.protocol) else {
        return kept_out(frame, &packet).unwrap_or_else(|| unserved(frame, &packet));
    };
    if !is_for_uplink(frame) {
        return Outcome::Drop("other_mac");
    }
    let may_begin = packet.protocol != 6 || is_opening(frame, &packet);
    if !is_possible(packet.source) || may_begin && owner(packet.source).is_some() {
        return Outcome::Drop("impossible_source");
    }
    let flow = (packet.source, client_port, packet.destination, vip_port, packet.protocol);
    talk.client(world, (place, flow), &Said::of(frame, &packet));
    if !service.is_served() {
        return reset(frame, &packet, "no_backend");
    }
    if frame.len() > LONGEST {
        return answered(frame, &packet, "too_long", [3, 4], [2, 0], 1_500);
    }
    // What leads other fragments is remembered only for somebody who can be a client.
    if packet.fragment.is_some() && owner(packet.source).is_some() {
        return Outcome::Drop("impossible_source");
    }
    Outcome::Forward(Forward {
        service: place,
        follows: Follows::Flow(flow),
        leads: packet.fragment.map(|(identification, _)| fragment_id(&packet, identification)),
        headers: packet,
        what: What::Payload,
    })
}

/// The frame without a tag that names no VLAN.
pub(crate) fn untagged(frame: &[u8]) -> Vec<u8> {
    match frame.get(12..18) {
        Some([0x81, 0x00, high, 0, 0x08, 0x00] | [0x81, 0x00, high, 0, 0x86, 0xdd]) if high % 16 == 0 => {
            [&frame[..12], &frame[16..]].concat()
        }
        _ => frame.to_vec(),
    }
}

fn is_for_uplink(frame: &[u8]) -> bool {
    frame.starts_with(&crate::bed::UPLINK_MAC)
}

/// A SYN alone.
fn is_opening(frame: &[u8], packet: &Headers) -> bool {
    packet.protocol == 6 && frame[packet.payload + 13] & 0x16 == 0x02
}

/// What becomes of a packet that isn't for a VIP, or from nobody who can be a client; `None` for one that is.
fn kept_out(frame: &[u8], packet: &Headers) -> Option<Outcome> {
    let (from, to) = (owner(packet.source), owner(packet.destination));
    let is_read = packet.complete && packet.fragment.is_none_or(|(_, first)| first);
    match to {
        Some(Owner::Vip) if !is_for_uplink(frame) => Some(Outcome::Drop("other_mac")),
        _ if !is_for_uplink(frame) => Some(Outcome::Pass),
        Some(Owner::Vip) if is_read && is_discovery(frame, packet) => Some(Outcome::Pass),
        Some(Owner::Vip) if from.is_some() || !is_possible(packet.source) => {
            Some(Outcome::Drop("impossible_source"))
        }
        Some(Owner::Vip) => None,
        Some(Owner::Tenant) => Some(Outcome::Drop("past_vip")),
        None if from == Some(Owner::Tenant) => Some(Outcome::Drop("impossible_source")),
        None => Some(Outcome::Pass),
    }
}

/// A packet to a VIP that no service takes.
fn unserved(frame: &[u8], packet: &Headers) -> Outcome {
    match packet.protocol {
        _ if !packet.complete => Outcome::Drop("ipv6_unread"),
        6 => reset(frame, packet, "not_balanced"),
        17 => answered(frame, packet, "not_balanced", [3, 3], [1, 4], 0),
        _ if is_balanced(frame, packet) => Outcome::Pass,
        _ => Outcome::Drop("not_balanced"),
    }
}

pub(crate) fn fragment_id(packet: &Headers, identification: u32) -> FragmentId {
    let protocol = if packet.source.is_ipv6() { 0 } else { packet.protocol };
    (packet.source, packet.destination, identification, protocol)
}

fn later_fragment(world: &World, fragments: &Fragments, packet: &Headers) -> Outcome {
    let (identification, _) = packet.fragment.expect("a fragment");
    let first = fragments.get(&fragment_id(packet, identification)).copied();
    let Some((service, member)) = first.filter(|&(service, member)| world.services[service].lives(member))
    else {
        return Outcome::Drop("fragment");
    };
    let follows = Follows::Fragment(member);
    Outcome::Forward(Forward { service, follows, leads: None, headers: *packet, what: What::FragmentOnly })
}

fn error(world: &World, talk: &mut Talk, frame: &[u8], packet: &Headers) -> Outcome {
    let Some((quote, source, client)) = quote(frame, packet) else { return Outcome::Drop("icmp_quote") };
    let at = quote.payload;
    let (vip_port, client_port) = match (quote.protocol, frame[at], frame[at + 1]) {
        (6 | 17, ..) => (u16_at(frame, at), u16_at(frame, at + 2)),
        (1, 0, 0) | (58, 129, 0) => (0, u16_at(frame, at + 4)),
        _ => return Outcome::Drop("icmp_quote"),
    };
    if source != packet.destination {
        return Outcome::Drop("icmp_quote");
    }
    let Some((place, service)) = world.service(source, vip_port, quote.protocol) else {
        return Outcome::Pass;
    };
    if !is_possible(client) || owner(client).is_some() {
        return Outcome::Drop("impossible_source");
    }
    if !service.is_served() {
        return Outcome::Drop("no_backend");
    }
    let flow = (client, client_port, source, vip_port, quote.protocol);
    talk.about(world, (place, flow));
    let follows = Follows::Flow(flow);
    let what = What::Error(quote);
    Outcome::Forward(Forward { service: place, follows, leads: None, headers: *packet, what })
}

/// The quoted packet with its source and destination.
pub(crate) fn quote(frame: &[u8], packet: &Headers) -> Option<(Quote, IpAddr, IpAddr)> {
    let at = packet.payload + 8;
    // As if it were a frame of its own, and as long as it needs to be.
    let mut inner = vec![0; 12];
    inner.extend(if packet.source.is_ipv6() { [0x86, 0xdd] } else { [0x08, 0x00] });
    inner.extend(frame.get(at..packet.end)?);
    let length =
        if packet.source.is_ipv6() { (18, inner.len().checked_sub(54)?) } else { (16, inner.len() - 14) };
    inner.get_mut(length.0..length.0 + 2)?.copy_from_slice(&u16::try_from(length.1).ok()?.to_be_bytes());
    let read = headers(&inner).ok()??;
    let is_first_or_whole = read.fragment.is_none_or(|(_, first)| first);
    let other_icmp = if packet.source.is_ipv6() { 1 } else { 58 };
    if !is_first_or_whole || !read.complete || read.protocol == other_icmp || read.payload + 8 > inner.len() {
        return None;
    }
    let payload = at + read.payload - 14;
    let quote = Quote { at, payload, protocol: read.protocol, is_v6: packet.source.is_ipv6() };
    Some((quote, read.source, read.destination))
}

impl Forward {
    /// What kind of packet it is, for the tally.
    pub(crate) fn kind(&self) -> &'static str {
        match (self.headers.source.is_ipv6(), self.what) {
            (false, What::Payload) => "redirect, IPv4",
            (true, What::Payload) => "redirect, IPv6",
            (false, What::FragmentOnly) => "later fragment, IPv4",
            (true, What::FragmentOnly) => "later fragment, IPv6",
            (false, What::Error(_)) => "error, IPv4",
            (true, What::Error(_)) => "error, IPv6",
        }
    }

    /// Whether it is the first segment of a connection, all of it header, with a wrong checksum.
    pub(crate) fn is_unsound(&self, frame: &[u8]) -> bool {
        let Headers { payload, end, .. } = self.headers;
        let is_payload = matches!(self.what, What::Payload) && self.leads.is_none();
        if !is_payload || !is_opening(frame, &self.headers) {
            return false;
        }
        let is_bare = end - payload == usize::from(frame[payload + 12] >> 4) * 4;
        let addresses = if self.headers.source.is_ipv6() { 22..54 } else { 26..34 };
        let length = u32::try_from(end - payload).expect("a length");
        is_bare
            && super::bytes::checksum(sum(&frame[addresses]) + 6 + length + sum(&frame[payload..end])) != 0
    }

    /// The frame as a backend is to get it.
    pub(crate) fn to(&self, frame: &[u8], service: &Service, backend: usize) -> Vec<u8> {
        let Headers { payload, end, protocol, .. } = self.headers;
        let is_v6 = self.headers.source.is_ipv6();
        let backend = &service.backends[backend];
        let mut out = frame.to_vec();
        out[..6].copy_from_slice(&backend.mac);
        out[6..12].copy_from_slice(&super::world::TENANT_MAC);
        let address = &backend.address;
        if is_v6 {
            out[21] -= u8::from(out[21] > 1);
            out[38..54].copy_from_slice(address);
        } else {
            out[22] -= u8::from(out[22] > 1);
            out[30..34].copy_from_slice(address);
        }
        let addresses = if is_v6 { 22..54 } else { 26..34 };
        let outer = Changed::of(frame, &out, addresses);
        if !is_v6 {
            let change = Changed::of(frame, &out, 14..24).and(Changed::of(frame, &out, 26..34));
            change.apply(&mut out, 24);
        }
        match self.what {
            What::FragmentOnly => {}
            What::Error(quote) => {
                let inner = quote.readdress(frame, &mut out, end, true, service.target_port, address);
                if is_v6 {
                    inner.and(outer).apply(&mut out, payload + 2);
                } else {
                    inner.apply(&mut out, payload + 2);
                }
            }
            What::Payload => {
                if matches!(protocol, 6 | 17)
                    && let Some(port) = service.target_port
                {
                    out[payload + 2..payload + 4].copy_from_slice(&port.to_be_bytes());
                }
                let change = outer.clone().and(Changed::of(frame, &out, payload..payload + 4));
                match protocol {
                    6 => change.apply(&mut out, payload + 16),
                    17 => change.apply_udp(&mut out, payload + 6),
                    58 => outer.apply(&mut out, payload + 2),
                    _ => {}
                }
            }
        }
        out
    }
}

impl Quote {
    /// Gives the quoted packet another source, or destination, and returns all that has changed in it.
    pub(crate) fn readdress(
        &self,
        frame: &[u8],
        out: &mut [u8],
        end: usize,
        is_source: bool,
        port: Option<u16>,
        address: &[u8],
    ) -> Changed {
        let first = self.at + if self.is_v6 { 8 } else { 12 } + if is_source { 0 } else { address.len() };
        let place = first..first + address.len();
        out[place.clone()].copy_from_slice(address);
        let addresses = Changed::of(frame, out, place);
        if !self.is_v6 {
            addresses.apply(out, self.at + 10);
        }
        if matches!(self.protocol, 6 | 17)
            && let Some(port) = port
        {
            let at = self.payload + if is_source { 0 } else { 2 };
            out[at..at + 2].copy_from_slice(&port.to_be_bytes());
        }
        let change = addresses.clone().and(Changed::of(frame, out, self.payload..self.payload + 4));
        match self.protocol {
            6 if self.payload + 18 <= end => change.apply(out, self.payload + 16),
            17 => change.apply_udp(out, self.payload + 6),
            58 => addresses.apply(out, self.payload + 2),
            _ => {}
        }
        Changed::of(frame, out, self.at..self.payload + (end - self.payload) / 2 * 2)
    }
}
