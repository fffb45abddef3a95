//! The forecast of a load for the next minutes to hours.

use super::accuracy::Accuracy;
use super::peak::PeakForecast;
use super::seasons::Seasons;
use super::{Minute, WEEK};

/// Forecasts a load from its own past: the peaks of the next so many minutes, for several horizons.
///
/// Loads are in instances: the demand on the whole group ÷ what one instance may carry. A minute that is missing is
/// neither zero nor made up: nothing is learned from it.
#[derive(Debug, Clone)]
pub struct LoadForecast {
    seasons: Seasons,
    peaks: Vec<PeakForecast>,
    newest: Option<Minute>,
    known_since: Minute,
}

impl LoadForecast {
    /// Forecasts the peaks of the next `horizons` minutes, each from 1 to less than a day.
    #[must_use]
    pub fn new(horizons: &[Minute]) -> Self {
        let peaks = horizons.iter().map(|&horizon| PeakForecast::new(horizon)).collect();
        Self { seasons: Seasons::new(), peaks, newest: None, known_since: 0 }
    }

    /// Takes the mean load of a minute: finite and not negative, of a minute later than all before. Anything else, and
    /// what a clock that was set back sends, is refused, and `false` says so.
    ///
    /// Minutes in between that did not come are a gap. After one of a week nothing of before is worth anything, and
    /// it begins anew.
    pub fn observe(&mut self, minute: Minute, load: f64) -> bool {
        if !load.is_finite() || load < 0.0 || self.newest.is_some_and(|newest| minute <= newest) {
            return false;
        }
        self.pass_over_gap(minute);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a load are enough")]
        let present = self.seasons.observe(minute, load as f32);
        for peak in &mut self.peaks {
            peak.observe(&self.seasons, minute, &present, self.known_since);
        }
        self.newest = Some(minute);
        true
    }

    fn pass_over_gap(&mut self, minute: Minute) {
        let next = self.newest.map_or(minute, |newest| newest + 1);
        if self.newest.is_none() || minute - next >= WEEK {
            let peaks = self.peaks.iter().map(PeakForecast::afresh).collect();
            *self = Self { seasons: Seasons::new(), peaks, newest: None, known_since: minute };
            return;
        }
        for missing in next..minute {
            self.seasons.skip(missing);
            for peak in &mut self.peaks {
                peak.skip(&self.seasons, missing);
            }
            self.known_since = missing + 1;
        }
    }

    /// The load that the peak of the horizon of this index stays at or below with this confidence (a share of the recent
    /// errors); `None` where too little has been seen.
    #[must_use]
    pub fn peak(&self, horizon: usize, confidence: f64) -> Option<f64> {
        self.peaks.get(horizon)?.quantile(confidence).map(f64::from)
    }

    /// How good the last forecasts of the horizon of this index were; `None` where too little has been seen.
    #[must_use]
    pub fn accuracy(&self, horizon: usize) -> Option<&Accuracy> {
        self.peaks.get(horizon)?.accuracy()
    }

    /// The newest minute it was given.
    #[must_use]
    pub fn newest(&self) -> Option<Minute> {
        self.newest
    }
}
