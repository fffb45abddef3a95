//! What the policies are told of the future: forecasts that go on with each minute, and are made anew from what was
//! kept when a daemon begins, a file changes, or instances take longer to start than they did.
//!
//! Fitting a season takes its time, so forecasts are never touched on the tenant's task: a job takes them, tells them
//! the minutes that have passed, and brings them back. Minutes that pass meanwhile wait.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::forecast::{Forecasts, Minute, demand, last_full_minute};
use sluice_logic::group::Instance;
use sluice_logic::outlook::Outlook;
use sluice_logic::samples::Samples;
use sluice_logic::spec::{Metric, TenantName, TenantSpec};
use sluice_logic::starts::StartTimes;
use sluice_store::{Spread, Store, StoreError};

use super::Tenant;
use super::jobs::Done;

const MINUTE: Duration = Duration::from_mins(1);
/// How far back it looks: two weeks of days, two of each day of the week.
const MEMORY: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The demand on the group in a minute.
type Passed = (Metric, Minute, f64);

/// A tenant's forecasts, and what they say of now.
#[derive(Debug)]
pub(super) struct ForecastState {
    /// `None` while a job has them.
    forecasts: Option<Forecasts>,
    /// Which ones they are: what a job brings of earlier ones is of no use any more.
    generation: u64,
    /// From the launch of an instance until it serves, as they take it.
    start: Duration,
    metrics: BTreeSet<Metric>,
    /// The newest minute of each metric that was seen.
    seen: BTreeMap<Metric, Minute>,
    /// What they have not been told yet.
    waiting: Vec<Passed>,
    /// What they say: beside the policies.
    outlooks: Vec<Option<Outlook>>,
}

impl ForecastState {
    /// Forecasts that have seen nothing.
    pub(super) fn new(spec: &TenantSpec, starts: &StartTimes) -> Self {
        let start = start_time(spec, starts);
        let forecasts = forecasts(spec, start);
        Self {
            generation: 0,
            start,
            metrics: forecasts.metrics().cloned().collect(),
            seen: BTreeMap::new(),
            waiting: Vec::new(),
            outlooks: forecasts.outlooks(Timestamp::now()),
            forecasts: Some(forecasts),
        }
    }

    /// What each policy is to be told.
    pub(super) fn outlooks(&self) -> &[Option<Outlook>] {
        &self.outlooks
    }

    /// Takes note of the last full minute, where its load is known and was not seen yet.
    fn pass(&mut self, samples: &Samples, instances: &[Instance], now: Timestamp) {
        let minute = last_full_minute(now);
        for metric in &self.metrics {
            if self.seen.get(metric).is_none_or(|&seen| seen < minute)
                && let Some(demand) = demand(samples, instances, metric, now)
            {
                self.seen.insert(metric.clone(), minute);
                self.waiting.push((metric.clone(), minute, demand));
            }
        }
    }

    /// The forecasts and what they are to be told, where they are here and there is something.
    fn lend(&mut self) -> Option<(Forecasts, Vec<Passed>)> {
        let forecasts = self.forecasts.take_if(|_| !self.waiting.is_empty())?;
        Some((forecasts, mem::take(&mut self.waiting)))
    }

    /// Takes back what a job has brought; `false` where other forecasts have taken the place of those.
    fn take_back(&mut self, generation: u64, forecasts: Forecasts) -> bool {
        let current = generation == self.generation;
        if current {
            self.forecasts = Some(forecasts);
        }
        current
    }
}

impl Tenant {
    /// Takes the last minute in, where it is over, and asks for what is expected now.
    pub(super) fn forecast(&mut self, instances: &[Instance], now: Timestamp) {
        if start_time(&self.spec, &self.group.starts) != self.forecasts.start {
            self.recall();
        }
        self.forecasts.pass(&self.samples, instances, now);
        if let Some((forecasts, passed)) = self.forecasts.lend() {
            self.tell(forecasts, |_| Ok(Vec::new()), passed);
        }
        if let Some(forecasts) = &self.forecasts.forecasts {
            self.forecasts.outlooks = forecasts.outlooks(now);
        }
    }

    /// Begins to make the forecasts from what was kept. Until they are there, they are silent.
    pub(super) fn recall(&mut self) {
        let generation = self.forecasts.generation + 1;
        self.forecasts = ForecastState { generation, ..ForecastState::new(&self.spec, &self.group.starts) };
        let Some(forecasts) = self.forecasts.forecasts.take_if(|_| !self.forecasts.metrics.is_empty()) else {
            return;
        };
        let (host, tenant, metrics) =
            (self.host.clone(), self.spec.name.clone(), self.forecasts.metrics.clone());
        self.tell(forecasts, move |now| kept(&host.store, &tenant, &metrics, now), Vec::new());
    }

    /// Tells them, in a job, what was kept, and what has passed.
    fn tell(
        &mut self,
        mut forecasts: Forecasts,
        kept: impl FnOnce(Timestamp) -> Result<Vec<Passed>, StoreError> + Send + 'static,
        passed: Vec<Passed>,
    ) {
        let generation = self.forecasts.generation;
        self.jobs.spawn(async move {
            let told = tokio::task::spawn_blocking(move || -> Result<Forecasts, StoreError> {
                for (metric, minute, demand) in kept(Timestamp::now())?.into_iter().chain(passed) {
                    forecasts.recall(&metric, minute, demand);
                }
                Ok(forecasts)
            });
            Done::Forecast(generation, told.await.map_err(anyhow::Error::from).and_then(|told| Ok(told?)))
        });
    }

