//! Groups at random: policies of every kind, and the pace of their group.

use std::time::Duration;

use jiff::ToSpan;
use proptest::prelude::*;
use sluice_logic::spec::{
    Adjustment, Aggregation, Amount, Comparison, Custom, Direction, Dynamic, GroupSpec, Metric, MissingData,
    Pace, Percentile, PolicySpec, Predictive, PredictiveMode, Proactive, Profile, RateLimit, Reactive, Rule,
    RuleChange, Rules, ScaleInControl, Schedule, Scope, Select, Signal, Simple, Start, Static, StaticEntry,
    Statistic, Step, StepAdjustment, TargetTracking, Tolerance, Zone,
};

use crate::fixture::{BUFFER_TIME, WINDOW, at, limits};

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

fn any_warm_up() -> impl Strategy<Value = Duration> {
    prop::sample::select(vec![Duration::ZERO, Duration::from_secs(12), Duration::from_mins(1)])
}

fn any_tracking() -> impl Strategy<Value = TargetTracking> {
    let missing = prop::sample::select(vec![MissingData::Hold, MissingData::Assume]);
    let warm_up = prop::option::weighted(0.3, any_warm_up());
    (any_signal(), 20.0..100.0_f64, any::<bool>(), 0.0..0.2_f64, missing, warm_up).prop_map(
        |(signal, target, disable_scale_in, tolerance, missing, warm_up)| TargetTracking {
            signal,
            target,
            disable_scale_in,
            warm_up,
            tolerance: Tolerance { out: tolerance, r#in: tolerance },
            missing,
        },
    )
}

fn any_proactive() -> impl Strategy<Value = Proactive> {
    (any_signal(), 20.0..100.0_f64).prop_map(|(signal, threshold)| Proactive {
        signal,
        threshold,
        margin: Duration::ZERO,
        shortage_cost: Proactive::default_shortage_cost(),
        change_cost: Proactive::default_change_cost(),
    })
}

fn any_predictive() -> impl Strategy<Value = Predictive> {
    let mode =
        prop_oneof![4 => Just(PredictiveMode::ForecastAndScale), 1 => Just(PredictiveMode::ForecastOnly)];
    let buffer = prop::option::weighted(0.7, 0_u32..50);
    (20.0..100.0_f64, mode, buffer).prop_map(|(target, mode, max_capacity_buffer)| Predictive {
        metric: Metric::Packets,
        target,
        mode,
        scheduling_buffer: Predictive::default_scheduling_buffer(),
        max_capacity_buffer,
    })
}

fn any_entries() -> impl Strategy<Value = Vec<StaticEntry>> {
    // The histories begin at 22:13:20 UTC and last up to half an hour.
    let cron = prop_oneof![
        (10_u32..50).prop_map(|minute| format!("{minute} * * * *")),
        (10_u32..40, 1_u32..10).prop_map(|(minute, later)| format!("{minute},{} 22 * * *", minute + later)),
        (2_u32..15).prop_map(|step| format!("*/{step} 20-23 * * *")),
    ];
    let cron = cron.prop_map(|pattern| Start::Cron(pattern.parse().expect("a pattern")));
    let begin = jiff::tz::TimeZone::UTC.to_datetime(at(0));
    let date = (-20_i64..30).prop_map(move |minutes| Start::At(begin + minutes.minutes()));
    let entry =
        (prop_oneof![cron, date], 1_u64..20, 1_u32..12).prop_map(|(start, minutes, count)| StaticEntry {
            schedule: Schedule { start, duration: Duration::from_mins(minutes), time_zone: Zone::default() },
            count,
        });
    prop::collection::vec(entry, 1..3)
}

fn any_step() -> impl Strategy<Value = PolicySpec> {
    let warm_up = prop::option::weighted(0.3, any_warm_up());
    (any_signal(), any::<bool>(), 1.0..5.0_f64, warm_up).prop_map(|(signal, percent, change, warm_up)| {
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
            warm_up,
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
    let dynamic = prop_oneof![
        any_tracking().prop_map(Dynamic::TargetTracking),
        any_proactive().prop_map(Dynamic::Proactive),
    ];
    let custom = (any_entries(), dynamic)
        .prop_map(|(entries, dynamic)| PolicySpec::Custom(Custom { entries, dynamic }));
    prop_oneof![
        reactive.prop_map(PolicySpec::Reactive),
        any_tracking().prop_map(PolicySpec::TargetTracking),
        any_proactive().prop_map(PolicySpec::Proactive),
        any_predictive().prop_map(PolicySpec::Predictive),
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
            buffer_time: max.then_some(Duration::from_secs(stabilization)),
        },
    );
    let control =
        prop::option::of(amount.prop_map(|most| ScaleInControl { most, window: Duration::from_mins(5) }));
    (any_warm_up(), direction.clone(), direction, control)
        .prop_map(|(warm_up, out, r#in, scale_in_control)| Pace { warm_up, out, r#in, scale_in_control })
}

pub(crate) fn any_world() -> impl Strategy<Value = (GroupSpec, Vec<PolicySpec>)> {
    let buffer_time = prop::sample::select(vec![Duration::ZERO, BUFFER_TIME]);
    (any_pace(), buffer_time, prop::collection::vec(any_policy(), 1..4))
        .prop_map(|(pace, buffer_time, policies)| (GroupSpec { pace, buffer_time, ..limits(2, 8) }, policies))
}
