//! From samples to a load.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::load::{Load, Missing};
use super::series::{Sample, Series};
use super::{STALE_INTERVALS, Samples};
use crate::group::{Instance, elapsed};
use crate::policy::ceil_count;
use crate::spec::{Aggregation, Metric, Scope, Signal, Statistic};

pub(super) fn load(
    samples: &Samples,
    instances: &[Instance],
    signal: &Signal,
    warm_up: Duration,
    now: Timestamp,
) -> Load {
    let serving = instances.iter().filter(|instance| instance.is_serving());
    let mut warm: Vec<&Instance> = serving.clone().filter(|i| elapsed(i.since, now) >= warm_up).collect();
    // A float sum depends on its order, and a decision must not.
    warm.sort_by_key(|instance| &instance.id);
    let from = before(now, signal.window);
    let look = Look { samples, signal, warm_up, from, settled: before(from, warm_up), now };
    match signal.scope {
        Scope::Group { per_instance } => look.of_group(per_instance, warm.len(), serving.count()),
        Scope::Instances { .. } if warm.is_empty() => Load::Missing(match serving.count() {
            0 => Missing::NothingInService,
            _ => Missing::NothingWarm,
        }),
        Scope::Instances { statistic } => look.of_instances(statistic, &warm),
    }
}

/// A moment before another, as far as there is time.
fn before(now: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// One look at a window.
struct Look<'a> {
    samples: &'a Samples,
    signal: &'a Signal,
    warm_up: Duration,
    from: Timestamp,
    /// An instance in service since then counts from the window's beginning on.
    settled: Timestamp,
    now: Timestamp,
}

/// One source's part of the signal.
#[derive(Clone, Copy)]
struct Fresh {
    value: f64,
    newest: Timestamp,
    samples: u32,
}

/// A measured instance: what it comes to, its samples, and from when on they count.
type Measured<'a> = (Fresh, &'a Series, Timestamp);

type Grains = BTreeMap<Reverse<u128>, Vec<(f64, Timestamp)>>;

enum Part {
    Fresh(Fresh),
    Stale(Duration),
    None,
}

