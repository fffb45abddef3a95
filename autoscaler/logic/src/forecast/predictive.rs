//! The seasons of days and weeks, for policies that provide ahead of them.

use std::collections::VecDeque;
use std::fmt;

use augurs::ets::AutoETS;
use augurs::mstl::MSTLModel;
use augurs::prelude::*;
use jiff::Timestamp;

use super::{Accuracy, Minute};

const HOUR: Minute = 60;
/// Hours of a day, and of a week.
const DAY: usize = 24;
const WEEK: usize = 7 * DAY;
/// History that is looked at, hours; AWS's predictive scaling takes 14 days too.
const MOST: usize = 2 * WEEK;
/// How far a forecast goes, hours; AWS's.
const AHEAD: usize = 48;
/// It is made anew every so many hours; AWS's.
const RENEWED: i64 = 6;
/// Hours without a minute in which the load is taken to have stayed; after more the history begins anew.
const LONGEST_GAP: i64 = 3;
/// Forecasts that have to have come due before they are relied on, hours.
const LEAST_DUE: u32 = 12;
/// Forecasts that are off by more than this part of the load are not relied on.
const MOST_ERROR: f64 = 0.5;

/// An hourly forecast of the peak of a load: seasons of a day, and of a week once there are two, by MSTL (Bandara,
/// Hyndman and Bergmeir 2021), and an exponentially smoothed trend (`AutoETS`).
///
/// A season has to be seen twice, so it begins after two days. What it said is held against what came, and against
/// what saying "no change" would have been worth; while it is no better than that, it is silent.
#[derive(Debug, Clone)]
pub struct SeasonalForecast {
    ahead: Minute,
    /// One an hour, without a gap, the newest last.
    peaks: VecDeque<f64>,
    passing: Option<Hour>,
    newest: Option<Minute>,
    forecast: Option<Forecast>,
    accuracy: Accuracy,
    due: u32,
}

#[derive(Debug, Clone, Copy)]
struct Hour {
    /// Hours since 1970.
    number: i64,
    peak: f64,
}

#[derive(Debug, Clone)]
struct Forecast {
    /// The hour of the first of its peaks.
    first: i64,
    peaks: Vec<f64>,
    /// The newest peak when it was made.
    unchanged: f64,
}

impl Forecast {
    fn peak(&self, hour: i64) -> Option<f64> {
        self.peaks.get(usize::try_from(hour - self.first).ok()?).copied()
    }
}

/// What is expected, in instances' worth of load.
#[derive(Debug, Clone, PartialEq)]
pub struct Season {
    /// The largest peak of the hours from now until `at`.
    pub demand: f64,
    /// So far it looks.
    pub at: Timestamp,
    /// The mean absolute error of its forecasts of the last day, as a fraction of the load.
    pub relative_error: f64,
}

/// Why nothing is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoSeason {
    /// The history is too short.
    Young {
        /// Hours there are.
        hours: usize,
    },
    /// The seasons could not be told apart.
    Unfit,
    /// Too few forecasts have come due.
    Untried {
        /// How many have.
        due: u32,
    },
    /// The last forecasts were bad.
    Bad {
        /// Their mean absolute error as a fraction of the load.
        error: f64,
        /// As a multiple of that of "no change".
        against_persistence: f64,
    },
}

impl fmt::Display for NoSeason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Young { hours } => {
                write!(f, "there are {hours} hours of history, and a season of a day takes {}", 2 * DAY)
            }
            Self::Unfit => f.write_str("the history has no seasons that can be told apart"),
            Self::Untried { due } => {
                write!(f, "{due} of its hours have come due, and it takes {LEAST_DUE} to rely on them")
            }
            Self::Bad { error, against_persistence } => write!(
                f,
                "its last forecasts were off by {:.0} % of the load, {against_persistence:.2} times what \"no change\" \
                 would have been",
                error * 100.0
            ),
        }
    }
}

impl SeasonalForecast {
    /// One that has seen nothing, and looks so many minutes ahead.
    #[must_use]
    pub fn new(ahead: Minute) -> Self {
        Self {
            ahead,
            peaks: VecDeque::new(),
            passing: None,
            newest: None,
            forecast: None,
            accuracy: Accuracy::new(HOUR),
            due: 0,
        }
    }

    /// How far it looks, minutes.
    #[must_use]
    pub fn ahead(&self) -> Minute {
        self.ahead
    }

    /// The newest minute that was taken.
    #[must_use]
    pub fn newest(&self) -> Option<Minute> {
        self.newest
    }

    /// Takes the load of a minute. One that is not after the newest, and a load that is no number, is passed over.
    pub fn observe(&mut self, minute: Minute, load: f64) {
        if !load.is_finite() || load < 0.0 || self.newest.is_some_and(|newest| newest >= minute) {
            return;
        }
        self.newest = Some(minute);
        let number = minute.div_euclid(HOUR);
        match &mut self.passing {
            Some(passing) if passing.number == number => passing.peak = passing.peak.max(load),
            passing => {
                if let Some(ended) = passing.replace(Hour { number, peak: load }) {
                    self.end(ended, number);
                }
            }
        }
    }

    /// What is expected from `now` on.
    ///
    /// # Errors
    /// Why there is nothing that could be relied on.
    pub fn season(&self, now: Timestamp) -> Result<Season, NoSeason> {
        if self.peaks.len() < 2 * DAY {
            return Err(NoSeason::Young { hours: self.peaks.len() });
        }
        let forecast = self.forecast.as_ref().ok_or(NoSeason::Unfit)?;
        if self.due < LEAST_DUE {
            return Err(NoSeason::Untried { due: self.due });
        }
        let (error, against_persistence) =
            (self.accuracy.relative_error(), self.accuracy.against_persistence());
        if error > MOST_ERROR || against_persistence >= 1.0 && error > 0.0 {
            return Err(NoSeason::Bad { error, against_persistence });
        }
        let minute = now.as_second().div_euclid(60);
        let last = minute + self.ahead;
        let hours = minute.div_euclid(HOUR)..=last.div_euclid(HOUR);
        let demand = hours.filter_map(|hour| forecast.peak(hour)).reduce(f64::max).ok_or(NoSeason::Unfit)?;
        let at = Timestamp::from_second(last * 60).unwrap_or(now);
        Ok(Season { demand, at, relative_error: error })
    }

