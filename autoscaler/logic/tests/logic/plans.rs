//! The steps of a plan.

use std::time::Duration;

use proptest::prelude::*;
use sluice_logic::decision::{Step, plan, plan_leaving};
use sluice_logic::group::{Event, Instance, InstanceId, InstanceState};

use crate::fixture::{at, id, in_service, instance, limits};
use crate::simulation::carry_out;

fn short(steps: &[Step]) -> Vec<String> {
    let short = |step: &Step| match step {
        Step::Launch { .. } => "launch".to_owned(),
        Step::Drain { id, .. } => format!("drain {id}"),
        Step::Terminate { id, .. } => format!("terminate {id}"),
    };
    steps.iter().map(short).collect()
}

fn planned(desired: u32, instances: &[Instance]) -> Vec<String> {
    short(&plan(&limits(0, 20), desired, instances, at(0)))
}

#[test]
fn what_is_as_it_should_be_needs_no_step() {
    assert_eq!(planned(3, &in_service(3)), [""; 0]);
    assert_eq!(planned(0, &[]), [""; 0]);
}

#[test]
fn what_is_missing_is_launched_and_pending_ones_count() {
    let mut instances = in_service(2);
    instances.push(instance(2, InstanceState::Pending));
    assert_eq!(planned(5, &instances), ["launch", "launch"]);
    let steps = plan(&limits(0, 20), 5, &instances, at(0));
    assert_eq!(steps[0], Step::Launch { reason: "5 are desired, 3 are pending or in service".to_owned() });
}

#[test]
fn the_newest_goes_first_by_creation_then_by_id() {
    let mut instances = in_service(4);
    instances[0].created = at(50);
    instances[1].created = instances[2].created;
    assert_eq!(planned(1, &instances), ["drain demo-00000000", "drain demo-00000003", "drain demo-00000002"]);
}

#[test]
fn a_pending_instance_goes_before_any_in_service_and_is_not_drained() {
    let mut instances = in_service(3);
    instances.push(instance(9, InstanceState::Pending));
    instances[3].created = at(-9999);
    assert_eq!(planned(2, &instances), ["terminate demo-00000009", "drain demo-00000002"]);
}

#[test]
fn a_failed_instance_is_replaced_whatever_it_was_doing() {
    for state in [InstanceState::Pending, InstanceState::InService] {
        let mut instances = in_service(2);
        instances.push(instance(2, state));
        instances[2].failed = true;
        assert_eq!(planned(3, &instances), ["launch", "terminate demo-00000002"]);
        let steps = plan(&limits(0, 20), 3, &instances, at(0));
        assert_eq!(steps[1], Step::Terminate { id: id(2), reason: format!("it failed while {state}") });
    }
    let mut draining = instance(2, InstanceState::Draining);
    draining.failed = true;
    assert_eq!(planned(0, &[draining]), ["terminate demo-00000002"]);
}

#[test]
fn a_draining_instance_ends_with_its_last_flow_or_its_cool_down() {
    let cases = [
        (59, None, false),
        (59, Some(1), false),
        (0, Some(0), true),
        (60, None, true),
        (60, Some(7), true),
        (-500, Some(7), false),
    ];
    for (drained_for, live_flows, ends) in cases {
        let mut draining = instance(1, InstanceState::Draining);
        draining.since = at(-drained_for);
        draining.live_flows = live_flows;
        assert_eq!(!planned(0, &[draining]).is_empty(), ends, "{drained_for} s, {live_flows:?} flows");
    }
}

