//! What may be so of each flow, as far as can be told from outside.
//!
//! Which slot a flow has is chance, keyed by a secret; so a change of backends moves it or doesn't. All that may have happened is
//! kept, each possibility says what it has become of each packet, and those that were wrong go. If none is left, the programs
//! have done what can't be right.

use std::collections::HashMap;
use std::net::IpAddr;

use super::bytes::u16_at;
use super::flow::{Asked, Flow, Member, Passed, Said, Slot};
use super::reference::{FlowId, Headers};
use super::world::{Service, World};

#[derive(Default)]
pub(crate) struct Talk {
    beliefs: HashMap<FlowId, Belief>,
    /// How many seconds the programs' clock may have counted since all flows were over.
    seconds: u32,
}

/// What may be so of a flow.
struct Belief {
    service: usize,
    /// Empty where chance has made something that can't be: two flows that share bits of their hashes, or time that has passed.
    /// Then nothing is known until all flows are over.
    possible: Vec<Possibility>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Possibility {
    slot: Slot,
    flow: Flow,
    /// What it says has become of the last packet.
    said: Prediction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prediction {
    Nothing,
    GoesTo(Option<Member>),
    Answers(Asked),
}

/// Less than for how long a client is waited for: from then on nothing is known of any flow.
const TOO_LATE: u32 = 3;

impl Talk {
    /// So many seconds the programs' clock has counted since all flows were over.
    pub(crate) fn time_passes(&mut self, seconds: u32) {
        self.seconds = seconds;
        if self.is_too_late() {
            self.beliefs.values_mut().for_each(|belief| belief.possible.clear());
        }
    }

    /// Whether all flows have to be forgotten before more can be said.
    pub(crate) fn is_too_late(&self) -> bool {
        self.seconds >= TOO_LATE
    }

    /// A client's packet comes in.
    pub(crate) fn client(&mut self, world: &World, service: usize, id: FlowId, said: &Said) {
        let lives = |member| world.services[service].lives(member);
        for possibility in &mut self.belief(world, service, id).possible {
            let to = possibility.flow.client(possibility.slot, said, &lives);
            possibility.said = Prediction::GoesTo(to);
        }
    }

    /// Something about a flow comes in.
    pub(crate) fn about(&mut self, world: &World, service: usize, id: FlowId) {
        let lives = |member| world.services[service].lives(member);
        for possibility in &mut self.belief(world, service, id).possible {
            let to = possibility.flow.holder(possibility.slot, id.4 == 6, &lives);
            possibility.said = Prediction::GoesTo(to);
        }
    }

    /// The last packet has gone to a backend. If it can't have: what was possible.
    pub(crate) fn goes_to(&mut self, id: FlowId, member: Member) -> Result<(), String> {
        self.learn(id, |said| said == Prediction::GoesTo(Some(member)))
    }

    /// A backend's packet would leave.
    pub(crate) fn backend(&mut self, world: &World, service: usize, id: FlowId, from: Member, said: &Said) {
        let lives = |member| world.services[service].lives(member);
        let passed = Passed::after(self.seconds);
        let belief = self.belief(world, service, id);
        for possibility in std::mem::take(&mut belief.possible) {
            for &passed in &passed {
                let Possibility { slot, mut flow, .. } = possibility;
                let asked = flow.backend(slot, said, (from, passed), &lives);
                belief.add(Possibility { slot, flow, said: Prediction::Answers(asked) });
            }
        }
    }

    /// The last answer was let out, or held back. If it can't have been: what was possible.
    pub(crate) fn was_let_out(&mut self, id: FlowId, let_out: bool, may_leave: bool) -> Result<(), String> {
        self.learn(id, |said| is_let_out(said, may_leave) == let_out)
    }

    /// Whether it is sure that both ends have spoken and none has ended the flow.
    pub(crate) fn is_open(&self, id: FlowId) -> bool {
        self.is(id, Flow::is_open)
    }

    /// Whether it is sure that a flow is over.
    pub(crate) fn is_closed(&self, id: FlowId) -> bool {
        self.is(id, Flow::is_closed)
    }

    fn is(&self, id: FlowId, is_so: impl Fn(&Flow) -> bool) -> bool {
        let belief = self.beliefs.get(&id).filter(|belief| !belief.possible.is_empty());
        belief.is_some_and(|belief| belief.possible.iter().all(|possibility| is_so(&possibility.flow)))
    }

    /// The service has other backends now.
    pub(crate) fn table_changed(&mut self, world: &World, service: usize) {
        let place = service;
        let service = &world.services[place];
        for belief in self.beliefs.values_mut().filter(|belief| belief.service == place) {
            let before = std::mem::take(&mut belief.possible);
            for possibility in before {
                for owner in service.takers() {
                    let slot = possibility.slot.moved(owner, |member| service.lives(member));
                    belief.add(Possibility { slot, ..possibility });
                    // Each flow in use is looked up once in a while, and this one would be missed then.
                    if possibility.flow.has_lost_its_backend(&|member| service.lives(member)) {
                        belief.add(Possibility { slot, flow: possibility.flow.unseen(), ..possibility });
                    }
                }
            }
        }
    }

    /// All flows are over, and of those that won't come again nothing is kept.
    pub(crate) fn forget(&mut self, comes_again: impl Fn(IpAddr) -> bool) {
        self.seconds = 0;
        self.beliefs.retain(|id, belief| comes_again(id.0) && !belief.possible.is_empty());
        for belief in self.beliefs.values_mut() {
            for possibility in std::mem::take(&mut belief.possible) {
                belief.add(Possibility::of(possibility.slot.rested()));
            }
        }
    }

    fn belief(&mut self, world: &World, service: usize, id: FlowId) -> &mut Belief {
        let is_known = !self.is_too_late();
        self.beliefs.entry(id).or_insert_with(|| {
            let belief = Belief::anything(&world.services[service], service);
            if is_known { belief } else { Belief { possible: Vec::new(), ..belief } }
        })
    }

    /// Drops the possibilities that have said something else. If none was right: what they were.
    fn learn(&mut self, id: FlowId, is_right: impl Fn(Prediction) -> bool) -> Result<(), String> {
        let Some(belief) = self.beliefs.get_mut(&id).filter(|belief| !belief.possible.is_empty()) else {
            return Ok(());
        };
        let before = std::mem::take(&mut belief.possible);
        for possibility in before.iter().filter(|possibility| is_right(possibility.said)) {
            belief.add(Possibility { said: Prediction::Nothing, ..*possibility });
        }
        if belief.possible.is_empty() { Err(format!("{id:?}: {before:?}")) } else { Ok(()) }
    }
}

fn is_let_out(said: Prediction, may_leave: bool) -> bool {
    match said {
        Prediction::Answers(Asked::Yes) => true,
        Prediction::Answers(Asked::No) => may_leave,
        _ => false,
    }
}

impl Belief {
    /// Of a flow of which nothing was seen.
    fn anything(service: &Service, place: usize) -> Self {
        let mut belief = Self { service: place, possible: Vec::new() };
        for owner in service.takers() {
            belief.add(Possibility::of(Slot::steady(owner)));
            if service.has_changed {
                belief.add(Possibility::of(Slot::tracked(owner, owner)));
                for previous_owner in service.members() {
                    belief.add(Possibility::of(Slot::tracked(owner, Some(previous_owner))));
                }
            }
        }
        belief
    }

    fn add(&mut self, possibility: Possibility) {
        if !self.possible.contains(&possibility) {
            self.possible.push(possibility);
        }
    }
}

impl Possibility {
    fn of(slot: Slot) -> Self {
        Self { slot, flow: Flow::default(), said: Prediction::Nothing }
    }
}

/// The flow of an answer from the service's port.
pub(crate) fn answered_flow(frame: &[u8], packet: &Headers, vip: IpAddr, port: Option<u16>) -> FlowId {
    let at = packet.payload;
    let (client_port, vip_port) = match packet.protocol {
        6 | 17 => (u16_at(frame, at + 2), port.unwrap_or_else(|| u16_at(frame, at))),
        _ => (u16_at(frame, at + 4), 0),
    };
    (packet.destination, client_port, vip, vip_port, packet.protocol)
}
