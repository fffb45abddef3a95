//! Each instance's part of the flows that began lately, by the load balancer's counters.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sluice_logic::group::InstanceId;

/// Long enough for some hundred flows of the demo, so that the shares do not jump about.
const WINDOW: Duration = Duration::from_secs(5);

/// Counts of begun flows over the last five seconds.
#[derive(Debug, Default)]
pub(crate) struct RecentShares(VecDeque<(Duration, BTreeMap<InstanceId, u64>)>);

impl RecentShares {
    /// Takes the counts at a moment, and returns each instance's part of what was counted since the oldest moment in
    /// the window. An instance that was not there then had begun no flow.
    pub(crate) fn add(
        &mut self,
        at: Duration,
        counts: impl IntoIterator<Item = (InstanceId, u64)>,
    ) -> BTreeMap<InstanceId, f64> {
        let counts: BTreeMap<_, _> = counts.into_iter().collect();
        self.0.push_back((at, counts.clone()));
        while self.0.front().is_some_and(|(then, _)| at.saturating_sub(*then) > WINDOW) {
            self.0.pop_front();
        }
        let none = BTreeMap::new();
        let oldest = self.0.front().map_or(&none, |(_, counts)| counts);
        let since = |(id, count): (InstanceId, u64)| {
            let begun = count.saturating_sub(oldest.get(&id).copied().unwrap_or(0));
            (id, u32::try_from(begun).unwrap_or(u32::MAX))
        };
        let begun: BTreeMap<_, _> = counts.into_iter().map(since).collect();
        let total: f64 = begun.values().copied().map(f64::from).sum();
        begun
            .into_iter()
            .map(|(id, begun)| (id, if total > 0.0 { f64::from(begun) / total } else { 0.0 }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_counted_in_the_window() {
        let id = InstanceId::from_label;
        let mut shares = RecentShares::default();
        let seconds = Duration::from_secs;
        shares.add(seconds(0), [(id("a"), 1000)]);
        shares.add(seconds(4), [(id("a"), 1000)]);
        let at_6 = shares.add(seconds(6), [(id("a"), 1030), (id("b"), 10)]);
        assert_eq!(at_6, BTreeMap::from([(id("a"), 0.75), (id("b"), 0.25)]));
        let at_60 = shares.add(seconds(60), [(id("a"), 2000)]);
        assert_eq!(at_60, BTreeMap::from([(id("a"), 0.0)]), "nothing to compare with");
    }
}
