//! The recent values of an instance's metrics, and the load of a group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::group::{Instance, InstanceId, elapsed};
use crate::spec::{Metric, PolicySpec};

/// Most samples kept of one metric of one instance; the oldest go first. With one sample a second that is more
/// than an hour.
pub const MOST_SAMPLES: usize = 4096;

/// How long the newest sample stays usable where the sampling interval was not given.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(15);

/// An instance's newest sample may be so many sampling intervals old before its data count as missing: two
/// failed readings are a hiccup, three are a fault.
const STALE_INTERVALS: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Timestamp,
    value: f64,
}

/// The samples of one group.
#[derive(Debug, Clone)]
pub struct Samples {
    horizon: Duration,
    stale_after: Duration,
    series: BTreeMap<InstanceId, BTreeMap<Metric, VecDeque<Sample>>>,
}

/// Why a sample was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// NaN, infinite or negative.
    #[error("not a finite, non-negative number")]
    NotANumber,
    /// Older than the newest of the same instance and metric, or of the same time.
    #[error("not newer than the last sample")]
    OutOfOrder,
}

/// The load of a group over a window.
///
/// A type of its own, because missing data is not zero: a caller has to say what it does without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Every instance in service has fresh samples.
    Known {
        /// The mean over the instances of each one's mean over the window.
        value: f64,
        /// Instances in service.
        instances: u32,
        /// Samples that went into it.
        samples: u32,
    },
    /// Some instances in service have no fresh sample: just begun, or their source fails.
    Partial {
        /// The mean with the unmeasured instances counted at 0, as the Kubernetes HPA does on the way up: the
        /// load is this or more.
        at_least: f64,
        /// Instances in service with fresh samples; not 0.
        instances: u32,
        /// Instances in service without; not 0.
        unmeasured: u32,
        /// Samples that went into it.
        samples: u32,
    },
    /// Nothing is known.
    Missing(Missing),
}

