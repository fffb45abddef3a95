//! How long to wait before what has failed is tried again: pure.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait, before jitter.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait, before jitter.
const LONGEST: Duration = Duration::from_mins(1);

/// Exponential back-off with jitter: each failure in a row doubles the wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Whether it may be tried now.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// How long it may not be tried yet.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.until.map(|until| until.saturating_duration_since(now)).unwrap_or_default()
    }

    /// It has failed. `jitter`, from 0 to 1, spreads the next tries of many over half to the whole of the wait.
    /// Returns the wait. What fails while it waits was begun before: that is the same failure.
    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) -> Duration {
        if !self.allows(now) {
            return self.left(now);
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        let wait = wait.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + wait);
        wait
    }

    /// It has worked.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_minute() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        assert!(backoff.allows(now));
        let mut wait = || {
            now += backoff.left(now);
            backoff.failed(now, 1.0).as_secs()
        };
        assert_eq!([(); 8].map(|()| wait()), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!backoff.allows(now));
        assert!(backoff.allows(now + LONGEST));
        backoff.succeeded();
        assert!(backoff.allows(now));
    }

    #[test]
    fn what_fails_at_the_same_time_fails_once() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert_eq!([(); 3].map(|()| backoff.failed(now, 1.0)), [FIRST; 3]);
        assert_eq!(backoff.left(now + FIRST / 2), FIRST / 2);
        assert_eq!(backoff.failed(now + FIRST, 1.0), FIRST * 2);
    }

    #[test]
    fn jitter_takes_up_to_half_of_it_away() {
        let now = Instant::now();
        assert_eq!(Backoff::default().failed(now, 0.0), FIRST / 2);
    }
}
