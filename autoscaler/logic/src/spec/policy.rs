//! The kinds of policies and their parameters. What each does with them is in [`policy`](crate::policy), and with
//! formulas, sources and examples in `docs/policies.md`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::azure::Rules;
use super::metric::{Metric, Signal};
use super::schedule::StaticEntry;
use super::span;
use super::step::{Simple, Step};

/// A rule that wants a number of instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PolicySpec {
    /// So many instances at such a time: a minimum while an entry holds.
    Static(Static),
    /// A static policy and a dynamic one together.
    Custom(Custom),
    /// Adds above the threshold and removes below it, in proportion to the distance.
    Reactive(Reactive),
    /// The same with the load that is expected when an instance started now would serve.
    Proactive(Proactive),
    /// Keeps a signal at a target.
    TargetTracking(TargetTracking),
    /// A change that depends on how far the signal is from the threshold.
    Step(Step),
    /// One change when the signal passes the threshold, then a cooldown.
    Simple(Simple),
    /// Azure's rules in profiles.
    Rules(Rules),
    /// A minimum from a forecast of the day and the week.
    Predictive(Predictive),
}

/// At which times how many. Outside of its entries it wants the group's minimum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Static {
    /// Where several hold, the largest count does.
    pub entries: Vec<StaticEntry>,
}

/// While an entry holds, the dynamic policy's minimum is raised to its count; otherwise the dynamic policy alone
/// decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Custom {
    /// Where several hold, the largest count does.
    pub entries: Vec<StaticEntry>,
    /// What decides above that minimum.
    pub dynamic: Dynamic,
}

/// The dynamic part of a custom policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Dynamic {
    /// The reactive rule.
    Reactive(Reactive),
    /// The reactive rule on the expected load.
    Proactive(Proactive),
    /// Target tracking.
    TargetTracking(TargetTracking),
}

/// `ceil((load − threshold) / threshold × n)` more, or `floor((threshold − load) / threshold × n)` fewer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reactive {
    /// What is looked at.
    #[serde(flatten)]
    pub signal: Signal,
    /// In the metric's own unit; for a share, a fraction. Finite and above 0.
    pub threshold: f64,
}

/// The reactive rule on the load expected when an instance started now would serve: in the measured start time and
/// a margin. It removes only what neither the load of now nor the expected one needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proactive {
    /// What is looked at.
    #[serde(flatten)]
    pub signal: Signal,
    /// As of the reactive rule.
    pub threshold: f64,
    /// Added to the measured start time of an instance.
    #[serde(default, with = "span")]
    pub margin: Duration,
    /// What a missing instance costs, counted in spare ones for the same time. Finite and not negative.
    #[serde(default = "Proactive::default_shortage_cost")]
    pub shortage_cost: f64,
    /// What a change of the number costs, counted in hours of a spare instance. The more, the calmer: instances are kept
    /// for longer and added for longer. Finite and not negative.
    #[serde(default = "Proactive::default_change_cost")]
    pub change_cost: f64,
}

impl Proactive {
    /// A missing instance costs ten spare ones.
    #[must_use]
    pub fn default_shortage_cost() -> f64 {
        10.0
    }

    /// A change costs as much as a spare instance for eighteen minutes (see `docs/default-policy.md`).
    #[must_use]
    pub fn default_change_cost() -> f64 {
        0.3
    }
}

/// Keeps the signal at or below a target: `ceil(n × signal / target)` instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetTracking {
    /// What is looked at; it must fall as instances are added.
    #[serde(flatten)]
    pub signal: Signal,
    /// In the metric's own unit; for a share, a fraction. Finite and above 0.
    pub target: f64,
    /// Adds, but never removes; it doesn't keep others from removing either (AWS's `DisableScaleIn`).
    #[serde(default)]
    pub disable_scale_in: bool,
    /// An instance in service for less doesn't count as load; `None`: the group's.
    #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Duration>,
    /// No change while `signal / target` is between `1 − in` and `1 + out` (the HPA's tolerances; its default is 0.1
    /// for both).
    #[serde(default)]
    pub tolerance: Tolerance,
    /// What is made of instances whose samples are missing.
    #[serde(default)]
    pub missing: MissingData,
}

/// How far the signal may be from its target, as a fraction of the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tolerance {
    /// Above it. Finite and not negative.
    pub out: f64,
    /// Below it. From 0 to below 1.
    #[serde(rename = "in")]
    pub r#in: f64,
}

/// What a policy makes of instances in service whose samples are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingData {
    /// They count at 0 on the way out, and keep everybody from going in.
    #[default]
    Hold,
    /// As the HPA does: at 0 on the way out, and so do those that are not ready yet; on the way in at the target, or at
    /// 100 % of a share if that is more. Where this turns the direction, no change.
    Assume,
}

/// The fewest instances, from a forecast of the load by day and week. It only ever raises the minimum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictive {
    /// The load that is forecast: the sum over the instances, or a metric of the group.
    pub metric: Metric,
    /// What one instance is to carry, in the metric's own unit. Finite and above 0.
    pub target: f64,
    /// Whether it acts.
    #[serde(default)]
    pub mode: PredictiveMode,
    /// Instances are there so long before they are needed, beyond their measured start time. Below an hour; AWS's
    /// `SchedulingBufferTime`.
    #[serde(default = "Predictive::default_scheduling_buffer", with = "span")]
    pub scheduling_buffer: Duration,
    /// Where the forecast wants more than the group's maximum, the maximum becomes the forecast and so many percent of
    /// it (AWS's `MaxCapacityBuffer`). `None`: the maximum holds (`HonorMaxCapacity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_capacity_buffer: Option<u32>,
}

impl Predictive {
    /// 300 s, AWS's.
    #[must_use]
    pub fn default_scheduling_buffer() -> Duration {
        Duration::from_mins(5)
    }
}

/// Whether a predictive policy acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictiveMode {
    /// It says what it would do.
    #[default]
    ForecastOnly,
    /// It raises the minimum.
    ForecastAndScale,
}
