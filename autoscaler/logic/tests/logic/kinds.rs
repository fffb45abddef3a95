//! What holds in every round of every history, whatever the policies are.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sluice_logic::decision::{Action, Decision, Group, decide};
use sluice_logic::history::{History, LONGEST_MEMORY};
use sluice_logic::outlook::Outlook;
use sluice_logic::policy::Wish;
use sluice_logic::spec::{
    Adjustment, Aggregation, Amount, Comparison, Dynamic, GroupSpec, Metric, MissingData, PolicySpec,
    Profile, RateLimit, Rule, RuleChange, Rules, Signal, Simple, TargetTracking,
};

use crate::fixture::{Case, WINDOW, at, limits};
use crate::simulation::{Round, Tick, World, any_history};
use crate::worlds::any_world;

fn rounds((spec, policies): (GroupSpec, Vec<PolicySpec>), history: &[Tick]) -> Vec<Round> {
    let mut world = World::of(spec, policies);
    history.iter().map(|tick| world.tick(tick)).collect()
}

fn tracking(policy: &PolicySpec) -> Option<&TargetTracking> {
    match policy {
        PolicySpec::TargetTracking(policy) => Some(policy),
        PolicySpec::Custom(policy) => match &policy.dynamic {
            Dynamic::TargetTracking(policy) => Some(policy),
            _ => None,
        },
        _ => None,
    }
}

fn warm_up(policy: &PolicySpec, spec: &GroupSpec) -> Duration {
    let own = match policy {
        PolicySpec::Step(policy) => policy.warm_up,
        policy => tracking(policy).and_then(|policy| policy.warm_up),
    };
    own.unwrap_or(spec.pace.warm_up)
}

/// Whether a policy misses samples that it can't do without.
fn is_blind(policy: &PolicySpec, round: &Round) -> bool {
    let assumes = tracking(policy)
        .is_some_and(|it| it.missing == MissingData::Assume && it.signal.averages_instances());
    !policy.signals().is_empty() && !assumes && !round.all_measured(warm_up(policy, &round.spec))
}

/// Whether what a policy sums over time leaves out times of which nothing is known.
fn has_gaps(policy: &PolicySpec, round: &Round) -> bool {
    let sums = |signal: &Signal| matches!(signal.aggregation, Aggregation::Total | Aggregation::Count);
    let whole = || round.whole(warm_up(policy, &round.spec));
    let gaps = |signal: &Signal| match signal.grain {
        None => !whole().all(|whole| whole),
        Some(_) => !whole().any(|whole| whole),
    };
    policy.signals().into_iter().any(|signal| sums(signal) && gaps(signal))
}

/// The group's maximum, or what its policies have put in its place.
fn maximum(Round { spec, decision, .. }: &Round) -> u32 {
    decision.policies.iter().filter_map(|it| it.raised_max).fold(spec.max, u32::max)
}

/// The maximum is edited to below what a policy protects while that policy wants more and the pace allows one less.
#[test]
fn a_new_maximum_holds_at_once_whatever_a_policy_protects_and_wants() {
    let rule = Rule {
        signal: Signal::mean(Metric::Packets, WINDOW),
        when: Comparison::Above,
        threshold: 70.0,
        change: RuleChange::Increase(1),
        cooldown: Duration::from_mins(1),
    };
    let default = Profile { min: 3, max: 8, default: 4, rules: vec![rule] };
    let mut case = Case::of(2, 95.0);
    case.policies = vec![PolicySpec::Rules(Rules { default, profiles: Vec::new() })];
    case.spec = limits(0, 0);
    case.spec.pace.r#in.limits = vec![RateLimit { most: Amount::Count(1), period: Duration::from_mins(1) }];
    let decision = decide(&case.group(), &case.samples, at(0));
    assert_eq!((decision.to, decision.action), (0, Action::Repair), "{}", decision.reason);
}

