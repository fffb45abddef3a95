//! What a load was of late, at this time of the days before, and a week ago.

use super::regression::Features;
use super::window::SlidingMax;
use super::{DAY, Minute, WEEK};

/// What a new day weighs against the days before, once there are some.
const NEW_DAY: f32 = 0.3;
/// A season is followed upwards so far at most, as a multiple of the load: one that was near zero says nothing of how
/// many times the load will grow.
const MOST_GROWTH: f32 = 4.0;
/// A season below this, in instances, is no base for a ratio.
const LEAST_BASE: f32 = 0.05;
/// The least load whose square root scales errors, in instances: below it noise no longer falls with the load.
const LEAST_SCALED: f32 = 0.25;
/// Features beyond it, in scaled units, are cut: a single minute must not take the model away.
const MOST_FEATURE: f32 = 20.0;

/// The memory of a load by day and by week, on the clock of UTC: where the clocks change, its days are an hour off until
/// it has seen some new ones.
#[derive(Debug, Clone)]
pub(super) struct Seasons {
    /// Means over 4, 20 and 60 minutes, exponentially weighted; `None` before the first minute.
    means: Option<[f32; 3]>,
    /// For each minute of the day the mean of the days, exponentially weighted, and how many there were.
    day: Vec<(f32, u8)>,
    /// The minutes of the last week; NaN where there is none.
    week: Vec<f32>,
}

/// What the seasons expect of the minutes of one horizon.
#[derive(Debug, Clone, Default)]
pub(super) struct SeasonalPeaks {
    day: SlidingMax,
    week: SlidingMax,
}

/// One minute, and its season's value for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    /// The load, in instances.
    pub(super) load: f32,
    /// By which errors and features are scaled: the root of the load, as the noise of many independent requests is.
    pub(super) scale: f32,
    means: [f32; 3],
    day: Option<f32>,
    week: Option<f32>,
}

impl Seasons {
    pub(super) fn new() -> Self {
        Self { means: None, day: vec![(0.0, 0); index(DAY)], week: vec![f32::NAN; index(WEEK)] }
    }

    /// Takes the load of a minute. What the seasons say of it is from before.
    pub(super) fn observe(&mut self, minute: Minute, load: f32) -> Present {
        let (day, week) = (self.day_before(minute), self.week_before(minute));
        self.means = Some(match self.means {
            None => [load; 3],
            Some(means) => [(means[0], 4.0), (means[1], 20.0), (means[2], 60.0)]
                .map(|(mean, minutes)| mean + (load - mean) / minutes),
        });
        let (mean, days) = &mut self.day[slot(minute, DAY)];
        *days = days.saturating_add(1);
        *mean += (load - *mean) * NEW_DAY.max(1.0 / f32::from(*days));
        self.week[slot(minute, WEEK)] = load;
        let means = self.means.unwrap_or([load; 3]);
        Present { load, scale: load.max(LEAST_SCALED).sqrt(), means, day, week }
    }

    /// Passes over a minute without data.
    pub(super) fn skip(&mut self, minute: Minute) {
        self.week[slot(minute, WEEK)] = f32::NAN;
    }

    fn day_before(&self, minute: Minute) -> Option<f32> {
        let (mean, days) = self.day[slot(minute, DAY)];
        (days > 0).then_some(mean)
    }

    fn week_before(&self, minute: Minute) -> Option<f32> {
        Some(self.week[slot(minute, WEEK)]).filter(|load| load.is_finite())
    }
}

impl SeasonalPeaks {
    /// Moves to the minute `now`: the window is the `horizon` minutes after it, and less than a day.
    pub(super) fn advance(&mut self, seasons: &Seasons, now: Minute, horizon: Minute) {
        let last = now + horizon;
        if let Some(mean) = seasons.day_before(last) {
            self.day.push(last, mean);
        }
        if let Some(load) = seasons.week_before(last) {
            self.week.push(last, load);
        }
        self.day.begin_at(now + 1);
        self.week.begin_at(now + 1);
    }

    /// What a forecast of the peak is made of, scaled: 1, the load's distance to its means over 4 and 60 minutes and
    /// the way between those over 4 and 20 (the slope), and of each season the peak as a multiple of its value for
    /// now, and as it was. Zero where a season is not known yet.
    pub(super) fn features(&self, now: &Present) -> Features {
        let Present { load, means: [fast, slow, hour], .. } = *now;
        let [day_ratio, day_level] = season(load, now.day, self.day.max());
        let [week_ratio, week_level] = season(load, now.week, self.week.max());
        let changes = [load - fast, fast - slow, load - hour, day_ratio, day_level, week_ratio, week_level];
        let mut features = [1.0; 8];
        for (feature, change) in features[1..].iter_mut().zip(changes) {
            *feature = (change / now.scale).clamp(-MOST_FEATURE, MOST_FEATURE);
        }
        features
    }
}

fn season(load: f32, base: Option<f32>, peak: Option<f32>) -> [f32; 2] {
    let (Some(base), Some(peak)) = (base, peak) else { return [0.0; 2] };
    [load * (peak / base.max(LEAST_BASE)).min(MOST_GROWTH) - load, peak - load]
}

fn slot(minute: Minute, period: Minute) -> usize {
    index(minute.rem_euclid(period))
}

fn index(minutes: Minute) -> usize {
    usize::try_from(minutes).unwrap_or(0)
}
