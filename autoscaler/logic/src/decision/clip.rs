//! What keeps a decision from what was wanted.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kept a decision from what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Clip {
    /// The group's minimum.
    Min {
        /// Fewest instances.
        min: u32,
    },
    /// What a policy protects.
    Floor {
        /// Fewest instances.
        floor: u32,
        /// Which of the group's policies, from 0.
        policy: usize,
    },
    /// The group's maximum.
    Max {
        /// Most instances.
        max: u32,
    },
    /// A recommendation of the stabilization window.
    Stabilization {
        /// The number that it allows.
        to: u32,
    },
    /// The rate limits of the direction.
    RateLimit {
        /// The number that they allow.
        to: u32,
    },
    /// The scale-in control.
    ScaleInControl {
        /// The number that it allows.
        to: u32,
        /// The largest recommendation in its window.
        peak: u32,
    },
    /// The last scaling action began less than the buffer time ago.
    BufferTime {
        /// From when on the next may begin.
        until: Timestamp,
    },
}

impl Clip {
    /// How a decision's reason goes on with it.
    pub(super) fn words(&self) -> String {
        match self {
            Self::BufferTime { .. } => format!("; {self}"),
            _ => format!(", but {self}"),
        }
    }
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Min { min } => write!(f, "{min} is the minimum"),
            Self::Floor { floor, policy } => write!(f, "policy {} protects {floor}", policy + 1),
            Self::Max { max } => write!(f, "{max} is the maximum"),
            Self::Stabilization { to } => write!(f, "{to} was recommended within the stabilization window"),
            Self::RateLimit { to } => write!(f, "the rate limit allows {to}"),
            Self::ScaleInControl { to, peak } => {
                write!(f, "the scale-in control allows {to} after a peak of {peak}")
            }
            Self::BufferTime { until } => write!(f, "waits for the buffer time until {until:.0}"),
        }
    }
}
