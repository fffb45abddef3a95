//! What is decided, case by case.

use std::num::NonZeroU32;

use jiff::SignedDuration;
use proptest::prelude::*;
use sluice_logic::decision::{Action, Clip, Decision, ManualError, decide, manual};
use sluice_logic::group::InstanceState;
use sluice_logic::policy::Wish;
use sluice_logic::samples::Samples;
use sluice_logic::spec::{Metric, PolicySpec};

use crate::fixture::{
    BUFFER_TIME, Case, WINDOW, at, cpu, in_service, instance, limits, packets, reactive, sampled,
};

fn out(count: u32) -> Wish {
    Wish::Out(NonZeroU32::new(count).expect("not 0"))
}

fn fewer(count: u32) -> Wish {
    Wish::In(NonZeroU32::new(count).expect("not 0"))
}

#[test]
fn nine_instances_at_80_with_a_threshold_of_60_become_twelve() {
    let decision = Case::of(9, 80.0).decide();
    assert_eq!((decision.from, decision.to, decision.action), (9, 12, Action::Out));
    assert_eq!(decision.reason, "9 → 12: packets/s is 80.0 over 5m on 9 in service, threshold 60.0: 3 more");
    let [evaluation] = &decision.policies[..] else { panic!("one policy") };
    assert_eq!((evaluation.load, evaluation.instances, evaluation.samples), (Some(80.0), 9, 9));
    assert_eq!((evaluation.policy.clone(), evaluation.wish), (packets(60.0), out(3)));
}

#[test]
fn a_load_below_the_threshold_takes_instances_away() {
    let decision = Case::of(9, 40.0).decide();
    assert_eq!((decision.to, decision.action), (6, Action::In));
    assert_eq!(decision.reason, "9 → 6: packets/s is 40.0 over 5m on 9 in service, threshold 60.0: 3 fewer");
}

#[test]
fn a_cpu_load_is_written_in_percent() {
    let mut case = Case::of(2, 0.0);
    case.policies = vec![cpu(0.3)];
    case.samples = sampled(&case.instances, 0.0, 0.452);
    assert_eq!(
        case.decide().reason,
        "2 → 4: CPU is 45.2 % over 5m on 2 in service, threshold 30.0 %: 2 more"
    );
}

#[test]
fn nothing_to_do_has_a_reason_too() {
    let decision = Case::of(3, 60.0).decide();
    assert_eq!((decision.to, decision.action), (3, Action::Nothing));
    assert_eq!(
        decision.reason,
        "stays at 3: packets/s is 60.0 over 5m on 3 in service, threshold 60.0: no change"
    );
}

#[test]
fn instances_on_their_way_are_not_asked_for_twice() {
    let mut case = Case::of(2, 120.0);
    case.desired = 4;
    let decision = case.decide();
    assert_eq!(decision.to, 4);
    assert!(decision.reason.ends_with("2 more, and they are on their way"), "{}", decision.reason);

    case.samples = sampled(&case.instances, 150.0, 0.0);
    assert_eq!(case.decide().to, 5, "what the load needs beyond those");
}

#[test]
fn instances_about_to_go_are_not_taken_away_twice() {
    let mut case = Case::of(3, 40.0);
    case.desired = 2;
    assert_eq!((case.decide().to, case.decide().policies[0].wish), (2, Wish::Hold));
    case.samples = sampled(&case.instances, 90.0, 0.0);
    assert_eq!(case.decide().to, 5, "three carry the load of 4.5");
}

#[test]
fn the_last_instance_stays_even_where_none_are_allowed() {
    let mut case = Case::of(2, 0.0);
    case.spec = limits(0, 5);
    assert_eq!(case.decide().to, 1);
    case = Case { spec: limits(0, 5), ..Case::of(1, 0.0) };
    assert_eq!(case.decide().to, 1);
}

#[test]
fn a_group_without_instances_says_how_to_begin() {
    let mut case = Case::of(0, 0.0);
    case.spec = limits(0, 5);
    let decision = case.decide();
    assert_eq!(decision.to, 0);
    assert!(decision.reason.contains("`sluice scale` or a minimum above 0 begins it"), "{}", decision.reason);
}

#[test]
fn without_a_policy_only_people_change_the_number() {
    let mut case = Case::of(3, 999.0);
    case.policies.clear();
    let decision = case.decide();
    assert_eq!(decision.to, 3);
    assert_eq!(decision.reason, "stays at 3: there is no policy, so it changes by hand only");
}

#[test]
fn policies_are_combined_towards_more() {
    // Two policies over six instances, thresholds 60 packets/s and 0.6 CPU.
    let cases = [
        (80.0, 0.9, 9, "the largest wish to add wins"),
        (90.0, 0.8, 9, "in either order"),
        (80.0, 0.1, 8, "one is enough to add"),
        (10.0, 0.6, 6, "one that holds is enough not to remove"),
        (30.0, 0.4, 4, "the smallest wish to remove wins"),
        (40.0, 0.3, 4, "in either order"),
    ];
    for (packets_each, cpu_each, expected, why) in cases {
        let mut case = Case::of(6, 0.0);
        case.policies = vec![packets(60.0), cpu(0.6)];
        case.samples = sampled(&case.instances, packets_each, cpu_each);
        assert_eq!(case.decide().to, expected, "{why}");
    }
}

