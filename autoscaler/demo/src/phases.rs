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

/// What clients do, and what has to come of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Course {
    /// The load, in phases of which there is at least one; the last one lasts until the demo ends.
    pub(crate) phases: &'static [Phase],
    /// Connections that are held open.
    pub(crate) connections: u32,
    /// Streams of pings.
    pub(crate) pings: u32,
    /// The load begins when the first instances serve, at the latest so long after the daemon's start.
    pub(crate) first_instances_within: Duration,
    /// The demo ends at the latest so long after its load began, also when the group is not back at its minimum.
    pub(crate) latest_end: Duration,
    /// Fewest scaling actions each way that it must show.
    pub(crate) actions: u64,
}

/// For instances that start at once, and have 0.1 cores.
///
/// An instance spends 2 ms on a request: 50 requests a second are all it can do, and the threshold of 0.5 lies at 25.
/// The held connections send 20 lines a second more, which cost the same. So by the reactive rule
/// `ceil((load − threshold) / threshold × n)` 70 a second are too much for two instances, 95 for three, and 45 too
/// little for four, 25 for three. What the network costs comes on top (more in a debug build): it changes which number
/// is reached in between, not that the group goes up and comes back. All of it takes about a quarter of a core, so
/// that the demo can also run on a small machine with other work.
pub(crate) const QUICK: Course = Course {
    phases: &[
        Phase { name: "calm", length: Duration::from_secs(12), rate: 10.0 },
        Phase { name: "rising", length: Duration::from_secs(25), rate: 50.0 },
        Phase { name: "peak", length: Duration::from_secs(30), rate: 75.0 },
        Phase { name: "falling", length: Duration::from_secs(30), rate: 25.0 },
        Phase { name: "calm", length: Duration::from_secs(35), rate: 5.0 },
    ],
    connections: 40,
    pings: 20,
    first_instances_within: Duration::from_secs(15),
    latest_end: Duration::from_secs(160),
    actions: 2,
};

/// The same once up and once down: the last phase is as long as a drain, and a buffer time before it.
pub(crate) const BRIEF: Course = Course {
    phases: &[
        Phase { name: "calm", length: Duration::from_secs(3), rate: 10.0 },
        Phase { name: "rising", length: Duration::from_secs(12), rate: 50.0 },
        Phase { name: "calm", length: Duration::from_secs(20), rate: 5.0 },
    ],
    latest_end: Duration::from_secs(90),
    actions: 1,
    ..QUICK
};

/// For virtual machines, which are emulated on every host: each takes a core for some ten seconds to boot, and milliseconds for
/// every packet.
///
/// The load is counted in new flows, of which 8 a second are an instance's share: how fast the host emulates doesn't
/// decide what is shown. 14 are too many for one instance, 24 for two, 10 too few for three, and 2 for two.
pub(crate) const SLOW: Course = Course {
    phases: &[
        Phase { name: "calm", length: Duration::from_secs(10), rate: 2.0 },
        Phase { name: "rising", length: Duration::from_secs(40), rate: 14.0 },
        Phase { name: "peak", length: Duration::from_secs(40), rate: 24.0 },
        Phase { name: "falling", length: Duration::from_secs(25), rate: 10.0 },
        Phase { name: "calm", length: Duration::from_secs(25), rate: 2.0 },
    ],
    connections: 12,
    pings: 6,
    first_instances_within: Duration::from_mins(3),
    latest_end: Duration::from_mins(5),
    actions: 1,
};

impl Course {
    /// The phase at that time since the beginning.
    #[must_use]
    pub(crate) fn phase_at(&self, elapsed: Duration) -> Phase {
        let mut end = Duration::ZERO;
        let lasting = self.phases.iter().find(|phase| {
            end += phase.length;
            elapsed < end
        });
        *lasting.unwrap_or(&self.phases[self.phases.len() - 1])
    }

    /// The length of all phases.
    #[must_use]
    pub(crate) fn planned(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_one_another_and_the_last_one_stays() {
        let name = |seconds| QUICK.phase_at(Duration::from_secs(seconds)).name;
        assert_eq!(
            (name(0), name(11), name(12), name(37), name(67)),
            ("calm", "calm", "rising", "peak", "falling")
        );
        for course in [QUICK, BRIEF, SLOW] {
            assert_eq!(Some(&course.phase_at(Duration::from_secs(5000))), course.phases.last());
            assert!(course.planned() < course.latest_end);
        }
    }
}
