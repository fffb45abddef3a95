//! One policy, one trace, step by step.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use serde::Serialize;

use super::fleet::Fleet;
use super::{Contender, Setup, Trace};
use crate::decision::{Group, decide, plan};
use crate::forecast::Forecasts;
use crate::group::GroupState;
use crate::policy::ceil_count;
use crate::samples::{Samples, longest_window};
use crate::spec::{Metric, PolicySpec, Scope};

/// One step: what was needed and what was there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Record {
    /// When it began.
    pub at: Timestamp,
    /// The load, in the trace's unit.
    pub load: f64,
    /// The fewest instances that keep the utilisation usable, at least [`Setup::fewest`]: also where the group may not
    /// have so many.
    pub demand: u32,
    /// Instances that served.
    pub in_service: u32,
    /// Instances that were starting.
    pub starting: u32,
    /// Instances that were draining.
    pub draining: u32,
    /// How many there should be, decided at its end.
    pub desired: u32,
}

/// A change of the desired number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The number of the step at whose end it was decided.
    #[serde(skip)]
    pub step: usize,
    /// When it was decided.
    pub at: Timestamp,
    /// The number before.
    pub from: u32,
    /// The number after.
    pub to: u32,
    /// Why.
    pub reason: String,
}

/// What happened in a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The length of a step.
    pub step: Duration,
    /// Each step, in order.
    pub records: Vec<Record>,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// Runs a contender against a trace. `progress` is called after each step.
///
/// The same arguments give the same run. The group begins with what the first step needs.
#[must_use]
pub fn simulate(contender: &Contender, trace: &Trace, setup: &Setup, mut progress: impl FnMut()) -> Run {
    let mut world = World::new(contender, trace, setup);
    let steps = trace.span().as_secs().div_ceil(setup.step.as_secs().max(1));
    let steps = usize::try_from(steps).unwrap_or(usize::MAX);
    let mut run = Run { step: setup.step, records: Vec::with_capacity(steps), changes: Vec::new() };
    for step in 0..steps {
        let (record, change) = world.step(step);
        run.records.push(record);
        run.changes.extend(change);
        progress();
    }
    run
}

struct World<'a> {
    contender: &'a Contender,
    trace: &'a Trace,
    setup: &'a Setup,
    metrics: Vec<Metric>,
    /// Those that a policy reads of the group as a whole.
    group_metrics: BTreeSet<Metric>,
    fleet: Fleet,
    state: GroupState,
    samples: Samples,
    forecasts: Forecasts,
    rng: Rng,
}

impl<'a> World<'a> {
    fn new(contender: &'a Contender, trace: &'a Trace, setup: &'a Setup) -> Self {
        let Contender { group, policies, .. } = contender;
        let first = group.clamp(needed(trace.load(Duration::ZERO, setup.step), setup));
        let mut metrics: Vec<Metric> = policies
            .iter()
            .flat_map(|policy| policy.signals().into_iter().map(|signal| signal.metric.clone()))
            .chain(policies.iter().filter_map(|policy| policy.bound().map(|(metric, _)| metric.clone())))
            .collect();
        metrics.sort();
        metrics.dedup();
        let signals = policies.iter().flat_map(PolicySpec::signals);
        let of_group = signals.filter(|signal| matches!(signal.scope, Scope::Group { .. }));
        let group_metrics = of_group.map(|signal| signal.metric.clone()).collect();
        let horizon = longest_window(policies).max(Duration::from_mins(1));
        Self {
            contender,
            trace,
            setup,
            metrics,
            group_metrics,
            fleet: Fleet::new(first, trace.start()),
            state: GroupState { desired: Some(first), ..GroupState::default() },
            samples: Samples::new(horizon).sampled_every(setup.step),
            forecasts: Forecasts::new(group, policies, setup.start_time),
            rng: Rng::with_seed(setup.seed),
        }
    }

    fn step(&mut self, step: usize) -> (Record, Option<Change>) {
        let offset = self.setup.step.saturating_mul(u32::try_from(step).unwrap_or(u32::MAX));
        let begin = self.trace.start().checked_add(offset).unwrap_or(Timestamp::MAX);
        let end = begin.checked_add(self.setup.step).unwrap_or(Timestamp::MAX);
        self.fleet.pass(begin);
        let count = self.fleet.count();
        let load = self.trace.load(offset, self.setup.step);
        if !self.trace.is_silent(end) {
            self.sample(load, count.in_service, end);
        }
        let change = self.decide(step, end);
        let record = Record {
            at: begin,
            load,
            demand: needed(load, self.setup),
            in_service: count.in_service,
            starting: count.starting,
            draining: count.draining,
            desired: self.state.desired.unwrap_or_default(),
        };
        (record, change)
    }

