//! Who is compared.

use std::time::Duration;

use crate::policy::{DEFAULT_POLICIES_WINDOW, default_policies};
use crate::spec::{
    Amount, Direction, GroupSpec, Metric, MissingData, Pace, PolicySpec, RateLimit, Reactive, Select, Signal,
    TargetTracking, Tolerance,
};

/// The utilisation that the baselines aim at in the published scores.
pub const BASELINE_TARGET: f64 = 0.6;

const MINUTE: Duration = Duration::from_mins(1);

/// Policies, and the group that they act on.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    /// What reports call it.
    pub name: String,
    /// Limits and pace.
    pub group: GroupSpec,
    /// What decides.
    pub policies: Vec<PolicySpec>,
}

/// A group with these limits, and nothing that tames it.
#[must_use]
pub fn plain(min: u32, max: u32) -> GroupSpec {
    GroupSpec {
        min,
        max,
        buffer_time: Duration::ZERO,
        cool_down: Duration::from_mins(5),
        pace: Pace::default(),
    }
}

/// What `policy: dynamic` is: it aims at the usable utilisation itself.
#[must_use]
pub fn dynamic(group: &GroupSpec, threshold: f64) -> Contender {
    let signal = Signal::mean(Metric::Cpu, DEFAULT_POLICIES_WINDOW);
    let policies = default_policies(&signal, threshold);
    Contender { name: "dynamic".to_owned(), group: group.clone(), policies }
}

/// The Kubernetes HPA with its defaults: tolerance 0.1; out at once, by at most 4 or 100 % in 15 s; in by the largest
/// recommendation of 5 minutes. ("Horizontal Pod Autoscaling", default behavior.) One difference: it lets
/// nobody go while an instance starts.
#[must_use]
pub fn hpa(group: &GroupSpec, target: f64) -> Contender {
    let period = Duration::from_secs(15);
    let percent = RateLimit { most: Amount::Percent(100), period };
    let pace = Pace {
        out: Direction {
            limits: vec![RateLimit { most: Amount::Count(4), period }, percent],
            select: Select::Max,
            ..Direction::default()
        },
        r#in: Direction {
            stabilization: Duration::from_mins(5),
            limits: vec![percent],
            ..Direction::default()
        },
        ..Pace::default()
    };
    let policy = TargetTracking {
        signal: Signal::mean(Metric::Cpu, MINUTE),
        target,
        disable_scale_in: false,
        warm_up: None,
        tolerance: Tolerance { out: 0.1, r#in: 0.1 },
        missing: MissingData::Assume,
    };
    baseline("hpa", group, pace, PolicySpec::TargetTracking(policy))
}

/// AWS-like target tracking: out after 3 minutes above the target, in after 15 below 90 % of it, as its alarms are made
/// for one-minute metrics; none goes while an instance starts.
#[must_use]
pub fn aws(group: &GroupSpec, target: f64) -> Contender {
    let stabilized =
        |minutes| Direction { stabilization: Duration::from_mins(minutes), ..Direction::default() };
    let pace = Pace { out: stabilized(3), r#in: stabilized(15), ..Pace::default() };
    let policy = TargetTracking {
        signal: Signal::mean(Metric::Cpu, MINUTE),
        target,
        disable_scale_in: false,
        warm_up: None,
        tolerance: Tolerance { out: 0.0, r#in: 0.1 },
        missing: MissingData::Hold,
    };
    baseline("aws", group, pace, PolicySpec::TargetTracking(policy))
}

/// The reactive rule on the mean of five minutes, with a buffer time of two.
#[must_use]
pub fn reactive(group: &GroupSpec, threshold: f64) -> Contender {
    let signal = Signal::mean(Metric::Cpu, Duration::from_mins(5));
    let policy = PolicySpec::Reactive(Reactive { signal, threshold });
    let contender = baseline("reactive", group, Pace::default(), policy);
    let group = GroupSpec { buffer_time: Duration::from_mins(2), ..contender.group };
    Contender { group, ..contender }
}

/// The three baselines, the HPA first.
#[must_use]
pub fn baselines(group: &GroupSpec, target: f64) -> Vec<Contender> {
    vec![hpa(group, target), aws(group, target), reactive(group, target)]
}

fn baseline(name: &str, group: &GroupSpec, pace: Pace, policy: PolicySpec) -> Contender {
    let group = GroupSpec { pace, ..plain(group.min, group.max) };
    Contender { name: name.to_owned(), group, policies: vec![policy] }
}
