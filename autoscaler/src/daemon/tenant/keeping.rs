//! Keeps what was measured and decided, and takes the windows back when a daemon begins: a restart must not blind
//! the policies.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::decision::Decision;
use sluice_logic::group::Instance;
use sluice_logic::samples::{Samples, longest_window};
use sluice_logic::spec::Metric;
use sluice_store::{Census, DecisionRecord, Sample, Spread, StoreError, Subject, spread};

use super::Tenant;
use super::jobs::Done;

/// A disk that is slower must not keep a group from being measured: its windows fill up anew then.
const PATIENCE: Duration = Duration::from_secs(5);

impl Tenant {
    /// Keeps what was measured at one time, and the group's numbers made of it.
    pub(super) fn keep_samples(&self, mut taken: Vec<Sample>, now: Timestamp) {
        let over = group_samples(&taken, now, |metric| self.sum(metric, now));
        taken.extend(over);
        self.host.store.keep_samples(&self.spec.name, taken);
    }

    /// Keeps the group's numbers of what users push for instances: each at its own time, so what counts now is the newest
    /// of each.
    pub(super) fn keep_pushed(&self, now: Timestamp) {
        let read = |metric: &Metric| match metric {
            Metric::Custom(name) => self.sources.contains_key(name),
            _ => true,
        };
        let mut over = Vec::new();
        for metric in self.pushed.iter().filter(|metric| !read(metric)) {
            let bound = self.samples.stale_after(metric);
            let serving = self.members.values().filter(|member| member.instance.is_serving());
            let newest = serving.filter_map(|member| self.samples.newest(&member.spec.id, metric));
            let fresh = newest.filter(|(at, _)| now.duration_since(*at).unsigned_abs() <= bound);
            let values: Vec<f64> = fresh.map(|(_, value)| value).collect();
            over.extend(numbers(metric, &values, now, self.sum(metric, now)));
        }
        self.host.store.keep_samples(&self.spec.name, over);
    }

    /// What all of the group's instances have together now.
    fn sum(&self, metric: &Metric, now: Timestamp) -> Option<f64> {
        sum(&self.samples, self.members.values().map(|member| &member.instance), metric, now)
    }

    /// Keeps a decision with the group as it stands.
    pub(super) fn keep_decision(&self, decision: &Decision) {
        let instances = Census::of(&self.instances());
        let record = DecisionRecord { decision: decision.clone(), instances, problem: self.problem() };
        self.host.store.keep_decision(&self.spec.name, record);
    }

    /// Begins to read the samples of the policies' windows. Until they are there nothing is measured: a sample must
    /// not come after a newer one.
    pub(super) fn restore(&mut self) {
        self.measuring = true;
        let (host, tenant) = (self.host.clone(), self.spec.name.clone());
        let window =
            SignedDuration::try_from(longest_window(&self.spec.policies)).unwrap_or(SignedDuration::MAX);
        self.jobs.spawn(async move {
            let read = tokio::task::spawn_blocking(move || -> Result<Vec<Sample>, StoreError> {
                let now = Timestamp::now();
                let from = now.checked_sub(window).unwrap_or(Timestamp::MIN);
                let mut found = Vec::new();
                host.store.samples(&tenant, from, now, |sample| {
                    if !matches!(sample.subject, Subject::Over(_)) {
                        found.push(sample);
                    }
                })?;
                Ok(found)
            });
            let read = tokio::time::timeout(PATIENCE, read).await;
            let read = read.map_err(anyhow::Error::from).and_then(|read| Ok(read??));
            Done::Restored(read)
        });
    }

    /// Takes them in.
    pub(super) fn restored(&mut self, read: anyhow::Result<Vec<Sample>>) {
        self.measuring = false;
        let mut samples = match read {
            Ok(samples) => samples,
            Err(error) => {
                let tenant = &self.spec.name;
                tracing::warn!(%tenant, "the samples of before can't be had, its windows fill up anew: {error:#}");
                return;
            }
        };
        samples.sort_by_key(|sample| sample.at);
        for Sample { at, subject, metric, value } in samples {
            if matches!(metric, Metric::Custom(_)) {
                self.pushed.insert(metric.clone());
            }
            // One that is older than what was pushed meanwhile is of no use any more.
            let _ = match subject {
                Subject::Instance(id) if self.members.contains_key(&id) => {
                    self.samples.push(&id, &metric, at, value)
                }
                Subject::Group => self.samples.push_group(&metric, at, value),
                _ => Ok(()),
            };
        }
    }
}