#[test]
fn a_draining_instance_that_serves_in_place_of_others_ends_with_its_cool_down_only() {
    let mut draining = instance(1, InstanceState::Draining);
    (draining.since, draining.live_flows) = (at(-59), Some(0));
    let mut failed = instance(2, InstanceState::InService);
    failed.failed = true;
    let others = |state| vec![draining.clone(), instance(3, state)];
    assert_eq!(planned(1, std::slice::from_ref(&draining)), ["launch"]);
    assert_eq!(planned(1, &[draining.clone(), failed]), ["launch", "terminate demo-00000002"]);
    assert_eq!(planned(1, &others(InstanceState::Pending)), [""; 0], "nothing else serves yet");
    assert_eq!(planned(1, &others(InstanceState::InService)), ["terminate demo-00000001"]);
    assert_eq!(planned(0, std::slice::from_ref(&draining)), ["terminate demo-00000001"], "none is wanted");
    draining.since = at(-60);
    assert_eq!(planned(1, &[draining]), ["launch", "terminate demo-00000001"]);
}

#[test]
fn the_end_of_a_cool_down_says_what_it_cuts() {
    let mut draining = instance(1, InstanceState::Draining);
    draining.live_flows = Some(7);
    let steps = plan(&limits(0, 20), 0, &[draining], at(0));
    let reason = "its cool-down of 1m is over, 7 live flows are cut".to_owned();
    assert_eq!(steps, [Step::Terminate { id: id(1), reason }]);
}

#[test]
fn an_instance_in_service_without_flows_is_still_drained_first() {
    let mut instances = in_service(1);
    instances[0].live_flows = Some(0);
    assert_eq!(planned(0, &instances), ["drain demo-00000000"]);
}

#[test]
fn an_instance_drained_by_hand_is_replaced_also_at_the_maximum() {
    let mut instances = in_service(5);
    instances[1].apply(Event::Drain, at(0)).expect("it serves");
    assert_eq!(short(&plan(&limits(2, 5), 5, &instances, at(0))), ["launch"]);
}

#[test]
fn a_tenant_that_leaves_keeps_its_instances_for_live_flows_and_for_a_while() {
    let mut instances = in_service(2);
    (instances[0].live_flows, instances[1].live_flows) = (Some(0), Some(3));
    instances.push(instance(2, InstanceState::Pending));
    let mut failed = instance(3, InstanceState::InService);
    failed.failed = true;
    instances.push(failed);
    let mut group = limits(0, 20);
    group.cool_down = Duration::from_mins(2);
    let steps = |seconds| short(&plan_leaving(&group, at(0), &instances, at(seconds)));
    let ended = |numbers: &[u32]| -> Vec<String> {
        numbers.iter().map(|number| format!("terminate demo-{number:08x}")).collect()
    };
    assert_eq!(steps(29), ended(&[3]), "what has failed goes, and nothing is launched in its place");
    assert_eq!(steps(30), ended(&[0, 2, 3]));
    assert_eq!(steps(120), ended(&[0, 1, 2, 3]));
    group.cool_down = Duration::from_secs(5);
    assert_eq!(short(&plan_leaving(&group, at(0), &instances, at(4))), ended(&[3]));
    assert_eq!(short(&plan_leaving(&group, at(0), &instances, at(5))), ended(&[0, 1, 2, 3]));
}

#[test]
fn what_is_being_removed_is_left_to_its_remover() {
    let mut instances = vec![instance(0, InstanceState::Terminating), instance(1, InstanceState::Terminated)];
    instances[0].failed = true;
    assert_eq!(planned(0, &instances), [""; 0]);
}

fn any_instance(unique: u32) -> impl Strategy<Value = Instance> {
    let states = prop::sample::select(vec![
        InstanceState::Pending,
        InstanceState::InService,
        InstanceState::Draining,
        InstanceState::Terminating,
        InstanceState::Terminated,
    ]);
    let flows = prop::option::of(0_u64..3);
    (states, flows, prop::bool::weighted(0.2), -100_i64..0, -100_i64..50).prop_map(
        move |(state, live_flows, failed, created, since)| {
            let (created, since) = (at(created), at(since));
            Instance { live_flows, failed, created, since, ..instance(unique, state) }
        },
    )
}

fn any_instances() -> impl Strategy<Value = Vec<Instance>> {
    (0_u32..12).prop_flat_map(|count| (0..count).map(any_instance).collect::<Vec<_>>())
}

