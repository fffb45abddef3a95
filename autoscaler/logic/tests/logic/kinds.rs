//! What holds in every round of every history, whatever the policies are.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sluice_logic::decision::{Action, Decision, Group, decide};
use sluice_logic::history::{History, LONGEST_MEMORY};
use sluice_logic::policy::Wish;
use sluice_logic::spec::{
    Adjustment, Aggregation, Amount, Comparison, Custom, Direction, Dynamic, GroupSpec, Metric, MissingData,
    Pace, Percentile, PolicySpec, Profile, RateLimit, Reactive, Rule, RuleChange, Rules, ScaleInControl,
    Schedule, Scope, Select, Signal, Simple, Start, Static, StaticEntry, Statistic, Step, StepAdjustment,
    TargetTracking, Tolerance, Zone,
};

use crate::fixture::{BUFFER_TIME, Case, WINDOW, at, limits};
use crate::simulation::{Round, Tick, World, any_history};

fn any_signal() -> impl Strategy<Value = Signal> {
    let statistic = prop::sample::select(vec![
        Statistic::Average,
        Statistic::Min,
        Statistic::Max,
        Statistic::Sum,
        Statistic::Last,
        Statistic::Count,
        Statistic::Percentile(Percentile::new(95.0).expect("a percentile")),
    ]);
    let aggregation = prop::sample::select(vec![
        Aggregation::Average,
        Aggregation::Minimum,
        Aggregation::Maximum,
        Aggregation::Total,
        Aggregation::Last,
        Aggregation::Count,
    ]);
    let grain = prop::option::weighted(0.3, Just(Duration::from_mins(1)));
    (statistic, aggregation, grain).prop_map(|(statistic, aggregation, grain)| Signal {
        scope: Scope::Instances { statistic },
        aggregation,
        grain,
        ..Signal::mean(Metric::Packets, WINDOW)
    })
}