#[test]
fn a_policy_without_data_vetoes_scale_in_but_not_scale_out() {
    let live_flows = reactive(Metric::LiveFlows, 5.0, WINDOW);
    for (packets_each, expected) in [(10.0, 6), (80.0, 8)] {
        let mut case = Case::of(6, packets_each);
        case.policies.push(live_flows.clone());
        let decision = case.decide();
        assert_eq!(decision.to, expected);
        assert_eq!(decision.policies[1].wish, Wish::Unknown);
        assert_eq!(decision.policies[1].load, None);
    }
    let mut case = Case::of(6, 10.0);
    case.policies.push(live_flows);
    assert_eq!(
        case.decide().reason,
        "stays at 6: live flows is not known: no instance in service has a sample in the window, and it goes in only \
         if all policies agree"
    );
}

#[test]
fn stale_data_remove_nothing_and_add_nothing() {
    for packets_each in [0.0, 999.0] {
        let case = Case::of(4, packets_each);
        let decision = decide(&case.group(), &case.samples, at(60));
        assert_eq!((decision.to, decision.policies[0].wish), (4, Wish::Unknown));
        assert_eq!(
            decision.reason,
            "stays at 4: packets/s is not known: the newest sample is 60.0 s old, more than 15.0 s"
        );
    }
}

#[test]
fn an_instance_without_samples_blocks_scale_in_only() {
    // Three of four are measured; the fourth counts at 0 on the way up.
    for (packets_each, expected) in [(10.0, 4), (70.0, 4), (100.0, 5), (160.0, 8)] {
        let mut case = Case::of(4, packets_each);
        case.samples = sampled(&case.instances[..3], packets_each, 0.0);
        let decision = case.decide();
        assert_eq!(decision.to, expected, "{}", decision.reason);
        assert_eq!((decision.policies[0].instances, decision.policies[0].unmeasured), (3, 1));
    }
}

#[test]
fn limits_clip_and_say_so() {
    let mut case = Case::of(4, 600.0);
    case.spec = limits(2, 5);
    let decision = case.decide();
    assert_eq!((decision.to, &decision.clips[..]), (5, &[Clip::Max { max: 5 }][..]));
    assert!(decision.reason.ends_with("36 more, but 5 is the maximum"), "{}", decision.reason);

    case.desired = 5;
    case.instances = in_service(5);
    case.samples = sampled(&case.instances, 600.0, 0.0);
    let decision = case.decide();
    assert_eq!((decision.to, decision.action), (5, Action::Nothing));
    assert_eq!(decision.clips, [Clip::Max { max: 5 }]);

    case.samples = sampled(&case.instances, 1.0, 0.0);
    let decision = case.decide();
    assert_eq!((decision.to, &decision.clips[..]), (2, &[Clip::Min { min: 2 }][..]));
    assert!(decision.reason.ends_with("4 fewer, but 2 is the minimum"), "{}", decision.reason);
}

#[test]
fn edited_limits_are_repaired_at_once_whatever_the_policies_say() {
    for (min, max, packets_each, expected) in
        [(6, 9, 0.0, 6), (6, 9, 999.0, 6), (1, 3, 999.0, 3), (1, 3, 0.0, 3)]
    {
        let mut case = Case::of(4, packets_each);
        case.spec = limits(min, max);
        case.last_action = Some(at(0));
        let decision = case.decide();
        assert_eq!((decision.to, decision.action), (expected, Action::Repair));
        assert_eq!(decision.last_action, Some(at(0)), "a repair begins no buffer time");
    }
    let mut case = Case::of(2, 60.0);
    case.spec = limits(3, 5);
    assert_eq!(
        case.decide().reason,
        "2 → 3: 2 is below the minimum of 3; a repair, so no buffer time holds it up"
    );
}

#[test]
fn limits_that_contradict_each_other_hold_the_maximum() {
    let mut case = Case::of(4, 60.0);
    case.spec = limits(6, 3);
    assert_eq!(case.decide().to, 3);
}

#[test]
fn a_threshold_that_cannot_be_met_decides_nothing() {
    for threshold in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut case = Case::of(4, 60.0);
        case.policies = vec![packets(threshold)];
        assert_eq!((case.decide().to, case.decide().policies[0].wish), (4, Wish::Unknown));
    }
}

#[test]
fn a_clock_set_back_delays_the_next_action_by_one_buffer_time_only() {
    let mut case = Case::of(9, 80.0);
    case.last_action = Some(at(1_000_000));
    let decision = case.decide();
    assert_eq!((decision.to, decision.last_action), (9, Some(at(1))));

    case.last_action = decision.last_action;
    let later = at(1) + SignedDuration::try_from(BUFFER_TIME).expect("two minutes");
    let mut samples = Samples::new(WINDOW);
    for instance in &case.instances {
        samples.push(&instance.id, &Metric::Packets, later, 80.0).expect("a good sample");
    }
    assert_eq!(decide(&case.group(), &samples, later).to, 12);
}

