//! The recent values of metrics, and the load of a group.
//!
//! What is kept here is what the policies look back over; what is kept for hours and weeks is the store's.

mod load;
mod measure;
mod series;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use load::{Load, Missing};
pub use series::MOST_SAMPLES;

use self::series::Series;
use crate::group::{Instance, InstanceId};
use crate::spec::{Metric, PolicySpec, Signal};

/// How long the newest sample stays usable where the sampling interval was not given.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(15);

/// An instance's newest sample may be so many sampling intervals old before its data count as missing: two
/// failed readings are a hiccup, three are a fault.
const STALE_INTERVALS: u32 = 3;

/// How long the newest sample of a custom metric stays usable where nothing else was said.
pub const CUSTOM_STALE_AFTER: Duration = Duration::from_mins(3);

/// How a metric comes that has an interval of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// A sample is expected so often.
    pub interval: Duration,
    /// Its data count as missing when the newest sample is older.
    pub stale_after: Duration,
}

/// A sample may be so far ahead of our clock: the clocks of those who push are not ours.
pub const CLOCK_SKEW: Duration = Duration::from_secs(1);

/// Whose a sample is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The group's as a whole.
    Group,
    /// An instance's.
    Instance(InstanceId),
}

/// The samples of one group.
#[derive(Debug, Clone)]
pub struct Samples {
    horizon: Duration,
    stale_after: Duration,
    /// Of metrics that come at an interval of their own.
    cadences: BTreeMap<Metric, Cadence>,
    group: BTreeMap<Metric, Series>,
    instances: BTreeMap<InstanceId, BTreeMap<Metric, Series>>,
    refused: Refused,
}

/// Why a sample was not taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// NaN or infinite.
    #[error("not a finite number")]
    NotANumber,
    /// Below 0.
    #[error("a negative number: no metric can be below 0")]
    Negative,
    /// Of the same time as the newest of the same source and metric.
    #[error("a second sample of the same time")]
    Duplicate,
    /// Older than the newest of the same source and metric.
    #[error("late: older than the newest sample")]
    Late,
    /// Of a time that has not come yet.
    #[error("of the future: more than {} ahead of the clock", seconds(CLOCK_SKEW))]
    Future,
}

/// How many samples were not taken, by why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refused(BTreeMap<Rejected, u64>);

impl Refused {
    /// How many for that reason.
    #[must_use]
    pub fn of(&self, why: Rejected) -> u64 {
        self.0.get(&why).copied().unwrap_or_default()
    }

    /// Each reason that there was, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Rejected, u64)> {
        self.0.iter().map(|(&why, &count)| (why, count))
    }

    /// Whether every sample was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn count(&mut self, why: Rejected) {
        *self.0.entry(why).or_default() += 1;
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The longest window that a policy looks back over; zero without policies.
#[must_use]
pub fn longest_window(policies: &[PolicySpec]) -> Duration {
    policies.iter().map(PolicySpec::window).max().unwrap_or_default()
}

impl Samples {
    /// Keeps samples for `horizon`, the longest window in use.
    #[must_use]
    pub fn new(horizon: Duration) -> Self {
        Self {
            horizon,
            stale_after: DEFAULT_STALE_AFTER,
            cadences: BTreeMap::new(),
            group: BTreeMap::new(),
            instances: BTreeMap::new(),
            refused: Refused::default(),
        }
    }

    /// Says how often samples are taken: data are missing when the newest sample is older than three
    /// intervals. Without this call, when it is older than [`DEFAULT_STALE_AFTER`].
    #[must_use]
    pub fn sampled_every(mut self, interval: Duration) -> Self {
        self.stale_after = interval.saturating_mul(STALE_INTERVALS);
        self
    }

    /// Says how a metric comes that has an interval of its own; `None` takes that back.
    pub fn set_cadence(&mut self, metric: &Metric, cadence: Option<Cadence>) {
        match cadence {
            Some(cadence) => self.cadences.insert(metric.clone(), cadence),
            None => self.cadences.remove(metric),
        };
    }

    /// How old the newest sample of a metric may be before its data count as missing: three sampling intervals; of
    /// a custom metric, which users push about once a minute, [`CUSTOM_STALE_AFTER`].
    #[must_use]
    pub fn stale_after(&self, metric: &Metric) -> Duration {
        let usual = match metric {
            Metric::Custom(_) => self.stale_after.max(CUSTOM_STALE_AFTER),
            _ => self.stale_after,
        };
        self.cadences.get(metric).map_or(usual, |cadence| cadence.stale_after)
    }

