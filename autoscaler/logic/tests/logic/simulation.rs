//! A small group that lives: traffic, sources that fail, instances that die, people who interfere.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sluice_logic::decision::{Decision, Group, Step, decide, manual, plan};
use sluice_logic::group::{Event, GroupState, Instance, InstanceId, InstanceState};
use sluice_logic::outlook::Outlook;
use sluice_logic::samples::Samples;
use sluice_logic::spec::{GroupSpec, Metric, PolicySpec};

use crate::fixture::{INTERVAL, WINDOW, at, in_service, instance, limits, no_samples, packets};

pub(crate) const TICK: SignedDuration = SignedDuration::from_secs(5);

/// What happens in one tick.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) traffic: f64,
    pub(crate) clock_jump: i64,
    pub(crate) what: Happening,
}

#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Nothing,
    /// The pending ones become ready.
    Ready,
    /// The source of an instance fails in this tick and the next.
    Silent(usize),
    Dies(usize),
    DrainedByHand(usize),
    ScaledByHand(u32),
    Edited(u32, u32),
    /// What is expected from now on.
    Foreseen(Option<Outlook>),
}

/// None, a silent one, or a demand: low, as the traffic is, or far beyond the maximum.
fn any_outlook() -> impl Strategy<Value = Option<Outlook>> {
    let demand = prop_oneof![0.0..50.0_f64, 0.0..700.0_f64, 1000.0..2000.0_f64];
    let more = || prop::option::of(0.0..900.0_f64);
    let expected = (demand, more(), more()).prop_map(|(demand, ahead, kept)| {
        Some(Outlook::Expected { demand, at: at(600), error: None, ahead, kept })
    });
    prop_oneof![
        1 => Just(None),
        2 => Just(Some(Outlook::Silent { reason: "too little is known".to_owned() })),
        6 => expected,
    ]
}

fn any_tick() -> impl Strategy<Value = Tick> {
    let what = prop_oneof![
        12 => Just(Happening::Nothing),
        8 => Just(Happening::Ready),
        2 => (0_usize..8).prop_map(Happening::Silent),
        1 => (0_usize..8).prop_map(Happening::Dies),
        1 => (0_usize..8).prop_map(Happening::DrainedByHand),
        1 => (0_u32..12).prop_map(Happening::ScaledByHand),
        1 => (0_u32..5, 0_u32..6).prop_map(|(min, more)| Happening::Edited(min, min + more)),
        2 => any_outlook().prop_map(Happening::Foreseen),
    ];
    let clock_jump = prop_oneof![60 => Just(0), 1 => -1000_i64..1000];
    (0.8..1.2_f64, clock_jump, what).prop_map(|(traffic, clock_jump, what)| Tick {
        traffic,
        clock_jump,
        what,
    })
}

/// Phases of traffic, each at a level of its own with some noise.
pub(crate) fn any_history() -> impl Strategy<Value = Vec<Tick>> {
    let level = prop_oneof![4 => 0.0..600.0_f64, 1 => Just(0.0)];
    let phase = (level, prop::collection::vec(any_tick(), 1..80)).prop_map(|(level, mut ticks)| {
        for tick in &mut ticks {
            tick.traffic *= level;
        }
        ticks
    });
    prop::collection::vec(phase, 1..5).prop_map(|phases| phases.concat())
}

/// One round, as the group saw it.
pub(crate) struct Round {
    pub(crate) spec: GroupSpec,
    pub(crate) before: Vec<Instance>,
    pub(crate) decision: Decision,
    pub(crate) decided_again: Decision,
    pub(crate) last_action_before: Option<Timestamp>,
    /// The group's own maximum, where the last decision was above it.
    pub(crate) exceeded_before: Option<u32>,
    /// Seconds that have really passed, whatever the clock says.
    pub(crate) really: i64,
    /// Of each instance in service what was seen of it.
    pub(crate) seen: Vec<Seen>,
    pub(crate) after: Vec<Instance>,
}

/// What was seen of an instance in service.
pub(crate) struct Seen {
    since: Timestamp,
    /// Its newest sample.
    newest: Option<Timestamp>,
    /// Whether one is missing in the window.
    missed: bool,
}

impl Round {
    fn warm(&self, warm_up: Duration) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |seen| self.decision.at >= seen.since + warm_up)
    }

    /// Whether each that is warm was sampled since, and less than the staleness bound ago.
    pub(crate) fn all_measured(&self, warm_up: Duration) -> bool {
        self.warm(warm_up).all(|seen| {
            let fresh = |at: Timestamp| {
                at > seen.since + warm_up
                    && self.decision.at.duration_since(at).unsigned_abs() <= 3 * INTERVAL
            };
            seen.newest.is_some_and(fresh)
        })
    }

    /// Of each that is warm, whether it was so, and sampled, at every interval of the window.
    pub(crate) fn whole(&self, warm_up: Duration) -> impl Iterator<Item = bool> {
        self.warm(warm_up).map(move |seen| !seen.missed && seen.since + warm_up + WINDOW <= self.decision.at)
    }
}

