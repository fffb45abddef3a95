//! Which flows are real, and what may leave as an answer: as `reference`, nothing of the code under test. No slot moves here, and
//! no time passes.

use std::collections::HashMap;

use super::bytes::{checksum, sum, u16_at, u32_at};
use super::reference::{FlowId, Headers};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What all ends have said.
#[derive(Default)]
pub(crate) struct Talk {
    /// Which backend of its service has which flow.
    pub(crate) owners: HashMap<FlowId, usize>,
    flows: HashMap<FlowId, Flow>,
}

/// Who has spoken last, as far as the client's next packet is looked up for it.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    #[default]
    No,
    Syn,
    Answer,
}

#[derive(Default)]
struct Flow {
    awaited: Awaited,
    attempt: Option<Attempt>,
    real: Option<Real>,
    /// Its answers say nothing new, but those that begin or end it.
    in_use: bool,
}

/// What is known of a flow that isn't real.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Asked,
    Handshake { number: u32, acknowledged: u16 },
    Answered { acknowledged: u16 },
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Real {
    client_fin: bool,
    backend_fin: bool,
    reset: bool,
    claimed_fin: Option<u32>,
    claimed_reset: bool,
}

impl Real {
    fn is_closed(&self) -> bool {
        self.reset || self.client_fin && self.backend_fin
    }
}

/// A TCP segment.
struct Segment {
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    length: u32,
    is_intact: bool,
}

fn segment(frame: &[u8], packet: &Headers) -> Segment {
    let at = packet.payload;
    let data = at + usize::from(frame[at + 12] >> 4) * 4;
    let addresses = if packet.source.is_ipv6() { sum(&frame[22..54]) } else { sum(&frame[26..34]) };
    let length = u32::try_from(packet.end - at).expect("a length");
    Segment {
        flags: frame[at + 13],
        sequence: u32_at(frame, at + 4),
        acknowledgement: u32_at(frame, at + 8),
        length: u32::try_from(packet.end - data).expect("a length"),
        is_intact: checksum(addresses + 6 + length + sum(&frame[at..packet.end])) == 0,
    }
}

/// What an answer is to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    No,
    Yes,
    Another,
}

impl Talk {
    /// Everything is over.
    pub(crate) fn forget(&mut self) {
        self.flows.clear();
    }

    /// All that is known of a flow is forgotten.
    pub(crate) fn forget_one(&mut self, id: FlowId) {
        self.flows.remove(&id);
    }

    /// A client's packet comes in.
    pub(crate) fn client(&mut self, id: FlowId, frame: &[u8], packet: &Headers) {
        let flow = self.flows.entry(id).or_default();
        if packet.protocol != 6 {
            if flow.real.is_none() {
                flow.attempt = Some(Attempt::Asked);
            }
            return;
        }
        let segment = segment(frame, packet);
        if segment.flags & (SYN | ACK | RST) == SYN {
            flow.awaited = Awaited::Syn;
            return;
        }
        let claims = segment.flags & (FIN | RST) != 0;
        if claims || (flow.awaited != Awaited::No && !flow.in_use) {
            flow.hear_client(&segment, claims);
        }
    }

    /// A backend's packet would leave.
    pub(crate) fn backend(&mut self, id: FlowId, backend: usize, frame: &[u8], packet: &Headers) -> Asked {
        let is_owner = self.owners.get(&id) == Some(&backend);
        let flow = self.flows.entry(id).or_default();
        if packet.protocol != 6 {
            return flow.hear_datagram(is_owner);
        }
        let segment = segment(frame, packet);
        if segment.flags & (SYN | FIN | RST) == 0 && flow.in_use {
            return Asked::Yes;
        }
        flow.hear_backend(&segment, is_owner)
    }
}

impl Flow {
    fn hear_client(&mut self, segment: &Segment, claims: bool) {
        if let Some(real) = &mut self.real
            && !real.is_closed()
        {
            if claims {
                real.claim(segment);
                self.in_use = false;
            }
            return;
        }
        match self.attempt {
            Some(Attempt::Handshake { number, .. }) => {
                let completes =
                    segment.flags & (SYN | ACK | RST | FIN) == ACK && segment.acknowledgement == number;
                if completes && segment.length == 0 && segment.is_intact {
                    self.become_real();
                }
            }
            None if self.real.is_none() && segment.flags & RST == 0 && self.awaited != Awaited::No => {
                self.attempt = Some(Attempt::Asked);
            }
            _ => {}
        }
    }

