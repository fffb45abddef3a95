//! Which decisions to do nothing are worth a line in the event log: pure.

use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use sluice_logic::decision::{Action, Clip, Decision};
use sluice_logic::policy::Wish;
use tokio::time::Instant;

/// A load that swings about its threshold makes no more than a line in so long.
const QUIET: Duration = Duration::from_secs(10);

/// The reason to do nothing that was told last.
#[derive(Debug, Default)]
pub(super) struct Holds {
    told: Option<(Why, Instant)>,
}

/// A reason without its numbers, which change with each sample.
#[derive(Debug, PartialEq, Eq)]
struct Why {
    action: Action,
    wishes: Vec<Discriminant<Wish>>,
    clips: Vec<Discriminant<Clip>>,
}

impl Holds {
    /// Whether the decision does nothing for another reason than the one told last.
    pub(super) fn is_news(&mut self, decision: &Decision, now: Instant) -> bool {
        if decision.action != Action::Nothing {
            return false;
        }
        let why = Why {
            action: decision.action,
            wishes: decision.policies.iter().map(|policy| discriminant(&policy.wish)).collect(),
            clips: decision.clips.iter().map(discriminant).collect(),
        };
        let known = |(told, at): &(Why, Instant)| *told == why || now.duration_since(*at) < QUIET;
        if self.told.as_ref().is_some_and(known) {
            return false;
        }
        self.told = Some((why, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::at;

    fn hold(reason: &str, clips: Vec<Clip>) -> Decision {
        Decision {
            at: at(0),
            from: 2,
            to: 2,
            reason: reason.to_owned(),
            action: Action::Nothing,
            clips,
            ..Decision::default()
        }
    }

    #[test]
    fn the_same_reason_with_other_numbers_is_no_news() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        assert!(holds.is_news(&hold("29 %", vec![Clip::Min { min: 2 }]), now));
        assert!(!holds.is_news(&hold("28 %", vec![Clip::Min { min: 2 }]), now + 2 * QUIET));
    }

    #[test]
    fn another_reason_is_news_but_not_twice_at_once() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let other = hold("at the most", vec![Clip::Max { max: 2 }]);
        assert!(holds.is_news(&hold("at the least", vec![Clip::Min { min: 2 }]), now));
        assert!(!holds.is_news(&other, now + QUIET / 2));
        assert!(holds.is_news(&other, now + QUIET));
    }

    #[test]
    fn what_changes_something_is_no_hold() {
        let out = Decision { to: 3, action: Action::Out, ..hold("2 → 3", Vec::new()) };
        assert!(!Holds::default().is_news(&out, Instant::now()));
    }
}