fn capacity(instances: &[Instance]) -> u32 {
    u32::try_from(instances.iter().filter(|i| i.is_capacity()).count()).expect("a small number")
}

fn serving(instances: &[Instance]) -> u32 {
    u32::try_from(instances.iter().filter(|i| i.is_serving()).count()).expect("a small number")
}

proptest! {
    #[test]
    fn one_plan_brings_the_capacity_to_the_desired_number_and_the_next_leaves_it(
        mut instances in any_instances(), desired in 0_u32..12
    ) {
        let steps = plan(&limits(0, 20), desired, &instances, at(0));
        carry_out(&steps, &mut instances, &mut 100, at(0));
        prop_assert_eq!(capacity(&instances), desired);
        let next = plan(&limits(0, 20), desired, &instances, at(0));
        prop_assert_eq!(short(&next), [""; 0]);
    }

    #[test]
    fn in_the_end_only_the_desired_number_is_left_and_nothing_is_to_be_done(
        mut instances in any_instances(), desired in 0_u32..12
    ) {
        let mut unique = 100;
        for round in 0..5 {
            let now = at(round * 120);
            let steps = plan(&limits(0, 20), desired, &instances, now);
            carry_out(&steps, &mut instances, &mut unique, now);
            instances.retain(|i| !matches!(i.state, InstanceState::Terminating | InstanceState::Terminated));
            for instance in &mut instances {
                if instance.state == InstanceState::Pending {
                    instance.apply(Event::Ready, now).expect("it was pending");
                }
            }
        }
        prop_assert_eq!(u32::try_from(instances.len()), Ok(desired));
        prop_assert_eq!(serving(&instances), desired);
        prop_assert_eq!(short(&plan(&limits(0, 20), desired, &instances, at(1000))), [""; 0]);
    }

    #[test]
    fn a_plan_never_takes_from_those_in_service_what_is_desired(
        mut instances in any_instances(), desired in 0_u32..12
    ) {
        let before = serving(&instances);
        let steps = plan(&limits(0, 20), desired, &instances, at(0));
        carry_out(&steps, &mut instances, &mut 100, at(0));
        prop_assert!(serving(&instances) >= before.min(desired));
    }

    #[test]
    fn those_that_stay_in_service_are_not_newer_than_those_drained(
        instances in any_instances(), desired in 0_u32..12
    ) {
        let steps = plan(&limits(0, 20), desired, &instances, at(0));
        let drained = |i: &&Instance| steps.iter().any(|s| matches!(s, Step::Drain { id, .. } if *id == i.id));
        let (gone, stay): (Vec<&Instance>, Vec<&Instance>) =
            instances.iter().filter(|i| i.is_serving()).partition(drained);
        for (gone, stay) in gone.iter().flat_map(|g| stay.iter().map(move |s| (g, s))) {
            prop_assert!((gone.created, &gone.id) > (stay.created, &stay.id));
        }
    }

    #[test]
    fn launches_and_removals_of_capacity_exclude_each_other(
        instances in any_instances(), desired in 0_u32..12
    ) {
        let steps = plan(&limits(0, 20), desired, &instances, at(0));
        let of_capacity = |id: &InstanceId| instances.iter().any(|i| i.id == *id && i.is_capacity());
        let launches = steps.iter().any(|s| matches!(s, Step::Launch { .. }));
        let removes = steps.iter().any(|s| match s {
            Step::Launch { .. } => false,
            Step::Drain { id, .. } | Step::Terminate { id, .. } => of_capacity(id),
        });
        prop_assert!(!(launches && removes));
    }

    #[test]
    fn the_order_of_the_instances_does_not_matter_to_a_plan(
        instances in any_instances(), desired in 0_u32..12
    ) {
        let sorted = |instances: &[Instance]| {
            let mut steps = short(&plan(&limits(0, 20), desired, instances, at(0)));
            steps.sort();
            steps
        };
        let reversed: Vec<Instance> = instances.iter().rev().cloned().collect();
        prop_assert_eq!(sorted(&instances), sorted(&reversed));
    }
}
