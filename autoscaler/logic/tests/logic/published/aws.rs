//! Amazon EC2 Auto Scaling, User Guide.

use std::time::Duration;

use sluice_logic::group::InstanceState;
use sluice_logic::outlook::Outlook;
use sluice_logic::policy::{adjusted, matching_step, tracked};
use sluice_logic::samples::Samples;
use sluice_logic::spec::{
    Adjustment, Metric, MissingData, PolicySpec, Predictive, PredictiveMode, Step, StepAdjustment,
    TargetTracking, Tolerance,
};

use super::{cpu, follow, group, per_instance};
use crate::fixture::{Case, at, in_service, instance, limits};

fn step(lower: Option<f64>, upper: Option<f64>, change: f64) -> StepAdjustment {
    StepAdjustment { lower, upper, change }
}

/// The example policy, with the scale-out and the scale-in steps about one threshold of 50 %. Bounds in the
/// unit of the signal: 10 percentage points are 0.1.
fn example() -> PolicySpec {
    PolicySpec::Step(Step {
        signal: cpu(),
        threshold: 0.5,
        adjustment: Adjustment::Percent,
        steps: vec![
            step(None, Some(-0.2), -30.0),
            step(Some(-0.2), Some(-0.1), -10.0),
            step(Some(-0.1), Some(0.0), 0.0),
            step(Some(0.0), Some(0.1), 0.0),
            step(Some(0.1), Some(0.2), 10.0),
            step(Some(0.2), None, 30.0),
        ],
        min_magnitude: 0,
        warm_up: Some(Duration::from_mins(5)),
    })
}

/// "Step and simple scaling policies", step adjustments: a group of 10 at 60, 70, 40 and 30 % CPU.
#[test]
fn the_example_of_step_adjustments() {
    let mut case = group(10, 0.6, vec![example()]);
    for (load, next, expected) in [(0.6, 0.7, 11), (0.7, 0.4, 14), (0.4, 0.3, 13), (0.3, 0.5, 10)] {
        let decision = case.decide();
        assert_eq!(decision.to, expected, "at {load}: {}", decision.reason);
        follow(&mut case, &decision, next);
    }
    for quiet in [0.41, 0.5, 0.59] {
        let case = group(10, quiet, vec![example()]);
        assert_eq!(case.decide().to, 10, "the group keeps its capacity above 40 and below 60");
    }
}

/// The same page, instance warm-up: while the instance of the first step is warming up, 62 % adds nothing, and 70 % adds
/// what the larger step asks for beyond it.
#[test]
fn a_step_while_the_instances_of_another_are_warming_up() {
    for (load, expected) in [(0.62, 11), (0.7, 13)] {
        let mut case = group(10, load, vec![example()]);
        case.desired = 11;
        case.instances.push(instance(10, InstanceState::InService));
        case.instances[10].since = at(0);
        assert_eq!(case.decide().to, expected, "{}", case.decide().reason);
    }
}

/// The same page, scaling adjustment types, and how a percentage is rounded.
#[test]
fn adjustment_types_and_their_rounding() {
    let cases = [
        (3, Adjustment::Change, 5.0, 0, 8),
        (3, Adjustment::Exact, 5.0, 0, 5),
        (10, Adjustment::Percent, 10.0, 0, 11),
        (4, Adjustment::Percent, 25.0, 2, 6),
        (100, Adjustment::Percent, 12.7, 0, 112),
        (100, Adjustment::Percent, 0.67, 0, 101),
        (100, Adjustment::Percent, -0.58, 0, 99),
        (100, Adjustment::Percent, -6.67, 0, 94),
    ];
    for (current, adjustment, change, magnitude, expected) in cases {
        assert_eq!(adjusted(current, adjustment, change, magnitude), expected, "{change} of {current}");
    }
}

/// The same page: above the threshold a lower bound is inclusive and an upper one exclusive, below it the other way
/// round.
#[test]
fn bounds_are_inclusive_towards_the_threshold() {
    let PolicySpec::Step(policy) = example() else { panic!("a step policy") };
    let change = |difference| matching_step(&policy.steps, difference).map(|step| step.change);
    let cases =
        [(0.1, 10.0), (0.2, 30.0), (0.0, 0.0), (-0.1, -10.0), (-0.2, -30.0), (-0.05, 0.0), (9.0, 30.0)];
    for (difference, expected) in cases {
        assert_eq!(change(difference), Some(expected), "{difference}");
    }
}

