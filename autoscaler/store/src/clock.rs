//! When the host's clock may be believed enough to delete by it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A clock that goes further ahead than this at once is not believed,
const LARGEST_STEP: SignedDuration = SignedDuration::from_hours(24);
/// before it has stayed there for so long. A host that was off for days keeps what is old for a day longer.
const LASTING: Duration = Duration::from_hours(24);

/// Compares the host's clock with the time that passes by the monotonic clock, which nobody sets.
///
/// History is deleted by its age. A clock that is years ahead for a minute, as before NTP has answered, would make all
/// of it old; so nothing is deleted by a clock that has jumped until the jump has lasted.
#[derive(Debug)]
pub struct PruneClock {
    /// A time that was believed, and when that was.
    believed: Option<(Timestamp, Instant)>,
    /// Since when the clock is elsewhere.
    doubted: Option<Instant>,
}

impl PruneClock {
    /// A clock that is compared with the newest of what is kept, where there is any.
    #[must_use]
    pub fn new(newest: Option<Timestamp>, now: Instant) -> Self {
        Self { believed: newest.map(|newest| (newest, now)), doubted: None }
    }

    /// Whether what is too old by `clock` may be deleted. To be asked each time.
    pub fn believes(&mut self, clock: Timestamp, now: Instant) -> bool {
        let jumped = self.believed.is_some_and(|(then, at)| {
            let passed = SignedDuration::try_from(now.duration_since(at)).unwrap_or(SignedDuration::MAX);
            clock.duration_since(then) > passed.saturating_add(LARGEST_STEP)
        });
        if jumped && now.duration_since(*self.doubted.get_or_insert(now)) < LASTING {
            return false;
        }
        // One that was set back makes nothing old.
        (self.believed, self.doubted) = (Some((clock, now)), None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap()
    }

    #[test]
    fn years_ahead_for_a_minute_deletes_nothing() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut clock = PruneClock::new(Some(at(0)), begin);
        assert!(clock.believes(at(60), after(60)));
        assert!(!clock.believes(at(60 + 1_000 * DAY), after(120)));
        assert!(!clock.believes(at(120 + 1_000 * DAY), after(180)));
        assert!(clock.believes(at(240), after(240)), "it is right again");
        assert!(clock.believes(at(300), after(300)));
    }

    #[test]
    fn a_clock_that_is_wrong_from_the_start_is_compared_with_what_is_kept() {
        let begin = Instant::now();
        let mut clock = PruneClock::new(Some(at(0)), begin);
        assert!(!clock.believes(at(1_000 * DAY), begin));
        assert!(clock.believes(at(3_600), begin), "off for an hour");
        assert!(PruneClock::new(None, begin).believes(at(0), begin), "there is nothing to lose");
    }

    #[test]
    fn a_jump_that_lasts_is_the_time() {
        let begin = Instant::now();
        let mut clock = PruneClock::new(Some(at(0)), begin);
        for hours in 0..24 {
            let passed = hours * 3_600;
            assert!(!clock.believes(at(9 * DAY + passed), begin + Duration::from_secs(passed)), "{hours}");
        }
        assert!(clock.believes(at(10 * DAY), begin + Duration::from_secs(DAY)));
        assert!(clock.believes(at(10 * DAY + 60), begin + Duration::from_secs(DAY + 60)));
    }

    #[test]
    fn one_that_is_set_back_is_believed() {
        let begin = Instant::now();
        let mut clock = PruneClock::new(Some(at(9 * DAY)), begin);
        assert!(clock.believes(at(0), begin));
        assert!(clock.believes(at(60), begin + Duration::from_mins(1)));
    }
}
