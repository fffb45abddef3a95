//! A linear model that is fitted as its data come in.

/// What a forecast is made of; what each is, is said in [`seasons`](super::seasons).
pub(super) const FEATURES: usize = 8;

/// The features of a minute.
pub(super) type Features = [f32; FEATURES];

/// What is not known at first of each weight: its variance.
const PRIOR: f64 = 0.01;
/// The most that forgetting may make of the variances' sum, where a feature says nothing for long.
const MOST_VARIANCE: f64 = 100.0;

/// Recursive least squares with exponential forgetting (Haykin, *Adaptive Filter Theory*, chapter on RLS).
///
/// It begins with weights of zero and little doubt about them: a forecast of no change, which data have to argue
/// away.
#[derive(Debug, Clone)]
pub(super) struct Regression {
    weights: [f64; FEATURES],
    covariance: [[f64; FEATURES]; FEATURES],
    forgetting: f64,
}

impl Regression {
    /// `forgetting` is what a datum still weighs when the next one has come: below 1.
    pub(super) fn new(forgetting: f64) -> Self {
        let mut covariance = [[0.0; FEATURES]; FEATURES];
        for (i, row) in covariance.iter_mut().enumerate() {
            row[i] = PRIOR;
        }
        Self { weights: [0.0; FEATURES], covariance, forgetting }
    }

    pub(super) fn predict(&self, features: &Features) -> f64 {
        self.weights.iter().zip(features).map(|(weight, &feature)| weight * f64::from(feature)).sum()
    }

    pub(super) fn learn(&mut self, features: &Features, target: f64) {
        let error = target - self.predict(features);
        let features = features.map(f64::from);
        let projected = self.covariance.map(|row| dot(&row, &features));
        let spread = self.forgetting + dot(&projected, &features);
        for (weight, along) in self.weights.iter_mut().zip(projected) {
            *weight += along / spread * error;
        }
        for (row, along) in self.covariance.iter_mut().zip(projected) {
            for (cell, across) in row.iter_mut().zip(projected) {
                *cell = (*cell - along * across / spread) / self.forgetting;
            }
        }
        self.bound();
    }

    /// Keeps the covariance from growing without end, and begins anew should arithmetic have failed.
    fn bound(&mut self) {
        let trace: f64 = (0..FEATURES).map(|i| self.covariance[i][i]).sum();
        if !trace.is_finite() || self.weights.iter().any(|weight| !weight.is_finite()) {
            *self = Self::new(self.forgetting);
        } else if trace > MOST_VARIANCE {
            self.covariance.as_flattened_mut().iter_mut().for_each(|cell| *cell *= MOST_VARIANCE / trace);
        }
    }
}

fn dot(a: &[f64; FEATURES], b: &[f64; FEATURES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(i: u16) -> Features {
        let mut features = [0.0; FEATURES];
        features[0] = 1.0;
        features[1] = f32::from(i * 31 % 17) - 8.0;
        features[2] = f32::from(i * 13 % 23) - 11.0;
        features
    }

    #[test]
    fn finds_the_weights() {
        let mut model = Regression::new(0.999);
        for i in 0..2000 {
            let x = features(i);
            model.learn(&x, 0.5 + 0.25 * f64::from(x[1]) - 2.0 * f64::from(x[2]));
        }
        let x = features(7);
        let expected = 0.5 + 0.25 * f64::from(x[1]) - 2.0 * f64::from(x[2]);
        assert!((model.predict(&x) - expected).abs() < 1e-3, "{}", model.predict(&x));
    }

    #[test]
    fn survives_features_that_say_nothing_and_targets_out_of_this_world() {
        let mut model = Regression::new(0.99);
        let constant = {
            let mut x = [0.0; FEATURES];
            x[0] = 1.0;
            x
        };
        (0..100_000).for_each(|_| model.learn(&constant, 1.0));
        assert!((model.predict(&constant) - 1.0).abs() < 1e-6);
        model.learn(&constant, f64::INFINITY);
        assert!(model.predict(&features(3)).is_finite());
    }
}
