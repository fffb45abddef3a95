//! What random packets carry: segments whose numbers fit their connection's beside such as a stranger guesses, datagrams and
//! echoes, with right and wrong checksums.

use fastrand::Rng;

use super::bytes::{checksum, sum};
use super::generate::Side;

fn data(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..40) {
        0 => rng.usize(1_400..1_600),
        1 => rng.usize(500..700),
        _ => rng.usize(..40),
    };
    vec![rng.u8(..); length]
}

pub(crate) fn tcp(rng: &mut Rng, side: Side, ports: Vec<u8>) -> Vec<u8> {
    let mut segment = ports;
    segment.extend(numbers(rng, side));
    let options = if rng.u8(..4) == 0 { rng.u8(..11) } else { 0 };
    let flags = match side {
        Side::Client => [0x02, 0x02, 0x10, 0x10, 0x10, 0x18, 0x11, 0x01, 0x04, 0x14, 0x12, rng.u8(..)],
        Side::Tenant => [0x12, 0x12, 0x12, 0x10, 0x10, 0x18, 0x11, 0x11, 0x04, 0x14, 0x02, rng.u8(..)],
    }[rng.usize(..12)];
    segment.extend([(5 + options) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(vec![1; usize::from(options) * 4]);
    if rng.bool() {
        segment.extend(data(rng));
    }
    segment
}

/// Where the numbers of the client's and of the backend's end of each connection begin: one of them comes round soon.
const BEGINNINGS: [u32; 2] = [1_000, u32::MAX];
/// How far connections go.
const LENGTH: u32 = 4;

/// The numbers of a segment. Ends know where their connection stands: so most are among few, and often those that its other end
/// waits for. A stranger has to guess.
fn numbers(rng: &mut Rng, side: Side) -> [u8; 8] {
    let mut one = |beginning: u32| {
        if rng.u8(..6) == 0 { rng.u32(..) } else { beginning.wrapping_add(rng.u32(..LENGTH)) }
    };
    let [client, backend] = BEGINNINGS.map(&mut one);
    let (sequence, acknowledgement) =
        if side == Side::Client { (client, backend) } else { (backend, client) };
    (u64::from(sequence) << 32 | u64::from(acknowledgement)).to_be_bytes()
}

/// Whether a client's segment may be the one that its connection waits for.
pub(crate) fn is_in_window(sequence: u32) -> bool {
    sequence.wrapping_sub(BEGINNINGS[0]) < LENGTH
}

pub(crate) fn udp(rng: &mut Rng, ports: Vec<u8>) -> Vec<u8> {
    let data = data(rng);
    let mut datagram = ports;
    datagram.extend(u16::try_from(8 + data.len()).expect("a length").to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

pub(crate) fn echo(rng: &mut Rng, side: Side, is_v6: bool) -> Vec<u8> {
    let is_request = (rng.u8(..5) != 0) == (side == Side::Client);
    let kind = match (is_v6, is_request) {
        // Neighbour discovery, and a router's.
        (true, _) if rng.u8(..6) == 0 => [133, 134, 135, 136, 143][rng.usize(..5)],
        (true, true) => 128,
        (true, false) => 129,
        (false, true) => 8,
        (false, false) => 0,
    };
    let identifier = if rng.bool() { rng.u8(..3) } else { rng.u8(..16) };
    let mut message = vec![kind, 0, 0, 0, 0, identifier, 0, 1];
    message.extend(data(rng));
    message
}

/// With the checksum that it needs, if it has the room; a UDP datagram sometimes without.
pub(crate) fn with_checksum(
    rng: &mut Rng,
    protocol: u8,
    mut payload: Vec<u8>,
    from: &[u8],
    to: &[u8],
) -> Vec<u8> {
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