impl Look<'_> {
    fn of_group(&self, per_instance: bool, warm: usize, serving: usize) -> Load {
        let series = self.samples.group.get(&self.signal.metric);
        let part = series.map_or(Part::None, |series| self.part(series, self.from));
        let instances = count(warm);
        match part {
            Part::Fresh(_) if per_instance && warm == 0 => {
                Load::Missing(if serving == 0 { Missing::NothingInService } else { Missing::NothingWarm })
            }
            Part::Fresh(Fresh { value, samples, .. }) => {
                let value = if per_instance { value / f64::from(instances) } else { value };
                if self.sums_over_time() && !series.is_some_and(|series| self.is_whole(series, self.from)) {
                    let (at_least, measured, unmeasured, gaps) = (value, value, 0, true);
                    return Load::Partial { at_least, measured, instances, unmeasured, gaps, samples };
                }
                Load::Known { value, instances, samples }
            }
            Part::Stale(age) => Load::Missing(Missing::Stale { age, bound: self.stale_after() }),
            Part::None => Load::Missing(Missing::NoGroupSample),
        }
    }

    fn of_instances(&self, statistic: Statistic, warm: &[&Instance]) -> Load {
        let mut fresh: Vec<Measured<'_>> = Vec::with_capacity(warm.len());
        let mut stale_age: Option<Duration> = None;
        for instance in warm {
            let Some(series) = self.series(instance, &self.signal.metric) else { continue };
            let from = self.counts_from(instance);
            match self.part(series, from) {
                Part::Fresh(value) => fresh.push((value, series, from)),
                Part::Stale(age) => stale_age = Some(stale_age.map_or(age, |youngest| youngest.min(age))),
                Part::None => {}
            }
        }
        let unmeasured = warm.len() - fresh.len();
        if fresh.is_empty() {
            let bound = self.stale_after();
            return Load::Missing(stale_age.map_or(Missing::NoSample, |age| Missing::Stale { age, bound }));
        }
        let samples = fresh.iter().map(|(value, ..)| value.samples).sum();
        let instances = count(fresh.len());
        let measured = self.combined(statistic, &fresh, 0);
        let gaps = self.has_gaps(statistic, &fresh);
        if unmeasured == 0 && !gaps {
            return Load::Known { value: measured, instances, samples };
        }
        let at_least = self.combined(statistic, &fresh, unmeasured);
        Load::Partial { at_least, measured, instances, unmeasured: count(unmeasured), gaps, samples }
    }

    fn sums_over_time(&self) -> bool {
        matches!(self.signal.aggregation, Aggregation::Total | Aggregation::Count)
    }

    /// Whether a sum leaves out times of which nothing is known: they would count at 0.
    fn has_gaps(&self, statistic: Statistic, fresh: &[Measured<'_>]) -> bool {
        let spans_window =
            |(_, series, from): &Measured<'_>| *from == self.from && self.is_whole(series, *from);
        let Some(grain) = self.grain() else {
            return self.sums_over_time() && !fresh.iter().all(spans_window);
        };
        // No grain is empty where one instance has been there all the time.
        let lacks_grains = self.sums_over_time() && !fresh.iter().any(spans_window);
        let sums_instances = matches!(statistic, Statistic::Sum | Statistic::Count);
        lacks_grains || (sums_instances && self.lacks_instances(grain, fresh))
    }

    /// Whether a grain that some instances have samples of lacks those of another that was there all through it.
    fn lacks_instances(&self, grain: Duration, fresh: &[Measured<'_>]) -> bool {
        self.grains(grain, fresh).keys().any(|Reverse(index)| {
            let ago = |grains: u128| before(self.now, grain.saturating_mul(count(grains)));
            let (begin, end) = (ago(index + 1).max(self.from), ago(*index));
            fresh.iter().any(|(_, series, from)| *from <= begin && series.within(begin, end).len() == 0)
        })
    }

    /// Whether a source has had a sample whenever one was due, from a moment on until now.
    fn is_whole(&self, series: &Series, from: Timestamp) -> bool {
        let mut times = series.within(from, self.now).map(Sample::at);
        let Some(first) = times.clone().next() else { return false };
        let between = |(earlier, later): (Timestamp, Timestamp)| elapsed(earlier, later);
        // Where nobody has said how often it comes, it comes as often as it has.
        let interval = self.samples.interval(&self.signal.metric).unwrap_or_else(|| {
            let gaps = times.clone().zip(times.clone().skip(1)).map(between);
            gaps.fold(self.stale_after() / STALE_INTERVALS, Duration::min)
        });
        // One that has not come makes a gap of two intervals; nobody is punctual to the last bit.
        let late = interval.saturating_add(interval / 2);
        let begins = elapsed(from, first) <= interval
            || series.last_before(from).is_some_and(|last| elapsed(last, first) <= late);
        let goes_on = times.clone().zip(times.clone().skip(1)).map(between).all(|gap| gap <= late);
        begins && goes_on && times.next_back().is_some_and(|last| elapsed(last, self.now) < interval)
    }

    fn stale_after(&self) -> Duration {
        self.samples.stale_after(&self.signal.metric)
    }

    fn grain(&self) -> Option<Duration> {
        self.signal.grain.filter(|grain| !grain.is_zero())
    }

    fn series(&self, instance: &Instance, metric: &Metric) -> Option<&Series> {
        self.samples.instances.get(&instance.id)?.get(metric)
    }

    /// From when on an instance's samples count, within the window.
    fn counts_from(&self, instance: &Instance) -> Timestamp {
        // A clock that was set back leaves `since` in the future; then what came before it can't be told apart.
        if instance.since <= self.settled || instance.since > self.now {
            return self.from;
        }
        let warm_up = SignedDuration::try_from(self.warm_up).unwrap_or(SignedDuration::MAX);
        instance.since.checked_add(warm_up).unwrap_or(Timestamp::MAX).max(self.from)
    }

    fn part(&self, series: &Series, from: Timestamp) -> Part {
        let within = series.within(from, self.now);
        let Some(newest) = within.clone().next_back() else { return Part::None };
        let age = elapsed(newest.at(), self.now);
        if age > self.stale_after() {
            return Part::Stale(age);
        }
        let (value, samples) = aggregate(self.signal.aggregation, within.map(|sample| sample.value));
        Part::Fresh(Fresh { value, newest: newest.at(), samples })
    }

    /// The signal of the measured instances, with `zeros` more that count at 0.
    fn combined(&self, statistic: Statistic, fresh: &[Measured<'_>], zeros: usize) -> f64 {
        let Some(grain) = self.grain() else {
            return over(statistic, fresh.iter().map(|(value, ..)| (value.value, value.newest)), zeros);
        };
        let grains = self.grains(grain, fresh).into_values();
        let values = grains.map(|values| over(statistic, values.iter().copied(), zeros));
        aggregate(self.signal.aggregation, values.collect::<Vec<_>>().into_iter()).0
    }

    /// The means of the instances in each grain that has a sample, by how many grains ago it was, the oldest first.
    fn grains(&self, grain: Duration, fresh: &[Measured<'_>]) -> Grains {
        let index = |sample: Sample| elapsed(sample.at(), self.now).as_nanos() / grain.as_nanos();
        let mut grains = Grains::new();
        for (_, series, from) in fresh {
            let samples: Vec<Sample> = series.within(*from, self.now).collect();
            for chunk in samples.chunk_by(|a, b| index(*a) == index(*b)) {
                let (mean, _) = aggregate(Aggregation::Average, chunk.iter().map(|sample| sample.value));
                let last = chunk[chunk.len() - 1];
                grains.entry(Reverse(index(last))).or_default().push((mean, last.at()));
            }
        }
        grains
    }
}

fn count(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// Values over time as one, and how many there were.
fn aggregate(aggregation: Aggregation, values: impl ExactSizeIterator<Item = f64> + Clone) -> (f64, u32) {
    let many = count(values.len());
    let value = match aggregation {
        Aggregation::Average => mean(values),
        Aggregation::Minimum => values.fold(f64::INFINITY, f64::min),
        Aggregation::Maximum => values.fold(0.0, f64::max),
        Aggregation::Total => values.sum::<f64>().min(f64::MAX),
        Aggregation::Last => values.last().unwrap_or_default(),
        Aggregation::Count => f64::from(many),
    };
    (value, many)
}

/// The values of several instances and `zeros` zeros as one.
fn over(statistic: Statistic, values: impl Iterator<Item = (f64, Timestamp)> + Clone, zeros: usize) -> f64 {
    let numbers = values.clone().map(|(value, _)| value);
    let measured = values.clone().count();
    match statistic {
        Statistic::Average => {
            mean(numbers) * (f64::from(count(measured)) / f64::from(count(measured + zeros)))
        }
        Statistic::Min if zeros > 0 => 0.0,
        Statistic::Min => numbers.fold(f64::INFINITY, f64::min),
        Statistic::Max => numbers.fold(0.0, f64::max),
        Statistic::Sum => numbers.sum::<f64>().min(f64::MAX),
        Statistic::Last => values.max_by_key(|(_, at)| *at).map_or(0.0, |(value, _)| value),
        Statistic::Count => f64::from(count(measured)),
        Statistic::Percentile(rank) => {
            let mut sorted: Vec<f64> = numbers.chain(std::iter::repeat_n(0.0, zeros)).collect();
            sorted.sort_by(f64::total_cmp);
            sorted[nearest_rank(rank.percent(), sorted.len())]
        }
    }
}

/// The index of a percentile in a sorted list that is not empty.
fn nearest_rank(percent: f64, length: usize) -> usize {
    let rank = ceil_count(percent * f64::from(count(length)) / 100.0);
    usize::try_from(rank).unwrap_or(usize::MAX).clamp(1, length) - 1
}

/// A mean that is exact where the values are equal, and doesn't overflow.
fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let Some(first) = values.clone().next() else { return 0.0 };
    let (sum, many) =
        values.clone().fold((0.0, 0_u32), |(sum, many), value| (sum + (value - first), many + 1));
    let mean = first + sum / f64::from(many);
    if mean.is_finite() {
        return mean;
    }
    let step = |(mean, many): (f64, f64), value: f64| (mean + (value - mean) / (many + 1.0), many + 1.0);
    values.fold((0.0, 0.0), step).0
}
