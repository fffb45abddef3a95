//! What is kept: samples of instances and of the group, and roll-ups of them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::Metric;

/// Whose a series of samples is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// One instance's.
    Instance(InstanceId),
    /// The group's as a whole: what was pushed or read for it, the length of a queue, say.
    Group,
    /// The group's, made of its measured instances' values at one time.
    Over(Spread),
}

impl Subject {
    /// Whether it is one instance's, whose roll-ups are kept for a shorter time than the group's.
    #[must_use]
    pub fn is_instance(&self) -> bool {
        matches!(self, Self::Instance(_))
    }
}

/// One number made of the values that a group's instances have at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// The mean.
    Average,
    /// The least.
    Min,
    /// The largest.
    Max,
    /// All together, where each instance in service has a value: forecasts learn from it.
    Sum,
    /// How many instances have a value.
    Count,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Average => "average",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Count => "count",
        })
    }
}

/// Every statistic of a group's values at one time; none where there are no values, which is not zero.
#[must_use]
pub fn spread(values: &[f64]) -> Vec<(Spread, f64)> {
    let mut all = Rollup::default();
    for &value in values {
        all.add(value);
    }
    let Some(average) = all.average() else { return Vec::new() };
    vec![
        (Spread::Average, average),
        (Spread::Min, all.min),
        (Spread::Max, all.max),
        (Spread::Sum, all.sum),
        (Spread::Count, f64::from(all.count)),
    ]
}

/// One value at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When it was taken; kept to the microsecond.
    pub at: Timestamp,
    /// Whose.
    pub subject: Subject,
    /// Of what.
    pub metric: Metric,
    /// In the metric's own unit.
    pub value: f64,
}

/// The samples of a span of time, as five numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollup {
    /// How many there are; where it is 0 the other numbers mean nothing.
    pub count: u32,
    /// All together.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The newest.
    pub last: f64,
}

impl Rollup {
    /// Takes in the next sample.
    pub fn add(&mut self, value: f64) {
        self.merge(&Self { count: 1, sum: value, min: value, max: value, last: value });
    }

    /// Takes in the roll-up of the span that follows.
    pub fn merge(&mut self, later: &Self) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *later;
            return;
        }
        self.count = self.count.saturating_add(later.count);
        self.sum += later.sum;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.last = later.last;
    }

    /// The mean; `None` where there is no sample.
    #[must_use]
    pub fn average(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_measured_is_no_number() {
        assert_eq!(spread(&[]), []);
        assert_eq!(Rollup::default().average(), None);
    }

    #[test]
    fn a_groups_numbers() {
        let expected = [
            (Spread::Average, 2.0),
            (Spread::Min, 1.0),
            (Spread::Max, 3.0),
            (Spread::Sum, 6.0),
            (Spread::Count, 3.0),
        ];
        assert_eq!(spread(&[2.0, 3.0, 1.0]), expected);
    }

    proptest! {
        #[test]
        fn a_rollup_of_rollups_is_one_of_all(values in prop::collection::vec(0.0..1e6_f64, 0..40), cut in 0..40_usize) {
            let rollup = |values: &[f64]| {
                let mut all = Rollup::default();
                for &value in values {
                    all.add(value);
                }
                all
            };
            let (before, after) = values.split_at(cut.min(values.len()));
            let mut merged = rollup(before);
            merged.merge(&rollup(after));
            let whole = rollup(&values);
            prop_assert_eq!((merged.count, merged.min, merged.max, merged.last), (whole.count, whole.min, whole.max, whole.last));
            prop_assert!((merged.sum - whole.sum).abs() <= 1e-9 * whole.sum);
        }
    }
}