    /// An hour is over, and the next that has a minute is `next`.
    fn end(&mut self, ended: Hour, next: i64) {
        self.judge(ended);
        let missing = next - ended.number - 1;
        if missing > LONGEST_GAP {
            *self = Self { passing: self.passing, newest: self.newest, ..Self::new(self.ahead) };
            return;
        }
        for _ in 0..=missing {
            self.peaks.push_back(ended.peak);
        }
        while self.peaks.len() > MOST {
            self.peaks.pop_front();
        }
        if self.forecast.is_none() || next.div_euclid(RENEWED) != ended.number.div_euclid(RENEWED) {
            self.forecast = self.fit(next);
        }
    }

    fn judge(&mut self, ended: Hour) {
        let Some(forecast) = &self.forecast else { return };
        if let Some(expected) = forecast.peak(ended.number) {
            #[expect(clippy::cast_possible_truncation, reason = "errors are taken to seven digits")]
            let [truth, expected, unchanged] = [ended.peak, expected, forecast.unchanged].map(|x| x as f32);
            self.accuracy.add(truth, expected, unchanged);
            self.due = self.due.saturating_add(1);
        }
    }

    fn fit(&self, first: i64) -> Option<Forecast> {
        if self.peaks.len() < 2 * DAY {
            return None;
        }
        let periods = if self.peaks.len() < 2 * WEEK { vec![DAY] } else { vec![DAY, WEEK] };
        let peaks: Vec<_> = self.peaks.iter().copied().collect();
        let trend = AutoETS::non_seasonal().into_trend_model();
        let fitted = MSTLModel::new(periods, trend).fit(&peaks).ok()?;
        let expected = fitted.predict(AHEAD, None).ok()?.point;
        if expected.iter().any(|peak| !peak.is_finite()) {
            return None;
        }
        let peaks = expected.into_iter().map(|peak| peak.max(0.0)).collect();
        Some(Forecast { first, peaks, unchanged: *self.peaks.back()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: Minute) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("in range")
    }

    /// A day between 2 and 10, the peak at 12:30, on weekends half of it.
    fn wave(minute: Minute) -> f64 {
        let hour = f64::from(i32::try_from(minute.div_euclid(HOUR).rem_euclid(24)).expect("small")) + 0.5;
        let weekend = minute.div_euclid(24 * HOUR).rem_euclid(7) >= 5;
        let day = 6.0 - 4.0 * (hour / 24.0 * std::f64::consts::TAU).cos();
        if weekend { day / 2.0 } else { day }
    }

    fn after(days: Minute, load: impl Fn(Minute) -> f64) -> (SeasonalForecast, Minute) {
        let mut forecast = SeasonalForecast::new(5);
        let end = days * 24 * HOUR;
        for minute in 0..end {
            forecast.observe(minute, load(minute));
        }
        (forecast, end)
    }

    #[test]
    fn a_young_history_and_an_untried_forecast_are_silent() {
        let (forecast, now) = after(1, wave);
        assert_eq!(forecast.season(at(now)), Err(NoSeason::Young { hours: 23 }));
        let mut forecast = forecast;
        for minute in now..now + 27 * HOUR {
            forecast.observe(minute, wave(minute));
        }
        assert!(matches!(forecast.season(at(now + 27 * HOUR)), Err(NoSeason::Untried { .. })));
    }

    #[test]
    fn a_day_that_comes_again_is_expected() {
        let (forecast, now) = after(5, |minute| wave(minute.rem_euclid(24 * HOUR)));
        for hours in [0, 4, 8, 12] {
            let minute = now + hours * HOUR;
            let season = forecast.season(at(minute)).expect("a good forecast");
            let truth = wave(minute.rem_euclid(24 * HOUR));
            assert!((season.demand - truth).abs() < 0.5, "{hours}: {} instead of {truth}", season.demand);
        }
    }

    #[test]
    fn after_two_weeks_a_weekend_is_expected_too() {
        let (forecast, now) = after(19, wave);
        let noon = now + 12 * HOUR;
        let season = forecast.season(at(noon)).expect("a good forecast");
        assert!((season.demand - wave(noon)).abs() < 1.0, "{} instead of {}", season.demand, wave(noon));
    }

    #[test]
    fn noise_is_no_season() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<_> = (0..10 * 24).map(|_| if random.u8(..) < 26 { 20.0 } else { 1.0 }).collect();
        let (forecast, now) = after(10, |minute| noise[usize::try_from(minute / HOUR).expect("small")]);
        assert!(
            matches!(forecast.season(at(now)), Err(NoSeason::Bad { .. })),
            "{:?}",
            forecast.season(at(now))
        );
    }

    #[test]
    fn a_long_gap_begins_anew_and_what_is_no_load_is_passed_over() {
        let (mut forecast, now) = after(5, wave);
        for load in [f64::NAN, f64::INFINITY, -1.0] {
            forecast.observe(now, load);
        }
        forecast.observe(now - 10, 1e9);
        assert_eq!(forecast.newest(), Some(now - 1));
        forecast.observe(now + 10 * HOUR, 1.0);
        assert_eq!(forecast.season(at(now)), Err(NoSeason::Young { hours: 0 }));
    }
}
