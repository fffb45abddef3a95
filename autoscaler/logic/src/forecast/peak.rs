//! The largest load of the next so many minutes.

use std::collections::VecDeque;

use super::accuracy::Accuracy;
use super::errors::RecentErrors;
use super::regression::{Features, Regression};
use super::seasons::{Present, SeasonalPeaks, Seasons};
use super::window::SlidingMax;
use super::{DAY, Minute};

/// The model forgets within so many minutes.
const MEMORY: f64 = 5.0 * 1440.0;
/// Errors needed before a quantile of them means something.
const LEAST_ERRORS: usize = 60;
/// A forecast learns from so many of its minutes at least. Neighbouring peaks of a long horizon are all but the same.
const STRIDES: [(Minute, Minute); 4] = [(24, 1), (80, 3), (240, 7), (Minute::MAX, 29)];

/// Forecasts the peak of the `horizon` minutes after the newest, and knows how wrong it was of late.
#[derive(Debug, Clone)]
pub(super) struct PeakForecast {
    horizon: Minute,
    /// It learns from every so manieth minute: a prime, so that no period of the load is met in one phase only.
    stride: Minute,
    model: Regression,
    errors: RecentErrors,
    seasonal: SeasonalPeaks,
    recent: SlidingMax,
    pending: VecDeque<Pending>,
    accuracy: Accuracy,
    newest: Option<Estimate>,
}

/// A forecast whose truth is not known yet.
#[derive(Debug, Clone)]
struct Pending {
    made: Minute,
    features: Features,
    load: f32,
    estimate: Estimate,
}

#[derive(Debug, Clone, Copy)]
struct Estimate {
    peak: f32,
    scale: f32,
}

impl PeakForecast {
    /// `horizon` is from 1 minute to less than a day.
    pub(super) fn new(horizon: Minute) -> Self {
        let horizon = horizon.clamp(1, DAY - 1);
        let stride = STRIDES.iter().find(|(below, _)| horizon < *below).map_or(1, |&(_, stride)| stride);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let model = Regression::new(1.0 - stride as f64 / MEMORY);
        // A day of the short ones; of the others as many as a few days have.
        let errors = RecentErrors::new(if stride == 1 { 1440 } else { 720 });
        let (seasonal, recent) = (SeasonalPeaks::default(), SlidingMax::default());
        Self {
            horizon,
            stride,
            model,
            errors,
            seasonal,
            recent,
            pending: VecDeque::new(),
            accuracy: Accuracy::new(stride),
            newest: None,
        }
    }

    /// One that has seen nothing yet, of the same horizon.
    pub(super) fn afresh(&self) -> Self {
        Self::new(self.horizon)
    }

    /// Takes a minute. `known_since` is the first of the minutes without a gap up to it.
    pub(super) fn observe(&mut self, seasons: &Seasons, now: Minute, present: &Present, known_since: Minute) {
        self.seasonal.advance(seasons, now, self.horizon);
        self.recent.push(now, present.load);
        self.recent.begin_at(now - self.horizon + 1);
        self.learn(now, known_since);
        let features = self.seasonal.features(present);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a load are enough")]
        let change = self.model.predict(&features) as f32 * present.scale;
        let estimate = Estimate { peak: present.load + change, scale: present.scale };
        self.newest = Some(estimate);
        if now.rem_euclid(self.stride) == 0 {
            self.pending.push_back(Pending { made: now, features, load: present.load, estimate });
        }
    }

    /// Passes over a minute without data.
    pub(super) fn skip(&mut self, seasons: &Seasons, now: Minute) {
        self.seasonal.advance(seasons, now, self.horizon);
    }

    /// Learns from the forecast whose minutes are over now, if all of them were seen.
    fn learn(&mut self, now: Minute, known_since: Minute) {
        let due = now - self.horizon;
        while self.pending.front().is_some_and(|pending| pending.made < due) {
            self.pending.pop_front();
        }
        if self.pending.front().is_none_or(|pending| pending.made > due) {
            return;
        }
        let (Some(Pending { features, load, estimate, .. }), Some(peak)) =
            (self.pending.pop_front(), self.recent.max())
        else {
            return;
        };
        if due + 1 >= known_since {
            self.model.learn(&features, f64::from((peak - load) / estimate.scale));
            self.errors.push((peak - estimate.peak) / estimate.scale);
            self.accuracy.add(peak, estimate.peak, load);
        }
    }

    /// How good its last forecasts were; `None` before there are enough of them.
    pub(super) fn accuracy(&self) -> Option<&Accuracy> {
        Some(&self.accuracy).filter(|_| self.errors.len() >= LEAST_ERRORS)
    }

    /// The load that the peak stays at or below with this confidence, as far as the errors of late go; `None` before
    /// there are enough of them.
    pub(super) fn quantile(&self, confidence: f64) -> Option<f32> {
        let Estimate { peak, scale } = self.newest.filter(|_| self.errors.len() >= LEAST_ERRORS)?;
        Some((peak + scale * self.errors.quantile(confidence)).max(0.0))
    }
}
