//! What may be so of each flow, as far as can be told from outside.
//!
//! Which slot a flow has is chance, keyed by a secret; so a change of backends moves it or doesn't. All that may have happened is
//! kept, each possibility says what it has become of each packet, and those that were wrong go. If none is left, the programs
//! have done what can't be right.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use lb_common::abi::Control;

use super::bytes::u16_at;
use super::flow::{Asked, Flow, Member, Passed, Slot, Traces};
use super::reference::{FlowId, Headers};
use super::said::Said;
use super::shared::{FlowOf, Shared};
use super::world::{Service, World};

pub(crate) struct Talk {
    beliefs: HashMap<FlowOf, Belief>,
    shared: Shared,
    /// How many seconds the programs' clock may have counted since all flows were over.
    seconds: u32,
}

/// What may be so of a flow.
struct Belief {
    /// Empty where so much time has passed that nothing is known until all flows are over.
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
    pub(crate) fn new(shared: Shared) -> Self {
        Self { beliefs: HashMap::new(), shared, seconds: 0 }
    }

    /// So many seconds the programs' clock has counted since all flows were over. What the programs were told before the next
    /// packets, and after them.
    pub(crate) fn time_passes(&mut self, seconds: u32, controls: [Control; 2]) {
        self.shared.set_controls(controls);
        self.seconds = seconds;
        if self.is_too_late() {
            self.beliefs.values_mut().for_each(|belief| belief.possible.clear());
        }
    }

    /// Whether all flows have to be forgotten before more can be said.
    pub(crate) fn is_too_late(&self) -> bool {
        self.seconds >= TOO_LATE
    }

    /// The sets of the cache of flows in use, and of attempts, in which something may be; `None` where that isn't known.
    pub(crate) fn used_sets(&self) -> Option<[BTreeSet<u32>; 2]> {
        (!self.is_too_late()).then(|| self.shared.used_sets())
    }

    /// A client's packet comes in.
    pub(crate) fn client(&mut self, world: &World, flow: FlowOf, said: &Said) {
        let lives = |member| world.services[flow.0].lives(member);
        self.happens(world, flow, |possibility, results| {
            let mut flow = possibility.flow;
            let to = flow.client(possibility.slot, said, &lives);
            results.push(Possibility { flow, said: Prediction::GoesTo(to), ..possibility });
        });
    }

    /// Something about a flow comes in.
    pub(crate) fn about(&mut self, world: &World, flow: FlowOf) {
        let lives = |member| world.services[flow.0].lives(member);
        let (_, (.., protocol)) = flow;
        self.happens(world, flow, |possibility, results| {
            let to = possibility.flow.holder(possibility.slot, protocol == 6, &lives);
            results.push(Possibility { said: Prediction::GoesTo(to), ..possibility });
        });
    }

    /// A backend's packet would leave.
    pub(crate) fn backend(&mut self, world: &World, flow: FlowOf, from: Member, said: &Said) {
        let lives = |member| world.services[flow.0].lives(member);
        let passed = Passed::after(self.seconds);
        self.happens(world, flow, |possibility, results| {
            results.extend(passed.iter().map(|&passed| {
                let mut flow = possibility.flow;
                let asked = flow.backend(possibility.slot, said, (from, passed), &lives);
                Possibility { flow, said: Prediction::Answers(asked), ..possibility }
            }));
        });
    }

    /// The last packet has gone to a backend. If it can't have: what was possible.
    pub(crate) fn goes_to(&mut self, flow: FlowOf, member: Member) -> Result<(), String> {
        self.learn(flow, |said| said == Prediction::GoesTo(Some(member)))
    }

    /// The last answer was let out, or held back. If it can't have been: what was possible.
    pub(crate) fn was_let_out(&mut self, flow: FlowOf, let_out: bool, may_leave: bool) -> Result<(), String> {
        self.learn(flow, |said| is_let_out(said, may_leave) == let_out)
    }

    /// Each possibility becomes what may follow from it, also by what other flows have left where this one looks.
    fn happens(&mut self, world: &World, flow: FlowOf, follow: impl Fn(Possibility, &mut Vec<Possibility>)) {
        let strays = self.shared.strays(flow);
        let belief = self.belief(world, flow);
        let (mut may, mut surely) = (Traces::default(), Traces::ALL);
        let mut results = Vec::new();
        for possibility in std::mem::take(&mut belief.possible) {
            for flow in possibility.flow.with_strays(strays) {
                follow(Possibility { flow, ..possibility }, &mut results);
            }
        }
        for mut possibility in results {
            let traces = possibility.flow.take_traces();
            may = may.merged(traces, |one, other| one || other);
            surely = surely.merged(traces, |one, other| one && other);
            belief.add(possibility);
        }
        self.shared.leave(flow, may, surely);
    }

    /// Whether it is sure that both ends have spoken and none has ended the flow.
    pub(crate) fn is_open(&self, flow: FlowOf) -> bool {
        self.is(flow, Flow::is_open)
    }

    /// Whether it is sure that a flow is over.
    pub(crate) fn is_closed(&self, flow: FlowOf) -> bool {
        self.is(flow, Flow::is_closed)
    }

    fn is(&self, flow: FlowOf, is_so: impl Fn(&Flow) -> bool) -> bool {
        let belief = self.beliefs.get(&flow).filter(|belief| !belief.possible.is_empty());
        belief.is_some_and(|belief| belief.possible.iter().all(|possibility| is_so(&possibility.flow)))
    }

    /// The service has other backends now.
    pub(crate) fn table_changed(&mut self, world: &World, place: usize) {
        let service = &world.services[place];
        for (_, belief) in self.beliefs.iter_mut().filter(|((of, _), _)| *of == place) {
            for possibility in std::mem::take(&mut belief.possible) {
                for owner in service.takers() {
                    let slot = possibility.slot.moved(owner, |member| service.lives(member));
                    belief.add(Possibility { slot, ..possibility });
                }
            }
        }
    }

    /// All flows are over, and of those that won't come again nothing is kept.
    pub(crate) fn forget(&mut self, comes_again: impl Fn(IpAddr) -> bool) {
        self.seconds = 0;
        self.shared.clear();
        self.beliefs.retain(|(_, (client, ..)), belief| comes_again(*client) && !belief.possible.is_empty());
        for belief in self.beliefs.values_mut() {
            for possibility in std::mem::take(&mut belief.possible) {
                belief.add(Possibility::of(possibility.slot.rested()));
            }
        }
    }

    fn belief(&mut self, world: &World, flow: FlowOf) -> &mut Belief {
        let is_known = !self.is_too_late();
        self.beliefs.entry(flow).or_insert_with(|| {
            if is_known { Belief::anything(&world.services[flow.0]) } else { Belief { possible: Vec::new() } }
        })
    }

    /// Drops the possibilities that have said something else. If none was right: what they were.
    fn learn(&mut self, flow: FlowOf, is_right: impl Fn(Prediction) -> bool) -> Result<(), String> {
        let Some(belief) = self.beliefs.get_mut(&flow).filter(|belief| !belief.possible.is_empty()) else {
            return Ok(());
        };
        let before = std::mem::take(&mut belief.possible);
        for possibility in before.iter().filter(|possibility| is_right(possibility.said)) {
            belief.add(Possibility { said: Prediction::Nothing, ..*possibility });
        }
        if belief.possible.is_empty() { Err(format!("{flow:?}: {before:?}")) } else { Ok(()) }
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
    fn anything(service: &Service) -> Self {
        let mut belief = Self { possible: Vec::new() };
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
