//! After a scaling action no other one starts for a while.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::SignedDuration;
use sluice_logic::decision::{Action, Clip};
use sluice_logic::policy::Wish;

use crate::fixture::{BUFFER_TIME, Case, at, limits};

fn out(count: u32) -> Wish {
    Wish::Out(NonZeroU32::new(count).expect("not 0"))
}

#[test]
fn within_the_buffer_time_nothing_begins() {
    let mut case = Case::of(9, 80.0);
    let buffer_time = SignedDuration::try_from(BUFFER_TIME).expect("two minutes");
    case.last_action = Some(at(2) - buffer_time);
    let decision = case.decide();
    assert_eq!((decision.to, decision.action, decision.last_action), (9, Action::Nothing, case.last_action));
    assert_eq!(decision.clips, [Clip::BufferTime { until: at(2) }]);
    assert_eq!(decision.policies[0].wish, out(3), "what is wanted is still said");
    assert!(
        decision.reason.ends_with("3 more; waits for the buffer time until 2023-11-14T22:13:22Z"),
        "{}",
        decision.reason
    );

    case.last_action = Some(at(1) - buffer_time);
    let decision = case.decide();
    assert_eq!((decision.to, decision.last_action), (12, Some(at(1))), "at its very end the next may begin");
}

#[test]
fn each_direction_may_have_a_buffer_time_of_its_own() {
    let after = |load, out: u64, r#in: u64, passed: i64| {
        let mut case = Case::of(9, load);
        case.spec.pace.out.buffer_time = Some(Duration::from_secs(out));
        case.spec.pace.r#in.buffer_time = Some(Duration::from_secs(r#in));
        case.last_action = Some(at(1) - SignedDuration::from_secs(passed));
        case.decide().to
    };
    assert_eq!([after(80.0, 10, 300, 9), after(80.0, 10, 300, 10)], [9, 12], "out");
    assert_eq!([after(20.0, 10, 300, 299), after(20.0, 10, 300, 300)], [9, 3], "in");
    let mut case = Case::of(9, 80.0);
    case.spec.pace.r#in.buffer_time = Some(Duration::ZERO);
    case.last_action = Some(at(0));
    assert_eq!(case.decide().to, 9, "the group's holds where a direction has none");
}

#[test]
fn an_action_within_the_maximum_and_the_buffer_time_names_both() {
    let mut case = Case::of(4, 600.0);
    case.spec = limits(2, 5);
    case.last_action = Some(at(0));
    let clips = case.decide().clips;
    assert!(matches!(clips[..], [Clip::Max { max: 5 }, Clip::BufferTime { .. }]), "{clips:?}");
}

#[test]
fn a_buffer_time_beyond_all_clocks_is_for_ever() {
    let mut case = Case::of(9, 80.0);
    case.spec.buffer_time = Duration::MAX;
    case.last_action = Some(at(0));
    assert_eq!(case.decide().to, 9);
}
