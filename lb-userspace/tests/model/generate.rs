//! Random packets: most of them well formed and for a service, many changed or cut afterwards.

use fastrand::Rng;

use super::bytes::{checksum, sum};
use super::world::{VIP_4, VIP_6};
use crate::bed::{GATEWAY, GATEWAY_6};

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
    let is_v6 = rng.bool();
    let mut frame = Vec::with_capacity(128);
    frame.extend(destination_mac(rng));
    frame.extend([2, 0, 0, 0, 0, 0x11]);
    if rng.u8(..25) == 0 {
        frame.extend(tag(rng));
    }
    frame.extend(if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
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

/// The uplink's mostly; another host's, everybody's, or many's.
fn destination_mac(rng: &mut Rng) -> [u8; 6] {
    match rng.u8(..40) {
        0 => [2, 0, 0, 0, 0, 0x23],
        1 => [0xff; 6],
        2 => [0x33, 0x33, 0, 0, 0, 1],
        _ => [2, 0, 0, 0, 0, 0x22],
    }
}

/// A VLAN tag: half of them name no VLAN, some are a provider's.
fn tag(rng: &mut Rng) -> [u8; 4] {
    let vlan = if rng.bool() { 0 } else { rng.u16(..4096) };
    let [high, low] = (vlan | rng.u16(..16) << 12).to_be_bytes();
    let kind = if rng.u8(..8) == 0 { [0x88, 0xa8] } else { [0x81, 0x00] };
    [kind[0], kind[1], high, low]
}

/// A test run of a program that sees socket buffers takes no frame that ends within an IP header.
const SHORTEST_TESTED: usize = 54;

/// A backend mostly; another host of the tenant's, of its link, or of nobody's.
fn backend(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    let last = [2, 2, 3, 3, 10, 11, 12, 77][rng.usize(..8)];
    match (is_v6, rng.u8(..20)) {
        (true, 0) => [&[0xfe, 0x80][..], &[0; 13], &[last]].concat(),
        (true, 1) => vec![0; 16],
        (true, 2) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x1a][..], &[0; 9], &[last]].concat(),
        (true, _) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
        (false, 0) => vec![19, 0, 1, last],
        (false, 1) => vec![0; 4],
        (false, 2) => vec![169, 254, 0, last],
        (false, _) => vec![19, 0, 0, last],
    }
}

/// A client mostly; the gateway, or a host of a tenant's.
fn to_outside(rng: &mut Rng, is_v6: bool, client: Vec<u8>) -> Vec<u8> {
    let last = rng.u8(..);
    match (is_v6, rng.u8(..40)) {
        (_, 0 | 1) => gateway(is_v6),
        (true, 2) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x20][..], &[0; 9], &[last]].concat(),
        (true, 3) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
        (true, 4) => [&[0xfe, 0x80][..], &[0; 13], &[last]].concat(),
        (true, 5) => [&[0xff, 2][..], &[0; 13], &[last]].concat(),
        (false, 4) => vec![224, 0, 0, last],
        (false, 5) => vec![[19, 255][rng.usize(..2)], [0, 255][rng.usize(..2)], 255, 255],
        (false, 6) => vec![19, 0, 0, 255],
        (false, 2) => vec![20, 0, 0, last],
        (false, 3) => vec![19, 0, 0, last],
        _ => client,
    }
}

fn gateway(is_v6: bool) -> Vec<u8> {
    if is_v6 { GATEWAY_6.octets().to_vec() } else { GATEWAY.octets().to_vec() }
}

fn client(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    let last = rng.u8(1..9);
    match (is_v6, rng.u8(..30)) {
        (true, 0) => [&[0xff, 2][..], &[0; 13], &[last]].concat(),
        (true, 1) => vec![0; 16],
        (true, 2) => [&[0xfe, 0x80][..], &[0; 13], &[last]].concat(),
        (true, 3) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
        (true, 4) => VIP_6.octets().to_vec(),
        (true, _) => [&[0x20, 0x01, 0x0d, 0xb8, 0x51][..], &[0; 10], &[last]].concat(),
        (false, 0) => vec![rng.u8(..), 0, 0, last],
        (false, 1) => vec![[19, 20][rng.usize(..2)], 0, 0, last],
        (false, 2) => VIP_4.octets().to_vec(),
        (false, 3) => vec![rng.u8(224..), rng.u8(..), rng.u8(..), last],
        (false, _) => vec![198, 51, 100, last],
    }
}

