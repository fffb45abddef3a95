//! Samples and the load made of them.

use std::time::Duration;

use proptest::prelude::*;
use sluice_logic::group::{Instance, InstanceState};
use sluice_logic::samples::{Cadence, Load, MOST_SAMPLES, Missing, Rejected, Samples, longest_window};
use sluice_logic::spec::{Aggregation, Metric, Percentile, Scope, Signal, Statistic};

use crate::fixture::{
    INTERVAL, WINDOW, at, cpu, id, in_service, instance, no_samples, packets, reactive, sampled,
};

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn values_that_are_no_measurement_are_rejected() {
    let mut samples = no_samples();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(samples.push(&id(0), &Metric::Cpu, at(0), value), Err(Rejected::NotANumber), "{value}");
    }
    assert_eq!(samples.push(&id(0), &Metric::Cpu, at(0), -1.0), Err(Rejected::Negative));
    assert_eq!(
        (samples.refused().of(Rejected::NotANumber), samples.refused().of(Rejected::Negative)),
        (3, 1)
    );
    assert_eq!(samples.newest(&id(0), &Metric::Cpu), None);
}

#[test]
fn samples_that_are_not_newer_are_rejected() {
    let mut samples = no_samples();
    samples.push(&id(0), &Metric::Cpu, at(10), 0.5).expect("the first");
    assert_eq!(samples.push(&id(0), &Metric::Cpu, at(10), 0.9), Err(Rejected::Duplicate));
    assert_eq!(samples.push(&id(0), &Metric::Cpu, at(9), 0.9), Err(Rejected::Late));
    samples.push(&id(0), &Metric::Packets, at(9), 0.9).expect("another metric");
    samples.push(&id(1), &Metric::Cpu, at(9), 0.9).expect("another instance");
    assert_eq!(samples.newest(&id(0), &Metric::Cpu), Some((at(10), 0.5)));
}

#[test]
fn a_clock_set_back_does_not_shut_samples_out_for_good() {
    let group = in_service(1);
    let mut samples = sampled(&group, 60.0, 0.5);
    samples.rewind(at(-300));
    samples.push(&id(0), &Metric::Cpu, at(-300), 0.7).expect("the clock's new time");
    assert_eq!(
        samples.load(&group, &Signal::mean(Metric::Cpu, WINDOW), Duration::ZERO, at(-299)),
        Load::Known { value: 0.7, instances: 1, samples: 1 }
    );
}

#[test]
fn each_instance_weighs_the_same_however_many_samples_it_has() {
    let group = in_service(2);
    let mut samples = no_samples();
    for second in 0..10 {
        samples.push(&id(0), &Metric::Cpu, at(second), 1.0).expect("a good sample");
    }
    samples.push(&id(1), &Metric::Cpu, at(9), 0.0).expect("a good sample");
    assert_eq!(
        samples.load(&group, &Signal::mean(Metric::Cpu, WINDOW), Duration::ZERO, at(10)),
        Load::Known { value: 0.5, instances: 2, samples: 11 }
    );
}

#[test]
fn only_the_window_counts() {
    let group = in_service(1);
    let mut samples = no_samples();
    for (second, value) in [(0, 9.0), (60, 4.0), (120, 2.0)] {
        samples.push(&id(0), &Metric::Cpu, at(second), value).expect("a good sample");
    }
    let value = |window, second| match samples.load(
        &group,
        &Signal::mean(Metric::Cpu, window),
        Duration::ZERO,
        at(second),
    ) {
        Load::Known { value, .. } => value,
        other => panic!("{other:?}"),
    };
    assert!((value(MINUTE, 120) - 2.0).abs() < 1e-12, "the far end is outside");
    assert!((value(2 * MINUTE, 120) - 3.0).abs() < 1e-12);
    assert!((value(WINDOW, 120) - 5.0).abs() < 1e-12, "a window longer than the history takes what there is");
}

