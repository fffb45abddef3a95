//! The recent values of an instance's metrics.

use std::time::Duration;

use jiff::Timestamp;

use crate::group::InstanceId;
use crate::spec::Metric;

/// The samples of one group.
#[derive(Debug, Clone)]
pub struct Samples {}

/// Why a sample was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// NaN, infinite or negative.
    #[error("not a finite, non-negative number")]
    NotANumber,
    /// Older than the newest of the same instance and metric, or of the same time.
    #[error("not newer than the last sample")]
    OutOfOrder,
}

impl Samples {
    /// Keeps samples for `horizon`, the longest window in use.
    #[must_use]
    pub fn new(_horizon: Duration) -> Self {
        Self {}
    }

    /// Takes a sample: the mean of the metric since the one before.
    pub fn push(
        &mut self,
        _instance: &InstanceId,
        _metric: Metric,
        _at: Timestamp,
        _value: f64,
    ) -> Result<(), Rejected> {
        Ok(())
    }

    /// Forgets an instance that is gone.
    pub fn forget(&mut self, _instance: &InstanceId) {}
}
