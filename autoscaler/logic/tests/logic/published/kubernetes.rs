//! Kubernetes documentation, horizontal pod autoscaling.

use std::time::Duration;

use sluice_logic::decision::Group;
use sluice_logic::group::{Instance, InstanceState};
use sluice_logic::history::History;
use sluice_logic::policy::{Assumed, hpa, tracked};
use sluice_logic::spec::{
    Amount, Direction, MissingData, PolicySpec, RateLimit, Select, TargetTracking, Tolerance,
};

use super::{cpu, group};
use crate::fixture::{at, in_service, instance, sampled};

const DEFAULT: Tolerance = Tolerance { out: 0.1, r#in: 0.1 };

/// "Horizontal Pod Autoscaling", algorithm details: 200m where 100m are wanted doubles, 50m halves, and a ratio within
/// 0.1 of 1 changes nothing.
#[test]
fn the_ratio_and_the_tolerance() {
    let cases = [
        (4, 200.0, 4),
        (4, 50.0, -2),
        (10, 105.0, 0),
        (10, 110.0, 0),
        (10, 90.0, 0),
        (10, 111.0, 2),
        (10, 89.0, -1),
    ];
    for (replicas, value, expected) in cases {
        assert_eq!(tracked(replicas, value, 100.0, DEFAULT), expected, "{replicas} at {value}");
    }
}

/// "`HorizontalPodAutoscaler` Walkthrough": one replica at 305 % of a target of 50 % becomes seven.
#[test]
fn the_walkthrough() {
    assert_eq!(tracked(1, 305.0, 50.0, DEFAULT), 6);
}

/// "Horizontal Pod Autoscaling", algorithm details: pods without metrics count at 0 on the way up and in full on
/// the way down; pods that are not ready count at 0 on the way up; where that turns the direction, no change.
#[test]
fn missing_and_unready_pods() {
    let known = Assumed { mean: 200.0, measured: 3, missing: 0, unready: 0, full: 100.0 };
    let cases = [
        (known, 3, "all are measured"),
        (Assumed { missing: 1, ..known }, 2, "600 on four pods are 150 each"),
        (Assumed { unready: 1, ..known }, 2, "an unready one counts at 0 as well"),
        (Assumed { missing: 3, ..known }, 0, "600 on six are the target"),
        (Assumed { missing: 9, ..known }, 0, "it would turn the direction"),
        (Assumed { mean: 50.0, measured: 4, ..known }, -2, "all are measured"),
        (Assumed { mean: 50.0, measured: 4, missing: 1, ..known }, -2, "300 on five need three"),
        (Assumed { mean: 20.0, measured: 2, missing: 2, ..known }, -1, "240 on four need three"),
        (
            Assumed { mean: 50.0, measured: 2, missing: 2, full: 200.0, ..known },
            0,
            "it would turn the direction",
        ),
        (Assumed { mean: 0.0, measured: 0, ..known }, 0, "nothing is known"),
    ];
    for (known, expected, why) in cases {
        assert_eq!(hpa(known, 100.0, DEFAULT), expected, "{why}");
    }
}

/// The same through a decision: it is what `missing: assume` asks for; the default keeps everybody.
#[test]
fn an_instance_without_samples_is_assumed_or_kept() {
    for (missing, expected) in [(MissingData::Assume, 4), (MissingData::Hold, 6)] {
        let policy = PolicySpec::TargetTracking(TargetTracking { missing, ..assuming(0.8) });
        let mut case = group(6, 0.0, vec![policy]);
        // Five at 40 % and one at 100 %: 3 of 4.8, so 62.5 % of the target.
        case.samples = sampled(&case.instances[..5], 0.0, 0.4);
        assert_eq!(case.decide().to, expected, "{}", case.decide().reason);
    }
}

fn assuming(target: f64) -> TargetTracking {
    TargetTracking {
        signal: cpu(),
        target,
        disable_scale_in: false,
        warm_up: None,
        tolerance: DEFAULT,
        missing: MissingData::Assume,
    }
}

/// The same section through a decision: what is not ready yet counts at 0 on the way up. Three at 85 % of a target of
/// 60 % would need five; as 255 % on four they are within the tolerance.
#[test]
fn an_instance_that_is_not_ready_counts_at_0_on_the_way_out() {
    let minute = Duration::from_mins(1);
    let cases = [
        (InstanceState::Pending, None, 0.85, 4, "63.75 % each"),
        (InstanceState::InService, Some(minute), 0.85, 4, "one that warms up is not ready either"),
        (InstanceState::Pending, None, 0.95, 5, "71.25 % each"),
        (InstanceState::Pending, None, 0.7, 4, "it would turn the direction"),
        (InstanceState::Pending, None, 0.2, 1, "on the way in it does not count at all"),
    ];
    for (state, warm_up, load, expected, why) in cases {
        let policy = PolicySpec::TargetTracking(TargetTracking { warm_up, ..assuming(0.6) });
        let mut case = group(4, load, vec![policy]);
        case.instances[3] = Instance { since: at(-9), ..instance(3, state) };
        if state == InstanceState::Pending {
            case.samples = sampled(&case.instances[..3], 0.0, load);
        }
        let decision = case.decide();
        assert_eq!(decision.to, expected, "{why}: {}", decision.reason);
        // One that is wanted but not there yet counts alike.
        case.instances.pop();
        assert_eq!(case.decide().to, expected, "{why}: {}", case.decide().reason);
    }
}

/// The same where one is missing too.
#[test]
fn missing_and_unready_instances_together() {
    let mut case = group(5, 0.9, vec![PolicySpec::TargetTracking(assuming(0.6))]);
    case.instances[4] = instance(4, InstanceState::Pending);
    // Three at 90 %, one without samples, one pending: 54 % each.
    case.samples = sampled(&case.instances[..3], 0.0, 0.9);
    let decision = case.decide();
    assert_eq!(decision.to, 5, "{}", decision.reason);
    assert!(
        decision.reason.ends_with("those without samples, and 1 not ready yet, count at 0: no change"),
        "{}",
        decision.reason
    );
    case.samples = sampled(&case.instances[..3], 0.0, 1.2);
    assert_eq!(case.decide().to, 6, "360 % on five are 72 % each");
}

fn limit(most: Amount, seconds: u64) -> RateLimit {
    RateLimit { most, period: Duration::from_secs(seconds) }
}

/// Decides again and again, a period apart, with a load that needs `cpu` on each; what was decided is done at once.
fn paced(from: u32, direction: &Direction, out: bool, cpu_each: f64, rounds: usize) -> Vec<u32> {
    let policy = PolicySpec::Reactive(sluice_logic::spec::Reactive { signal: cpu(), threshold: 0.5 });
    let mut case = group(from, cpu_each, vec![policy]);
    case.spec.max = 10_000;
    case.spec.buffer_time = Duration::ZERO;
    *(if out { &mut case.spec.pace.out } else { &mut case.spec.pace.r#in }) = direction.clone();
    let mut seen = Vec::new();
    let mut history = History::default();
    for round in 0..i64::try_from(rounds).expect("a few") {
        let now = at(1 + round * 60);
        let mut samples = crate::fixture::no_samples();
        for instance in &case.instances {
            samples
                .push(&instance.id, &sluice_logic::spec::Metric::Cpu, now, cpu_each)
                .expect("a good sample");
        }
        let state = Group { history: &history, ..case.group() };
        let decision = sluice_logic::decision::decide(&state, &samples, now);
        history.record(&decision);
        case.desired = decision.to;
        case.instances = in_service(decision.to);
        seen.push(decision.to);
    }
    seen
}

/// "Horizontal Pod Autoscaling", configurable scaling behavior: at most 4 pods or 10 % a minute, whichever is more. From 80
/// replicas 8 go, then 8 of 72 (7.2 rounded up), and below 40 four at a time.
#[test]
fn scale_down_policies() {
    let limits = vec![limit(Amount::Count(4), 60), limit(Amount::Percent(10), 60)];
    let direction = Direction { limits: limits.clone(), ..Direction::default() };
    assert_eq!(paced(80, &direction, false, 0.01, 3), [72, 64, 57]);
    assert_eq!(paced(39, &direction, false, 0.01, 3), [35, 31, 27]);

    let least = Direction { limits, select: Select::Min, ..Direction::default() };
    assert_eq!(paced(80, &least, false, 0.01, 2), [76, 72], "`Min` lets the policy of the least change hold");
    let disabled = Direction { select: Select::Disabled, ..Direction::default() };
    assert_eq!(paced(80, &disabled, false, 0.01, 2), [80, 80]);
}

/// The same section, default behavior: up by 4 pods or 100 % in 15 seconds, whichever is more.
#[test]
fn the_default_scale_up_behavior() {
    let limits = vec![limit(Amount::Count(4), 15), limit(Amount::Percent(100), 15)];
    let direction = Direction { limits, ..Direction::default() };
    assert_eq!(paced(1, &direction, true, 50.0, 4), [5, 10, 20, 40]);
}