#[test]
fn only_instances_in_service_count() {
    let mut group = in_service(2);
    for (unique, state) in
        [(2, InstanceState::Pending), (3, InstanceState::Draining), (4, InstanceState::Terminating)]
    {
        group.push(instance(unique, state));
    }
    let mut samples = sampled(&group, 0.0, 9.0);
    for unique in 0..2 {
        samples.push(&id(unique), &Metric::Cpu, at(1), 9.0).expect("a good sample");
    }
    assert_eq!(
        samples.load(&group, &Signal::mean(Metric::Cpu, WINDOW), Duration::ZERO, at(1)),
        Load::Known { value: 9.0, instances: 2, samples: 4 }
    );
}

#[test]
fn a_failed_instance_is_no_load() {
    let mut group = in_service(2);
    group[1].failed = true;
    let load = sampled(&group, 60.0, 0.0).load(
        &group,
        &Signal::mean(Metric::Packets, WINDOW),
        Duration::ZERO,
        at(1),
    );
    assert_eq!(load, Load::Known { value: 60.0, instances: 1, samples: 1 });
}

#[test]
fn samples_of_the_start_do_not_count() {
    let mut group = in_service(1);
    group[0].since = at(0);
    let mut samples = sampled(&group, 0.0, 1.0);
    let load =
        |samples: &Samples| samples.load(&group, &Signal::mean(Metric::Cpu, WINDOW), Duration::ZERO, at(2));
    assert_eq!(load(&samples), Load::Missing(Missing::NoSample));
    samples.push(&id(0), &Metric::Cpu, at(1), 0.25).expect("a good sample");
    assert_eq!(load(&samples), Load::Known { value: 0.25, instances: 1, samples: 1 });
}

#[test]
fn nothing_in_service_is_not_zero() {
    let pending = [instance(0, InstanceState::Pending)];
    for group in [&[][..], &pending] {
        let load = sampled(group, 60.0, 0.0).load(
            group,
            &Signal::mean(Metric::Packets, WINDOW),
            Duration::ZERO,
            at(1),
        );
        assert_eq!(load, Load::Missing(Missing::NothingInService));
    }
}

#[test]
fn a_sample_is_stale_after_three_intervals() {
    let group = in_service(1);
    let samples = sampled(&group, 60.0, 0.0);
    let load =
        |second| samples.load(&group, &Signal::mean(Metric::Packets, WINDOW), Duration::ZERO, at(second));
    assert_eq!(load(15), Load::Known { value: 60.0, instances: 1, samples: 1 });
    let bound = 3 * INTERVAL;
    assert_eq!(load(16), Load::Missing(Missing::Stale { age: Duration::from_secs(16), bound }));
}

#[test]
fn a_metric_with_an_interval_of_its_own_is_stale_after_its_own_time() {
    let group = in_service(1);
    let queue = Metric::Custom("queue".parse().expect("a name"));
    let mut samples = sampled(&group, 60.0, 0.0);
    samples.push(&group[0].id, &queue, at(0), 7.0).unwrap();
    let known = |samples: &Samples, metric: &Metric, second| {
        let signal = Signal::mean(metric.clone(), WINDOW);
        matches!(samples.load(&group, &signal, Duration::ZERO, at(second)), Load::Known { .. })
    };
    assert!(known(&samples, &queue, 180) && !known(&samples, &queue, 181), "pushed about once a minute");
    let cadence = Cadence { interval: Duration::from_secs(10), stale_after: Duration::from_secs(30) };
    samples.set_cadence(&queue, Some(cadence));
    assert!(known(&samples, &queue, 30) && !known(&samples, &queue, 31));
    assert!(!known(&samples, &Metric::Packets, 30), "others are as they were");
    samples.set_cadence(&queue, None);
    assert!(known(&samples, &queue, 180));
}

#[test]
fn unmeasured_instances_make_a_load_a_lower_bound() {
    let group = in_service(4);
    let load = sampled(&group[..3], 60.0, 0.0).load(
        &group,
        &Signal::mean(Metric::Packets, WINDOW),
        Duration::ZERO,
        at(1),
    );
    assert_eq!(
        load,
        Load::Partial {
            at_least: 45.0,
            measured: 60.0,
            instances: 3,
            unmeasured: 1,
            gaps: false,
            samples: 3
        }
    );
}