fn any_tracking() -> impl Strategy<Value = TargetTracking> {
    (any_signal(), 20.0..100.0_f64, any::<bool>(), 0.0..0.2_f64).prop_map(
        |(signal, target, disable_scale_in, tolerance)| TargetTracking {
            signal,
            target,
            disable_scale_in,
            warm_up: None,
            tolerance: Tolerance { out: tolerance, r#in: tolerance },
            missing: MissingData::Hold,
        },
    )
}

fn any_entries() -> impl Strategy<Value = Vec<StaticEntry>> {
    // The histories begin at 22:13:20 UTC and last up to half an hour.
    prop::collection::vec((10_u32..50, 1_u64..20, 1_u32..12), 1..3).prop_map(|entries| {
        let entry = |(minute, minutes, count)| StaticEntry {
            schedule: Schedule {
                start: Start::Cron(format!("{minute} * * * *").parse().expect("a pattern")),
                duration: Duration::from_mins(minutes),
                time_zone: Zone::default(),
            },
            count,
        };
        entries.into_iter().map(entry).collect()
    })
}

fn any_step() -> impl Strategy<Value = PolicySpec> {
    (any_signal(), any::<bool>(), 1.0..5.0_f64).prop_map(|(signal, percent, change)| {
        let (adjustment, change) =
            if percent { (Adjustment::Percent, change * 20.0) } else { (Adjustment::Change, change) };
        let step = |lower, upper, change| StepAdjustment { lower, upper, change };
        PolicySpec::Step(Step {
            signal,
            threshold: 60.0,
            adjustment,
            steps: vec![
                step(None, Some(-20.0), -change),
                step(Some(0.0), Some(20.0), change),
                step(Some(20.0), None, 2.0 * change),
            ],
            min_magnitude: u32::from(percent),
            warm_up: None,
        })
    })
}

fn any_rules() -> impl Strategy<Value = PolicySpec> {
    (any_signal(), 1_u32..4, 1_u32..4, 2_u32..6).prop_map(|(signal, more, fewer, min)| {
        let rule = |when, threshold, change| Rule {
            signal: signal.clone(),
            when,
            threshold,
            change,
            cooldown: Duration::from_mins(1),
        };
        let rules = vec![
            rule(Comparison::Above, 70.0, RuleChange::Increase(more)),
            rule(Comparison::Below, 40.0, RuleChange::Decrease(fewer)),
        ];
        let default = Profile { min, max: min + 5, default: min + 1, rules };
        PolicySpec::Rules(Rules { default, profiles: Vec::new() })
    })
}

fn any_policy() -> impl Strategy<Value = PolicySpec> {
    let simple = (any_signal(), any::<bool>(), 1.0..4.0_f64).prop_map(|(signal, out, change)| {
        PolicySpec::Simple(Simple {
            signal,
            when: if out { Comparison::AtLeast } else { Comparison::AtMost },
            threshold: if out { 70.0 } else { 40.0 },
            adjustment: Adjustment::Change,
            change: if out { change } else { -change },
            min_magnitude: 0,
            cooldown: Duration::from_mins(3),
        })
    });
    let reactive =
        (any_signal(), 20.0..100.0_f64).prop_map(|(signal, threshold)| Reactive { signal, threshold });
    let custom = (any_entries(), any_tracking()).prop_map(|(entries, tracking)| {
        PolicySpec::Custom(Custom { entries, dynamic: Dynamic::TargetTracking(tracking) })
    });
    prop_oneof![
        reactive.prop_map(PolicySpec::Reactive),
        any_tracking().prop_map(PolicySpec::TargetTracking),
        any_entries().prop_map(|entries| PolicySpec::Static(Static { entries })),
        any_step(),
        any_rules(),
        simple,
        custom,
    ]
}

fn any_pace() -> impl Strategy<Value = Pace> {
    let amount = prop_oneof![(1_u32..4).prop_map(Amount::Count), (10_u32..200).prop_map(Amount::Percent)];
    let direction = (0_u64..120, prop::collection::vec(amount.clone(), 0..3), any::<bool>()).prop_map(
        |(stabilization, limits, max)| Direction {
            stabilization: Duration::from_secs(stabilization),
            limits: limits
                .into_iter()
                .map(|most| RateLimit { most, period: Duration::from_mins(1) })
                .collect(),
            select: if max { Select::Max } else { Select::Min },
        },
    );
    let control =
        prop::option::of(amount.prop_map(|most| ScaleInControl { most, window: Duration::from_mins(5) }));
    (direction.clone(), direction, control).prop_map(|(out, r#in, scale_in_control)| Pace {
        warm_up: Duration::ZERO,
        out,
        r#in,
        scale_in_control,
    })
}

fn any_world() -> impl Strategy<Value = (GroupSpec, Vec<PolicySpec>)> {
    let buffer_time = prop::sample::select(vec![Duration::ZERO, BUFFER_TIME]);
    (any_pace(), buffer_time, prop::collection::vec(any_policy(), 1..4))
        .prop_map(|(pace, buffer_time, policies)| (GroupSpec { pace, buffer_time, ..limits(2, 8) }, policies))
}

fn rounds((spec, policies): (GroupSpec, Vec<PolicySpec>), history: &[Tick]) -> Vec<Round> {
    let mut world = World::of(spec, policies);
    history.iter().map(|tick| world.tick(tick)).collect()
}

/// A policy that can't do without the samples of every instance.
fn needs_data(policy: &PolicySpec) -> bool {
    !policy.signals().is_empty()
}

/// Whether what a policy sums over time leaves out times of which nothing is known.
fn has_gaps(policy: &PolicySpec, round: &Round) -> bool {
    let sums = |signal: &Signal| matches!(signal.aggregation, Aggregation::Total | Aggregation::Count);
    let gaps = |signal: &Signal| match signal.grain {
        None => !round.whole.iter().all(|whole| *whole),
        Some(_) => !round.whole.iter().any(|whole| *whole),
    };
    policy.signals().into_iter().any(|signal| sums(signal) && gaps(signal))
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
            let Round { decision, spec, .. } = &round;
            prop_assert!((spec.min..=spec.max).contains(&decision.to), "the limits: {}", decision.reason);
            for policy in &decision.policies {
                let floor = policy.floor.unwrap_or_default().min(spec.max);
                prop_assert!(decision.to >= floor, "what a policy protects: {}", decision.reason);
            }
            let blind = decision.policies.iter().any(|it| needs_data(&it.policy)) && !round.all_measured;
            let unknown = decision.policies.iter().any(|it| it.wish == Wish::Unknown);
            let gaps = decision.policies.iter().any(|it| has_gaps(&it.policy, &round));
            prop_assert!(!(blind || gaps || unknown) || decision.action != Action::In, "missing data: {}", decision.reason);
            prop_assert_eq!(decision, &round.decided_again);
            prop_assert_eq!(decision.from != decision.to, decision.action != Action::Nothing, "{}", decision.reason);
            prop_assert!(decision.action != Action::Out || decision.to > decision.from);
            prop_assert!(decision.action != Action::In || decision.to < decision.from);
        }
    }

    #[test]
    fn nothing_goes_in_unless_all_who_are_asked_agree(world in any_world(), history in any_history()) {
        for Round { decision, .. } in rounds(world, &history) {
            if decision.action == Action::In {
                let wishes = decision.policies.iter().map(|it| it.wish);
                let agree = |wish| matches!(wish, Wish::In(_) | Wish::Abstain);
                prop_assert!(wishes.clone().all(agree), "{:?}", wishes.collect::<Vec<_>>());
                let smallest = decision.policies.iter().filter_map(|it| match it.wish {
                    Wish::In(fewer) => Some(fewer.get()),
                    _ => None,
                }).min();
                prop_assert!(smallest.is_some_and(|fewer| decision.from - decision.to <= fewer));
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
        prop_assert!(decision.action != Action::In || !case.policies.iter().any(needs_data));
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