#[test]
fn a_person_may_set_any_number_within_the_limits() {
    let mut case = Case::of(3, 60.0);
    case.spec = limits(2, 5);
    case.last_action = Some(at(0));
    let decision = manual(&case.group(), 5, at(1)).expect("within the limits");
    assert_eq!((decision.to, decision.action, decision.last_action), (5, Action::Manual, Some(at(1))));
    assert_eq!(decision.reason, "3 → 5: set by hand");

    let decision = manual(&case.group(), 3, at(1)).expect("within the limits");
    assert_eq!((decision.to, decision.action, decision.last_action), (3, Action::Nothing, Some(at(0))));

    let error = manual(&case.group(), 6, at(1)).expect_err("outside the limits");
    assert_eq!(error, ManualError::OutsideLimits { count: 6, min: 2, max: 5 });
    assert_eq!(
        error.to_string(),
        "6 is outside this group's limits, 2 to 5: choose a number within them, or change them in the tenant file"
    );
}

#[test]
fn a_person_may_go_back_in_steps_to_a_maximum_that_is_no_longer_raised() {
    let mut case = Case::of(3, 60.0);
    (case.spec, case.desired) = (limits(2, 5), 9);
    let decision = manual(&case.group(), 8, at(1)).expect("on the way back");
    assert_eq!((decision.to, decision.exceeds), (8, Some(5)));
    manual(&case.group(), 10, at(1)).expect_err("further away");
    assert_eq!(manual(&case.group(), 5, at(1)).expect("within the limits").exceeds, None);
}

#[test]
fn a_hand_set_number_stays_for_a_buffer_time() {
    let mut case = Case::of(3, 10.0);
    let by_hand = manual(&case.group(), 5, at(0)).expect("within the limits");
    (case.desired, case.last_action) = (by_hand.to, by_hand.last_action);
    assert_eq!(case.decide().to, 5);
}

#[test]
fn a_decision_survives_its_text() {
    let mut case = Case::of(4, 600.0);
    case.spec = limits(2, 5);
    case.last_action = Some(at(0));
    let decision = case.decide();
    let text = serde_json::to_string(&decision).expect("plain data");
    assert_eq!(serde_json::from_str::<Decision>(&text).expect("its own text"), decision);
    assert!(text.contains(r#""wish":{"kind":"out","count":36}"#), "{text}");
    assert!(text.contains(r#""clips":[{"kind":"max","max":5},{"kind":"buffer_time","until":"#), "{text}");
}

#[test]
fn a_failed_instance_is_neither_load_nor_capacity() {
    let mut case = Case::of(3, 90.0);
    case.instances[2].failed = true;
    // Two carry the load of three; the replacement of the third is on its way.
    let decision = case.decide();
    assert_eq!((decision.to, decision.policies[0].wish), (3, Wish::Hold));
}

#[test]
fn pending_and_draining_instances_do_not_change_what_is_wanted() {
    let mut case = Case::of(3, 40.0);
    assert_eq!(case.decide().policies[0].wish, fewer(1));
    case.instances.push(instance(7, InstanceState::Draining));
    case.instances.push(instance(8, InstanceState::Pending));
    assert_eq!(case.decide().policies[0].wish, fewer(1));
}

proptest! {
    #[test]
    fn two_policies_give_the_larger_of_what_each_alone_gives(
        packets_each in 0.0..200.0_f64, cpu_each in 0.0..2.0_f64, measured in 4_usize..=6, desired in 4_u32..8
    ) {
        let alone = |policies: &[PolicySpec]| {
            let mut case = Case::of(6, 0.0);
            case.samples = sampled(&case.instances[..measured], packets_each, cpu_each);
            case.desired = desired;
            case.policies = policies.to_vec();
            case.decide().to
        };
        let (first, second) = (packets(60.0), cpu(0.6));
        let either = alone(std::slice::from_ref(&first)).max(alone(std::slice::from_ref(&second)));
        prop_assert_eq!(alone(&[first, second]), either);
    }

    #[test]
    fn the_order_of_the_instances_does_not_matter(
        loads in prop::collection::vec(0.0..200.0_f64, 1..12), turn in 0_usize..12
    ) {
        let mut case = Case::of(u32::try_from(loads.len()).expect("a small number"), 0.0);
        case.samples = Samples::new(WINDOW);
        for (instance, &load) in case.instances.iter().zip(&loads) {
            case.samples.push(&instance.id, &Metric::Packets, at(0), load).expect("a good sample");
        }
        let decision = case.decide();
        prop_assert_eq!(&decision, &case.decide());
        case.instances.rotate_left(turn % loads.len());
        case.instances.reverse();
        prop_assert_eq!(decision, case.decide());
    }
}
