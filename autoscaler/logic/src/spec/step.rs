//! The parameters of AWS's step and simple scaling.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metric::Signal;
use super::span;
use crate::policy::ROUNDING;

/// AWS's step scaling: the further the signal is from the threshold, the larger the change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What is looked at.
    #[serde(flatten)]
    pub signal: Signal,
    /// What the bounds are relative to. Finite and not negative.
    pub threshold: f64,
    /// What the steps' numbers mean.
    #[serde(default)]
    pub adjustment: Adjustment,
    /// Without gaps or overlaps on either side of the threshold.
    pub steps: Vec<StepAdjustment>,
    /// The least change of a percentage (`MinAdjustmentMagnitude`); 0: none.
    #[serde(default)]
    pub min_magnitude: u32,
    /// An instance in service for less is neither load nor current capacity; `None`: the group's.
    #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Duration>,
}

/// One step: where the signal less the threshold is between the bounds, this change.
///
/// Above the threshold the lower bound is part of the step and the upper is not; below it the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepAdjustment {
    /// `None`: minus infinity.
    #[serde(default)]
    pub lower: Option<f64>,
    /// `None`: infinity.
    #[serde(default)]
    pub upper: Option<f64>,
    /// Instances, percent, or the number itself, by the policy's [`Adjustment`].
    pub change: f64,
}

/// What a change's number means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjustment {
    /// So many more or fewer (`ChangeInCapacity`).
    #[default]
    Change,
    /// So many (`ExactCapacity`).
    Exact,
    /// So many percent more or fewer (`PercentChangeInCapacity`).
    Percent,
}

/// AWS's simple scaling: one change, then a cooldown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simple {
    /// What is looked at.
    #[serde(flatten)]
    pub signal: Signal,
    /// When it fires.
    pub when: Comparison,
    /// What the signal is compared with. Finite and not negative.
    pub threshold: f64,
    /// What `change` means.
    #[serde(default)]
    pub adjustment: Adjustment,
    /// Instances, percent, or the number itself.
    pub change: f64,
    /// The least change of a percentage; 0: none.
    #[serde(default)]
    pub min_magnitude: u32,
    /// After an action with a cooldown no simple policy of the group acts for so long, counted from when its
    /// instances have started or drained.
    #[serde(default = "Simple::default_cooldown", with = "span")]
    pub cooldown: Duration,
}

impl Simple {
    /// 300 s, AWS's.
    #[must_use]
    pub fn default_cooldown() -> Duration {
        Duration::from_mins(5)
    }
}

/// How a signal is compared with a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// `>`
    #[serde(rename = ">")]
    Above,
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
    /// `<`
    #[serde(rename = "<")]
    Below,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `=`
    #[serde(rename = "=")]
    Equal,
    /// `!=`
    #[serde(rename = "!=")]
    NotEqual,
}

impl Comparison {
    /// Every one, and how it is written.
    pub const ALL: [(&'static str, Self); 6] = [
        (">", Self::Above),
        (">=", Self::AtLeast),
        ("<", Self::Below),
        ("<=", Self::AtMost),
        ("=", Self::Equal),
        ("!=", Self::NotEqual),
    ];

    /// As it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, comparison)| *comparison == self);
        found.map_or("", |(symbol, _)| symbol)
    }

    /// Whether `value` stands so to `threshold`. Within [`ROUNDING`] of each other, as a fraction of the larger, they are
    /// equal: 60 % on four instances are 80 % on three, whatever the last bit says.
    #[must_use]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        let equal = (value - threshold).abs() <= ROUNDING * value.abs().max(threshold.abs());
        match self {
            Self::Above => value > threshold && !equal,
            Self::AtLeast => value > threshold || equal,
            Self::Below => value < threshold && !equal,
            Self::AtMost => value < threshold || equal,
            Self::Equal => equal,
            Self::NotEqual => !equal,
        }
    }
}
