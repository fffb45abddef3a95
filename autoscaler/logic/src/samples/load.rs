//! What is known of a load.

use std::time::Duration;

use super::seconds;

/// The load of a group over a window.
///
/// A type of its own, because missing data is not zero: a caller has to say what it does without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Every instance that counts has fresh samples.
    Known {
        /// The signal.
        value: f64,
        /// Instances in service that count: warm, and not failed.
        instances: u32,
        /// Samples that went into it.
        samples: u32,
    },
    /// Some instances in service have no fresh sample: just begun, or their source fails. Or a sum over time has gaps.
    Partial {
        /// The signal with the unmeasured instances and the gaps counted at 0, as the Kubernetes HPA does on the way
        /// up: the load is this or more.
        at_least: f64,
        /// The signal of the measured instances alone.
        measured: f64,
        /// Instances in service that count and have fresh samples, or that a value of the group is shared by.
        instances: u32,
        /// Instances in service without fresh samples.
        unmeasured: u32,
        /// Whether there are times in the window of which nothing is known, and the signal is a sum over it.
        gaps: bool,
        /// Samples that went into it.
        samples: u32,
    },
    /// Nothing is known.
    Missing(Missing),
}

/// Why nothing is known of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is nothing to measure.
    #[error("no instance is in service")]
    NothingInService,
    /// All that is in service is still warming up.
    #[error("no instance in service is warm yet")]
    NothingWarm,
    /// No sample in the window was taken since its instance came into service.
    #[error("no instance in service has a sample in the window")]
    NoSample,
    /// The group as a whole has no sample in the window.
    #[error("the group has no sample in the window")]
    NoGroupSample,
    /// There are samples, but the newest is too old to act upon.
    #[error("the newest sample is {} old, more than {}", seconds(*.age), seconds(*.bound))]
    Stale {
        /// Age of the newest sample of any instance in service.
        age: Duration,
        /// The age from which a sample is stale.
        bound: Duration,
    },
}
