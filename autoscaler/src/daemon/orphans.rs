//! Orphans, and for how long each has been one: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_logic::group::InstanceId;
use sluice_logic::spec::CloudName;
use tokio::time::Instant;

use super::clouds::{Observation, Snapshot};

/// An orphan is removed after so long: an instance that is just being made or removed looks the same for a moment.
const GRACE: Duration = Duration::from_secs(3);

/// The orphans: in which cloud each is, and since when.
#[derive(Debug, Default)]
pub(crate) struct Orphans(BTreeMap<InstanceId, (CloudName, Instant)>);

impl Orphans {
    /// The orphans of this poll that have been orphans for long enough to be removed.
    pub(crate) fn overdue<'a>(
        &mut self,
        strays: &[&'a Observation],
        snapshot: &Snapshot,
        now: Instant,
    ) -> Vec<&'a Observation> {
        let there = |id: &InstanceId| strays.iter().any(|seen| seen.observed.id == *id);
        // Of clouds that do not answer nothing is known: what was seen there keeps its time.
        self.0.retain(|id, (cloud, _)| {
            there(id) || snapshot.undecided.contains(id) || !snapshot.answered.contains_key(cloud)
        });
        let overdue = |seen: &&&Observation| {
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
        let (mut orphans, start) = (Orphans::default(), Instant::now());
        let seen = Observation { cloud: CloudName::new("here"), observed: observed(2, Presence::Running) };
        let answered = Snapshot { answered: [(seen.cloud.clone(), start)].into(), ..Snapshot::default() };
        let mut overdue = |strays: &[&Observation], snapshot: &Snapshot, seconds| {
            orphans.overdue(strays, snapshot, start + Duration::from_secs(seconds)).len()
        };
        assert_eq!([0, 2, 3].map(|second| overdue(&[&seen], &answered, second)), [0, 0, 1]);
        assert_eq!(overdue(&[], &Snapshot::default(), 4), 0, "its cloud is away");
        assert_eq!(overdue(&[&seen], &answered, 5), 1, "it is back");
        let undecided = Snapshot { undecided: [seen.observed.id.clone()].into(), ..answered.clone() };
        assert_eq!(overdue(&[], &undecided, 5), 0, "it may be somebody's");
        assert_eq!(overdue(&[&seen], &answered, 5), 1, "it is an orphan");
        assert_eq!(overdue(&[], &answered, 6), 0, "it is gone");
        assert_eq!(overdue(&[&seen], &answered, 7), 0, "another one");
    }
}
