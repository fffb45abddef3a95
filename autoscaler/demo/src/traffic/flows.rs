//! The record of held flows: when each began, which instance held it, when it last answered, and how it ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;

use super::failure::{Failure, FailureKind};

/// Failures kept with their details; beyond, they are only counted.
const DETAILS: usize = 200;

/// All flows of a kind of client, also those that have ended.
#[derive(Debug, Clone, Default)]
pub struct FlowLog(Arc<Mutex<Vec<Record>>>);

#[derive(Debug)]
struct Record {
    instance: Option<InstanceId>,
    /// The first and the last answer.
    answered: Option<(Timestamp, Timestamp)>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Completed,
    Broken { at: Timestamp, failure: Failure },
}

/// A flow that is open. Dropping it without an end (a client that was aborted) leaves it counted as open.
#[derive(Debug)]
pub struct OpenFlow {
    log: FlowLog,
    index: usize,
}

/// How a kind of client's flows have fared so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounts {
    /// Flows begun.
    pub opened: u64,
    /// Flows open now.
    pub open: u64,
    /// Flows that we ended, as planned.
    pub completed: u64,
    /// Flows that ended in another way.
    pub broken: u64,
    /// The broken ones by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Flows open now, by the instance that holds them; those without an answer yet are in none.
    pub open_by_instance: BTreeMap<InstanceId, u64>,
}

/// A flow that broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenFlow {
    /// When.
    pub at: Timestamp,
    /// The instance that held it, when one had answered.
    pub instance: Option<InstanceId>,
    /// How.
    pub failure: Failure,
}

impl FlowLog {
    /// Begins a flow.
    #[must_use]
    pub fn open(&self) -> OpenFlow {
        let mut records = self.lock();
        records.push(Record { instance: None, answered: None, end: None });
        OpenFlow { log: self.clone(), index: records.len() - 1 }
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> FlowCounts {
        let mut counts = FlowCounts::default();
        for record in self.lock().iter() {
            counts.opened += 1;
            match &record.end {
                Some(End::Completed) => counts.completed += 1,
                Some(End::Broken { failure, .. }) => {
                    counts.broken += 1;
                    *counts.failures.entry(failure.kind).or_default() += 1;
                }
                None => {
                    counts.open += 1;
                    if let Some(instance) = &record.instance {
                        *counts.open_by_instance.entry(instance.clone()).or_default() += 1;
                    }
                }
            }
        }
        counts
    }

    /// How many flows were answered both before and after that moment: those that were held across it.
    #[must_use]
    pub fn held_across(&self, moment: Timestamp) -> u64 {
        let held = |record: &&Record| matches!(record.answered, Some((first, last)) if first < moment && moment < last);
        self.lock().iter().filter(held).count() as u64
    }

    /// The flows that broke, oldest first, at most 200.
    #[must_use]
    pub fn broken(&self) -> Vec<BrokenFlow> {
        let details = |record: &Record| match &record.end {
            Some(End::Broken { at, failure }) => {
                Some(BrokenFlow { at: *at, instance: record.instance.clone(), failure: failure.clone() })
            }
            Some(End::Completed) | None => None,
        };
        self.lock().iter().filter_map(details).take(DETAILS).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        // A record is never half written: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenFlow {
    /// An answer came, from nobody we could name (a ping).
    pub fn answered(&self) {
        self.with(Record::answered);
    }

    /// An answer came from `instance`: it must be the one that gave the first.
    pub fn answered_by(&self, instance: &InstanceId) -> Result<(), Failure> {
        self.with(|record| match &record.instance {
            Some(holder) if holder != instance => Err(Failure::other_instance(holder, instance)),
            _ => {
                record.instance = Some(instance.clone());
                record.answered();
                Ok(())
            }
        })
    }

    /// Ends the flow: as planned, or by a failure.
    pub fn end(self, outcome: Result<(), Failure>) {
        let end = match outcome {
            Ok(()) => End::Completed,
            Err(failure) => End::Broken { at: Timestamp::now(), failure },
        };
        self.with(|record| record.end = Some(end));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.log.lock()[self.index])
    }
}

impl Record {
    fn answered(&mut self) {
        let now = Timestamp::now();
        self.answered = Some((self.answered.map_or(now, |(first, _)| first), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InstanceId {
        InstanceId::from_label(text)
    }

    #[test]
    fn a_flow_is_held_across_a_moment_only_with_answers_on_both_sides() {
        let log = FlowLog::default();
        let before = Timestamp::now();
        let (early, late) = (log.open(), log.open());
        early.answered();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let moment = Timestamp::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(log.held_across(moment), 0, "nothing has answered since");
        early.answered();
        late.answered();
        assert_eq!(log.held_across(moment), 1, "the late one had not answered before");
        assert_eq!(log.held_across(before), 0);
    }

    #[test]
    fn an_answer_of_another_instance_breaks_a_flow() {
        let log = FlowLog::default();
        let flow = log.open();
        flow.answered_by(&id("a")).expect("the first answer names the holder");
        let outcome = flow.answered_by(&id("b"));
        assert_eq!(outcome.as_ref().map_err(|failure| failure.kind), Err(FailureKind::OtherInstance));
        flow.end(outcome);
        let counts = log.counts();
        assert_eq!((counts.opened, counts.open, counts.completed, counts.broken), (1, 0, 0, 1));
        assert_eq!(counts.failures.get(&FailureKind::OtherInstance), Some(&1));
        assert_eq!(log.broken()[0].instance, Some(id("a")));
    }
}
