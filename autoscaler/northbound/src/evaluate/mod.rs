//! `sluice evaluate`: what policies would decide about a group and its samples, without a daemon.
//!
//! The input is JSON, or YAML, of which JSON is a part; its policies are written as in a tenant file and read by the
//! same code. `docs/evaluate.md` has every key, `examples/evaluate` examples.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sluice_logic::decision::{Action, Decision, Group, decide};
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::history::History;
use sluice_logic::outlook::Outlook;
use sluice_logic::samples::{Refused, Samples, Source, longest_window};
use sluice_logic::spec::{GroupSpec, Metric, PolicySpec};

use crate::diagnostic::{Diagnostic, Faults, Source as Text};
use crate::yaml;

/// Longest input, in bytes: some hundred thousand samples.
const LONGEST: usize = 16 * 1024 * 1024;

/// So many refused samples are explained one by one; all are counted.
const MOST_EXPLAINED: usize = 20;

/// A question: a group, its policies, its samples and the time.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    group: GroupSpec,
    desired: u32,
    instances: Vec<Instance>,
    last_action: Option<Timestamp>,
    policies: Vec<PolicySpec>,
    outlooks: Vec<Option<Outlook>>,
    samples: Vec<Written>,
    sample_interval: Duration,
    past: Vec<Past>,
    time: Timestamp,
}

/// A sample as it was written; whether it is taken shows when it is pushed.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    /// `None`: one for each instance in service.
    source: Option<Source>,
    metric: Metric,
    at: Timestamp,
    value: f64,
    line: usize,
}

/// A decision of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Past {
    at: Timestamp,
    recommended: Option<u32>,
    change: Option<(u32, u32)>,
    cooldown: Option<Duration>,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What was asked about.
    pub time: Timestamp,
    /// Whether instances would be added or removed.
    pub action: Action,
    /// The desired number before.
    pub from: u32,
    /// The desired number from now on.
    pub to: u32,
    /// Why.
    pub reason: String,
    /// The whole decision: each policy's wish with its inputs, and what clipped them.
    pub decision: Decision,
    /// What became of the samples.
    pub samples: SampleReport,
}

/// What became of the samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SampleReport {
    /// How many were taken.
    pub taken: u64,
    /// How many were not, by the reason.
    pub refused: Refused,
    /// The first of those, and why.
    pub explained: Vec<String>,
}

/// Reads a question. `file` is what messages call it.
///
/// # Errors
/// All faults of the input, each with its line and column.
pub fn parse(file: &str, text: &str) -> Result<Request, Vec<Diagnostic>> {
    let source = Text { label: file, text };
    source.read(yaml::parse_up_to(LONGEST, text), |source, node| {
        let mut faults = Faults::new(source);
        let made = read::request(&mut faults, node);
        faults.conclude(made).map(|(request, _)| request)
    })
}

impl Request {
    /// Decides. The same question has the same answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut samples = Samples::new(longest_window(&self.policies)).sampled_every(self.sample_interval);
        let report = self.push(&mut samples);
        let history = self.history();
        let group = Group {
            spec: &self.group,
            policies: &self.policies,
            instances: &self.instances,
            desired: self.desired,
            last_action: self.last_action,
            history: &history,
            outlooks: &self.outlooks,
        };
        let decision = decide(&group, &samples, self.time);
        Answer {
            time: self.time,
            action: decision.action,
            from: decision.from,
            to: decision.to,
            reason: decision.reason.clone(),
            decision,
            samples: report,
        }
    }

    fn push(&self, samples: &mut Samples) -> SampleReport {
        let mut report = SampleReport::default();
        for written in &self.samples {
            let each = self.instances.iter().filter(|instance| instance.is_serving());
            let sources: Vec<Source> = match &written.source {
                Some(source) => vec![source.clone()],
                None => each.map(|instance| Source::Instance(instance.id.clone())).collect(),
            };
            for source in sources {
                let sample = (written.at, written.value);
                match samples.take(&source, &written.metric, sample, self.time) {
                    Ok(()) => report.taken += 1,
                    Err(why) if report.explained.len() < MOST_EXPLAINED => {
                        let Written { metric, at, value, line, .. } = written;
                        let whose = match &source {
                            Source::Group => "the group".to_owned(),
                            Source::Instance(id) => id.to_string(),
                        };
                        report
                            .explained
                            .push(format!("line {line}: {metric} of {whose} at {at}, {value}: {why}"));
                    }
                    Err(_) => {}
                }
            }
        }
        report.refused = samples.refused().clone();
        report
    }

    /// The maximum, where the past was above it: it is the same all the time here, so a policy had raised it.
    fn exceeded(&self) -> Option<u32> {
        let counts = self.past.iter().filter_map(|past| past.change.map(|(_, to)| to).max(past.recommended));
        counts.max().filter(|count| *count > self.group.max).map(|_| self.group.max)
    }

    fn history(&self) -> History {
        let mut history = History::default();
        for past in self.moments() {
            let (from, to) = past.change.unwrap_or_default();
            let action = match from.cmp(&to) {
                std::cmp::Ordering::Less => Action::Out,
                std::cmp::Ordering::Equal => Action::Nothing,
                std::cmp::Ordering::Greater => Action::In,
            };
            let taken = Decision {
                at: past.at,
                exceeds: self.exceeded(),
                from,
                to,
                action,
                recommended: past.recommended,
                cooldown: past.cooldown,
                settling: self.was_any(&[InstanceState::Pending, InstanceState::Draining], past.at),
                starting: self.was_any(&[InstanceState::Pending], past.at),
                ..Decision::default()
            };
            history.record(&taken);
            // It is of that moment: nobody has said that it was so later too.
            let silent =
                Decision { action: Action::Nothing, from: to, recommended: None, cooldown: None, ..taken };
            history.record(&silent);
        }
        history
    }

    /// The decisions of the past, and those at which a daemon would have seen that nothing starts or drains any more, or
    /// that something does: when the newest in service came into it, and now.
    fn moments(&self) -> Vec<Past> {
        let serving = self.instances.iter().filter(|instance| instance.is_serving());
        let newest = serving.map(|instance| instance.since.min(self.time)).max();
        let seen = newest.into_iter().chain([self.time]);
        let seen = seen.map(|at| Past { at, recommended: None, change: None, cooldown: None });
        let mut moments: Vec<Past> = self.past.iter().copied().chain(seen).collect();
        moments.sort_by_key(|past| past.at);
        moments
    }

    /// Whether an instance was in one of these states then, as far as the instances show: one that came into service later
    /// was starting.
    fn was_any(&self, states: &[InstanceState], at: Timestamp) -> bool {
        let was = |instance: &Instance| match instance.state {
            InstanceState::InService if instance.since > at => states.contains(&InstanceState::Pending),
            state => instance.since <= at && states.contains(&state),
        };
        self.instances.iter().any(|instance| !instance.failed && was(instance))
    }
}

/// The instances that a question names by their number only: in service since long ago.
fn unnamed(count: u32, time: Timestamp) -> Vec<Instance> {
    (1..=count).map(|number| instance(InstanceId::from_label(format!("i-{number}")), time)).collect()
}

/// An instance that is in service since long ago.
fn instance(id: InstanceId, time: Timestamp) -> Instance {
    let since = time.checked_sub(jiff::SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    read::serving(id, since)
}

/// The id that comes twice.
fn first_twin(instances: &[Instance]) -> Option<&InstanceId> {
    let mut seen = BTreeSet::new();
    instances.iter().map(|instance| &instance.id).find(|id| !seen.insert(*id))
}
