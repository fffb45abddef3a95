//! Random packets: half of them what ends of a few flows may send, and those who speak in their name; the others of
//! all kinds, many changed or cut afterwards.

use fastrand::Rng;

use super::envelopes::{ipv4, ipv6};
use super::hosts::{backend, client, destination_mac, known_client, tag, tenants_host, to_outside, vip};
use super::payloads::{echo, tcp, udp, with_checksum};
use super::world::vip_of;

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Tenant,
}

impl Side {
    fn other(self) -> Self {
        if self == Self::Client { Self::Tenant } else { Self::Client }
    }
}

/// A frame that comes from one side.
pub(crate) fn frame(rng: &mut Rng, side: Side) -> Vec<u8> {
    if rng.bool() { of_a_flow(rng, side) } else { of_any_kind(rng, side) }
}

/// A frame of one of a few flows, from one of its ends or in its name.
fn of_a_flow(rng: &mut Rng, side: Side) -> Vec<u8> {
    let is_v6 = rng.bool();
    let (protocol, port, target_port, backends) = [
        (6, 80u16, 80u16, 20..24),
        (6, 80, 80, 20..24),
        (6, 443, 8443, 2..4),
        (17, 53, 5353, 2..4),
        (17, 4_000, 4_000, 10..13),
        (if is_v6 { 58 } else { 1 }, 0, 0, 30..33),
    ][rng.usize(..6)]
    .clone();
    let (client, client_port) = (known_client(rng, is_v6), rng.u16(40_000..40_003));
    let (from, to, ports) = match side {
        Side::Client => (client, vip_of(is_v6), [client_port, port]),
        Side::Tenant => (tenants_host(19, is_v6, rng.u8(backends)), client, [target_port, client_port]),
    };
    let ports = ports.map(u16::to_be_bytes).concat();
    let payload = match protocol {
        6 => tcp(rng, side, ports),
        17 => udp(rng, ports),
        _ => echo(rng, side, is_v6),
    };
    let payload = with_checksum(rng, protocol, payload, &from, &to);
    let packet = if is_v6 {
        ipv6(rng, protocol, payload, &from, &to)
    } else {
        ipv4(rng, protocol, payload, &from, &to)
    };
    [&[2, 0, 0, 0, 0, 0x22, 2, 0, 0, 0, 0, 0x11][..], &ethertype(is_v6), &packet].concat()
}

fn ethertype(is_v6: bool) -> [u8; 2] {
    if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}

fn of_any_kind(rng: &mut Rng, side: Side) -> Vec<u8> {
    let is_v6 = rng.bool();
    let mut frame = Vec::with_capacity(128);
    frame.extend(destination_mac(rng));
    frame.extend([2, 0, 0, 0, 0, 0x11]);
    if rng.u8(..25) == 0 {
        frame.extend(tag(rng));
        if rng.u8(..10) == 0 {
            frame.extend(tag(rng));
        }
    }
    frame.extend(ethertype(is_v6));
    let client = client(rng, is_v6);
    let (from, to) = match side {
        Side::Client => (client, vip(rng, is_v6)),
        Side::Tenant => (backend(rng, is_v6), to_outside(rng, is_v6, client)),
    };
    let packet = packet(rng, side, &from, &to, true);
    frame.extend(packet);
    if rng.u8(..10) == 0 {
        // As Ethernet pads short frames.
        frame.extend(std::iter::repeat_n(0xa5, rng.usize(..60)));
    }
    if rng.u8(..4) == 0 {
        mutate(rng, &mut frame, if side == Side::Client { 14 } else { SHORTEST_TESTED });
    }
    frame
}

/// A test run of a program that sees socket buffers takes no frame that ends within an IP header.
const SHORTEST_TESTED: usize = 54;

fn port(rng: &mut Rng) -> u16 {
    match rng.u8(..10) {
        0 => rng.u16(..),
        1 => 0,
        number => [80, 443, 81, 53, 82, 8443, 5353, 4000][usize::from(number - 2)],
    }
}

fn packet(rng: &mut Rng, side: Side, from: &[u8], to: &[u8], may_quote: bool) -> Vec<u8> {
    let is_v6 = from.len() == 16;
    let icmp = if is_v6 { 58 } else { 1 };
    let (protocol, payload) = match rng.u8(..20) {
        0..=6 => (6, {
            let ports = ports(rng, side);
            tcp(rng, side, ports)
        }),
        7..=12 => (17, {
            let ports = ports(rng, side);
            udp(rng, ports)
        }),
        13..=15 => (icmp, echo(rng, side, is_v6)),
        16..=18 if may_quote => (icmp, error(rng, side, from, to)),
        _ => (rng.u8(..), (0..rng.usize(..40)).map(|_| rng.u8(..)).collect()),
    };
    let payload = with_checksum(rng, protocol, payload, from, to);
    if is_v6 { ipv6(rng, protocol, payload, from, to) } else { ipv4(rng, protocol, payload, from, to) }
}

/// The client's port and the service's, in the order of a packet from that side.
fn ports(rng: &mut Rng, side: Side) -> Vec<u8> {
    let client = if rng.u8(..4) == 0 { rng.u16(40_000..40_016) } else { rng.u16(40_000..40_003) };
    let (client, service) = (client.to_be_bytes(), port(rng).to_be_bytes());
    if side == Side::Client { [client, service].concat() } else { [service, client].concat() }
}

/// An error about a packet that came from the other side.
fn error(rng: &mut Rng, side: Side, from: &[u8], to: &[u8]) -> Vec<u8> {
    let is_v6 = from.len() == 16;
    let kind = if is_v6 { rng.u8(1..5) } else { [3, 11, 12, 5][rng.usize(..4)] };
    let about = match (rng.u8(..4), side) {
        (0, Side::Client) => client(rng, is_v6),
        (0, Side::Tenant) => backend(rng, is_v6),
        _ => from.to_vec(),
    };
    let mut message = vec![kind, rng.u8(..5), 0, 0, 0, 0, 0, 0];
    let mut quote = packet(rng, side.other(), to, &about, false);
    quote.truncate(rng.usize(20..80));
    message.extend(quote);
    message
}

/// Changes bytes, most of them in the headers, or cuts the frame; never below what the kernel takes for a frame.
fn mutate(rng: &mut Rng, frame: &mut Vec<u8>, shortest: usize) {
    for _ in 0..rng.usize(1..4) {
        let headers = frame.len().min(90);
        let at = rng.usize(12..headers);
        frame[at] = if rng.bool() { frame[at] ^ 1 << rng.u8(..8) } else { rng.u8(..) };
    }
    if rng.u8(..3) == 0 {
        let length = rng.usize(shortest.min(frame.len())..=frame.len());
        frame.truncate(length);
    }
}
