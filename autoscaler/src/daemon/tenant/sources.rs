//! Reads the tenant's own metrics from where its file says they come from. Each source has its own time and its own
//! job: one that hangs holds up no other, and no decision.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_logic::samples::{Cadence, Source};
use sluice_logic::spec::{Metric, MetricName, MetricSource, MetricSpec};
use sluice_northbound::api::EventKind;
use sluice_southbound::metrics::{self, Reading, SourceError, Target};
use sluice_store::{Sample, Subject};
use tokio::time::Instant;

use super::Tenant;
use super::jobs::Done;

/// What is known of one source.
#[derive(Debug, Default)]
pub(super) struct SourceState {
    /// When it is to be read next; `None`: at once.
    due: Option<Instant>,
    running: bool,
    /// The last count of each instance, where the value is its increase.
    counts: BTreeMap<Option<InstanceId>, (Timestamp, f64)>,
    /// The newest time of each instance whose exporter tells the time of its values.
    dated: BTreeMap<Option<InstanceId>, Timestamp>,
    /// What could not be had at the last reading.
    problem: Option<String>,
}

/// What a reading of a source has come to.
pub(super) type Readings = Vec<Result<Reading, SourceError>>;

impl Tenant {
    /// Tells the samples how often each metric comes, and how old it may be, after the file has changed too.
    pub(super) fn declare_metrics(&mut self, before: &[MetricSpec]) {
        for spec in before {
            self.samples.set_cadence(&Metric::Custom(spec.name.clone()), None);
        }
        self.sources.retain(|name, _| self.spec.metrics.iter().any(|spec| spec.name == *name));
        for spec in &self.spec.metrics {
            let metric = Metric::Custom(spec.name.clone());
            // A source is read at the first poll after its time has come.
            let late =
                if spec.source == MetricSource::Push { Duration::ZERO } else { self.host.sample_interval };
            let interval = spec.interval.saturating_add(late);
            let cadence = Cadence { interval, stale_after: spec.stale_after };
            self.samples.set_cadence(&metric, Some(cadence));
            self.pushed.insert(metric);
        }
    }

    /// Begins to read every source whose time has come.
    pub(super) fn ask_sources(&mut self) {
        let now = Instant::now();
        let serving =
            self.members.values().filter(|member| member.instance.state == InstanceState::InService);
        let management = self.host.management.clone();
        let targets: Vec<Target> = serving
            .map(|member| Target {
                id: member.spec.id.clone(),
                address: member.instance.address,
                management: management.as_ref().and_then(|there| there.address_of(&member.spec)),
            })
            .collect();
        for spec in self.spec.metrics.iter().filter(|spec| spec.source != MetricSource::Push) {
            let state = self.sources.entry(spec.name.clone()).or_default();
            if state.running || state.due.is_some_and(|due| now < due) {
                continue;
            }
            state.running = true;
            state.due = Some(now + spec.interval);
            let (spec, targets, transit) = (spec.clone(), targets.clone(), self.host.transit.clone());
            let management = management.as_ref().map(|management| management.netns().clone());
            let quota = self.source_quota.clone();
            self.jobs.spawn(async move {
                let (source, management) = (&spec.source, management.as_ref());
                let readings =
                    metrics::read(source, &quota, management, &transit, &targets, spec.timeout).await;
                Done::Sourced(spec.name, readings)
            });
        }
    }

    /// Takes in what a source has said.
    pub(super) fn sourced(&mut self, name: &MetricName, readings: Readings) {
        let now = Timestamp::now();
        let Some(spec) = self.spec.metrics.iter().find(|spec| spec.name == *name).cloned() else { return };
        let Some(mut state) = self.sources.remove(name) else { return };
        state.running = false;
        let (mut taken, mut faults) = (Vec::new(), Vec::new());
        for reading in readings {
            match reading {
                Ok(reading) => match self.take_reading(&spec, &mut state, reading, now) {
                    Ok(sample) => taken.extend(sample),
                    Err(fault) => faults.push(fault),
                },
                Err(error) => faults.push(error.to_string()),
            }
        }
        let is_here = |id: &Option<InstanceId>| id.as_ref().is_none_or(|id| self.members.contains_key(id));
        state.counts.retain(|id, _| is_here(id));
        state.dated.retain(|id, _| is_here(id));
        self.keep_samples(taken, now);
        let problem = summary(name, &faults);
        if let Some(problem) = &problem
            && state.problem.is_none()
        {
            self.host.events.record(self.event(EventKind::StepFailed, problem.clone()));
        }
        state.problem = problem;
        self.sources.insert(name.clone(), state);
    }

