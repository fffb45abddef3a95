//! What is expected of a load: made by the forecast from kept history, and passed into a decision as data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is expected of the load that a proactive or a predictive policy is about.
///
/// A type of its own, because no forecast is not a forecast of zero. Demands are of the whole group, in the metric's
/// unit times instances: 3 instances at 60 % CPU are 1.8.
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
        /// The most that is provided for from now until an instance started now would serve. For a predictive policy
        /// until its scheduling buffer is past as well.
        demand: f64,
        /// For when.
        at: Timestamp,
        /// How good the last forecasts were: their mean absolute error as a fraction of the mean load; `None` where
        /// none has come due.
        error: Option<f64>,
        /// Where instances are added, so many are that this is carried: what comes soon after. `None`: as `demand`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ahead: Option<f64>,
        /// No instance is let go that this needs. `None`: as `demand`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<f64>,
    },
}
