//! The reactive rule and comparisons, without a group around them.

use std::time::Duration;

use proptest::prelude::*;
use sluice_logic::policy::reactive;
use sluice_logic::samples::Load;
use sluice_logic::spec::{Comparison, Metric, Signal};

use crate::fixture::{WINDOW, at, in_service, no_samples};

#[test]
fn the_reactive_rule_rounds_to_the_safe_side() {
    let cases = [
        (9, 80.0, 60.0, 3),
        (9, 60.0, 60.0, 0),
        (9, 60.000_1, 60.0, 1),
        (9, 59.9, 60.0, 0),
        (9, 40.0, 60.0, -3),
        (9, 40.1, 60.0, -2),
        (9, 0.0, 60.0, -9),
        (0, 80.0, 60.0, 0),
        (1, 0.45, 0.3, 1),
        (2, 0.9, 0.3, 4),
        (10, 0.1 + 0.2, 0.3, 0),
        (10, 0.3, 0.1 + 0.2, 0),
        (10, 0.1 * 3.0 + 0.3, 0.3, 10),
        (3, 0.1 + 0.1 + 0.1 + 0.1, 0.3, 1),
        (3, 0.2, 0.1 + 0.2, -1),
        (1, f64::MAX, f64::MIN_POSITIVE, i64::from(u32::MAX)),
    ];
    for (in_service, load, threshold, expected) in cases {
        assert_eq!(reactive(in_service, load, threshold), expected, "{in_service} at {load} of {threshold}");
    }
}

#[test]
fn what_is_equal_but_for_rounding_is_equal() {
    let cases = [
        (0.1 + 0.2, 0.3, [false, true, false, true, true, false]),
        (0.6 * 4.0 / 3.0, 0.8, [false, true, false, true, true, false]),
        (0.64 * 5.0 / 4.0, 0.8, [false, true, false, true, true, false]),
        (0.0, 0.0, [false, true, false, true, true, false]),
        (1e-12, 0.0, [true, true, false, false, false, true]),
        (0.800_001, 0.8, [true, true, false, false, false, true]),
        (0.799_999, 0.8, [false, false, true, true, false, true]),
        (1e12 + 1.0, 1e12, [false, true, false, true, true, false]),
    ];
    for (value, threshold, expected) in cases {
        let held = Comparison::ALL.map(|(_, comparison)| comparison.holds(value, threshold));
        assert_eq!(held, expected, "{value} and {threshold}");
    }
}

/// 15, 35 and 70 % are 40 % in the mean.
#[test]
fn a_mean_at_the_threshold_is_at_the_threshold() {
    let signal = Signal::mean(Metric::Cpu, WINDOW);
    let mut samples = no_samples();
    let group = in_service(3);
    for (instance, value) in group.iter().zip([0.15, 0.35, 0.7]) {
        samples.push(&instance.id, &Metric::Cpu, at(0), value).expect("a good sample");
    }
    let Load::Known { value, .. } = samples.load(&group, &signal, Duration::ZERO, at(1)) else {
        panic!("all are measured")
    };
    assert!(Comparison::AtLeast.holds(value, 0.4) && !Comparison::Below.holds(value, 0.4), "{value}");
}

proptest! {
    #[test]
    fn the_same_traffic_on_the_new_number_is_within_the_threshold(
        in_service in 1_u32..500, load in 0.0..1e4, threshold in 1.0..1e3
    ) {
        let change = reactive(in_service, load, threshold);
        let after = f64::from(in_service) + f64::from(i32::try_from(change).expect("within the ranges above"));
        let traffic = load * f64::from(in_service);
        prop_assert!(traffic <= threshold * after + 1e-6 * traffic.max(threshold), "{change}");
        prop_assert_eq!(change > 0, load > threshold * (1.0 + 1e-9 / f64::from(in_service)));
    }

    #[test]
    fn a_whole_number_of_instances_is_not_rounded_up(
        needed in 1_u32..1000, in_service in 1_u32..1000, threshold in 1e-3..1e3
    ) {
        let load = threshold * f64::from(needed) / f64::from(in_service);
        prop_assert_eq!(reactive(in_service, load, threshold), i64::from(needed) - i64::from(in_service));
    }
}
