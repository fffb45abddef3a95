//! How good the last forecasts were.

use super::{DAY, Minute};

/// Errors of forecasts that have come due, those of the last day above all.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    fade: f64,
    error: f64,
    persistence_error: f64,
    truth: f64,
}

impl Accuracy {
    /// Of forecasts that come due every `every` minutes.
    pub(super) fn new(every: Minute) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a day has few minutes")]
        let fade = 1.0 - every.clamp(1, DAY / 2) as f64 / DAY as f64;
        Self { fade, error: 0.0, persistence_error: 0.0, truth: 0.0 }
    }

    /// Takes what came, what was forecast, and what no change would have been.
    pub(super) fn add(&mut self, truth: f32, forecast: f32, unchanged: f32) {
        let (truth, forecast, unchanged) = (f64::from(truth), f64::from(forecast), f64::from(unchanged));
        self.error = self.error * self.fade + (truth - forecast).abs();
        self.persistence_error = self.persistence_error * self.fade + (truth - unchanged).abs();
        self.truth = self.truth * self.fade + truth;
    }

    /// The mean absolute error as a fraction of the mean load (WAPE); 0 without load.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        if self.truth > 0.0 { self.error / self.truth } else { 0.0 }
    }

    /// The mean absolute error as a multiple of that of the forecast of no change (the idea of MASE, Hyndman and
    /// Koehler 2006): below 1 the forecast is worth something. 1 where there was no change at all and no error either.
    #[must_use]
    pub fn against_persistence(&self) -> f64 {
        match (self.error, self.persistence_error) {
            (error, 0.0) if error > 0.0 => f64::INFINITY,
            (_, 0.0) => 1.0,
            (error, persistence) => error / persistence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_measured_against_the_load_and_against_no_change() {
        let mut accuracy = Accuracy::new(1);
        for _ in 0..100 {
            accuracy.add(10.0, 9.0, 6.0);
        }
        assert!((accuracy.relative_error() - 0.1).abs() < 1e-9);
        assert!((accuracy.against_persistence() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_neither_good_nor_bad() {
        let accuracy = Accuracy::new(1);
        assert_eq!((accuracy.relative_error(), accuracy.against_persistence()), (0.0, 1.0));
    }
}
