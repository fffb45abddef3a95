//! A recorded load.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A measured load, and where it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The beginning of the interval that it is about.
    pub at: Timestamp,
    /// The load on the whole group: finite and not negative.
    pub value: f64,
    /// The line of the file, for messages.
    pub line: u64,
}

/// A load at even intervals. Between two points it stays what the first of them says: each is the load of the
/// interval that it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    start: Timestamp,
    interval: Duration,
    values: Vec<f64>,
    silences: Vec<(Timestamp, Timestamp)>,
}

/// Why points are not a [`Trace`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadTrace {
    /// Fewer than two points.
    #[error("it has {0} values, and needs two at least: the interval is the time between them")]
    TooShort(usize),
    /// A value is no load.
    #[error("line {line}: the value {value} is no load: it has to be a finite number that is not negative")]
    NoLoad {
        /// Where.
        line: u64,
        /// What.
        value: f64,
    },
    /// A time is not later than the one before.
    #[error(
        "line {line}: {at} is not after {before} of line {line_before}: sort the file by time, each time once"
    )]
    NotSorted {
        /// Where.
        line: u64,
        /// What.
        at: Timestamp,
        /// What was before.
        before: Timestamp,
        /// Where that was.
        line_before: u64,
    },
    /// Points are missing.
    #[error(
        "line {line}: a gap: {at} comes {} after {before}, and the interval is {}. Fill it, or say how to take it with \
         `--gaps hold` or `--gaps silent`",
        pretty(*.distance), pretty(*.interval)
    )]
    Gap {
        /// Where the gap ends.
        line: u64,
        /// The first time after it.
        at: Timestamp,
        /// The last time before it.
        before: Timestamp,
        /// How long it is.
        distance: Duration,
        /// How long it should be.
        interval: Duration,
    },
    /// Two points are closer than the interval, and it is not a multiple of their distance.
    #[error(
        "line {line}: {at} comes {} after the line before, and the interval of the file is {}: bring it to one interval",
        pretty(*.distance), pretty(*.interval)
    )]
    Uneven {
        /// Where.
        line: u64,
        /// When.
        at: Timestamp,
        /// How far from the one before.
        distance: Duration,
        /// What is usual in the file.
        interval: Duration,
    },
    /// More steps than anybody waits for.
    #[error(
        "it spans {steps} steps of {}, more than {max}: cut it",
        pretty(*.interval), max = Trace::MOST_STEPS
    )]
    TooLong {
        /// How many.
        steps: u128,
        /// How long each is: the most common time between two points.
        interval: Duration,
    },
    /// No load at all, so no instance can be sized by its peak.
    #[error("its largest value is 0: there is nothing to scale for")]
    NothingHappens,
}

fn pretty(duration: Duration) -> String {
    format!("{:#}", SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX))
}

/// A mean interval is a number of whole seconds where it is so near to one.
const NEARLY: f64 = 0.005;

/// A trace begins with a whole interval where it is so near to one, in intervals.
const ALIGNED: f64 = 0.1;

/// What is made of missing points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gaps {
    /// A fault.
    #[default]
    Refuse,
    /// The load stays what it was.
    Hold,
    /// The load stays what it was, and nobody measures it.
    Silent,
}

impl Trace {
    /// The longest trace, in steps: ten years of minutes.
    pub const MOST_STEPS: u64 = 10 * 366 * 24 * 60;

    /// Takes points as they were read.
    pub fn from_points(points: &[Point], gaps: Gaps) -> Result<Self, BadTrace> {
        let [first, .., last] = points else { return Err(BadTrace::TooShort(points.len())) };
        for &Point { value, line, .. } in points {
            if !value.is_finite() || value < 0.0 {
                return Err(BadTrace::NoLoad { line, value });
            }
        }
        let distances = distances(points)?;
        let (interval, is_even) = interval(&distances);
        let span = last.at.duration_since(first.at).unsigned_abs();
        let steps = span.as_nanos() / interval.as_nanos().max(1);
        if steps > u128::from(Self::MOST_STEPS) {
            return Err(BadTrace::TooLong { steps, interval });
        }
        let start = if is_even { first.at } else { aligned(first.at, interval) };
        let mut trace = Self { start, interval, values: Vec::new(), silences: Vec::new() };
        for (pair, &distance) in points.windows(2).zip(&distances) {
            let [before, after] = pair else { continue };
            trace.append(before, after, distance, gaps)?;
        }
        trace.values.push(last.value);
        if trace.peak() <= 0.0 {
            return Err(BadTrace::NothingHappens);
        }
        Ok(trace)
    }

