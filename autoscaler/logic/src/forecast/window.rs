//! The largest value of a sliding window.

use std::collections::VecDeque;

use super::Minute;

/// The largest of the values whose minute is within the window, in constant time a step (a monotonic queue).
#[derive(Debug, Clone, Default)]
pub(super) struct SlidingMax {
    /// Minutes rise, values fall: each is the largest from its minute on.
    candidates: VecDeque<(Minute, f32)>,
}

impl SlidingMax {
    /// Takes the value of a minute later than all before.
    pub(super) fn push(&mut self, minute: Minute, value: f32) {
        while self.candidates.back().is_some_and(|&(_, smaller)| smaller <= value) {
            self.candidates.pop_back();
        }
        self.candidates.push_back((minute, value));
    }

    /// Forgets what came before `first`.
    pub(super) fn begin_at(&mut self, first: Minute) {
        while self.candidates.front().is_some_and(|&(minute, _)| minute < first) {
            self.candidates.pop_front();
        }
    }

    /// The largest; `None` of an empty window.
    pub(super) fn max(&self) -> Option<f32> {
        self.candidates.front().map(|&(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_maximum_of_the_window() {
        let values: Vec<f32> = (0_u16..200).map(|i| f32::from(i * 79 % 101)).collect();
        let mut window = SlidingMax::default();
        for (now, &value) in (0..).zip(&values) {
            window.push(now, value);
            window.begin_at(now - 12);
            let first = usize::try_from((now - 12).max(0)).unwrap();
            let expected = values[first..=usize::try_from(now).unwrap()].iter().copied().reduce(f32::max);
            assert_eq!(window.max(), expected, "at {now}");
        }
        window.begin_at(1000);
        assert_eq!(window.max(), None);
    }
}
