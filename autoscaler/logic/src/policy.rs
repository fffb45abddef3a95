//! What one policy wants, as a pure function of the load.
//!
//! The number of instances a policy computes with is the number in service, as only they carry the load. What it
//! wants is counted from the desired number: instances that are pending, or wanted and not even begun, are capacity
//! on its way and answer the same load, so they are taken off what is still to be added. Two in service at
//! twice their threshold need two more; while these two start, nothing further is wanted.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::group::Instance;
use crate::samples::{Load, Missing, Samples};
use crate::spec::{Metric, PolicySpec};

/// What a policy wants, counted from the desired number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "count", rename_all = "snake_case")]
pub enum Wish {
    /// So many more.
    Out(NonZeroU32),
    /// So many fewer.
    In(NonZeroU32),
    /// As it is.
    Hold,
    /// Its data are missing: it wants nothing, and nobody else may scale in.
    Unknown,
}

/// A policy, what it saw and what it wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The policy: its kind, metric, threshold and window.
    pub policy: PolicySpec,
    /// The load in the metric's own unit; `None` where it is not known. Where instances are unmeasured, the
    /// least it can be.
    pub load: Option<f64>,
    /// Instances in service with fresh samples.
    pub instances: u32,
    /// Instances in service without.
    pub unmeasured: u32,
    /// Samples that went into the load.
    pub samples: u32,
    /// What it wants.
    pub wish: Wish,
    /// Why, for people, with its numbers.
    pub reason: String,
}

impl PolicySpec {
    /// How far it looks back.
    #[must_use]
    pub fn window(&self) -> Duration {
        match self {
            Self::Reactive { window, .. } => *window,
        }
    }
}

/// What a policy wants of a group that should have `desired` instances and has `instances`.
#[must_use]
pub fn evaluate(
    policy: &PolicySpec,
    desired: u32,
    instances: &[Instance],
    samples: &Samples,
    now: Timestamp,
) -> Evaluation {
    let PolicySpec::Reactive { metric, threshold, window } = *policy;
    let load = samples.load(instances, metric, window, now);
    let (wish, reason) = reactive_wish(desired, &Measure { metric, threshold, window, load });
    let (load, instances, unmeasured, samples) = match load {
        Load::Known { value, instances, samples } => (Some(value), instances, 0, samples),
        Load::Partial { at_least, instances, unmeasured, samples } => {
            (Some(at_least), instances, unmeasured, samples)
        }
        Load::Missing(_) => {
            let serving = instances.iter().filter(|instance| instance.is_serving()).count();
            (None, 0, u32::try_from(serving).unwrap_or(u32::MAX), 0)
        }
    };
    Evaluation { policy: policy.clone(), load, instances, unmeasured, samples, wish, reason }
}

/// How far a quotient may be from a whole number and still be that number.
///
/// A mean of a thousand doubles is off by some 1e-13 of itself, which must not turn 3 instances into 4; a billionth
/// of an instance is far above that, and far below any load that matters.
pub const ROUNDING: f64 = 1e-9;

/// The reactive rule: how many instances more (positive) or fewer (negative) bring the load to the threshold.
///
/// Out: `ceil((load − threshold) / threshold × n)`. In: `floor((threshold − load) / threshold × n)`. Both round to
/// the safe side: after either, the same traffic gives a load at or below the threshold. Within [`ROUNDING`] of a
/// whole number both give that number. `load` and `threshold` are of one unit; the load is finite and not negative,
/// the threshold finite and positive. Without an instance in service there is no load, and the answer is 0.
#[must_use]
pub fn reactive(in_service: u32, load: f64, threshold: f64) -> i64 {
    if in_service == 0 {
        return 0;
    }
    let distance = (load - threshold) / threshold * f64::from(in_service);
    let slack = (ROUNDING * distance.abs()).clamp(ROUNDING, 0.5);
    // No group is larger, and the quotient is infinite where the threshold is tiny.
    let whole = (distance - slack).ceil().min(f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, reason = "a whole number between -n and u32::MAX")]
    let change = whole as i64;
    change
}

