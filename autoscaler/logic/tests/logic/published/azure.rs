//! Azure Monitor documentation, autoscale.

use std::time::Duration;

use sluice_logic::policy::Wish;
use sluice_logic::spec::{
    Aggregation, Comparison, Metric, PolicySpec, Profile, ProfileTime, Rule, RuleChange, Rules, Signal,
    Statistic, TimedProfile, Zone,
};

use super::{cpu, follow, group};
use crate::fixture::{Case, at, id};

fn rule(signal: Signal, when: Comparison, threshold: f64, change: RuleChange) -> Rule {
    Rule { signal, when, threshold, change, cooldown: Duration::ZERO }
}

fn rules(rules: Vec<Rule>) -> PolicySpec {
    PolicySpec::Rules(Rules {
        default: Profile { min: 1, max: 100, default: 2, rules },
        profiles: Vec::new(),
    })
}

fn memory() -> Signal {
    Signal::mean(Metric::Memory, Duration::from_mins(1))
}

/// "Best practices for autoscale", choose thresholds carefully: out by 1 at 80 % CPU, in by 1 at 60 %, from 2 instances.
/// 60 % on three would be 90 % on two, so nothing is removed; 50 % would be 75 %.
#[test]
fn the_flapping_example_with_cpu() {
    let policy = rules(vec![
        rule(cpu(), Comparison::AtLeast, 0.8, RuleChange::Increase(1)),
        rule(cpu(), Comparison::AtMost, 0.6, RuleChange::Decrease(1)),
    ]);
    let mut case = group(2, 0.8, vec![policy]);
    let decision = case.decide();
    assert_eq!(decision.to, 3);
    follow(&mut case, &decision, 0.6);
    let decision = case.decide();
    assert_eq!(decision.to, 3);
    assert!(decision.reason.contains("flapping"), "{}", decision.reason);
    follow(&mut case, &decision, 0.5);
    assert_eq!(case.decide().to, 2);
}

/// The same page's limits where the projection is exactly the limit: 60 % on four are 80 % on three, 64 % on five are 80 % on
/// four, and no quotient of doubles says so.
#[test]
fn a_projection_at_the_very_limit_is_flapping() {
    let policy = rules(vec![
        rule(cpu(), Comparison::AtLeast, 0.8, RuleChange::Increase(1)),
        rule(cpu(), Comparison::AtMost, 0.64, RuleChange::Decrease(1)),
    ]);
    for (instances, load) in [(4, 0.6), (5, 0.64)] {
        let decision = group(instances, load, vec![policy.clone()]).decide();
        assert_eq!(decision.to, instances, "{}", decision.reason);
        assert!(decision.reason.contains("flapping"), "{}", decision.reason);
    }
}

/// The same page: out by 1 at an average of 600 threads, in by 1 at or below 600. 625 on two make three; 575 on three would be
/// 862.5 on two.
#[test]
fn the_flapping_example_with_threads() {
    let threads: Metric = "custom/threads".parse().expect("a metric");
    let signal = Signal::mean(threads.clone(), Duration::from_mins(1));
    let policy = rules(vec![
        rule(signal.clone(), Comparison::AtLeast, 600.0, RuleChange::Increase(1)),
        rule(signal, Comparison::AtMost, 600.0, RuleChange::Decrease(1)),
    ]);
    for (instances, each, expected) in [(2, 625.0, 3), (3, 575.0, 3)] {
        let mut case = group(instances, 0.0, vec![policy.clone()]);
        for instance in &case.instances {
            case.samples.push(&instance.id, &threads, at(0), each).expect("a good sample");
        }
        assert_eq!(case.decide().to, expected, "{}", case.decide().reason);
    }
}

/// The same page, considerations for scaling when multiple rules are configured: out if any rule holds, in only if all
/// do.
#[test]
fn multiple_rules() {
    let policy = rules(vec![
        rule(cpu(), Comparison::Above, 0.75, RuleChange::Increase(1)),
        rule(memory(), Comparison::Above, 0.75, RuleChange::Increase(1)),
        rule(cpu(), Comparison::Below, 0.3, RuleChange::Decrease(1)),
        rule(memory(), Comparison::Below, 0.5, RuleChange::Decrease(1)),
    ]);
    for (cpu, memory, expected) in [(0.76, 0.5, 11), (0.5, 0.76, 11), (0.25, 0.51, 10), (0.29, 0.49, 9)] {
        let mut case = group(10, cpu, vec![policy.clone()]);
        for instance in &case.instances {
            case.samples.push(&instance.id, &Metric::Memory, at(0), memory).expect("a good sample");
        }
        assert_eq!(case.decide().to, expected, "CPU {cpu}, memory {memory}: {}", case.decide().reason);
    }
}

