//! How many instances there should be, and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::group::{Instance, InstanceId};
use crate::samples::Samples;
use crate::spec::{GroupSpec, PolicySpec};

/// A group at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Its limits and pace.
    pub spec: &'a GroupSpec,
    /// What decides.
    pub policies: &'a [PolicySpec],
    /// Its instances, in any order.
    pub instances: &'a [Instance],
    /// How many there should be, by the last decision.
    pub desired: u32,
    /// When the last scaling action began.
    pub last_action: Option<Timestamp>,
}

/// What was decided at one moment, also "nothing".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The desired count before.
    pub from: u32,
    /// The desired count from now on.
    pub to: u32,
    /// Why, for people: one sentence with its numbers.
    pub reason: String,
}

/// Decides how many instances there should be.
#[must_use]
pub fn decide(group: &Group<'_>, _samples: &Samples, now: Timestamp) -> Decision {
    Decision { at: now, from: group.desired, to: group.desired, reason: String::new() }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// Make one more instance.
    Launch {
        /// Why.
        reason: String,
    },
    /// Give it no new flow.
    Drain {
        /// Which.
        id: InstanceId,
        /// Why.
        reason: String,
    },
    /// Shut it down and remove it.
    Terminate {
        /// Which.
        id: InstanceId,
        /// Why.
        reason: String,
    },
}

/// What should be done now so that what is becomes what should be.
#[must_use]
pub fn plan(_spec: &GroupSpec, _desired: u32, _instances: &[Instance], _now: Timestamp) -> Vec<Step> {
    Vec::new()
}