    fn become_real(&mut self) {
        (self.real, self.attempt, self.in_use) = (Some(Real::default()), None, true);
    }

    fn hear_datagram(&mut self, is_owner: bool) -> Asked {
        if self.in_use || self.real.is_some() {
            self.in_use |= is_owner;
            return Asked::Yes;
        }
        if self.attempt.is_none() || !is_owner {
            return Asked::No;
        }
        self.become_real();
        Asked::Yes
    }

    fn hear_backend(&mut self, segment: &Segment, is_owner: bool) -> Asked {
        let opens = segment.flags & SYN != 0;
        if let Some(real) = &mut self.real
            && !real.is_closed()
        {
            match (is_owner, opens) {
                (true, true) => real.reset = true,
                (true, false) => {
                    self.in_use = real.go_on(segment, self.in_use);
                    return Asked::Yes;
                }
                (false, true) => return Asked::Another,
                (false, false) => return Asked::Yes,
            }
        }
        if opens {
            self.in_use = false;
            return self.hear_handshake(segment, is_owner);
        }
        match self.attempt.filter(|_| is_owner) {
            Some(attempt) => {
                self.hear_of_attempt(segment, attempt);
                Asked::Yes
            }
            None if is_owner && self.real.is_some() => Asked::Yes,
            None if segment.length == 0 && self.awaited == Awaited::Syn => Asked::Yes,
            None => {
                self.await_client();
                Asked::No
            }
        }
    }

    fn await_client(&mut self) {
        if self.awaited != Awaited::Syn {
            self.awaited = Awaited::Answer;
        }
    }

    fn hear_handshake(&mut self, segment: &Segment, is_owner: bool) -> Asked {
        if self.attempt.is_none() && self.awaited != Awaited::Syn {
            return Asked::No;
        }
        if !is_owner {
            return Asked::Another;
        }
        let acknowledged = lower_half(segment.acknowledgement);
        self.attempt = Some(Attempt::Handshake { number: segment.sequence.wrapping_add(1), acknowledged });
        self.await_client();
        Asked::Yes
    }

    fn hear_of_attempt(&mut self, segment: &Segment, attempt: Attempt) {
        if segment.flags & RST != 0 {
            self.attempt = None;
            return;
        }
        let now = lower_half(segment.acknowledgement);
        let says_nothing = segment.length == 0 && segment.flags & FIN == 0;
        match attempt {
            Attempt::Asked if says_nothing => self.attempt = Some(Attempt::Answered { acknowledged: now }),
            Attempt::Handshake { acknowledged, .. } | Attempt::Answered { acknowledged }
                if says_nothing && acknowledged == now => {}
            _ => {
                self.become_real();
                self.real = Some(Real { backend_fin: segment.flags & FIN != 0, ..Real::default() });
            }
        }
    }
}

impl Real {
    fn claim(&mut self, segment: &Segment) {
        let end = segment.sequence.wrapping_add(segment.length);
        if segment.flags & RST != 0 {
            self.claimed_reset = true;
            // One number is kept, of the last claim.
            self.claimed_fin =
                (self.claimed_fin.is_some() || segment.flags & FIN != 0).then_some(segment.sequence);
        } else {
            self.claimed_fin = Some(end.wrapping_add(1));
        }
    }

    /// Whether its answers say nothing new from now on.
    fn go_on(&mut self, segment: &Segment, was_in_use: bool) -> bool {
        self.backend_fin |= segment.flags & FIN != 0;
        self.reset |= segment.flags & RST != 0;
        if self.claimed_fin == Some(segment.acknowledgement) {
            (self.client_fin, self.claimed_fin) = (true, None);
        }
        let is_claimed = self.claimed_fin.is_some() || self.claimed_reset;
        !self.is_closed() && (!is_claimed || was_in_use)
    }
}

/// The flow of an answer from the service's port.
pub(crate) fn answered_flow(
    frame: &[u8],
    packet: &Headers,
    vip: std::net::IpAddr,
    port: Option<u16>,
) -> FlowId {
    let at = packet.payload;
    let (client_port, vip_port) = match packet.protocol {
        6 | 17 => (u16_at(frame, at + 2), port.unwrap_or_else(|| u16_at(frame, at))),
        _ => (u16_at(frame, at + 4), 0),
    };
    (packet.destination, client_port, vip, vip_port, packet.protocol)
}

/// As much of an acknowledgement as an attempt keeps.
fn lower_half(number: u32) -> u16 {
    (number & 0xffff).try_into().expect("16 bits")
}
