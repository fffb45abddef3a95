//! What is expected of a load: made by the forecast from kept history, and passed into a decision as data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is expected of the load that a proactive or a predictive policy is about.
///
/// A type of its own, because no forecast is not a forecast of zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outlook {
    /// Nothing that could be relied on.
    Silent {
        /// Why: too little history, or the last forecasts were bad.
        reason: String,
    },
    /// So much.
    Expected {
        /// The demand on the whole group, in the metric's unit times instances: 3 instances at 60 % CPU are 1.8. For a
        /// predictive policy the largest from now until an instance started now, and its scheduling buffer, are past.
        demand: f64,
        /// For when.
        at: Timestamp,
        /// How good the last forecasts were: their mean absolute error as a fraction of the mean load; `None` where
        /// none has come due.
        error: Option<f64>,
    },
}