    /// Takes the forecasts back from a job.
    pub(super) fn take_forecasts(&mut self, generation: u64, told: anyhow::Result<Forecasts>) {
        let forecasts = told.unwrap_or_else(|error| {
            let tenant = &self.spec.name;
            tracing::warn!(%tenant, "what was kept can't be had, its forecasts begin anew: {error:#}");
            forecasts(&self.spec, start_time(&self.spec, &self.group.starts))
        });
        self.forecasts.take_back(generation, forecasts);
    }
}

/// The minutes that were kept of these metrics, each metric's in order. The running one is not over, and one in which an
/// instance was not measured has no sum: it is a gap, as it was when it passed.
fn kept(
    store: &Store,
    tenant: &TenantName,
    metrics: &BTreeSet<Metric>,
    now: Timestamp,
) -> Result<Vec<Passed>, StoreError> {
    let from = now.checked_sub(MEMORY).unwrap_or(Timestamp::MIN);
    let first = from.as_second().div_euclid(60);
    let mut passed = Vec::new();
    for metric in metrics {
        let history = store.history(tenant, metric, Spread::Sum, (from, now), MINUTE)?;
        let over = (first..=last_full_minute(now)).zip(&history);
        passed.extend(over.filter_map(|(minute, rollup)| Some((metric.clone(), minute, rollup.average()?))));
    }
    Ok(passed)
}

fn forecasts(spec: &TenantSpec, start_time: Duration) -> Forecasts {
    Forecasts::new(&spec.group, &spec.policies, start_time)
}

/// From the launch of an instance until it serves, as measured, in whole minutes: forecasts count in those, and need not
/// be made anew for a second. Each policy adds its own margin. Before the first instance has started it is the longest
/// there can be: one that takes longer is replaced.
fn start_time(spec: &TenantSpec, starts: &StartTimes) -> Duration {
    let start = starts.expected().unwrap_or(spec.template.start_timeout);
    let minutes = start.as_millis().div_ceil(MINUTE.as_millis());
    MINUTE.saturating_mul(u32::try_from(minutes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use sluice_logic::group::InstanceState;
    use sluice_logic::spec::{PolicySpec, Predictive, PredictiveMode};

    use super::*;
    use crate::daemon::testing::{at, instance, tenant};

    fn predicted() -> TenantSpec {
        let policy = PolicySpec::Predictive(Predictive {
            metric: Metric::Cpu,
            target: 0.6,
            mode: PredictiveMode::ForecastOnly,
            scheduling_buffer: Duration::ZERO,
            max_capacity_buffer: None,
        });
        TenantSpec { policies: vec![policy], ..tenant("demo") }
    }

    /// Two instances at half of their CPU, sampled every 20 s of five minutes.
    fn measured() -> (Samples, Vec<Instance>) {
        let instances = [2, 3].map(|host| instance(host, InstanceState::InService)).to_vec();
        let mut samples = Samples::new(10 * MINUTE).sampled_every(Duration::from_secs(20));
        for second in (20..=300).step_by(20) {
            for instance in &instances {
                samples.push(&instance.id, &Metric::Cpu, at(second), 0.5).unwrap();
            }
        }
        (samples, instances)
    }

    #[test]
    fn the_start_time_is_what_was_measured_in_whole_minutes() {
        let (spec, mut starts) = (tenant("demo"), StartTimes::default());
        assert_eq!(start_time(&spec, &starts), MINUTE, "its timeout of 5 s");
        let patient = {
            let mut patient = spec.clone();
            patient.template.start_timeout = Duration::from_mins(10);
            patient
        };
        assert_eq!(start_time(&patient, &starts), 10 * MINUTE, "nothing was measured yet");
        starts.record(Duration::from_secs(61));
        assert_eq!(start_time(&patient, &starts), 2 * MINUTE);
    }

    #[test]
    fn minutes_that_pass_while_a_job_has_the_forecasts_wait_for_them() {
        let (samples, instances) = measured();
        let mut state = ForecastState::new(&predicted(), &StartTimes::default());
        state.pass(&samples, &instances, at(240));
        let (lent, passed) = state.lend().expect("a minute has passed");
        assert_eq!(passed.len(), 1);
        assert!((passed[0].2 - 1.0).abs() < 1e-9, "two halves: {passed:?}");
        state.pass(&samples, &instances, at(245));
        state.pass(&samples, &instances, at(300));
        state.pass(&samples, &instances, at(301));
        assert!(state.lend().is_none(), "they are away");
        assert!(state.take_back(0, lent));
        let (_, passed) = state.lend().expect("one has passed meanwhile");
        let minutes: Vec<Minute> = passed.iter().map(|(_, minute, _)| *minute).collect();
        assert_eq!(minutes, [last_full_minute(at(300))], "each minute once");
    }

    #[test]
    fn what_a_job_brings_of_earlier_forecasts_is_of_no_use() {
        let mut state =
            ForecastState { generation: 2, ..ForecastState::new(&predicted(), &StartTimes::default()) };
        let old = state.forecasts.take().unwrap();
        assert!(!state.take_back(1, old.clone()));
        assert!(state.forecasts.is_none());
        assert!(state.take_back(2, old));
        assert!(state.forecasts.is_some());
    }

    #[test]
    fn a_predictive_policy_is_told_why_there_is_no_forecast() {
        let state = ForecastState::new(&predicted(), &StartTimes::default());
        assert!(matches!(state.outlooks(), [Some(Outlook::Silent { .. })]), "{state:?}");
    }
}
