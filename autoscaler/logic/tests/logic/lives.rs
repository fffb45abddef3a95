//! The life of an instance, and what of a group outlives the daemon.

use std::collections::BTreeMap;

use sluice_logic::decision::manual;
use sluice_logic::group::InstanceState::{self, Draining, InService, Pending, Terminated, Terminating};
use sluice_logic::group::{Event, GroupState};

use crate::fixture::{Case, at, id, in_service, instance, limits};

const STATES: [InstanceState; 5] = [Pending, InService, Draining, Terminating, Terminated];
const EVENTS: [Event; 4] = [Event::Ready, Event::Drain, Event::Terminate, Event::Gone];

#[test]
fn the_life_of_an_instance_is_the_drawn_one() {
    let mut arrows = Vec::new();
    for state in STATES {
        for event in EVENTS {
            if let Ok(next) = state.after(event) {
                arrows.push((state, event, next));
            }
        }
    }
    let drawn = vec![
        (Pending, Event::Ready, InService),
        (Pending, Event::Terminate, Terminating),
        (InService, Event::Drain, Draining),
        (InService, Event::Terminate, Terminating),
        (Draining, Event::Terminate, Terminating),
        (Terminating, Event::Gone, Terminated),
    ];
    assert_eq!(arrows, drawn);
}

#[test]
fn no_event_leads_back() {
    for state in STATES {
        for event in EVENTS {
            if let Ok(next) = state.after(event) {
                assert!(next > state, "{state} to {next}");
            }
        }
    }
}

#[test]
fn a_wrong_event_is_refused_with_a_way_out_and_changes_nothing() {
    let mut draining = instance(0, Draining);
    let before = draining.clone();
    let error = draining.apply(Event::Ready, at(5)).expect_err("it never gets back");
    assert_eq!(draining, before);
    assert_eq!(
        error.to_string(),
        "an instance that is draining can't take the event `ready`: it is on its way out, launch another"
    );
}

#[test]
fn a_new_state_begins_now_and_its_flows_are_not_counted_yet() {
    let mut serving = instance(0, InService);
    serving.live_flows = Some(0);
    serving.apply(Event::Drain, at(5)).expect("it serves");
    assert_eq!((serving.state, serving.since, serving.live_flows), (Draining, at(5), None));
}

#[test]
fn only_what_may_have_flows_and_can_end_them_stops_before_it_is_removed() {
    for (state, failed, stops) in
        [(Pending, false, false), (InService, false, true), (Draining, false, true), (Draining, true, false)]
    {
        let mut instance = instance(0, state);
        instance.failed = failed;
        instance.apply(Event::Terminate, at(5)).expect("it may");
        assert_eq!(instance.stopping, stops, "{state}, failed: {failed}");
        instance.apply(Event::Gone, at(6)).expect("it may");
        assert!(!instance.stopping);
    }
}

#[test]
fn a_fresh_group_has_the_fewest_instances() {
    let state = GroupState::fresh(&limits(2, 5));
    assert_eq!((state.desired, state.last_action), (Some(2), None));
    assert_eq!(GroupState::default().desired_or_found(&limits(2, 5), &[]), 2);
}

#[test]
fn a_lost_state_file_drains_nobody() {
    let lost = GroupState::default();
    assert_eq!(lost.desired_or_found(&limits(2, 5), &in_service(4)), 4);
    assert_eq!(lost.desired_or_found(&limits(2, 5), &in_service(9)), 5);
}

#[test]
fn a_state_file_of_another_version_is_read() {
    let text =
        r#"{"desired": 3, "mood": "good", "draining_since": {"demo-00000001": "2023-11-14T22:13:20Z"}}"#;
    let read: GroupState = serde_json::from_str(text).expect("unknown and missing keys are fine");
    let draining_since = BTreeMap::from([(id(1), at(0))]);
    assert_eq!(read, GroupState { desired: Some(3), draining_since, ..GroupState::default() });
    assert_eq!(serde_json::from_str::<GroupState>("{}").expect("also none at all"), GroupState::default());
}

#[test]
fn a_state_file_gives_back_what_was_written() {
    let mut instances = in_service(2);
    instances[1].apply(Event::Drain, at(7)).expect("it serves");
    instances.push(instance(2, Pending));
    instances.push(instance(3, Draining));
    instances[3].apply(Event::Terminate, at(8)).expect("it drains");
    let mut state = GroupState::fresh(&limits(2, 5));
    state.remember(&instances);
    let case = Case::of(2, 60.0);
    state.record(&manual(&case.group(), 4, at(9)).expect("within the limits"));

    let text = serde_json::to_string(&state).expect("plain data");
    let read: GroupState = serde_json::from_str(&text).expect("its own text");
    assert_eq!(read, state);
    assert_eq!((read.desired, read.last_action), (Some(4), Some(at(9))));
    assert_eq!(read.last_known(&id(0)), Some((InService, instances[0].since)));
    assert_eq!(read.last_known(&id(1)), Some((Draining, at(7))));
    assert_eq!(read.last_known(&id(2)), None);
    assert_eq!(read.last_known(&id(3)), Some((Terminating, at(8))));
}

#[test]
fn after_the_clock_was_set_back_nothing_begins_in_the_future() {
    let mut instances = vec![instance(0, Draining), instance(1, InService), instance(2, Terminating)];
    let mut state = GroupState { last_action: Some(at(0)), ..GroupState::default() };
    state.remember(&instances);
    state.rewind(at(-5000));
    assert_eq!(state.last_action, Some(at(-5000)));
    assert_eq!(state.draining_since[&id(0)], at(-5000));
    assert_eq!(state.in_service_since[&id(1)], at(-5000));
    assert_eq!(state.terminating_since[&id(2)], at(-5000));
    instances[0].rewind(at(-5000));
    assert_eq!((instances[0].created, instances[0].since), (at(-5000), at(-5000)));
}
