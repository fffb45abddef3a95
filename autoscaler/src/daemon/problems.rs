//! What is not as it should be on the host, from the poll that finds it to the poll that finds it mended.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use sluice_northbound::api::{EventKind, HostProblem};

use super::events::{EventLog, NewEvent};

/// A problem as its finder knows it. Two with the same `about` and `what` are one that lasts, so numbers that change
/// belong in `way_out`, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// See [`HostProblem::about`].
    pub(crate) about: String,
    /// See [`HostProblem::what`].
    pub(crate) what: String,
    /// See [`HostProblem::way_out`].
    pub(crate) way_out: String,
}

/// The problems that last, by who finds them.
///
/// Each finder (a check of the host, a tenant's task) tells all that it finds each time it has checked; what it does
/// not tell any more is solved. A finder that could not check tells nothing, and its problems stay.
#[derive(Debug, Default)]
pub(crate) struct Problems(Mutex<BTreeMap<String, Vec<HostProblem>>>);

impl Problems {
    /// Takes all that a finder finds now, in place of what it found before. What is new, and what is solved, is an
    /// event.
    pub(crate) fn set(&self, events: &EventLog, finder: &str, findings: Vec<Finding>) {
        for event in self.replace(finder, findings, Timestamp::now()) {
            events.record(event);
        }
    }

    /// All that last, oldest first.
    pub(crate) fn list(&self) -> Vec<HostProblem> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = found.values().flatten().cloned().collect();
        all.sort_by(|a, b| (a.since, &a.about, &a.what).cmp(&(b.since, &b.about, &b.what)));
        all
    }

    fn replace(&self, finder: &str, findings: Vec<Finding>, now: Timestamp) -> Vec<NewEvent> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = found.remove(finder).unwrap_or_default();
        let mut events = Vec::new();
        let mut lasting: Vec<HostProblem> = Vec::with_capacity(findings.len());
        for Finding { about, what, way_out } in findings {
            let same = |known: &&HostProblem| known.about == about && known.what == what;
            if lasting.iter().any(|known| same(&known)) {
                continue;
            }
            let since = before.iter().find(same).map(|known| known.since);
            if since.is_none() {
                events.push(NewEvent::new(EventKind::ProblemFound, format!("{about}: {what}; {way_out}")));
            }
            lasting.push(HostProblem { since: since.unwrap_or(now), about, what, way_out });
        }
        for HostProblem { about, what, .. } in before {
            if !lasting.iter().any(|known| known.about == about && known.what == what) {
                events
                    .push(NewEvent::new(EventKind::ProblemSolved, format!("{about}: no longer so: {what}")));
            }
        }
        if !lasting.is_empty() {
            found.insert(finder.to_owned(), lasting);
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::at;

    fn finding(about: &str, what: &str) -> Finding {
        let way_out = "mend it".to_owned();
        Finding { about: about.to_owned(), what: what.to_owned(), way_out }
    }

    #[test]
    fn a_problem_keeps_its_time_while_it_lasts() {
        let problems = Problems::default();
        let found = |second, findings| problems.replace("uplink", findings, at(second)).len();
        assert_eq!(found(1, vec![finding("a", "down"), finding("a", "down")]), 1, "one begins");
        assert_eq!(found(2, vec![finding("a", "down"), finding("b", "down")]), 1, "another begins");
        let since: Vec<_> =
            problems.list().into_iter().map(|problem| (problem.about, problem.since)).collect();
        assert_eq!(since, [("a".to_owned(), at(1)), ("b".to_owned(), at(2))]);
        assert_eq!(found(3, vec![finding("b", "down")]), 1, "the first is solved");
        assert_eq!(found(4, Vec::new()), 1, "so is the second");
        assert_eq!(problems.list(), []);
    }

    #[test]
    fn finders_speak_for_themselves_alone() {
        let problems = Problems::default();
        problems.replace("uplink", vec![finding("a", "down")], at(1));
        problems.replace("vip", vec![finding("a", "taken")], at(2));
        problems.replace("vip", Vec::new(), at(3));
        assert_eq!(problems.list().len(), 1);
    }
}