    /// The sample of a reading; none where it is the first count of a rate, or the value of before once more.
    fn take_reading(
        &mut self,
        spec: &MetricSpec,
        state: &mut SourceState,
        reading: Reading,
        now: Timestamp,
    ) -> Result<Option<Sample>, String> {
        let Reading { instance, value, at } = reading;
        // It may be gone since it was asked.
        if instance.as_ref().is_some_and(|id| !self.members.contains_key(id)) {
            return Ok(None);
        }
        let whose = instance.as_ref().map_or("the group", InstanceId::as_str).to_owned();
        if let Some(at) = at {
            if let Some(old) = too_old(at, now, spec.stale_after) {
                return Err(format!("{value} of {whose} is not taken: {old}"));
            }
            if state.dated.insert(instance.clone(), at) == Some(at) {
                return Ok(None);
            }
        }
        let at = at.unwrap_or(now);
        let rate = matches!(&spec.source, MetricSource::Exporter(exporter) if exporter.rate);
        let value = if rate {
            let before = state.counts.insert(instance.clone(), (at, value));
            let Some(value) = before.and_then(|before| per_second(before, (at, value))) else {
                return Ok(None);
            };
            value
        } else {
            value
        };
        let metric = Metric::Custom(spec.name.clone());
        let source = instance.clone().map_or(Source::Group, Source::Instance);
        let taken = self.samples.take(&source, &metric, (at, value), now);
        taken.map_err(|why| format!("{value} of {whose} is not taken: {why}"))?;
        let subject = instance.map_or(Subject::Group, Subject::Instance);
        Ok(Some(Sample { at: at.min(now), subject, metric, value }))
    }

    /// What sources lack now.
    pub(super) fn source_problems(&self) -> impl Iterator<Item = &String> {
        self.sources.values().filter_map(|state| state.problem.as_ref())
    }
}

/// Why a value is none of now: it was measured longer ago than data of its metric count.
fn too_old(at: Timestamp, now: Timestamp, stale_after: Duration) -> Option<String> {
    let age = Duration::try_from(now.duration_since(at)).ok().filter(|age| *age > stale_after)?;
    Some(format!(
        "it is of {at:.0}, {} s ago, and data older than {stale_after:?} are missing",
        age.as_secs()
    ))
}

/// The increase a second; `None` where the counter was reset, or no time has passed.
fn per_second((from, before): (Timestamp, f64), (to, now): (Timestamp, f64)) -> Option<f64> {
    let passed = to.duration_since(from).as_secs_f64();
    (passed > 0.0 && now >= before).then(|| (now - before) / passed)
}

/// One sentence for all that a source lacks: a hundred instances without their exporter are one fault.
fn summary(name: &MetricName, faults: &[String]) -> Option<String> {
    let (first, others) = faults.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
    Some(format!("the metric {}: {first}{more}; policies take it as missing", name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::at;

    #[test]
    fn a_counter_becomes_a_rate_and_one_that_begins_anew_is_missing() {
        assert_eq!(per_second((at(0), 100.0), (at(10), 150.0)), Some(5.0));
        assert_eq!(per_second((at(0), 100.0), (at(10), 3.0)), None);
        assert_eq!(per_second((at(0), 100.0), (at(0), 150.0)), None);
        assert_eq!(per_second((at(5), 1.0), (at(0), 2.0)), None, "a clock that was set back");
        assert_eq!(per_second((at(0), 1.0), (at(1), f64::NAN)), None);
    }

    #[test]
    fn an_old_value_is_none_of_now() {
        let after = Duration::from_secs(45);
        assert_eq!(too_old(at(100), at(145), after), None);
        assert_eq!(too_old(at(100), at(90), after), None, "of the future: that is for the samples to say");
        let said = too_old(at(100), at(146), after).unwrap();
        assert!(said.contains("46 s ago") && said.contains("45s"), "{said}");
    }

    #[test]
    fn many_faults_are_one_sentence() {
        let name: MetricName = "queue".parse().unwrap();
        let said = summary(&name, &["a is away".to_owned(), "b is away".to_owned()]).unwrap();
        assert!(said.contains("queue: a is away, and 1 more;"), "{said}");
        assert_eq!(summary(&name, &[]), None);
    }
}
