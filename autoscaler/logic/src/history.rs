//! What a group's policies need to know of the recent past: passed into a decision as data, and carried on by it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::decision::{Action, Decision};
use crate::policy::Evaluation;
use crate::spec::PolicySpec;

/// How far back a group remembers: no stabilization window, rate limit or scale-in control looks further (Google's
/// longest is 60 minutes, as is the HPA's).
pub const LONGEST_MEMORY: Duration = Duration::from_hours(1);

/// Most entries of each kind. A recommendation is kept when it changes, so this is one in 3.5 s for an hour.
const MOST: usize = 1024;

/// The recent past of a group. [`History::record`] carries it on; it is kept with the group's state, so that a new
/// daemon does not begin anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// What was recommended, from when on: each holds until the next, or until the policies did not know any more.
    recommendations: VecDeque<Recommendation>,
    /// Changes of the desired number.
    changes: VecDeque<Change>,
    /// The last action of each kind of policy that waits after one.
    cooldowns: BTreeMap<Cooling, Cooldown>,
    /// Since when nothing starts or drains; `None`: something does.
    settled: Option<Timestamp>,
    /// Since when nothing starts; `None`: something does, or nothing was kept of it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    /// The group's own maximum, where a policy has let the desired number go beyond it.
    exceeded: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Recommendation {
    from: Timestamp,
    count: u32,
    /// When it ended without another; `None`: it holds, or another followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// A change of the desired number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// A kind of policy that waits after it has acted. All of one kind in a group wait together, as AWS's simple policies and
/// Azure's rules do; no kind waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cooling {
    Simple,
    Rules,
}

impl Cooling {
    const ALL: [Self; 2] = [Self::Simple, Self::Rules];

    /// Those that wait after an action of this policy; after one of nobody knows whom all of them.
    fn after(policy: Option<&Evaluation>) -> &'static [Self] {
        match policy.map(|evaluation| &evaluation.policy) {
            None => &Self::ALL,
            Some(PolicySpec::Simple(_)) => &[Self::Simple],
            Some(PolicySpec::Rules(_)) => &[Self::Rules],
            Some(_) => &[],
        }
    }
}

/// An action after which its kind of policy waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cooldown {
    pub(crate) since: Timestamp,
    pub(crate) length: Duration,
}

impl History {
    /// Carries it on by a decision that was taken.
    pub fn record(&mut self, decision: &Decision) {
        let at = decision.at;
        self.rewind(at);
        // A repair or a person's word is no recommendation of the policies.
        let last = self.recommendations.back_mut();
        match (decision.recommended, last) {
            (Some(count), Some(last)) if last.count == count => last.until = None,
            (Some(count), _) => {
                self.recommendations.push_back(Recommendation { from: at, count, until: None });
            }
            // What is not recommended any more goes out of force, also where nothing else is.
            (None, Some(last)) => last.until = last.until.or(Some(at)),
            (None, None) => {}
        }
        if decision.from != decision.to && matches!(decision.action, Action::Out | Action::In) {
            self.changes.push_back(Change { at, from: decision.from, to: decision.to });
        }
        if let Some(length) = decision.cooldown {
            for &kind in Cooling::after(decision.settling_policy()) {
                self.cooldowns.insert(kind, Cooldown { since: at, length });
            }
        }
        self.settled = if decision.settling { None } else { self.settled.or(Some(at)) };
        self.started = if decision.starting { None } else { self.started.or(Some(at)) };
        self.exceeded = decision.exceeds;
        self.forget(before(at, LONGEST_MEMORY));
    }

    /// After the clock was set back: what would be of the future is of now.
    pub fn rewind(&mut self, now: Timestamp) {
        for recommendation in &mut self.recommendations {
            recommendation.from = recommendation.from.min(now);
            recommendation.until = recommendation.until.map(|until| until.min(now));
        }
        for change in &mut self.changes {
            change.at = change.at.min(now);
        }
        for cooldown in self.cooldowns.values_mut() {
            cooldown.since = cooldown.since.min(now);
        }
        self.settled = self.settled.map(|at| at.min(now));
        self.started = self.started.map(|at| at.min(now));
    }

    fn forget(&mut self, oldest: Timestamp) {
        // The recommendation in force at the oldest moment began before it.
        while self.recommendations.len() > MOST
            || self.recommendations.get(1).is_some_and(|next| next.from <= oldest)
            || self.recommendations.front().and_then(|first| first.until).is_some_and(|until| until <= oldest)
        {
            self.recommendations.pop_front();
        }
        while self.changes.len() > MOST || self.changes.front().is_some_and(|change| change.at <= oldest) {
            self.changes.pop_front();
        }
    }

    /// The recommendations in force within a window that ends now, the oldest first.
    pub(crate) fn recommended(&self, window: Duration, now: Timestamp) -> impl Iterator<Item = u32> {
        let oldest = before(now, window);
        let next = self.recommendations.iter().skip(1).map(|next| next.from).chain([Timestamp::MAX]);
        let spans =
            self.recommendations.iter().zip(next).map(|(span, next)| (span, span.until.unwrap_or(next)));
        spans.filter(move |(_, until)| !window.is_zero() && *until > oldest).map(|(span, _)| span.count)
    }

    /// The changes within a period that ends now, the oldest first.
    pub(crate) fn changes(&self, period: Duration, now: Timestamp) -> impl Iterator<Item = &Change> {
        let oldest = before(now, period);
        self.changes.iter().filter(move |change| change.at > oldest)
    }

    /// The last action of this kind of policy.
    pub(crate) fn cooldown(&self, kind: Cooling) -> Option<Cooldown> {
        self.cooldowns.get(&kind).copied()
    }

    /// Since when nothing starts or drains; `None`: something does.
    pub(crate) fn settled(&self) -> Option<Timestamp> {
        self.settled
    }

    /// Since when nothing starts; `None`: something does, or nothing was kept of it yet.
    pub(crate) fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// Whether a policy has let the desired number go beyond this maximum.
    #[must_use]
    pub fn exceeds_by_policy(&self, max: u32) -> bool {
        self.exceeded.is_some_and(|exceeded| exceeded <= max)
    }

    /// The group's own maximum of the last decision, where that was above it. One that has been edited since is another.
    pub(crate) fn exceeded(&self) -> Option<u32> {
        self.exceeded
    }
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recommendation_is_in_force_until_the_next_or_until_nothing_is_known() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut history = History::default();
        let mut record = |second, recommended| {
            history.record(&Decision { at: at(second), recommended, ..Decision::default() });
            history.clone()
        };
        let window = Duration::from_mins(5);
        let within = |history: &History, now| history.recommended(window, at(now)).collect::<Vec<_>>();
        assert_eq!(within(&record(0, Some(9)), 1_000), [9], "it still holds");
        let unknown = record(60, None);
        assert_eq!(within(&unknown, 359), [9]);
        assert_eq!(within(&unknown, 360), [0; 0], "nobody has recommended it for the whole window");
        assert_eq!(within(&record(400, None), 400), [0; 0], "it does not begin anew");
        assert_eq!(within(&record(410, Some(3)), 420), [3]);
        let text = serde_json::to_string(&record(500, None)).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), record(500, None));
        let older = r#"{"recommendations": [{"from": "1970-01-01T00:00:00Z", "count": 9}]}"#;
        let older: History = serde_json::from_str(older).unwrap();
        assert_eq!(within(&older, 1_000), [9], "as it was kept before");
    }
}
