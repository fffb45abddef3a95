//! Metrics that users push.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sluice_logic::samples::Source;
use sluice_logic::spec::Metric;
use sluice_northbound::api::{PushAnswer, PushRequest};
use sluice_store::{Sample, Subject};

use super::Tenant;
use crate::daemon::refusal::Refusal;

/// A tenant's names of metrics are kept for weeks: so many are enough for every policy, and too few to fill a disk.
const MOST_METRICS: usize = 64;

impl Tenant {
    /// Takes a pushed sample, or says why not.
    pub(super) fn push(&mut self, request: PushRequest) -> Result<PushAnswer, Refusal> {
        self.must_stay()?;
        let metric = Metric::Custom(request.metric);
        self.note_metric(&metric)?;
        let now = Timestamp::now();
        let at = request.at.unwrap_or(now);
        let (source, subject) = match request.instance {
            None => (Source::Group, Subject::Group),
            Some(id) if self.members.contains_key(&id) => {
                (Source::Instance(id.clone()), Subject::Instance(id))
            }
            Some(id) => {
                let message = format!("{} has no instance {id}: see `sluice status {0}`", self.spec.name);
                return Err(Refusal::Unknown(message));
            }
        };
        if let Err(why) = self.samples.take(&source, &metric, (at, request.value), now) {
            let so_far = self.samples.refused().of(why);
            let (tenant, value) = (&self.spec.name, request.value);
            return Err(Refusal::Wrong(format!(
                "{metric} = {value} of {at} is not taken: {why}; {so_far} of {tenant} were refused for that so far"
            )));
        }
        let at = at.min(now);
        let kept = Sample { at, subject, metric: metric.clone(), value: request.value };
        self.host.store.keep_samples(&self.spec.name, vec![kept]);
        Ok(PushAnswer { tenant: self.spec.name.clone(), metric: metric.to_string(), at })
    }

    fn note_metric(&mut self, metric: &Metric) -> Result<(), Refusal> {
        admit(&mut self.pushed, metric, MOST_METRICS).map_err(|()| {
            Refusal::Wrong(format!(
                "{} has {MOST_METRICS} metrics of its own already, which is the most: push `{metric}` under one of \
                 their names",
                self.spec.name
            ))
        })
    }
}

fn admit(known: &mut BTreeSet<Metric>, metric: &Metric, most: usize) -> Result<(), ()> {
    if known.contains(metric) {
        return Ok(());
    }
    if known.len() >= most {
        return Err(());
    }
    known.insert(metric.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_many_is_refused_and_known_ones_are_not() {
        let named = |name: &str| Metric::Custom(name.parse().unwrap());
        let mut known = BTreeSet::new();
        for name in ["a", "b", "a"] {
            assert_eq!(admit(&mut known, &named(name), 2), Ok(()));
        }
        assert_eq!(admit(&mut known, &named("c"), 2), Err(()));
        assert_eq!(admit(&mut known, &named("b"), 2), Ok(()));
    }
}
