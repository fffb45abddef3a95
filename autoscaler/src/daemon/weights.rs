//! What part of a service's new flows each instance gets: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::spec::{CloudName, ServiceSpec, Spread};

/// A new instance's share grows in so many steps: each is a change of the service's table.
const STEPS: u16 = 10;

/// So that a weight at its last step still is a weight.
const GREATEST: u16 = u16::MAX / STEPS;

/// An instance in service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving<'a> {
    /// Where it runs.
    pub(crate) cloud: &'a CloudName,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// The weights of a service's instances in service, in their order.
pub(crate) fn weights(service: &ServiceSpec, serving: &[Serving<'_>], now: Timestamp) -> Vec<u16> {
    let full: Vec<u16> = match service.spread {
        Spread::ByInstance => vec![1; serving.len()],
        Spread::ByCloud => by_cloud(serving),
    };
    let steps = serving.iter().map(|instance| step(service.slow_start, instance.since, now));
    let weights: Vec<u16> = full.iter().zip(steps).map(|(full, step)| full * step).collect();
    reduced(weights)
}

/// Each cloud's instances have together what any other cloud's have.
fn by_cloud(serving: &[Serving<'_>]) -> Vec<u16> {
    let mut counts = BTreeMap::<&CloudName, u32>::new();
    for instance in serving {
        *counts.entry(instance.cloud).or_default() += 1;
    }
    let multiple = counts.values().try_fold(1_u32, |multiple, &count| least_common_multiple(multiple, count));
    let smallest = counts.values().copied().min().unwrap_or(1);
    let weight = |count: u32| match multiple {
        Some(multiple) => multiple / count,
        // Rounded, where no exact weights are small enough: the smallest cloud's is the greatest.
        None => (u32::from(GREATEST) * smallest).div_ceil(count),
    };
    serving.iter().map(|instance| u16::try_from(weight(counts[instance.cloud])).unwrap_or(GREATEST)).collect()
}

/// How many of [`STEPS`] an instance has come up; the first it has at once, or it would get nothing.
fn step(slow_start: Duration, since: Timestamp, now: Timestamp) -> u16 {
    // A clock that was set back makes it new, not old.
    let served = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let steps = (1..STEPS).filter(|&step| served >= slow_start * u32::from(step) / u32::from(STEPS)).count();
    u16::try_from(steps).map_or(STEPS, |steps| steps + 1)
}

/// The same shares in the smallest numbers, so that a service whose instances have all come up is as it is without
/// weights.
fn reduced(weights: Vec<u16>) -> Vec<u16> {
    match weights
        .iter()
        .copied()
        .map(u32::from)
        .reduce(greatest_common_divisor)
        .and_then(|d| u16::try_from(d).ok())
    {
        Some(divisor) if divisor > 1 => weights.into_iter().map(|weight| weight / divisor).collect(),
        _ => weights,
    }
}

/// `None` above [`GREATEST`].
fn least_common_multiple(a: u32, b: u32) -> Option<u32> {
    (a / greatest_common_divisor(a, b)).checked_mul(b).filter(|multiple| *multiple <= u32::from(GREATEST))
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;
    use sluice_logic::spec::Protocol;

    use super::*;
    use crate::daemon::testing::at;

    fn service(spread: Spread, slow_start: u64) -> ServiceSpec {
        let vip = IpAddr::V4(Ipv4Addr::new(45, 45, 45, 45));
        let slow_start = Duration::from_secs(slow_start);
        ServiceSpec { spread, slow_start, ..ServiceSpec::new(vip, Protocol::Tcp, None) }
    }

    /// The weights at second 100 of instances that are in service since `since`, each on its cloud.
    fn weights_of(service: &ServiceSpec, instances: &[(&str, i64)]) -> Vec<u16> {
        let clouds: Vec<CloudName> = instances.iter().map(|(cloud, _)| CloudName::new(*cloud)).collect();
        let serving: Vec<Serving<'_>> = (clouds.iter().zip(instances))
            .map(|(cloud, (_, since))| Serving { cloud, since: at(*since) })
            .collect();
        weights(service, &serving, at(100))
    }

    #[test]
    fn instances_are_equal_unless_something_else_is_asked() {
        let instances = [("a", 0), ("a", 99), ("b", 50)];
        assert_eq!(weights_of(&service(Spread::ByInstance, 0), &instances), [1, 1, 1]);
        assert!(weights_of(&service(Spread::ByInstance, 0), &[]).is_empty());
    }

    #[test]
    fn clouds_are_equal_where_that_is_asked() {
        let by_cloud = service(Spread::ByCloud, 0);
        assert_eq!(weights_of(&by_cloud, &[("a", 0), ("a", 0), ("b", 0)]), [1, 1, 2]);
        assert_eq!(weights_of(&by_cloud, &[("a", 0), ("b", 0), ("a", 0), ("b", 0)]), [1, 1, 1, 1]);
        let three = [("a", 0), ("a", 0), ("b", 0), ("b", 0), ("b", 0), ("c", 0)];
        assert_eq!(weights_of(&by_cloud, &three), [3, 3, 2, 2, 2, 6]);
    }

    #[test]
    fn a_share_grows_in_steps_and_never_is_nothing() {
        let slow = service(Spread::ByInstance, 60);
        for (served, expected) in [
            (0, [10, 1]),
            (5, [10, 1]),
            (6, [5, 1]),
            (30, [5, 3]),
            (53, [10, 9]),
            (54, [1, 1]),
            (999, [1, 1]),
        ] {
            assert_eq!(
                weights_of(&slow, &[("a", -1_000), ("a", 100 - served)]),
                expected,
                "after {served} s"
            );
        }
        assert_eq!(weights_of(&slow, &[("a", 100), ("a", 100)]), [1, 1], "all new are equal");
        assert_eq!(weights_of(&slow, &[("a", 0), ("a", 200)]), [10, 1], "from after now");
    }

    proptest! {
        #[test]
        fn clouds_stay_equal_within_a_percent(counts in proptest::collection::vec(1_u16..200, 1..6)) {
            let names: Vec<String> = (0..counts.len()).map(|number| number.to_string()).collect();
            let instances: Vec<(&str, i64)> = names.iter().zip(&counts)
                .flat_map(|(name, &count)| std::iter::repeat_n((name.as_str(), 0), usize::from(count)))
                .collect();
            let weights = weights_of(&service(Spread::ByCloud, 0), &instances);
            let total = |name: &String| -> f64 {
                let own = instances.iter().zip(&weights).filter(|((cloud, _), _)| cloud == name);
                own.map(|(_, weight)| f64::from(*weight)).sum()
            };
            let totals: Vec<f64> = names.iter().map(total).collect();
            let most = totals.iter().copied().fold(0.0, f64::max);
            for total in totals {
                prop_assert!(total >= most * 0.97, "{total} beside {most}");
            }
        }
    }
}
