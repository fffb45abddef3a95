//! Services whose backends change thousands of times under traffic: no flow leaves a backend that lives, and none begins at
//! one that drains.
#![allow(clippy::cast_possible_truncation, reason = "constants of C's headers are wider than their fields")]

mod bed;
#[path = "bed/ends.rs"]
mod ends;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;
#[path = "bed/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bed::{Bed, TCP_80};
use ends::Ends;
use fastrand::Rng;
use flow::Flow;
use lb_userspace::service::Backend;
use lb_userspace::service::BackendState::{self, Active, Draining};

/// A change waits for the kernel more than it works: so many load balancers change at a time.
const BALANCERS: u64 = 8;
/// Changes of each.
const CHANGES: usize = 400;
/// Flows that live at a time.
const FLOWS: usize = 60;
/// Flows that begin for each change at most: the flow table has room for those and for the ends of others.
const NEW_FLOWS: usize = 6;
/// Between two packets of a flow; a change takes longer.
const PAUSE: Duration = Duration::from_millis(20);
/// Backends there may be, by the last bytes of their addresses.
const PLACES: std::ops::Range<u8> = 2..14;

/// What is asked of the backends, by the last bytes of their addresses: state and weight.
type Config = BTreeMap<u8, (BackendState, u16)>;

/// What has been asked, in order. A packet meets the last of these that has been carried out, or a later one.
struct Timeline {
    asked: Mutex<Vec<Config>>,
    settled: AtomicUsize,
}

impl Timeline {
    fn ask(&self, config: Config) {
        self.asked.lock().expect("the timeline").push(config);
    }

    /// What was asked last has been carried out.
    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::SeqCst);
    }

    /// The place of the first that a packet may meet from now on.
    fn now(&self) -> usize {
        self.settled.load(Ordering::SeqCst)
    }

    /// All that packets may have met since then.
    fn since(&self, place: usize) -> Vec<Config> {
        self.asked.lock().expect("the timeline")[place..].to_vec()
    }
}

/// A flow, its backend, and the place in the timeline of the last look at it.
#[derive(Clone, Copy)]
struct Held {
    flow: Flow,
    owner: u8,
    seen: usize,
}

/// What the traffic has seen.
#[derive(Debug, Default)]
struct Tally {
    begun: usize,
    checked: usize,
    /// Checked while the backend drained.
    draining: usize,
    /// Over because the backend was taken away.
    bereft: usize,
}

struct Traffic<'a> {
    ends: &'a Ends,
    timeline: &'a Timeline,
    flows: Vec<Held>,
    next: u16,
    tally: Tally,
}

impl Traffic<'_> {
    /// A packet of each flow, and what becomes of it.
    fn check(&mut self) {
        let now = self.timeline.now();
        let all: Vec<Flow> = self.flows.iter().map(|held| held.flow).collect();
        let passed = self.ends.pass(&all, "A");
        let oldest = self.flows.iter().map(|held| held.seen).min().unwrap_or(now);
        let met = self.timeline.since(oldest);
        let (mut kept, mut over) = (Vec::new(), Vec::new());
        for held in self.flows.drain(..) {
            let Held { flow, owner, seen } = held;
            let mut states = met[seen - oldest..].iter().map(|config| config.get(&owner));
            if states.clone().any(|state| state.is_none()) {
                over.push(flow);
                continue;
            }
            assert_eq!(passed[&flow.port], owner, "flow {} has moved, while {met:?}", flow.port);
            self.tally.checked += 1;
            self.tally.draining += usize::from(states.all(|state| matches!(state, Some((Draining, _)))));
            kept.push(Held { seen: now, ..held });
        }
        self.tally.bereft += over.len();
        let surplus = kept.len().saturating_sub(FLOWS);
        over.extend(kept.drain(..surplus).map(|held| held.flow));
        self.flows = kept;
        self.ends.pass(&over, "R");
    }

    /// Some flows begin.
    fn begin(&mut self) {
        let now = self.timeline.now();
        if self.tally.begun > (now + 1) * NEW_FLOWS {
            return;
        }
        let new: Vec<Flow> = (0..NEW_FLOWS as u16).map(|number| Flow::numbered(self.next + number)).collect();
        self.next += NEW_FLOWS as u16;
        let opened = self.ends.connect(&new);
        let met = self.timeline.since(now);
        for flow in new {
            let Some(&owner) = opened.get(&flow.port) else { continue };
            assert!(
                met.iter().any(|config| takes_new_flows(config, owner)),
                "flow {} began at {owner}, while {met:?}",
                flow.port
            );
            self.flows.push(Held { flow, owner, seen: now });
        }
        self.tally.begun += NEW_FLOWS;
    }
}