/// Why nothing is known of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is nothing to measure.
    #[error("no instance is in service")]
    NothingInService,
    /// No sample in the window was taken since its instance came into service.
    #[error("no instance in service has a sample in the window")]
    NoSample,
    /// There are samples, but the newest is too old to act upon.
    #[error("the newest sample is {} old, more than {}", seconds(*.age), seconds(*.bound))]
    Stale {
        /// Age of the newest sample of any instance in service.
        age: Duration,
        /// The age from which a sample is stale.
        bound: Duration,
    },
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
        Self { horizon, stale_after: DEFAULT_STALE_AFTER, series: BTreeMap::new() }
    }

    /// Says how often instances are sampled: data are missing when the newest sample is older than three
    /// intervals. Without this call, when it is older than [`DEFAULT_STALE_AFTER`].
    #[must_use]
    pub fn sampled_every(mut self, interval: Duration) -> Self {
        self.stale_after = interval.saturating_mul(STALE_INTERVALS);
        self
    }

    /// Changes the horizon, after an edit of the policies. A longer one fills up as time goes by.
    pub fn set_horizon(&mut self, horizon: Duration) {
        self.horizon = horizon;
    }

    /// Takes a sample: the mean of the metric since the one before.
    ///
    /// Samples older than the horizon and those beyond [`MOST_SAMPLES`] are dropped with it.
    pub fn push(
        &mut self,
        instance: &InstanceId,
        metric: Metric,
        at: Timestamp,
        value: f64,
    ) -> Result<(), Rejected> {
        if !value.is_finite() || value < 0.0 {
            return Err(Rejected::NotANumber);
        }
        let horizon = self.horizon;
        let series = self.series.entry(instance.clone()).or_default().entry(metric).or_default();
        if series.back().is_some_and(|last| at <= last.at) {
            return Err(Rejected::OutOfOrder);
        }
        series.push_back(Sample { at, value });
        while series.len() > MOST_SAMPLES || series.front().is_some_and(|s| elapsed(s.at, at) >= horizon) {
            // The newest stays, also with a horizon of zero: status shows it.
            if series.len() == 1 {
                break;
            }
            series.pop_front();
        }
        Ok(())
    }

    /// Forgets an instance that is gone.
    pub fn forget(&mut self, instance: &InstanceId) {
        self.series.remove(instance);
    }

    /// After the clock was set back: drops samples of the future.
    ///
    /// Without it [`push`](Self::push) refuses samples until the clock has caught up. Harmless at any other time,
    /// so a daemon may call it in every round.
    pub fn rewind(&mut self, now: Timestamp) {
        for series in self.series.values_mut().flat_map(BTreeMap::values_mut) {
            while series.back().is_some_and(|sample| sample.at > now) {
                series.pop_back();
            }
        }
    }

    /// The newest sample of an instance's metric, however old.
    #[must_use]
    pub fn newest(&self, instance: &InstanceId, metric: Metric) -> Option<(Timestamp, f64)> {
        self.series.get(instance)?.get(&metric)?.back().map(|sample| (sample.at, sample.value))
    }

    /// The load: the mean over the instances in service of each one's mean over its samples in the window
    /// (`now − window`, `now`].
    ///
    /// - Only instances in service that have not failed count; so do only samples taken since they came into
    ///   service: a start is expensive and says nothing about traffic.
    /// - Samples weigh the same, as they are taken at even intervals; a gap weighs nothing.
    /// - A window longer than the history is a mean over what there is.
    /// - An instance whose newest sample is stale counts as unmeasured: what it did before its source failed is
    ///   no measure of now.
    #[must_use]
    pub fn load(&self, instances: &[Instance], metric: Metric, window: Duration, now: Timestamp) -> Load {
        let mut serving: Vec<&Instance> = instances.iter().filter(|instance| instance.is_serving()).collect();
        // A float sum depends on its order, and a decision must not.
        serving.sort_by_key(|instance| &instance.id);
        let mut tally = Tally::default();
        for instance in serving {
            tally.add(&self.in_window(instance, metric, window, now), self.stale_after);
        }
        tally.load(self.stale_after)
    }

    fn in_window(&self, instance: &Instance, metric: Metric, window: Duration, now: Timestamp) -> Window {
        // A clock that was set back leaves `since` in the future; then what came before it can't be told apart.
        let since = if instance.since > now { Timestamp::MIN } else { instance.since };
        let mut found = Window::default();
        let series = self.series.get(&instance.id).and_then(|metrics| metrics.get(&metric));
        for sample in series.into_iter().flatten().filter(|s| s.at > since && s.at <= now) {
            let age = elapsed(sample.at, now);
            if age < window {
                found.mean.add(sample.value);
                found.newest_age = Some(age);
            }
        }
        found
    }
}

/// A mean kept as a mean: a sum could overflow, and would blur equal values.
#[derive(Debug, Default)]
struct Mean {
    value: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.value += (value - self.value) / f64::from(self.count);
    }
}

/// One instance's samples in a window.
#[derive(Debug, Default)]
struct Window {
    mean: Mean,
    newest_age: Option<Duration>,
}

#[derive(Debug, Default)]
struct Tally {
    measured: Mean,
    unmeasured: u32,
    samples: u32,
    stale_age: Option<Duration>,
}

impl Tally {
    fn add(&mut self, window: &Window, stale_after: Duration) {
        match window.newest_age {
            Some(age) if age <= stale_after => {
                self.measured.add(window.mean.value);
                self.samples += window.mean.count;
            }
            Some(age) => {
                self.unmeasured += 1;
                self.stale_age = Some(self.stale_age.map_or(age, |youngest| youngest.min(age)));
            }
            None => self.unmeasured += 1,
        }
    }

    fn load(&self, bound: Duration) -> Load {
        let (unmeasured, samples) = (self.unmeasured, self.samples);
        let Mean { value, count: instances } = self.measured;
        match (instances, unmeasured, self.stale_age) {
            (0, 0, _) => Load::Missing(Missing::NothingInService),
            (0, _, Some(age)) => Load::Missing(Missing::Stale { age, bound }),
            (0, _, None) => Load::Missing(Missing::NoSample),
            (_, 0, _) => Load::Known { value, instances, samples },
            _ => {
                let at_least = value * (f64::from(instances) / f64::from(instances + unmeasured));
                Load::Partial { at_least, instances, unmeasured, samples }
            }
        }
    }
}
