//! The samples of one metric of one source, in the order of time.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::Rejected;

/// Most samples kept of one metric of one source; the oldest go first. With one sample a second that is more
/// than an hour.
pub const MOST_SAMPLES: usize = 4096;

/// 16 bytes: a host has millions of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Microseconds since 1970.
    at: i64,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn at(self) -> Timestamp {
        // What was made from a timestamp is within its range.
        Timestamp::from_microsecond(self.at).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Series(VecDeque<Sample>);

impl Series {
    pub(super) fn push(&mut self, at: Timestamp, value: f64, horizon: Duration) -> Result<(), Rejected> {
        if !value.is_finite() {
            return Err(Rejected::NotANumber);
        }
        if value < 0.0 {
            return Err(Rejected::Negative);
        }
        let at = at.as_microsecond();
        match self.0.back() {
            Some(last) if at == last.at => return Err(Rejected::Duplicate),
            Some(last) if at < last.at => return Err(Rejected::Late),
            _ => {}
        }
        let oldest = at.saturating_sub(micros(horizon));
        // The newest from before the horizon stays: by it one can tell whether the first one after has come when it was due.
        while self.0.len() >= MOST_SAMPLES || self.0.get(1).is_some_and(|sample| sample.at <= oldest) {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            // A deque would double: a quarter is enough, as a series soon has its final length.
            self.0.reserve_exact((self.0.len() / 4).max(4));
        }
        self.0.push_back(Sample { at, value });
        Ok(())
    }

    pub(super) fn rewind(&mut self, now: Timestamp) {
        let now = now.as_microsecond();
        while self.0.back().is_some_and(|sample| sample.at > now) {
            self.0.pop_back();
        }
    }

    pub(super) fn newest(&self) -> Option<(Timestamp, f64)> {
        self.0.back().map(|sample| (sample.at(), sample.value))
    }

    /// When the newest that is not after `time` was taken.
    pub(super) fn last_before(&self, time: Timestamp) -> Option<Timestamp> {
        let after = self.0.partition_point(|sample| sample.at <= time.as_microsecond());
        Some(self.0.get(after.checked_sub(1)?)?.at())
    }

    /// Those of (`from`, `to`], oldest first.
    pub(super) fn within(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl DoubleEndedIterator<Item = Sample> + ExactSizeIterator + Clone {
        let (from, to) = (from.as_microsecond(), to.as_microsecond());
        let begin = self.0.partition_point(|sample| sample.at <= from);
        let end = self.0.partition_point(|sample| sample.at <= to).max(begin);
        self.0.range(begin..end).copied()
    }
}

/// Microseconds, rounded up, so that what is asked for is in it.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(i64::MAX)
}