    /// Each instance in service carries its even share; of the group as a whole it is the load itself.
    fn sample(&mut self, load: f64, in_service: u32, end: Timestamp) {
        let share = load / f64::from(in_service.max(1));
        for instance in self.fleet.instances().iter().filter(|instance| instance.is_serving()) {
            let measured = share * factor(self.setup.noise, &mut self.rng);
            for metric in &self.metrics {
                let utilisation = measured / self.setup.capacity;
                let value = match metric {
                    share if share.is_share() && self.setup.saturates => utilisation.min(1.0),
                    share if share.is_share() => utilisation,
                    _ => measured,
                };
                let taken = self.samples.push(&instance.id, metric, end, value);
                debug_assert!(taken.is_ok(), "{taken:?}");
            }
        }
        for metric in &self.group_metrics {
            let measured = load * factor(self.setup.noise, &mut self.rng);
            let value = if metric.is_share() { measured / self.setup.capacity } else { measured };
            let taken = self.samples.push_group(metric, end, value);
            debug_assert!(taken.is_ok(), "{taken:?}");
        }
    }

    fn decide(&mut self, step: usize, now: Timestamp) -> Option<Change> {
        let Contender { group: spec, policies, .. } = self.contender;
        self.forecasts.observe(&self.samples, self.fleet.instances(), now);
        let outlooks = self.forecasts.outlooks(now);
        let instances = self.fleet.instances();
        let desired = self.state.desired_or_found(spec, instances);
        let (last_action, history) = (self.state.last_action, &self.state.history);
        let group = Group { spec, policies, instances, desired, last_action, history, outlooks: &outlooks };
        let decision = decide(&group, &self.samples, now);
        self.state.record(&decision);
        let steps = plan(spec, decision.to, instances, now);
        for gone in self.fleet.carry_out(&steps, self.setup, &mut self.rng, now) {
            self.samples.forget(&gone);
        }
        let (at, from, to) = (decision.at, decision.from, decision.to);
        (from != to).then_some(Change { step, at, from, to, reason: decision.reason })
    }
}

/// The fewest instances that keep the utilisation at or below what is usable. What a group may have at most is no part of
/// it: a maximum that is too low is a shortage.
fn needed(load: f64, setup: &Setup) -> u32 {
    ceil_count(load / (setup.usable * setup.capacity)).max(setup.fewest)
}

/// A factor of mean 1: the sum of twelve even numbers is as good as normal (Irwin–Hall), and needs no logarithm.
fn factor(deviation: f64, rng: &mut Rng) -> f64 {
    if deviation == 0.0 {
        return 1.0;
    }
    let sum: f64 = (0..12).map(|_| rng.f64()).sum();
    (1.0 + deviation * (sum - 6.0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{Measures, Scenario, Weights, lineup};
    use crate::spec::{Reactive, Signal};

    fn measured(contender: &Contender) -> (Run, Measures) {
        let trace = Scenario::Step.trace();
        let run = simulate(contender, &trace, &Setup::sized(trace.peak(), 20.0), || ());
        let measures = Measures::of(&run, 0, run.records.len(), Weights::default());
        (run, measures)
    }

    #[test]
    fn a_maximum_that_is_too_low_is_a_shortage() {
        let (room, enough) = measured(&lineup::dynamic(&lineup::plain(2, 40), 0.8));
        let (tight, short) = measured(&lineup::dynamic(&lineup::plain(2, 6), 0.8));
        let demand = |run: &Run| run.records.iter().map(|record| record.demand).collect::<Vec<_>>();
        assert_eq!(demand(&room), demand(&tight), "what is needed is the same for all");
        assert_eq!(demand(&tight).into_iter().max(), Some(20));
        assert!(
            short.under_provisioned_percent > 20.0,
            "a third of the time 14 of 20 are missing: {short:?}"
        );
        assert!(enough.under_provisioned_percent < 5.0, "{enough:?}");
    }

    #[test]
    fn a_policy_on_the_group_as_a_whole_sees_the_load() {
        let metric = Metric::Custom("queue".parse().expect("a name"));
        let scope = Scope::Group { per_instance: true };
        let signal = Signal { scope, ..Signal::mean(metric, Duration::from_mins(1)) };
        let policies = vec![PolicySpec::Reactive(Reactive { signal, threshold: 50.0 })];
        let queue = Contender { name: "queue".to_owned(), group: lineup::plain(2, 40), policies };
        let (run, _) = measured(&queue);
        assert_eq!(run.records.iter().map(|record| record.desired).max(), Some(20), "1000 at 50 each");
    }
}
