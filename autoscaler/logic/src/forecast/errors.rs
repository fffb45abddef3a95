//! The newest forecast errors, in the order of their size.

use std::collections::VecDeque;

/// The newest so many errors, and their quantiles.
///
/// A quantile of past errors is a bound on the next one without any assumption on how errors are distributed, as in
/// split conformal prediction; with the newest ones only, it follows a load that changes its habits.
#[derive(Debug, Clone)]
pub(super) struct RecentErrors {
    most: usize,
    by_age: VecDeque<f32>,
    by_size: Vec<f32>,
}

impl RecentErrors {
    pub(super) fn new(most: usize) -> Self {
        Self { most, by_age: VecDeque::new(), by_size: Vec::new() }
    }

    pub(super) fn push(&mut self, error: f32) {
        if !error.is_finite() {
            return;
        }
        if self.by_age.len() >= self.most
            && let Some(oldest) = self.by_age.pop_front()
        {
            let place = self.by_size.partition_point(|&other| other < oldest);
            self.by_size.remove(place);
        }
        let place = self.by_size.partition_point(|&other| other < error);
        self.by_size.insert(place, error);
        self.by_age.push_back(error);
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// The error that a share of `confidence` of them stays at or below; 0 without any.
    pub(super) fn quantile(&self, confidence: f64) -> f32 {
        let Some(last) = self.by_size.len().checked_sub(1) else { return 0.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a small count"
        )]
        let place = (self.by_size.len() as f64 * confidence.clamp(0.0, 1.0)) as usize;
        self.by_size[place.min(last)]
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "an error comes out as it went in")]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_newest() {
        let mut errors = RecentErrors::new(100);
        for i in 0_u16..1000 {
            errors.push(f32::from(i * 37 % 1000));
        }
        let mut newest: Vec<f32> = (900_u16..1000).map(|i| f32::from(i * 37 % 1000)).collect();
        newest.sort_by(f32::total_cmp);
        assert_eq!(errors.len(), 100);
        for (confidence, place) in [(0.0, 0), (0.5, 50), (0.9, 90), (1.0, 99)] {
            assert_eq!(errors.quantile(confidence), newest[place], "{confidence}");
        }
    }

    #[test]
    fn equal_errors_and_none_at_all_do_no_harm() {
        let mut errors = RecentErrors::new(3);
        assert_eq!(errors.quantile(0.9), 0.0);
        for _ in 0..10 {
            errors.push(2.5);
            errors.push(f32::NAN);
        }
        assert_eq!((errors.len(), errors.quantile(0.1)), (3, 2.5));
    }
}