/// "Waits for a cooldown period before any further activities initiated by simple scaling policies" (AWS, "Scaling
/// cooldowns for Amazon EC2 Auto Scaling"): by those, and not by a policy of another kind.
#[test]
fn a_cooldown_holds_up_its_own_kind_of_policy_and_no_other() {
    let signal = Signal::mean(Metric::Packets, WINDOW);
    let simple = PolicySpec::Simple(Simple {
        signal: signal.clone(),
        when: Comparison::Above,
        threshold: 70.0,
        adjustment: Adjustment::Change,
        change: 1.0,
        min_magnitude: 0,
        cooldown: Duration::from_mins(5),
    });
    let rule = Rule {
        signal,
        when: Comparison::Above,
        threshold: 70.0,
        change: RuleChange::Increase(1),
        cooldown: Duration::from_mins(1),
    };
    let default = Profile { min: 1, max: 8, default: 2, rules: vec![rule] };
    let rules = PolicySpec::Rules(Rules { default, profiles: Vec::new() });

    let mut case = Case::of(2, 95.0);
    case.spec = GroupSpec { buffer_time: Duration::ZERO, ..limits(1, 8) };
    let mut does = |policy: &PolicySpec, second| {
        case.policies = vec![policy.clone()];
        let decision = decide(&case.group(), &case.samples, at(second));
        case.history.record(&decision);
        decision.action
    };
    assert_eq!(does(&simple, 0), Action::Out);
    assert_eq!(does(&simple, 1), Action::Nothing);
    assert_eq!(does(&rules, 2), Action::Out, "the simple policy's cooldown is none of its");
    assert_eq!(does(&rules, 3), Action::Nothing);
    assert_eq!(does(&simple, 4), Action::Nothing, "the shorter one has not taken the longer one's place");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_holds_in_every_round(world in any_world(), history in any_history()) {
        for round in rounds(world, &history) {
            let Round { decision, spec, exceeded_before, .. } = &round;
            let max = maximum(&round);
            prop_assert!(decision.to >= spec.min, "the minimum: {}", decision.reason);
            let goes_back = exceeded_before.is_some_and(|own| own <= spec.max) && decision.to <= decision.from;
            prop_assert!(decision.to <= max || goes_back, "the maximum: {}", decision.reason);
            let cut = decision.action == Action::Repair && decision.to < decision.from;
            prop_assert!(!cut || exceeded_before.is_none_or(|own| spec.max < own), "{}", decision.reason);
            for policy in &decision.policies {
                let floor = policy.floor.unwrap_or_default().min(max);
                prop_assert!(decision.to >= floor, "what a policy protects: {}", decision.reason);
            }
            // One that only adds is not asked.
            let asked = || decision.policies.iter().filter(|it| it.wish != Wish::Abstain);
            let blind = asked().any(|it| is_blind(&it.policy, &round) || has_gaps(&it.policy, &round));
            let unknown = asked().any(|it| it.wish == Wish::Unknown);
            prop_assert!(!(blind || unknown) || decision.action != Action::In, "missing data: {}", decision.reason);
            let acts = matches!(decision.action, Action::Out | Action::In);
            let direction = if decision.to > decision.from { &spec.pace.out } else { &spec.pace.r#in };
            let buffer_time = direction.buffer_time.unwrap_or(spec.buffer_time);
            let waited = round.last_action_before.is_none_or(|last| {
                decision.at.duration_since(last).unsigned_abs() >= buffer_time
            });
            prop_assert!(!acts || waited, "the buffer time: {}", decision.reason);
            prop_assert_eq!(decision, &round.decided_again);
            prop_assert_eq!(decision.from != decision.to, decision.action != Action::Nothing, "{}", decision.reason);
            prop_assert!(decision.action != Action::Out || decision.to > decision.from);
            prop_assert!(decision.action != Action::In || decision.to < decision.from);
        }
    }

    #[test]
    fn nothing_goes_in_unless_all_who_are_asked_agree(world in any_world(), history in any_history()) {
        for round in rounds(world, &history) {
            let decision = &round.decision;
            if decision.action == Action::In {
                let wishes = decision.policies.iter().map(|it| it.wish);
                let agree = |wish| matches!(wish, Wish::In(_) | Wish::Abstain);
                prop_assert!(wishes.clone().all(agree), "{:?}", wishes.collect::<Vec<_>>());
                let smallest = decision.policies.iter().filter_map(|it| match it.wish {
                    Wish::In(fewer) => Some(fewer.get()),
                    _ => None,
                }).min();
                // Where none is asked, what a maximum had been raised for goes when it is no longer.
                let most = smallest.unwrap_or_else(|| decision.from.saturating_sub(maximum(&round)));
                prop_assert!(decision.from - decision.to <= most);
            }
        }
    }

    #[test]
    fn a_decision_of_any_kind_survives_its_text(world in any_world(), history in any_history()) {
        let last = rounds(world, &history[..history.len().min(30)]).pop();
        if let Some(Round { decision, .. }) = last {
            let text = serde_json::to_string(&decision).expect("plain data");
            let read: Decision = serde_json::from_str(&text).expect("its own text");
            // A number of 17 digits may be read back a bit off; nothing hangs on it.
            prop_assert_eq!(&read.reason, &decision.reason);
            prop_assert_eq!((&read.clips, read.to, read.recommended), (&decision.clips, decision.to, decision.recommended));
            let told = |decision: &Decision| -> Vec<(&'static str, Wish, Option<u32>)> {
                decision.policies.iter().map(|it| (it.policy.kind(), it.wish, it.floor)).collect()
            };
            prop_assert_eq!(told(&read), told(&decision));
        }
    }

    #[test]
    fn no_time_is_too_odd_to_decide_at(
        (spec, policies) in any_world(),
        now in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
        last in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
    ) {
        let (now, last) = (Timestamp::from_second(now).expect("in range"), Timestamp::from_second(last).expect("in range"));
        let mut case = Case { spec, policies, last_action: Some(last), ..Case::of(4, 0.0) };
        for instance in &mut case.instances {
            instance.since = last;
        }
        case.history.record(&Decision { at: last, recommended: Some(7), cooldown: Some(Duration::MAX), ..Decision::default() });
        let decision = decide(&case.group(), &case.samples, now);
        prop_assert!((2..=8).contains(&decision.to));
        case.history.record(&decision);
        prop_assert!(decision.action != Action::In || case.policies.iter().all(|policy| policy.signals().is_empty()));
    }

    #[test]
    fn no_forecast_is_too_odd_to_decide_by(
        (spec, policies) in any_world(), demand in 0.0..=f64::MAX,
        ahead in any::<f64>(), kept in any::<f64>(), load in 0.0..200.0_f64
    ) {
        let case = Case { spec, policies, ..Case::of(4, load) };
        let expected = Outlook::Expected { demand, at: at(60), error: None, ahead: Some(ahead), kept: Some(kept) };
        let outlooks = vec![Some(expected); case.policies.len()];
        let decision = decide(&Group { outlooks: &outlooks, ..case.group() }, &case.samples, at(1));
        let max = decision.policies.iter().filter_map(|it| it.raised_max).fold(8, u32::max);
        prop_assert!((2..=max).contains(&decision.to), "{}", decision.reason);
    }

    #[test]
    fn a_rate_limit_holds_over_every_period(
        most in 1_u32..4, out in any::<bool>(), loads in prop::collection::vec(0.0..100.0_f64, 1..40)
    ) {
        let period = Duration::from_mins(1);
        let limit = RateLimit { most: Amount::Count(most), period };
        let mut case = Case::of(if out { 10 } else { 60 }, 0.0);
        case.spec = GroupSpec { buffer_time: Duration::ZERO, ..limits(1, 1000) };
        case.spec.pace.out.limits = vec![limit];
        case.spec.pace.r#in.limits = vec![limit];
        let mut history = History::default();
        let mut seen: Vec<u32> = Vec::new();
        for (second, load) in (0..).step_by(10).zip(loads) {
            // Always more than the threshold of 60, or always less than half of it.
            let load = if out { 100.0 + load } else { load / 4.0 };
            let mut samples = crate::fixture::no_samples();
            for instance in &case.instances {
                samples.push(&instance.id, &Metric::Packets, at(second), load).expect("a good sample");
            }
            let decision = decide(&Group { history: &history, ..case.group() }, &samples, at(second));
            history.record(&decision);
            case.desired = decision.to;
            case.instances = crate::fixture::in_service(decision.to);
            seen.push(decision.to);
        }
        prop_assert!(period <= LONGEST_MEMORY);
        // Six rounds a minute: the number at the end of a period is within the limit of that at its beginning.
        for within in seen.windows(7) {
            prop_assert!(within[0].abs_diff(within[6]) <= most, "{within:?}");
        }
    }
}
