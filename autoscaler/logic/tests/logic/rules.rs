//! The reactive rule, without a group around it.

use proptest::prelude::*;
use sluice_logic::policy::reactive;

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