/// "Target tracking scaling policies": 1.5 too few are 2 to add, 1.5 too many are 1 to remove.
#[test]
fn target_tracking_is_conservative_both_ways() {
    assert_eq!(tracked(10, 57.5, 50.0, Tolerance::default()), 2, "11.5 are needed");
    assert_eq!(tracked(10, 42.5, 50.0, Tolerance::default()), -1, "8.5 are needed");
}

fn tracking(signal: sluice_logic::spec::Signal, target: f64) -> TargetTracking {
    TargetTracking {
        signal,
        target,
        disable_scale_in: false,
        warm_up: None,
        tolerance: Tolerance::default(),
        missing: MissingData::Hold,
    }
}

/// "Scaling policy based on Amazon SQS": 1500 messages on 10 instances with an acceptable backlog of 100 each.
#[test]
fn the_backlog_of_a_queue() {
    let queue: Metric = "custom/queue_length".parse().expect("a metric");
    let mut case =
        group(10, 0.0, vec![PolicySpec::TargetTracking(tracking(per_instance(queue.clone()), 100.0))]);
    case.samples.push_group(&queue, at(0), 1500.0).expect("a good sample");
    assert_eq!(case.decide().to, 15, "five more");
}

/// "Target tracking scaling policies", multiple policies: out if any is ready, in only if all that may scale in are.
#[test]
fn several_target_tracking_policies() {
    let on = |target, disable_scale_in| {
        PolicySpec::TargetTracking(TargetTracking { disable_scale_in, ..tracking(cpu(), target) })
    };
    let cases = [
        (0.6, vec![on(0.5, false), on(0.9, false)], 12, "one is ready to scale out"),
        (0.4, vec![on(0.5, false), on(0.4, false)], 10, "one is not ready to scale in"),
        (0.2, vec![on(0.5, false), on(0.4, false)], 5, "both are, the larger capacity wins"),
        (0.4, vec![on(0.5, false), on(0.4, true)], 8, "who may not scale in is not asked"),
        (0.1, vec![on(0.5, true)], 10, "and never does"),
    ];
    for (load, policies, expected, why) in cases {
        assert_eq!(group(10, load, policies).decide().to, expected, "{why}");
    }
}

/// The same page: instances that are warming up are no load but capacity, and nothing scales in meanwhile; missing
/// data is no reason to act.
#[test]
fn warming_instances_and_missing_data() {
    let policy = |target| {
        PolicySpec::TargetTracking(TargetTracking {
            warm_up: Some(Duration::from_mins(5)),
            ..tracking(cpu(), target)
        })
    };
    for (load, expected) in [(0.6, 12), (0.75, 15), (0.2, 12)] {
        let mut case = group(10, load, vec![policy(0.5)]);
        case.desired = 12;
        for unique in 10..12 {
            case.instances.push(instance(unique, InstanceState::InService));
            case.instances.last_mut().expect("just pushed").since = at(0);
        }
        assert_eq!(case.decide().to, expected, "{}", case.decide().reason);
    }
    let mut case = group(10, 0.0, vec![policy(0.5)]);
    case.samples = Samples::new(Duration::from_mins(5));
    assert_eq!(case.decide().to, 10);
}

/// "How predictive scaling works": a prediction of 50 with a maximum of 40 and a buffer of 10 % makes the maximum 55; only
/// the floor is raised, and a policy that only forecasts changes nothing.
#[test]
fn predictive_scaling() {
    let predictive = |mode, max_capacity_buffer| {
        PolicySpec::Predictive(Predictive {
            metric: Metric::Cpu,
            target: 0.5,
            mode,
            scheduling_buffer: Predictive::default_scheduling_buffer(),
            max_capacity_buffer,
        })
    };
    let decide = |policy, demand: f64| {
        let outlooks =
            [Some(Outlook::Expected { demand, at: at(300), error: Some(0.1), ahead: None, kept: None })];
        let case = Case { spec: limits(1, 40), policies: vec![policy], ..Case::of(20, 0.0) };
        let group = sluice_logic::decision::Group { outlooks: &outlooks, ..case.group() };
        sluice_logic::decision::decide(&group, &case.samples, at(1))
    };
    let scale = PredictiveMode::ForecastAndScale;
    let raised = decide(predictive(scale, Some(10)), 25.0);
    assert_eq!((raised.to, raised.policies[0].raised_max), (50, Some(55)), "{}", raised.reason);
    assert_eq!(decide(predictive(scale, None), 25.0).to, 40, "the maximum is honoured");
    assert_eq!(decide(predictive(scale, None), 5.0).to, 20, "a forecast removes nothing");
    assert_eq!(decide(predictive(PredictiveMode::ForecastOnly, Some(10)), 25.0).to, 20);
    assert_eq!(in_service(20).len(), 20);
}
