//! At which loads a policy adds and at which it removes.

use std::ops::Bound::{self, Excluded, Included, Unbounded};

use sluice_logic::policy::ROUNDING;
use sluice_logic::spec::{
    Adjustment, Aggregation, Comparison, Dynamic, PolicySpec, Profile, Rule, Signal, Simple, Step,
    StepAdjustment, TargetTracking,
};

/// Loads from the one bound to the other.
type Loads = (Bound<f64>, Bound<f64>);

/// What a policy, or a rule of one, does at which values of its signal.
pub(super) struct Reach<'a> {
    signal: &'a Signal,
    adds: Vec<Loads>,
    removes: Vec<Loads>,
    /// It acts in one direction only, and has no say in the other: a policy with a number of its own has.
    pub(super) one_way: bool,
    /// How much it does depends on how far the load is from what it keeps to.
    pub(super) in_proportion: bool,
}

impl<'a> Reach<'a> {
    /// Whether this one adds at a load at which `other` removes.
    pub(super) fn fights(&self, other: &Self) -> bool {
        comparable(self.signal, other.signal)
            && self.adds.iter().any(|adds| other.removes.iter().any(|removes| overlap(*adds, *removes)))
    }

    pub(super) fn of_rule(rule: &'a Rule, one_way: bool) -> Self {
        let loads = loads(rule.when, rule.threshold);
        let (adds, removes) = if rule.change.is_out() { (loads, Vec::new()) } else { (Vec::new(), loads) };
        Self { signal: &rule.signal, adds, removes, one_way, in_proportion: false }
    }

    fn of_simple(policy: &'a Simple) -> Self {
        let mut reach = Self {
            signal: &policy.signal,
            adds: vec![],
            removes: vec![],
            one_way: policy.adjustment != Adjustment::Exact,
            in_proportion: false,
        };
        for loads in loads(policy.when, policy.threshold) {
            reach.acts(loads, policy.adjustment, policy.change, policy.threshold);
        }
        reach
    }

    fn of_step(policy: &'a Step) -> Self {
        let mut reach = Self {
            signal: &policy.signal,
            adds: vec![],
            removes: vec![],
            one_way: true,
            in_proportion: false,
        };
        for step in &policy.steps {
            reach.acts(between(step, policy.threshold), policy.adjustment, step.change, policy.threshold);
        }
        let acts_once = reach.adds.is_empty() || reach.removes.is_empty();
        reach.one_way = policy.adjustment != Adjustment::Exact && acts_once;
        reach
    }

    /// A number itself adds where the load is high and removes where it is low: where it is the other way round, the
    /// group is beyond it already.
    fn acts(&mut self, loads: Loads, adjustment: Adjustment, change: f64, threshold: f64) {
        let exact = adjustment == Adjustment::Exact;
        let is_high = !matches!(loads.1, Included(end) | Excluded(end) if end <= threshold);
        let is_low = !matches!(loads.0, Included(start) | Excluded(start) if start >= threshold);
        if exact && !is_low || !exact && change > 0.0 {
            self.adds.push(loads);
        }
        if exact && !is_high || !exact && change < 0.0 {
            self.removes.push(loads);
        }
    }

    /// Adds above `bound`, and removes below it unless it acts in one direction only.
    fn following(signal: &'a Signal, bound: f64, one_way: bool) -> Self {
        let removes = if one_way { Vec::new() } else { vec![(Unbounded, Excluded(bound))] };
        Self { signal, adds: vec![(Excluded(bound), Unbounded)], removes, one_way, in_proportion: true }
    }

    fn tracking(policy: &'a TargetTracking) -> Self {
        Self::following(&policy.signal, policy.target, policy.disable_scale_in)
    }
}

/// What a policy does; of rules each has its own.
pub(super) fn reaches(policy: &PolicySpec) -> Vec<Reach<'_>> {
    let reach = match policy {
        PolicySpec::Static(_) | PolicySpec::Predictive(_) => return Vec::new(),
        PolicySpec::Rules(policy) => {
            let profiles = policy.profiles.iter().map(|timed| &timed.profile);
            return [&policy.default].into_iter().chain(profiles).flat_map(of_profile).collect();
        }
        PolicySpec::Simple(policy) => Reach::of_simple(policy),
        PolicySpec::Step(policy) => Reach::of_step(policy),
        PolicySpec::Reactive(policy) => Reach::following(&policy.signal, policy.threshold, false),
        PolicySpec::Proactive(policy) => Reach::following(&policy.signal, policy.threshold, false),
        PolicySpec::TargetTracking(policy) => Reach::tracking(policy),
        PolicySpec::Custom(policy) => match &policy.dynamic {
            Dynamic::Reactive(policy) => Reach::following(&policy.signal, policy.threshold, false),
            Dynamic::Proactive(policy) => Reach::following(&policy.signal, policy.threshold, false),
            Dynamic::TargetTracking(policy) => Reach::tracking(policy),
        },
    };
    vec![reach]
}

fn of_profile(profile: &Profile) -> impl Iterator<Item = Reach<'_>> {
    let outs = profile.rules.iter().filter(|rule| rule.change.is_out()).count();
    let one_way = outs == 0 || outs == profile.rules.len();
    profile.rules.iter().map(move |rule| Reach::of_rule(rule, one_way))
}

/// Whether the values of two signals say the same of a steady load. How long the window is makes no difference to that; a
/// total and a count depend on the number of samples.
fn comparable(a: &Signal, b: &Signal) -> bool {
    let sums = |signal: &Signal| match signal.aggregation {
        Aggregation::Total | Aggregation::Count => Some((signal.aggregation, signal.window)),
        _ => None,
    };
    a.metric == b.metric && a.scope == b.scope && sums(a) == sums(b)
}

/// The loads at which a comparison holds.
fn loads(when: Comparison, threshold: f64) -> Vec<Loads> {
    let (below, above) = ((Unbounded, Excluded(threshold)), (Excluded(threshold), Unbounded));
    match when {
        Comparison::Above => vec![above],
        Comparison::AtLeast => vec![(Included(threshold), Unbounded)],
        Comparison::Below => vec![below],
        Comparison::AtMost => vec![(Unbounded, Included(threshold))],
        Comparison::Equal => vec![(Included(threshold), Included(threshold))],
        Comparison::NotEqual => vec![below, above],
    }
}

/// The loads of a step: above the threshold the lower bound is part of it, below it the upper one.
fn between(step: &StepAdjustment, threshold: f64) -> Loads {
    let at = |bound: Option<f64>, bounded: fn(f64) -> Bound<f64>| {
        bound.map_or(Unbounded, |bound| bounded(threshold + bound))
    };
    if step.lower.is_some_and(|lower| lower >= 0.0) {
        (at(step.lower, Included), at(step.upper, Excluded))
    } else {
        (at(step.lower, Excluded), at(step.upper, Included))
    }
}

fn overlap(a: Loads, b: Loads) -> bool {
    !ends_before(a.1, b.0) && !ends_before(b.1, a.0)
}

/// Whether what ends at the one bound has nothing of what begins at the other. 70 % and 10 % more are a bit short of 80 %,
/// and still meet it.
fn ends_before(end: Bound<f64>, start: Bound<f64>) -> bool {
    let slack = |number: f64| ROUNDING * number.abs().max(1.0);
    match (end, start) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(end), Included(start)) => end < start - slack(start),
        (Included(end) | Excluded(end), Included(start) | Excluded(start)) => end <= start + slack(start),
    }
}