pub(crate) struct World {
    spec: GroupSpec,
    policies: Vec<PolicySpec>,
    state: GroupState,
    instances: Vec<Instance>,
    samples: Samples,
    /// When each instance was sampled.
    taken: BTreeMap<InstanceId, Vec<Timestamp>>,
    now: Timestamp,
    really: i64,
    unique: u32,
    silent: Option<usize>,
    outlook: Option<Outlook>,
    exceeded: Option<u32>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(limits(2, 8), vec![packets(60.0)])
    }

    pub(crate) fn of(spec: GroupSpec, policies: Vec<PolicySpec>) -> Self {
        Self {
            state: GroupState::fresh(&spec),
            spec,
            policies,
            instances: in_service(2),
            samples: no_samples(),
            taken: BTreeMap::new(),
            now: at(0),
            really: 0,
            unique: 100,
            silent: None,
            outlook: None,
            exceeded: None,
        }
    }

    pub(crate) fn tick(&mut self, tick: &Tick) -> Round {
        self.pass(tick.clock_jump);
        self.happen(&tick.what);
        self.sample(tick.traffic);
        let seen = self.instances.iter().filter(|i| i.is_serving()).map(|i| self.seen(i)).collect();
        let before = self.instances.clone();
        let (last_action_before, exceeded_before) = (self.state.last_action, self.exceeded);
        let outlooks = vec![self.outlook.clone(); self.policies.len()];
        let group = Group { outlooks: &outlooks, ..self.group() };
        let decision = decide(&group, &self.samples, self.now);
        let decided_again = decide(&group, &self.samples, self.now);
        self.record(&decision);
        let steps = plan(&self.spec, decision.to, &self.instances, self.now);
        carry_out(&steps, &mut self.instances, &mut self.unique, self.now);
        let after = self.instances.clone();
        self.remove_the_terminating();
        let (spec, really) = (self.spec.clone(), self.really);
        Round {
            spec,
            before,
            decision,
            decided_again,
            last_action_before,
            exceeded_before,
            really,
            seen,
            after,
        }
    }

    fn record(&mut self, decision: &Decision) {
        self.exceeded = decision.exceeds;
        self.state.record(decision);
    }

    fn group(&self) -> Group<'_> {
        Group {
            spec: &self.spec,
            policies: &self.policies,
            instances: &self.instances,
            desired: self.state.desired_or_found(&self.spec, &self.instances),
            last_action: self.state.last_action,
            history: &self.state.history,
            outlooks: &[],
        }
    }

    fn pass(&mut self, clock_jump: i64) {
        self.really += TICK.as_secs();
        self.now = self.now + TICK + SignedDuration::from_secs(clock_jump);
        self.samples.rewind(self.now);
        for taken in self.taken.values_mut() {
            taken.retain(|at| *at <= self.now);
        }
        self.state.rewind(self.now);
        for instance in &mut self.instances {
            instance.rewind(self.now);
        }
    }

    fn happen(&mut self, what: &Happening) {
        if !matches!(what, Happening::Nothing) {
            self.silent = None;
        }
        match *what {
            Happening::Nothing => {}
            Happening::Ready => {
                for instance in &mut self.instances {
                    if instance.state == InstanceState::Pending && !instance.failed {
                        instance.apply(Event::Ready, self.now).expect("it was pending");
                    }
                }
            }
            Happening::Silent(which) => self.silent = Some(which),
            Happening::Dies(which) => {
                if let Some(instance) = self.instances.get_mut(which) {
                    instance.failed = true;
                }
            }
            Happening::DrainedByHand(which) => {
                if let Some(instance) = self.instances.get_mut(which) {
                    // Refused where it does not serve, and then nothing changes.
                    let _ = instance.apply(Event::Drain, self.now);
                }
            }
            Happening::ScaledByHand(count) => {
                if let Ok(decision) = manual(&self.group(), count, self.now) {
                    self.record(&decision);
                }
            }
            Happening::Edited(min, max) => (self.spec.min, self.spec.max) = (min, max),
            Happening::Foreseen(ref outlook) => self.outlook.clone_from(outlook),
        }
    }

    /// Shares the traffic among those that serve.
    fn sample(&mut self, traffic: f64) {
        let serving = self.instances.iter().filter(|i| i.is_serving()).count();
        let share = traffic / f64::from(u32::try_from(serving.max(1)).expect("a small number"));
        for (which, instance) in self.instances.iter().enumerate() {
            if instance.is_serving() && self.silent != Some(which) {
                // Two ticks at one time after a clock jump: refused, as it should be.
                if self.samples.push(&instance.id, &Metric::Packets, self.now, share).is_ok() {
                    self.taken.entry(instance.id.clone()).or_default().push(self.now);
                }
            }
        }
    }

    fn seen(&self, instance: &Instance) -> Seen {
        let from = self.now - WINDOW;
        let taken = self.taken.get(&instance.id).map_or(&[][..], Vec::as_slice);
        let within = taken.iter().copied().filter(|at| *at > from);
        let moments: Vec<Timestamp> = [from].into_iter().chain(within).collect();
        let left_out = moments.windows(2).any(|pair| pair[0] + 2 * INTERVAL <= pair[1]);
        let newest = taken.last().copied();
        let missed = left_out || newest.is_none_or(|newest| newest + INTERVAL <= self.now);
        Seen { since: instance.since, newest, missed }
    }

    fn remove_the_terminating(&mut self) {
        for instance in &self.instances {
            if instance.state == InstanceState::Terminating {
                self.samples.forget(&instance.id);
            }
        }
        self.instances.retain(|instance| instance.state != InstanceState::Terminating);
    }
}

/// Does what a plan says, as the daemon would.
pub(crate) fn carry_out(steps: &[Step], instances: &mut Vec<Instance>, unique: &mut u32, now: Timestamp) {
    for step in steps {
        match step {
            Step::Launch { .. } => {
                *unique += 1;
                let launched = instance(*unique, InstanceState::Pending);
                instances.push(Instance { created: now, since: now, ..launched });
            }
            Step::Drain { id, .. } => transition(instances, id, Event::Drain, now),
            Step::Terminate { id, .. } => transition(instances, id, Event::Terminate, now),
        }
    }
}

fn transition(instances: &mut [Instance], id: &InstanceId, event: Event, now: Timestamp) {
    let instance =
        instances.iter_mut().find(|instance| instance.id == *id).expect("a plan names what exists");
    instance.apply(event, now).expect("a plan asks only for what an instance can do");
}