/// The nearest rank: of 1 to n the percentile itself, where that is a whole number.
#[test]
fn a_percentile_is_the_value_at_its_rank() {
    let cases = [
        (7.0, 100, 7.0),
        (55.0, 100, 55.0),
        (99.9, 1000, 999.0),
        (99.95, 1000, 1000.0),
        (50.0, 5, 3.0),
        (100.0, 3, 3.0),
        (0.1, 3, 1.0),
    ];
    for (percent, count, expected) in cases {
        let mut group = in_service(count);
        let mut samples = no_samples();
        for (value, instance) in (1..).zip(&mut group) {
            instance.since = at(-900);
            samples.push(&instance.id, &Metric::Packets, at(0), f64::from(value)).expect("a good sample");
        }
        let statistic = Statistic::Percentile(Percentile::new(percent).expect("a percentile"));
        let signal =
            Signal { scope: Scope::Instances { statistic }, ..Signal::mean(Metric::Packets, WINDOW) };
        let load = samples.load(&group, &signal, Duration::ZERO, at(1));
        let expected = Load::Known { value: expected, instances: count, samples: count };
        assert_eq!(load, expected, "{statistic} of {count}");
    }
}

/// Three instances that serve for so many seconds, each with 100 at every minute of the window but those left out.
fn minutely(served: i64, left_out: &[i64]) -> (Vec<Instance>, Samples) {
    let mut group = in_service(3);
    let mut samples = Samples::new(WINDOW).sampled_every(MINUTE);
    for instance in &mut group {
        instance.since = at(-served);
        for minute in (0..5).rev().filter(|minute| !left_out.contains(minute)) {
            samples.push(&instance.id, &Metric::NewFlows, at(-60 * minute), 100.0).expect("a good sample");
        }
    }
    (group, samples)
}

#[test]
fn a_sum_over_time_with_gaps_is_the_least_it_can_be() {
    let signal = |aggregation| Signal { aggregation, ..Signal::mean(Metric::NewFlows, WINDOW) };
    let known = |served, left_out: &[i64], signal: &Signal| {
        let (group, samples) = minutely(served, left_out);
        let load = samples.load(&group, signal, Duration::ZERO, at(1));
        let gaps = matches!(load, Load::Partial { unmeasured: 0, gaps: true, .. });
        assert_eq!(gaps, !matches!(load, Load::Known { .. }), "{load:?}");
        !gaps
    };
    for aggregation in [Aggregation::Total, Aggregation::Count] {
        for grain in [None, Some(MINUTE)] {
            let signal = Signal { grain, ..signal(aggregation) };
            assert!(known(900, &[], &signal), "a sample a minute");
            for left_out in [0, 1, 3, 4] {
                assert!(!known(900, &[left_out], &signal), "none {left_out} minutes ago");
            }
            assert!(!known(90, &[], &signal), "nobody has served for the whole window");
        }
    }
    assert!(known(900, &[1, 2], &signal(Aggregation::Average)), "a gap weighs nothing in a mean");
}

#[test]
fn a_sum_over_instances_is_whole_where_each_has_its_part_of_each_grain() {
    let summed = Signal {
        scope: Scope::Instances { statistic: Statistic::Sum },
        grain: Some(MINUTE),
        ..Signal::mean(Metric::NewFlows, WINDOW)
    };
    let (mut group, mut samples) = minutely(900, &[]);
    group.push(Instance { since: at(-90), ..instance(3, InstanceState::InService) });
    let whole = |samples: &Samples| {
        matches!(samples.load(&group, &summed, Duration::ZERO, at(0)), Load::Known { .. })
    };
    samples.push(&id(3), &Metric::NewFlows, at(-70), 100.0).expect("a good sample");
    samples.push(&id(3), &Metric::NewFlows, at(0), 100.0).expect("a good sample");
    assert!(whole(&samples), "what it had not begun to serve is no gap");
    samples.forget(&id(2));
    for second in [-240, -120, -60, 0] {
        samples.push(&id(2), &Metric::NewFlows, at(second), 100.0).expect("a good sample");
    }
    assert!(!whole(&samples), "one of three minutes ago is missing");
}