    /// How often a sample of a metric is expected; `None`: nobody has said.
    fn interval(&self, metric: &Metric) -> Option<Duration> {
        match (self.cadences.get(metric), metric) {
            (Some(cadence), _) => Some(cadence.interval),
            (None, Metric::Custom(_)) => None,
            (None, _) => Some(self.stale_after / STALE_INTERVALS),
        }
    }

    /// Changes the horizon, after an edit of the policies. A longer one fills up as time goes by.
    pub fn set_horizon(&mut self, horizon: Duration) {
        self.horizon = horizon;
    }

    /// Takes a sample of an instance that was measured just now: the mean of the metric since the one before.
    ///
    /// Samples older than the horizon and those beyond [`MOST_SAMPLES`] are dropped with it.
    pub fn push(
        &mut self,
        instance: &InstanceId,
        metric: &Metric,
        at: Timestamp,
        value: f64,
    ) -> Result<(), Rejected> {
        // Looked up before it is entered: a name is copied once in an instance's life.
        let taken = if let Some(metrics) = self.instances.get_mut(instance) {
            push(metrics, metric, at, value, self.horizon)
        } else {
            let metrics = self.instances.entry(instance.clone()).or_default();
            push(metrics, metric, at, value, self.horizon)
        };
        taken.inspect_err(|&why| self.refused.count(why))
    }

    /// Takes a sample of the group as a whole that was measured just now.
    pub fn push_group(&mut self, metric: &Metric, at: Timestamp, value: f64) -> Result<(), Rejected> {
        let taken = push(&mut self.group, metric, at, value, self.horizon);
        taken.inspect_err(|&why| self.refused.count(why))
    }

    /// Takes a sample that somebody else has dated: one from the future is refused too.
    pub fn take(
        &mut self,
        source: &Source,
        metric: &Metric,
        (at, value): (Timestamp, f64),
        now: Timestamp,
    ) -> Result<(), Rejected> {
        if at > now && at.duration_since(now).unsigned_abs() > CLOCK_SKEW {
            self.refused.count(Rejected::Future);
            return Err(Rejected::Future);
        }
        match source {
            Source::Group => self.push_group(metric, at.min(now), value),
            Source::Instance(id) => self.push(id, metric, at.min(now), value),
        }
    }

    /// How many samples were not taken, and why.
    #[must_use]
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Forgets an instance that is gone.
    pub fn forget(&mut self, instance: &InstanceId) {
        self.instances.remove(instance);
    }

    /// After the clock was set back: drops samples of the future.
    ///
    /// Without it [`push`](Self::push) refuses samples until the clock has caught up. Harmless at any other time,
    /// so a daemon may call it in every round.
    pub fn rewind(&mut self, now: Timestamp) {
        let instances = self.instances.values_mut().flat_map(BTreeMap::values_mut);
        for series in self.group.values_mut().chain(instances) {
            series.rewind(now);
        }
    }

    /// The newest sample of an instance's metric, however old.
    #[must_use]
    pub fn newest(&self, instance: &InstanceId, metric: &Metric) -> Option<(Timestamp, f64)> {
        self.instances.get(instance)?.get(metric)?.newest()
    }

    /// The newest sample of a metric of the group as a whole, however old.
    #[must_use]
    pub fn newest_of_group(&self, metric: &Metric) -> Option<(Timestamp, f64)> {
        self.group.get(metric)?.newest()
    }

    /// The load by a [`Signal`].
    ///
    /// - Only instances in service that have not failed count; so do only samples taken since they came into
    ///   service and were warm: a start is expensive and says nothing about traffic. An instance in service for
    ///   less than `warm_up` is left out, as if it were not there.
    /// - Samples weigh the same, as they are taken at even intervals; a gap weighs nothing.
    /// - A window longer than the history is over what there is.
    /// - A sum over time (`total`, `count`; with a grain also the statistics `sum` and `count`) is all of the load only
    ///   where a sample has come whenever one was due; where not, what is there is the least it can be.
    /// - An instance whose newest sample is stale counts as unmeasured: what it did before its source failed is
    ///   no measure of now.
    #[must_use]
    pub fn load(&self, instances: &[Instance], signal: &Signal, warm_up: Duration, now: Timestamp) -> Load {
        measure::load(self, instances, signal, warm_up, now)
    }
}

fn push(
    metrics: &mut BTreeMap<Metric, Series>,
    metric: &Metric,
    at: Timestamp,
    value: f64,
    horizon: Duration,
) -> Result<(), Rejected> {
    match metrics.get_mut(metric) {
        Some(series) => series.push(at, value, horizon),
        None => metrics.entry(metric.clone()).or_default().push(at, value, horizon),
    }
}