fn vip(rng: &mut Rng, is_v6: bool) -> Vec<u8> {
    if rng.u8(..30) == 0 {
        return backend(rng, is_v6);
    }
    let mut vip = if is_v6 { VIP_6.octets().to_vec() } else { VIP_4.octets().to_vec() };
    if rng.u8(..12) == 0 {
        *vip.last_mut().expect("an address") ^= 1;
    }
    vip
}

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
        0..=6 => (6, tcp(rng, side)),
        7..=12 => (17, udp(rng, side)),
        13..=15 => (icmp, echo(rng, side, is_v6)),
        16..=18 if may_quote => (icmp, error(rng, side, from, to)),
        _ => (rng.u8(..), (0..rng.usize(..40)).map(|_| rng.u8(..)).collect()),
    };
    let payload = with_checksum(rng, protocol, payload, from, to);
    if is_v6 { ipv6(rng, protocol, payload, from, to) } else { ipv4(rng, protocol, payload, from, to) }
}

fn data(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..40) {
        0 => rng.usize(1_400..1_600),
        1 => rng.usize(500..700),
        _ => rng.usize(..40),
    };
    vec![rng.u8(..); length]
}

/// The client's port and the service's, in the order of a packet from that side.
fn ports(rng: &mut Rng, side: Side) -> Vec<u8> {
    let (client, service) = (rng.u16(40_000..40_016).to_be_bytes(), port(rng).to_be_bytes());
    if side == Side::Client { [client, service].concat() } else { [service, client].concat() }
}

fn tcp(rng: &mut Rng, side: Side) -> Vec<u8> {
    let mut segment = ports(rng, side);
    segment.extend(rng.u64(..).to_be_bytes());
    let options = if rng.u8(..4) == 0 { rng.u8(..11) } else { 0 };
    let flags = [0x02, 0x10, 0x18, 0x11, 0x04, 0x14, 0x12, rng.u8(..)][rng.usize(..8)];
    let is_bare = flags == 0x02 && rng.bool();
    segment.extend([(5 + options) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(vec![1; usize::from(options) * 4]);
    if !is_bare {
        segment.extend(data(rng));
    }
    segment
}

fn udp(rng: &mut Rng, side: Side) -> Vec<u8> {
    let data = data(rng);
    let mut datagram = ports(rng, side);
    datagram.extend(u16::try_from(8 + data.len()).expect("a length").to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

fn echo(rng: &mut Rng, side: Side, is_v6: bool) -> Vec<u8> {
    let is_request = (rng.u8(..5) != 0) == (side == Side::Client);
    let kind = match (is_v6, is_request) {
        // Neighbour discovery, and a router's.
        (true, _) if rng.u8(..6) == 0 => [133, 134, 135, 136, 143][rng.usize(..5)],
        (true, true) => 128,
        (true, false) => 129,
        (false, true) => 8,
        (false, false) => 0,
    };
    let mut message = vec![kind, 0, 0, 0, 0, rng.u8(..16), 0, 1];
    message.extend(data(rng));
    message
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

/// With the checksum that it needs, if it has the room; a UDP datagram sometimes without.
fn with_checksum(rng: &mut Rng, protocol: u8, mut payload: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return payload,
    };
    if payload.len() < at + 2 || (protocol == 17 && rng.u8(..4) == 0) {
        return payload;
    }
    let length = u32::try_from(payload.len()).expect("a length");
    let pseudo = if protocol == 1 { 0 } else { sum(from) + sum(to) + u32::from(protocol) + length };
    payload[at..at + 2].copy_from_slice(&[0, 0]);
    let value = checksum(pseudo + sum(&payload)) ^ u16::from(rng.u8(..12) == 0);
    payload[at..at + 2].copy_from_slice(&value.to_be_bytes());
    payload
}

fn hops(rng: &mut Rng) -> u8 {
    [64, 64, 64, 64, 64, 64, 2, 1, 0, 255][rng.usize(..10)]
}

/// Where a fragment begins, in eight bytes, and whether more come; mostly it isn't one.
fn fragment(rng: &mut Rng) -> (u16, bool) {
    [(0, false), (0, false), (0, false), (0, false), (0, false), (0, true), (1, true), (9, false)]
        [rng.usize(..8)]
}

fn ipv4(rng: &mut Rng, protocol: u8, payload: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
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
    let value = checksum(sum(&packet));
    packet[10..12].copy_from_slice(&value.to_be_bytes());
    packet.extend(payload);
    packet
}

fn ipv6(rng: &mut Rng, protocol: u8, payload: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
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