/// All values of a metric together; `None` where an instance in service has none that is fresh: forecasts learn from the
/// sum, and one that is not measured is not idle.
fn sum<'a>(
    samples: &Samples,
    instances: impl Iterator<Item = &'a Instance>,
    metric: &Metric,
    now: Timestamp,
) -> Option<f64> {
    let bound = samples.stale_after(metric);
    let fresh = |instance: &Instance| {
        let newest = samples.newest(&instance.id, metric);
        newest.filter(|(at, _)| now.duration_since(*at).unsigned_abs() <= bound).map(|(_, value)| value)
    };
    let values: Vec<f64> =
        instances.filter(|instance| instance.is_serving()).map(fresh).collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum())
}

/// The group's numbers at one time, of each metric that instances have.
fn group_samples(taken: &[Sample], at: Timestamp, sum: impl Fn(&Metric) -> Option<f64>) -> Vec<Sample> {
    let mut values: BTreeMap<&Metric, Vec<f64>> = BTreeMap::new();
    for sample in taken.iter().filter(|sample| sample.subject.is_instance()) {
        values.entry(&sample.metric).or_default().push(sample.value);
    }
    values.into_iter().flat_map(|(metric, values)| numbers(metric, &values, at, sum(metric))).collect()
}

/// The numbers of the values that were measured, and the sum where it is one of all.
fn numbers(metric: &Metric, values: &[f64], at: Timestamp, sum: Option<f64>) -> Vec<Sample> {
    let measured = spread(values).into_iter().filter(|(spread, _)| *spread != Spread::Sum);
    let all = measured.chain(sum.map(|sum| (Spread::Sum, sum)));
    let sample =
        |(spread, value)| Sample { at, subject: Subject::Over(spread), metric: metric.clone(), value };
    all.map(sample).collect()
}

#[cfg(test)]
mod tests {
    use sluice_logic::group::{InstanceId, InstanceState};

    use super::*;
    use crate::daemon::testing::{at, instance, name};

    #[test]
    fn a_groups_numbers_are_of_its_measured_instances() {
        let of = |instance, metric: Metric, value| {
            let subject = Subject::Instance(InstanceId::new(&name("demo"), instance));
            Sample { at: at(0), subject, metric, value }
        };
        let taken = [of(1, Metric::Cpu, 0.2), of(2, Metric::Cpu, 0.4), of(1, Metric::LiveFlows, 7.0)];
        let group = group_samples(&taken, at(0), |metric| (*metric == Metric::LiveFlows).then_some(7.0));
        let find = |metric: &Metric, spread| {
            let subject = Subject::Over(spread);
            let found = group.iter().find(|sample| sample.subject == subject && sample.metric == *metric);
            found.map(|sample| sample.value)
        };
        assert_eq!(find(&Metric::Cpu, Spread::Max), Some(0.4));
        assert_eq!(find(&Metric::Cpu, Spread::Count), Some(2.0));
        assert_eq!(find(&Metric::LiveFlows, Spread::Sum), Some(7.0));
        assert_eq!(find(&Metric::Cpu, Spread::Sum), None, "not all were measured");
        assert_eq!(find(&Metric::Packets, Spread::Count), None, "what nobody measures is missing, not 0");
    }

    #[test]
    fn a_sum_is_one_of_all_in_service() {
        let mut instances = [2, 3, 4].map(|host| instance(host, InstanceState::InService)).to_vec();
        let mut samples = Samples::new(Duration::from_mins(5)).sampled_every(Duration::from_secs(1));
        let mut measured = |which: usize, second, value| {
            samples.push(
                &instance(which.try_into().unwrap(), InstanceState::InService).id,
                &Metric::Cpu,
                at(second),
                value,
            )
        };
        measured(2, 10, 0.2).unwrap();
        measured(3, 8, 0.3).unwrap();
        measured(4, 1, 0.4).unwrap();
        let of = |instances: &[Instance]| sum(&samples, instances.iter(), &Metric::Cpu, at(10));
        assert_eq!(of(&instances), None, "what the third does is not known any more, and is not 0");
        instances[2].state = InstanceState::Draining;
        assert_eq!(of(&instances), Some(0.5), "a reading that was missed is not missing yet");
        assert_eq!(of(&[]), None);
    }
}
