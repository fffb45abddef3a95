//! What became of the decisions that changed something: pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::decision::Action;

use crate::record::{Census, DecisionRecord};

/// A decision that changed the desired number, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// The decision and the group as it stood.
    #[serde(flatten)]
    pub record: DecisionRecord,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a change of the desired number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// So many were in service, and nothing started or drained any more.
    Reached {
        /// When that was seen.
        at: Timestamp,
    },
    /// Another decision changed the number before that.
    Overtaken {
        /// When.
        at: Timestamp,
        /// To what.
        by: u32,
    },
    /// Neither has been seen.
    UnderWay {
        /// How the group stood last.
        instances: Census,
        /// What stands in the way, where something is known to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
}

impl Outcome {
    /// Its kind, as in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reached { .. } => "reached",
            Self::Overtaken { .. } => "overtaken",
            Self::UnderWay { .. } => "under_way",
        }
    }
}

impl Activity {
    /// How long it took to be reached.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let Outcome::Reached { at } = self.outcome else { return None };
        Duration::try_from(at.duration_since(self.record.decision.at)).ok()
    }
}

/// Follows a group's decisions, oldest first, and finds out what became of those that changed something.
#[derive(Debug, Default)]
pub struct Following {
    found: Vec<Activity>,
}

impl Following {
    /// Takes in the next decision.
    pub fn take(&mut self, record: DecisionRecord) {
        let (at, changes) = (record.decision.at, is_change(&record));
        if let Some(last) = self.found.last_mut()
            && let Outcome::UnderWay { instances, problem } = &mut last.outcome
        {
            instances.clone_from(&record.instances);
            problem.clone_from(&record.problem);
            if is_settled(record.instances, last.record.decision.to) {
                last.outcome = Outcome::Reached { at };
            } else if changes {
                last.outcome = Outcome::Overtaken { at, by: record.decision.to };
            }
        }
        if changes {
            let outcome = Outcome::UnderWay { instances: record.instances, problem: record.problem.clone() };
            self.found.push(Activity { record, outcome });
        }
    }

    /// The decisions that changed something, each with its outcome as those that followed it have shown.
    #[must_use]
    pub fn finish(self) -> Vec<Activity> {
        self.found
    }
}

/// Whether a decision changes the desired number.
fn is_change(record: &DecisionRecord) -> bool {
    record.decision.action != Action::Nothing && record.decision.from != record.decision.to
}

fn is_settled(instances: Census, wanted: u32) -> bool {
    instances.in_service == wanted && instances.pending == 0 && instances.draining == 0
}

#[cfg(test)]
mod tests {
    use sluice_logic::decision::Decision;

    use super::*;

    fn activities(records: impl IntoIterator<Item = DecisionRecord>) -> Vec<Activity> {
        let mut following = Following::default();
        records.into_iter().for_each(|record| following.take(record));
        following.finish()
    }

    fn record(second: i64, (from, to): (u32, u32), in_service: u32, pending: u32) -> DecisionRecord {
        let at = Timestamp::from_second(second).unwrap();
        let action = if from == to { "nothing" } else { "out" };
        let decision =
            serde_json::json!({ "at": at, "from": from, "to": to, "reason": "", "action": action });
        let decision: Decision = serde_json::from_value(decision).unwrap();
        let instances = Census { pending, in_service, ..Census::default() };
        DecisionRecord { decision, instances, problem: None }
    }

    #[test]
    fn an_activity_ends_when_its_number_is_in_service() {
        let records = [
            record(0, (2, 4), 2, 0),
            record(1, (4, 4), 2, 2),
            record(3, (4, 4), 4, 0),
            record(4, (4, 4), 4, 0),
        ];
        let found = activities(records);
        let [activity] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!(activity.outcome, Outcome::Reached { at: Timestamp::from_second(3).unwrap() });
        assert_eq!(activity.took(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn an_activity_may_be_overtaken_or_still_under_way() {
        let mut last = record(2, (5, 5), 2, 3);
        last.problem = Some("this host is full".to_owned());
        let found = activities([record(0, (2, 4), 2, 0), record(1, (4, 5), 2, 2), last.clone()]);
        let by_the_next = Outcome::Overtaken { at: Timestamp::from_second(1).unwrap(), by: 5 };
        assert_eq!(found[0].outcome, by_the_next);
        assert_eq!(found[1].outcome, Outcome::UnderWay { instances: last.instances, problem: last.problem });
        assert_eq!(found[1].took(), None);
    }

    #[test]
    fn one_that_is_reached_as_the_next_begins_was_reached() {
        let found = activities([record(0, (2, 4), 2, 0), record(9, (4, 5), 4, 0)]);
        assert_eq!(found[0].outcome.name(), "reached");
        assert_eq!(found[1].outcome.name(), "under_way");
    }
}
