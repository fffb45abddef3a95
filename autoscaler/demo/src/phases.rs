//! How the load of the demo rises and falls.

use std::time::Duration;

/// A stretch of time with one rate of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Phase {
    /// Its name, for people.
    pub(crate) name: &'static str,
    /// How long it lasts.
    pub(crate) length: Duration,
    /// HTTP requests a second.
    pub(crate) rate: f64,
}

/// The demo's load.
///
/// An instance has 0.2 cores and spends 2 ms on a request: 100 requests a second are all it can do, and the threshold
/// of 0.5 lies at 50. The held connections send 40 lines a second more, which cost the same. So with the reactive
/// rule `ceil((load − threshold) / threshold × n)`: 150 a second on two instances is a load of 0.75, one more; 225 on
/// three is 0.75 again, two more; 105 on five is 0.21, two fewer; and 55 on three leads back to the minimum of two.
/// What the network costs comes on top, and changes which number is reached in between, not that it is reached.
pub(crate) const PHASES: [Phase; 5] = [
    Phase { name: "calm", length: Duration::from_secs(12), rate: 40.0 },
    Phase { name: "rising", length: Duration::from_secs(25), rate: 110.0 },
    Phase { name: "peak", length: Duration::from_secs(30), rate: 185.0 },
    Phase { name: "falling", length: Duration::from_secs(30), rate: 65.0 },
    Phase { name: "calm", length: Duration::from_secs(35), rate: 15.0 },
];

/// The demo ends at the latest so long after its load began, also when the group is not back at its minimum.
pub(crate) const LATEST_END: Duration = Duration::from_secs(160);

/// The phase at that time since the beginning; the last one lasts until the demo ends.
#[must_use]
pub(crate) fn phase_at(elapsed: Duration) -> Phase {
    let mut end = Duration::ZERO;
    let lasting = PHASES.iter().find(|phase| {
        end += phase.length;
        elapsed < end
    });
    *lasting.unwrap_or(&PHASES[PHASES.len() - 1])
}

/// The length of all phases.
#[must_use]
pub(crate) fn planned() -> Duration {
    PHASES.iter().map(|phase| phase.length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_one_another_and_the_last_one_stays() {
        let name = |seconds| phase_at(Duration::from_secs(seconds)).name;
        assert_eq!(
            (name(0), name(11), name(12), name(37), name(67)),
            ("calm", "calm", "rising", "peak", "falling")
        );
        assert_eq!(phase_at(Duration::from_secs(5000)), PHASES[4]);
        assert!(planned() < LATEST_END);
    }
}
