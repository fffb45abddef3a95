//! Places that flows share. The programs keep some of what they know of a flow under a part of its hash, and so find there what
//! another flow has left.
//!
//! The code under test says only where a place is. What is left there, and what follows from it, is the model's.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use lb_common::abi::{Address, Control, FlowKey, Handle};
use lb_common::attempt::{self, ATTEMPTS_A_SET};
use lb_common::recent::Mark;
use lb_common::{handshake, hash};

use super::flow::{Strays, Traces};
use super::reference::FlowId;

/// A flow, and the place of its service in the world.
pub(crate) type FlowOf = (usize, FlowId);

/// What all flows have left since all of them were over.
pub(crate) struct Shared {
    /// Of each service of the world.
    services: Vec<Handle>,
    /// What the programs were told before the last packets and after them.
    controls: [Control; 2],
    syns: Places<usize>,
    answers: Places<usize>,
    /// By set and tag.
    in_use: Places<(u32, u16)>,
    attempts: HashMap<u32, Set>,
}

/// The flows that may have written to each place, by their hashes.
struct Places<P>(HashMap<P, Writers>);

enum Writers {
    One(u64),
    Several,
}

/// The attempts that may have come into a set, in their order, by the hashes of their flows.
#[derive(Default)]
struct Set {
    added: Vec<u64>,
    /// How many there were when a flow's own came, or fewer.
    before: HashMap<u64, usize>,
}

impl<P: Eq + Hash> Places<P> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn have_other_than(&self, place: &P, flow: u64) -> bool {
        match self.0.get(place) {
            None => false,
            Some(Writers::One(writer)) => *writer != flow,
            Some(Writers::Several) => true,
        }
    }

    fn write(&mut self, place: P, flow: u64) {
        let writers = self.0.entry(place).or_insert(Writers::One(flow));
        if !matches!(writers, Writers::One(writer) if *writer == flow) {
            *writers = Writers::Several;
        }
    }
}

impl Shared {
    pub(crate) fn new(services: Vec<Handle>, control: Control) -> Self {
        Self {
            services,
            controls: [control; 2],
            syns: Places::new(),
            answers: Places::new(),
            in_use: Places::new(),
            attempts: HashMap::new(),
        }
    }

    /// All places are empty.
    pub(crate) fn clear(&mut self) {
        let [_, control] = self.controls;
        *self = Self::new(std::mem::take(&mut self.services), control);
    }

    /// The sets of the cache of flows in use, and of attempts, in which something may be.
    pub(crate) fn used_sets(&self) -> [BTreeSet<u32>; 2] {
        [self.in_use.0.keys().map(|(set, _)| *set).collect(), self.attempts.keys().copied().collect()]
    }

    /// What the programs were told before the next packets and after them.
    pub(crate) fn set_controls(&mut self, controls: [Control; 2]) {
        self.controls = controls;
    }

    /// What other flows may have left where this one looks.
    pub(crate) fn strays(&self, flow: FlowOf) -> Strays {
        let hash = self.hash(flow);
        let cell = handshake::cell(hash);
        let attempts = self.attempts.get(&self.attempt_set(flow.0, hash));
        Strays {
            syn: self.syns.have_other_than(&cell, hash),
            answer: self.answers.have_other_than(&cell, hash),
            in_use: self.marks(hash).iter().any(|mark| self.in_use.have_other_than(mark, hash)),
            attempt: attempts.is_some_and(|set| set.may_have_lost(hash)),
        }
    }

    /// A flow may have left these, and has surely left those.
    pub(crate) fn leave(&mut self, flow: FlowOf, may: Traces, surely: Traces) {
        let hash = self.hash(flow);
        let cell = handshake::cell(hash);
        if may.syn {
            self.syns.write(cell, hash);
        }
        if may.answer {
            self.answers.write(cell, hash);
        }
        if may.in_use {
            self.marks(hash).into_iter().for_each(|mark| self.in_use.write(mark, hash));
        }
        if may.attempt {
            let set = self.attempt_set(flow.0, hash);
            self.attempts.entry(set).or_default().add(hash, surely.attempt);
        }
    }

    fn attempt_set(&self, service: usize, hash: u64) -> u32 {
        attempt::set(self.services[service].index, hash, self.controls[0].attempt_mask)
    }

    /// Where the flow is in the cache of those in use: an epoch may have begun between the last packets.
    fn marks(&self, hash: u64) -> [(u32, u16); 2] {
        self.controls.map(|control| {
            let Mark { set, tag } = Mark::of(hash, control.epoch, control.recent_mask);
            (set, tag)
        })
    }

    fn hash(&self, (service, (client, client_port, _, vip_port, _)): FlowOf) -> u64 {
        let client = match client {
            IpAddr::V4(address) => Address::v4(address.octets()),
            IpAddr::V6(address) => Address::v6(address.octets()),
        };
        let key = FlowKey { client, service: self.services[service], client_port, vip_port };
        hash::of_flow(&key, self.controls[0].seed)
    }
}

impl Set {
    fn add(&mut self, flow: u64, is_sure: bool) {
        let count = self.added.len();
        let before = self.before.entry(flow).or_insert(count);
        if is_sure {
            *before = count;
        }
        self.added.push(flow);
    }

    /// Whether as many of others as a set holds may have come since the flow's own.
    fn may_have_lost(&self, flow: u64) -> bool {
        let Some(&before) = self.before.get(&flow) else { return false };
        self.added[before..].iter().filter(|other| **other != flow).count() >= ATTEMPTS_A_SET
    }
}
