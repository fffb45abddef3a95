//! What has been seen and is nobody's, for a while: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_logic::group::InstanceId;
use sluice_logic::spec::CloudName;
use tokio::time::Instant;

use super::clouds::{Seen, Sight};

/// What is nobody's for so long is removed: what is only just being made or removed looks the same for a moment.
const GRACE: Duration = Duration::from_secs(3);

/// What has been seen and is nobody's, where, and since when.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed(BTreeMap<InstanceId, (CloudName, Instant)>);

impl Unclaimed {
    /// Of what is nobody's at this look, what has been so for long enough to be removed.
    pub(crate) fn overdue<'a>(&mut self, strays: &[&'a Seen], sight: &Sight, now: Instant) -> Vec<&'a Seen> {
        let there = |id: &InstanceId| strays.iter().any(|seen| seen.observed.id == *id);
        // Of clouds that do not answer nothing is known: what was seen there keeps its time.
        self.0.retain(|id, (cloud, _)| {
            there(id) || sight.undecided.contains(id) || !sight.answered.contains_key(cloud)
        });
        let overdue = |seen: &&&Seen| {
            let first = (seen.cloud.clone(), now);
            let (_, since) = self.0.entry(seen.observed.id.clone()).or_insert(first);
            now.duration_since(*since) >= GRACE
        };
        strays.iter().filter(overdue).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use sluice_southbound::provider::Presence;

    use super::*;
    use crate::daemon::testing::observed;

    #[test]
    fn what_is_nobodys_for_a_while_is_overdue() {
        let (mut unclaimed, start) = (Unclaimed::default(), Instant::now());
        let seen = Seen { cloud: CloudName::new("here"), observed: observed(2, Presence::Running) };
        let answered = Sight { answered: [(seen.cloud.clone(), start)].into(), ..Sight::default() };
        let mut overdue = |strays: &[&Seen], sight: &Sight, seconds| {
            unclaimed.overdue(strays, sight, start + Duration::from_secs(seconds)).len()
        };
        assert_eq!([0, 2, 3].map(|second| overdue(&[&seen], &answered, second)), [0, 0, 1]);
        assert_eq!(overdue(&[], &Sight::default(), 4), 0, "its cloud is away");
        assert_eq!(overdue(&[&seen], &answered, 5), 1, "it is back");
        let undecided = Sight { undecided: [seen.observed.id.clone()].into(), ..answered.clone() };
        assert_eq!(overdue(&[], &undecided, 5), 0, "it may be somebody's");
        assert_eq!(overdue(&[&seen], &answered, 5), 1, "it is nobody's");
        assert_eq!(overdue(&[], &answered, 6), 0, "it is gone");
        assert_eq!(overdue(&[&seen], &answered, 7), 0, "another one");
    }
}