/// "Understand autoscale settings": of several rules that hold the largest number wins, out and in.
#[test]
fn the_largest_number_wins() {
    let ins = rules(vec![
        rule(cpu(), Comparison::Below, 0.3, RuleChange::DecreaseTo(5)),
        rule(cpu(), Comparison::Below, 0.3, RuleChange::DecreaseTo(7)),
    ]);
    assert_eq!(group(10, 0.1, vec![ins]).decide().to, 7);
    let outs = rules(vec![
        rule(cpu(), Comparison::Above, 0.7, RuleChange::IncreasePercent(10)),
        rule(cpu(), Comparison::Above, 0.7, RuleChange::Increase(3)),
    ]);
    assert_eq!(group(10, 0.9, vec![outs]).decide().to, 13);
}

/// "Autoscale flapping": where removing all that a rule asks for would make another add at once, fewer are removed.
#[test]
fn fewer_are_removed_against_flapping() {
    let policy = rules(vec![
        rule(cpu(), Comparison::AtLeast, 0.7, RuleChange::Increase(1)),
        rule(cpu(), Comparison::Below, 0.5, RuleChange::Decrease(4)),
    ]);
    // 40 % on 10 are 66.7 % on 6, 80 % on 5.
    assert_eq!(group(10, 0.4, vec![policy.clone()]).decide().to, 6);
    // 45 % on 10 are 75 % on 6, 64.3 % on 7.
    let decision = group(10, 0.45, vec![policy]).decide();
    assert_eq!(decision.to, 7);
    assert!(decision.reason.contains("fewer than that against flapping"), "{}", decision.reason);
}

/// "Understand autoscale settings", which profile is picked: fixed date, then recurrence, then default; and the limits of
/// the one that holds.
#[test]
fn the_order_of_profiles() {
    let profile = |min| Profile { min, max: 100, default: min, rules: Vec::new() };
    let day = Duration::from_hours(24);
    let recurring = TimedProfile {
        name: "weekday".into(),
        when: ProfileTime::Recurring {
            cron: "0 0 * * 1-5".parse().expect("a pattern"),
            duration: day,
            time_zone: Zone::default(),
        },
        profile: profile(5),
    };
    let fixed = |from: &str, to: &str| TimedProfile {
        name: "launch".into(),
        when: ProfileTime::Fixed {
            from: from.parse().expect("a date"),
            to: to.parse().expect("a date"),
            time_zone: Zone::default(),
        },
        profile: profile(8),
    };
    // The tests' time is Tuesday, 2023-11-14 22:13:20 UTC.
    let cases = [
        (vec![], 3),
        (vec![recurring.clone()], 5),
        (vec![recurring.clone(), fixed("2023-11-14 00:00", "2023-11-15 00:00")], 8),
        (vec![recurring, fixed("2023-11-15 00:00", "2023-11-16 00:00")], 5),
    ];
    for (profiles, expected) in cases {
        let policy = PolicySpec::Rules(Rules { default: profile(3), profiles });
        assert_eq!(group(2, 0.5, vec![policy]).decide().to, expected);
    }
}

/// "Understand autoscale settings": where the metric is missing and there are fewer, the default is what is wanted;
/// where there are more, nothing changes.
#[test]
fn the_default_where_a_metric_is_missing() {
    let policy = PolicySpec::Rules(Rules {
        default: Profile {
            min: 1,
            max: 100,
            default: 4,
            rules: vec![rule(memory(), Comparison::Below, 0.5, RuleChange::Decrease(1))],
        },
        profiles: Vec::new(),
    });
    assert_eq!(group(2, 0.5, vec![policy.clone()]).decide().to, 4);
    let decision = group(6, 0.5, vec![policy]).decide();
    assert_eq!((decision.to, decision.policies[0].wish), (6, Wish::Unknown));
}

/// "Understand autoscale settings", statistic and time aggregation: the statistic is taken over the instances in each
/// grain, then aggregated over the window.
#[test]
fn the_statistic_comes_before_the_aggregation() {
    let mut case: Case = group(2, 0.0, Vec::new());
    let metric: Metric = "custom/depth".parse().expect("a metric");
    // Two minutes: 10 and 0, then 0 and 10. The largest of each minute is 10 on average; each instance averages 5.
    for (second, first, second_value) in [(-60, 10.0, 0.0), (0, 0.0, 10.0)] {
        case.samples.push(&id(0), &metric, at(second), first).expect("a good sample");
        case.samples.push(&id(1), &metric, at(second), second_value).expect("a good sample");
    }
    let signal = |statistic, grain| Signal {
        scope: sluice_logic::spec::Scope::Instances { statistic },
        aggregation: Aggregation::Average,
        grain,
        ..Signal::mean(metric.clone(), Duration::from_mins(5))
    };
    let minute = Some(Duration::from_mins(1));
    let cases = [
        (Statistic::Max, minute, 10.0),
        (Statistic::Max, None, 5.0),
        (Statistic::Min, minute, 0.0),
        (Statistic::Sum, minute, 10.0),
    ];
    for (statistic, grain, expected) in cases {
        let load = case.samples.load(&case.instances, &signal(statistic, grain), Duration::ZERO, at(1));
        let sluice_logic::samples::Load::Known { value, .. } = load else { panic!("{load:?}") };
        assert!((value - expected).abs() < 1e-9, "{statistic} in {grain:?}: {value}");
    }
}
