//! What is desired and can't be had, and what drains, keeps the number from nothing.

use std::time::Duration;

use sluice_logic::decision::{Action, Decision};
use sluice_logic::group::InstanceState;
use sluice_logic::spec::{
    Adjustment, Comparison, Metric, MissingData, PolicySpec, Signal, Simple, TargetTracking, Tolerance,
};

use crate::fixture::{Case, WINDOW, at, instance, sampled};

/// Three in service of ten, as launches fail.
fn short(packets_each: f64, policy: Option<PolicySpec>) -> Case {
    let policies = policy.map_or_else(|| Case::of(0, 0.0).policies, |policy| vec![policy]);
    Case { desired: 10, policies, ..Case::of(3, packets_each) }
}

fn tracking() -> PolicySpec {
    PolicySpec::TargetTracking(TargetTracking {
        signal: Signal::mean(Metric::Packets, WINDOW),
        target: 60.0,
        disable_scale_in: false,
        warm_up: None,
        tolerance: Tolerance::default(),
        missing: MissingData::Hold,
    })
}

#[test]
fn the_number_follows_the_load_while_launches_fail() {
    for policy in [None, Some(tracking())] {
        assert_eq!(short(2.0, policy.clone()).decide().to, 1, "one is enough");
        assert_eq!(short(60.0, policy.clone()).decide().to, 3, "what there is, is enough");
        assert_eq!(short(90.0, policy.clone()).decide().to, 5, "what is missing is still wanted");
        assert_eq!(short(250.0, policy.clone()).decide().to, 13, "and more");
        let mut pending = short(2.0, policy);
        pending.instances.push(instance(3, InstanceState::Pending));
        let decision = pending.decide();
        assert_eq!(decision.to, 2, "what is on its way stays: {}", decision.reason);
    }
}

#[test]
fn none_goes_while_all_that_are_missing_are_on_their_way() {
    let mut growing = Case { policies: vec![tracking()], ..Case::of(3, 2.0) };
    growing.instances.push(instance(3, InstanceState::Pending));
    growing.desired = 4;
    assert_eq!(growing.decide().to, 4);
}

#[test]
fn what_can_not_be_had_stays_desired_while_a_part_of_the_load_is_not_known() {
    let desired = |measured: usize| {
        let mut case = Case::of(3, 0.0);
        case.desired = 6;
        case.samples = sampled(&case.instances[..measured], 100.0, 0.0);
        case.decide()
    };
    let (known, partly) = (desired(3), desired(2));
    assert_eq!(known.to, 5, "{}", known.reason);
    assert_eq!((partly.to, partly.action), (6, Action::Nothing), "{}", partly.reason);
}

/// Two in service at that load and one that drains for a long time, after an action of a simple policy long ago.
fn draining(packets_each: f64, drains: bool) -> Decision {
    let simple = |when, threshold, change| {
        PolicySpec::Simple(Simple {
            signal: Signal::mean(Metric::Packets, WINDOW),
            when,
            threshold,
            adjustment: Adjustment::Change,
            change,
            min_magnitude: 0,
            cooldown: Duration::from_mins(5),
        })
    };
    let policies = vec![simple(Comparison::AtLeast, 80.0, 2.0), simple(Comparison::AtMost, 20.0, -1.0)];
    let mut case = Case { policies, ..Case::of(3, 10.0) };
    // What falls below the lower threshold removes one, 40 minutes before.
    let action = Decision { at: at(-2_400), ..case.decide() };
    assert_eq!((action.from, action.to), (3, 2), "{}", action.reason);
    case.history.record(&action);
    case.desired = 2;
    case.instances[2] = instance(2, if drains { InstanceState::Draining } else { InstanceState::Terminated });
    case.samples = sampled(&case.instances[..2], packets_each, 0.0);
    let settling = Decision { at: at(-1_000), settling: drains, ..Decision::default() };
    case.history.record(&settling);
    case.decide()
}

#[test]
fn a_drain_holds_up_nothing_that_is_to_be_added() {
    let out = draining(97.0, true);
    assert_eq!(out.to, 4, "{}", out.reason);
    let inwards = draining(10.0, true);
    assert_eq!(inwards.to, 2, "a drain still holds up what goes in: {}", inwards.reason);
    assert_eq!(draining(10.0, false).to, 1);
}