struct Measure {
    metric: Metric,
    threshold: f64,
    window: Duration,
    load: Load,
}

fn reactive_wish(desired: u32, measure: &Measure) -> (Wish, String) {
    let threshold = measure.threshold;
    if !threshold.is_finite() || threshold <= 0.0 {
        return (Wish::Unknown, format!("a threshold of {threshold} can't be met: it must be above 0"));
    }
    match measure.load {
        Load::Known { value, instances, .. } => {
            let change = reactive(instances, value, threshold);
            let (wish, what) = known_wish(desired, instances, change);
            (wish, format!("{measure}: {what}"))
        }
        Load::Partial { at_least, instances, unmeasured, .. } => {
            let serving = instances.saturating_add(unmeasured);
            let change = reactive(serving, at_least, threshold);
            if change > 0 {
                let (wish, what) = known_wish(desired, serving, change);
                return (wish, format!("{measure}: {what}"));
            }
            (Wish::Unknown, format!("{measure}: not enough to add, and too little is known to remove"))
        }
        Load::Missing(Missing::NothingInService) if desired == 0 => {
            let way_out =
                "nothing can be measured with no instance; `sluice scale` or a minimum above 0 begins it";
            (Wish::Unknown, format!("{measure}; {way_out}"))
        }
        Load::Missing(_) => (Wish::Unknown, measure.to_string()),
    }
}

/// What `change` to the instances in service means for the desired number.
fn known_wish(desired: u32, serving: u32, change: i64) -> (Wish, String) {
    let serving = i64::from(serving);
    // A reactive rule measures instances: with none left it could never add one again.
    let needed = (serving + change).max(1);
    let from_desired = needed - i64::from(desired);
    let count = |n: i64| NonZeroU32::new(u32::try_from(n.unsigned_abs()).unwrap_or(u32::MAX));
    if change > 0 {
        return match count(from_desired.max(0)) {
            Some(more) => (Wish::Out(more), format!("{more} more")),
            None => (Wish::Hold, format!("{change} more, and they are on their way")),
        };
    }
    // Instances on their way stay: what is removed is what those in service can do without, less those of them
    // that are about to go.
    let leaving = (serving - i64::from(desired)).max(0);
    match count((serving - needed - leaving).max(0)) {
        Some(fewer) => (Wish::In(fewer), format!("{fewer} fewer")),
        None if change < 0 => (Wish::Hold, "none can go that is not going already".to_owned()),
        None => (Wish::Hold, "no change".to_owned()),
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = SignedDuration::try_from(self.window).unwrap_or(SignedDuration::MAX);
        let amount = |value| Amount { metric: self.metric, value };
        match self.load {
            Load::Known { value, instances, .. } => write!(
                f,
                "{} is {} over {window:#} on {instances} in service, threshold {}",
                name(self.metric),
                amount(value),
                amount(self.threshold)
            ),
            Load::Partial { at_least, instances, unmeasured, .. } => write!(
                f,
                "{} is at least {} over {window:#} on {instances} in service, with {unmeasured} more without fresh \
                 samples counted at 0, threshold {}",
                name(self.metric),
                amount(at_least),
                amount(self.threshold)
            ),
            Load::Missing(why) => write!(f, "{} is not known: {why}", name(self.metric)),
        }
    }
}

fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cpu => "CPU",
        Metric::Packets => "packets/s",
        Metric::Bytes => "bytes/s",
        Metric::NewFlows => "new flows/s",
        Metric::LiveFlows => "live flows",
    }
}

/// A metric's value as people read it.
struct Amount {
    metric: Metric,
    value: f64,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.metric {
            Metric::Cpu => write!(f, "{:.1} %", self.value * 100.0),
            _ => write!(f, "{:.1}", self.value),
        }
    }
}