/// The active backends do, and where there is none, those that drain.
fn takes_new_flows(config: &Config, backend: u8) -> bool {
    let some_active = config.values().any(|(state, _)| *state == Active);
    match config.get(&backend) {
        Some((Active, _)) => true,
        Some((Draining, _)) => !some_active,
        _ => false,
    }
}

/// Another configuration: a backend comes, goes, drains, takes flows again, or has another weight. One is there always.
fn changed(config: &Config, rng: &mut Rng) -> Config {
    loop {
        let mut config = config.clone();
        let last = rng.u8(PLACES);
        match (config.get(&last).copied(), rng.u8(..4)) {
            (None, _) => drop(config.insert(last, (Active, rng.u16(1..10)))),
            (Some(_), 0) => drop(config.remove(&last)),
            (Some((state, weight)), 1) => drop(config.insert(last, (state, weight % 9 + 1))),
            (Some((Active, weight)), _) => drop(config.insert(last, (Draining, weight))),
            (Some((_, weight)), _) => drop(config.insert(last, (Active, weight))),
        }
        if !config.is_empty() {
            return config;
        }
    }
}

fn apply(bed: &mut Bed, config: &Config) {
    let backend = |(&last, &(state, weight)): (&u8, &(BackendState, u16))| Backend {
        weight,
        ..bed.backend(last, state)
    };
    let backends: Vec<Backend> = config.iter().map(backend).collect();
    bed.apply(TCP_80, &backends);
}

fn churn(seed: u64) -> Tally {
    let mut bed = Bed::new();
    let mut rng = Rng::with_seed(seed);
    let mut config: Config = [(2, (Active, 1)), (3, (Active, 1))].into();
    apply(&mut bed, &config);
    let timeline = Timeline { asked: Mutex::new(vec![config.clone()]), settled: AtomicUsize::new(0) };
    let (ends, done) = (Ends::open(&bed), AtomicBool::new(false));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (flows, tally) = (Vec::new(), Tally::default());
            let mut traffic = Traffic { ends: &ends, timeline: &timeline, flows, next: 0, tally };
            while !done.load(Ordering::SeqCst) {
                traffic.begin();
                traffic.check();
                thread::sleep(PAUSE);
            }
            traffic.tally
        });
        for change in 0..CHANGES {
            if traffic.is_finished() {
                break;
            }
            config = changed(&config, &mut rng);
            timeline.ask(config.clone());
            apply(&mut bed, &config);
            timeline.settle();
            if change % 10 == 0 {
                bed.lb.sweep().expect("a sweep");
            }
            if change == CHANGES / 2 {
                bed.reopen();
            }
        }
        done.store(true, Ordering::SeqCst);
        traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn no_flow_moves_and_none_begins_at_a_draining_backend_beside_an_active_one_in_thousands_of_changes() {
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let running: Vec<_> = (0..BALANCERS).map(|seed| scope.spawn(move || churn(seed))).collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|tally| tally.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    for tally in tallies {
        let Tally { begun, checked, draining, bereft } = tally;
        eprintln!("{tally:?}");
        assert!(begun > CHANGES && checked > 10 * begun, "too little traffic to tell: {tally:?}");
        assert!(draining > 0 && bereft > 0, "too little traffic to tell: {tally:?}");
    }
}