    fn append(
        &mut self,
        before: &Point,
        after: &Point,
        distance: Duration,
        gaps: Gaps,
    ) -> Result<(), BadTrace> {
        let interval = self.interval;
        let (line, at) = (after.line, after.at);
        let count = (distance.as_secs_f64() / interval.as_secs_f64()).round();
        let off = (distance.as_secs_f64() - count * interval.as_secs_f64()).abs();
        if count < 1.0 || off > 0.5 * interval.as_secs_f64() {
            return Err(BadTrace::Uneven { line, at, distance, interval });
        }
        if count > 1.0 && gaps == Gaps::Refuse {
            return Err(BadTrace::Gap { line, at, before: before.at, distance, interval });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
        let count = count as usize;
        if count > 1 && gaps == Gaps::Silent {
            let known_until = self.time(self.values.len() + 1);
            self.silences.push((known_until, self.time(self.values.len() + count)));
        }
        self.values.extend(std::iter::repeat_n(before.value, count));
        Ok(())
    }

    /// A trace that was made, not read: `values` at even intervals from 1970 on, without samples in `silences`.
    pub(super) fn made(interval: Duration, values: Vec<f64>, silences: &[(usize, usize)]) -> Self {
        let mut trace = Self { start: Timestamp::UNIX_EPOCH, interval, values, silences: Vec::new() };
        trace.silences = silences.iter().map(|&(from, to)| (trace.time(from), trace.time(to))).collect();
        trace
    }

    /// When the interval of this number begins.
    fn time(&self, index: usize) -> Timestamp {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.start.checked_add(self.interval.saturating_mul(index)).unwrap_or(Timestamp::MAX)
    }

    /// Its first part: a share of its values, one at least.
    #[must_use]
    pub fn first_part(&self, share: f64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share"
        )]
        let count = (self.values.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        Self { values: self.values[..count.clamp(1, self.values.len())].to_vec(), ..self.clone() }
    }

    /// When it begins.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The time from one value to the next.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// How long it is: the last value holds for one interval too.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.interval.saturating_mul(u32::try_from(self.values.len()).unwrap_or(u32::MAX))
    }

    /// Its largest value.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }

    /// The mean load from `offset` on for `step`; 0 outside.
    #[must_use]
    pub fn load(&self, offset: Duration, step: Duration) -> f64 {
        let interval = self.interval.as_secs_f64();
        let (from, to) = (offset.as_secs_f64() / interval, (offset + step).as_secs_f64() / interval);
        let mut sum = 0.0;
        let mut index = from.floor();
        while index < to {
            let part = to.min(index + 1.0) - from.max(index);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, then is missing"
            )]
            let value = self.values.get(index as usize).copied().unwrap_or(0.0);
            sum += value * part;
            index += 1.0;
        }
        sum / (to - from)
    }

    /// Whether nobody measured the load at `at`.
    #[must_use]
    pub fn is_silent(&self, at: Timestamp) -> bool {
        // The first silence that ends at `at` or later.
        let place = self.silences.partition_point(|&(_, to)| to < at);
        self.silences.get(place).is_some_and(|&(from, _)| from < at)
    }
}

fn distances(points: &[Point]) -> Result<Vec<Duration>, BadTrace> {
    points
        .windows(2)
        .filter_map(|pair| if let [before, after] = pair { Some((before, after)) } else { None })
        .map(|(before, after)| {
            let distance = Duration::try_from(after.at.duration_since(before.at)).unwrap_or_default();
            if distance.is_zero() {
                let (line, at, line_before) = (after.line, after.at, before.line);
                return Err(BadTrace::NotSorted { line, at, before: before.at, line_before });
            }
            Ok(distance)
        })
        .collect()
}

/// The time from one value to the next: the distance that most have, or the one about which they are.
///
/// Whoever measures once a minute measures some seconds too early or too late. Over the whole file that is nothing, so the mean
/// over it is the interval, and one that is nearly a number of whole seconds is that. Also whether most agree.
fn interval(distances: &[Duration]) -> (Duration, bool) {
    let (common, count) = most_common(distances);
    if 2 * count >= distances.len() {
        return (common, true);
    }
    let mut sorted = distances.to_vec();
    sorted.sort_unstable();
    let usual = sorted.get(sorted.len() / 2).map_or(common, |median| *median).as_secs_f64();
    let steps: f64 = distances.iter().map(|distance| (distance.as_secs_f64() / usual).round()).sum();
    let span: f64 = distances.iter().map(Duration::as_secs_f64).sum();
    let mean = span / steps.max(1.0);
    let whole = mean.round();
    let is_whole = whole >= 1.0 && (mean - whole).abs() <= NEARLY * whole;
    let mean = Duration::try_from_secs_f64(if is_whole { whole } else { mean });
    (mean.unwrap_or(common), false)
}

/// The shortest of the most common ones, and how many there are.
fn most_common(distances: &[Duration]) -> (Duration, usize) {
    let mut counts: BTreeMap<Duration, usize> = BTreeMap::new();
    for &distance in distances {
        *counts.entry(distance).or_default() += 1;
    }
    let common = counts.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
    common.unwrap_or((Duration::from_mins(1), 0))
}

/// When an interval begins that was measured a little too early or too late: such beginnings are whole intervals since 1970.
fn aligned(at: Timestamp, interval: Duration) -> Timestamp {
    let (Ok(interval), now) = (i128::try_from(interval.as_nanos()), at.as_nanosecond()) else { return at };
    let off = now.rem_euclid(interval.max(1));
    let off = if 2 * off > interval { off - interval } else { off };
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let is_near = off.abs() as f64 <= ALIGNED * interval as f64;
    if is_near { Timestamp::from_nanosecond(now - off).unwrap_or(at) } else { at }
}

#[cfg(test)]
mod tests;