#[test]
fn a_custom_metric_comes_as_often_as_is_said_or_as_it_has() {
    let queue = Metric::Custom("queue".parse().expect("a name"));
    let signal = Signal {
        scope: Scope::Group { per_instance: false },
        aggregation: Aggregation::Total,
        ..Signal::mean(queue.clone(), MINUTE)
    };
    let mut samples = Samples::new(MINUTE).sampled_every(INTERVAL);
    for second in (-90..=0).step_by(10).filter(|second| *second != -20) {
        samples.push_group(&queue, at(second), 1.0).expect("a good sample");
    }
    let whole = |samples: &Samples, second| {
        matches!(samples.load(&[], &signal, Duration::ZERO, at(second)), Load::Known { .. })
    };
    assert!(!whole(&samples, 0), "one is missing of those that came every ten seconds");
    let every =
        |seconds| Cadence { interval: Duration::from_secs(seconds), stale_after: Duration::from_mins(3) };
    samples.set_cadence(&queue, Some(every(20)));
    assert!(whole(&samples, 0), "as many as are expected");
    samples.set_cadence(&queue, Some(every(10)));
    assert!(!whole(&samples, 0), "all but one");
    for second in [10, 20, 30, 40] {
        samples.push_group(&queue, at(second), 1.0).expect("a good sample");
    }
    assert!(whole(&samples, 40) && !whole(&samples, 39), "as long as what is missing would be in the window");
    assert!(!whole(&samples, 50), "the next is due");
}

#[test]
fn a_forgotten_instance_has_no_samples() {
    let group = in_service(1);
    let mut samples = sampled(&group, 60.0, 0.0);
    samples.forget(&id(0));
    assert_eq!(
        samples.load(&group, &Signal::mean(Metric::Packets, WINDOW), Duration::ZERO, at(1)),
        Load::Missing(Missing::NoSample)
    );
}

#[test]
fn a_series_is_bounded_by_count() {
    let group = in_service(1);
    let mut samples = Samples::new(Duration::MAX);
    let most = u32::try_from(MOST_SAMPLES).expect("a small number");
    for second in 0..i64::from(most) + 10 {
        samples.push(&id(0), &Metric::Cpu, at(second), 1.0).expect("a good sample");
    }
    let load = samples.load(
        &group,
        &Signal::mean(Metric::Cpu, Duration::MAX),
        Duration::ZERO,
        at(i64::from(most) + 10),
    );
    assert_eq!(load, Load::Known { value: 1.0, instances: 1, samples: most });
}

#[test]
fn the_longest_window_is_the_horizon() {
    let short = reactive(Metric::Cpu, 0.5, MINUTE);
    assert_eq!(longest_window(&[short.clone(), packets(1.0), short]), WINDOW);
    assert_eq!(longest_window(&[cpu(0.3)]), WINDOW);
    assert_eq!(longest_window(&[]), Duration::ZERO);
}

proptest! {
    #[test]
    fn a_load_lies_between_the_least_and_the_largest_sample(
        values in prop::collection::vec(prop::collection::vec(0.0..=f64::MAX, 1..20), 1..6)
    ) {
        let group = in_service(u32::try_from(values.len()).expect("a small number"));
        let mut samples = no_samples();
        for (instance, values) in group.iter().zip(&values) {
            for (second, &value) in (0..).zip(values) {
                samples.push(&instance.id, &Metric::Bytes, at(second), value).expect("a good sample");
            }
        }
        let flat = || values.iter().flatten().copied();
        let (least, largest) = (flat().fold(f64::MAX, f64::min), flat().fold(0.0, f64::max));
        match samples.load(&group, &Signal::mean(Metric::Bytes, WINDOW), Duration::ZERO, at(20)) {
            Load::Missing(Missing::Stale { .. }) | Load::Partial { .. } => {}
            Load::Known { value, .. } => {
                let noise = largest * 1e-12;
                prop_assert!(value.is_finite() && value >= least - noise && value - noise <= largest, "{value}");
            }
            Load::Missing(why) => prop_assert!(false, "{why}"),
        }
    }
}
