//! How long instances take to start.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many of the newest are kept: a group that changes its image has soon forgotten the one before.
const MOST: usize = 16;

/// The newest start times of a group's instances: from an instance's launch until it serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTimes(VecDeque<Duration>);

impl StartTimes {
    /// Takes one that was measured just now.
    pub fn record(&mut self, took: Duration) {
        while self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// The time that nine of ten starts stay within (nearest rank), so that a single slow one says nothing once there
    /// are enough; `None` before one was measured.
    #[must_use]
    pub fn expected(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 9).div_ceil(10).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_of_the_newest() {
        let mut starts = StartTimes::default();
        assert_eq!(starts.expected(), None);
        starts.record(Duration::from_mins(5));
        assert_eq!(starts.expected(), Some(Duration::from_mins(5)), "the only one");
        (1..=10).for_each(|seconds| starts.record(Duration::from_secs(seconds)));
        assert_eq!(starts.expected(), Some(Duration::from_secs(10)), "one of eleven is an exception");
        (0..16).for_each(|_| starts.record(Duration::from_secs(2)));
        assert_eq!(starts.expected(), Some(Duration::from_secs(2)), "what was before is forgotten");
    }
}
