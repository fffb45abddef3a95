//! What holds in every round of every history.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use sluice_logic::decision::Action;
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::policy::Wish;

use crate::fixture::BUFFER_TIME;
use crate::simulation::{Happening, Round, Tick, World, any_history};

fn rounds(history: &[Tick]) -> Vec<Round> {
    let mut world = World::new();
    history.iter().map(|tick| world.tick(tick)).collect()
}

fn by_policy(round: &Round) -> bool {
    matches!(round.decision.action, Action::Out | Action::In)
}

#[test]
fn a_rise_and_a_fall_of_traffic_are_followed() {
    let tick = |traffic| Tick { traffic, clock_jump: 0, what: Happening::Ready };
    let history: Vec<Tick> =
        [60.0; 40].iter().chain(&[450.0; 200]).chain(&[60.0; 200]).map(|&t| tick(t)).collect();
    let rounds = rounds(&history);
    assert_eq!(rounds[39].decision.to, 2);
    assert_eq!(rounds[239].decision.to, 8);
    assert_eq!(rounds[439].decision.to, 2);
    let actions = |action| rounds.iter().filter(|r| r.decision.action == action).count();
    assert!(actions(Action::Out) >= 1 && actions(Action::In) >= 1);
    assert!(actions(Action::Out) + actions(Action::In) <= 12, "it does not flap");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn desired_is_never_outside_the_limits(history in any_history()) {
        for round in rounds(&history) {
            prop_assert!((round.spec.min..=round.spec.max).contains(&round.decision.to));
        }
    }

    #[test]
    fn nothing_is_removed_while_data_are_missing(history in any_history()) {
        for round in rounds(&history) {
            prop_assert!(round.all_measured(Duration::ZERO) || round.decision.action != Action::In, "{}", round.decision.reason);
        }
    }

    #[test]
    fn at_most_one_action_in_a_buffer_time_as_the_clock_tells_it(history in any_history()) {
        for round in rounds(&history).iter().filter(|round| by_policy(round)) {
            if let Some(last) = round.last_action_before {
                prop_assert!(round.decision.at.duration_since(last).unsigned_abs() >= BUFFER_TIME);
            }
        }
    }

    #[test]
    fn at_most_one_action_in_a_buffer_time_also_when_the_clock_is_set_back(mut history in any_history()) {
        for tick in &mut history {
            tick.clock_jump = tick.clock_jump.min(0);
        }
        let buffer_time = i64::try_from(BUFFER_TIME.as_secs()).expect("two minutes");
        let rounds = rounds(&history);
        let actions: Vec<i64> = rounds.iter().filter(|r| by_policy(r)).map(|r| r.really).collect();
        prop_assert!(actions.windows(2).all(|pair| pair[1] - pair[0] >= buffer_time), "{actions:?}");
    }

    #[test]
    fn the_same_inputs_give_the_same_decision(history in any_history()) {
        for round in rounds(&history) {
            prop_assert_eq!(round.decision, round.decided_again);
        }
    }

    #[test]
    fn every_decision_has_a_reason_and_every_change_an_action(history in any_history()) {
        for Round { decision, .. } in rounds(&history) {
            prop_assert!(!decision.reason.is_empty());
            prop_assert_eq!(decision.from != decision.to, decision.action != Action::Nothing);
            prop_assert!(decision.action != Action::Out || decision.to > decision.from);
            prop_assert!(decision.action != Action::In || decision.to < decision.from);
            let wishes_out = decision.policies.iter().any(|p| matches!(p.wish, Wish::Out(_)));
            prop_assert!(wishes_out || decision.action != Action::Out);
        }
    }

    #[test]
    fn each_round_leaves_the_desired_capacity(history in any_history()) {
        for round in rounds(&history) {
            let capacity = round.after.iter().filter(|i| i.is_capacity()).count();
            prop_assert_eq!(u32::try_from(capacity), Ok(round.decision.to));
        }
    }

    #[test]
    fn no_round_takes_from_those_in_service_what_is_desired(history in any_history()) {
        for round in rounds(&history) {
            let serving = |instances: &[Instance]| {
                u32::try_from(instances.iter().filter(|i| i.is_serving()).count()).expect("a small number")
            };
            prop_assert!(serving(&round.after) >= serving(&round.before).min(round.decision.to));
        }
    }

    #[test]
    fn what_drains_never_serves_again(history in any_history()) {
        let mut leaving: BTreeSet<InstanceId> = BTreeSet::new();
        for round in rounds(&history) {
            for instance in round.before.iter().chain(&round.after) {
                let leaves = instance.state >= InstanceState::Draining;
                prop_assert!(leaves || !leaving.contains(&instance.id), "{}", instance.id);
                if leaves {
                    leaving.insert(instance.id.clone());
                }
            }
        }
    }
}
