//! Decisions as they are kept.

use serde::{Deserialize, Serialize};
use sluice_logic::decision::Decision;
use sluice_logic::group::{Instance, InstanceState};

/// A decision, also one to do nothing, and how the group stood when it was made.
///
/// What became of it is told by those that follow: see [`Following`](crate::Following).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// What was decided, each policy's wish and inputs, and what clipped it.
    pub decision: Decision,
    /// The group's instances at that moment.
    #[serde(default)]
    pub instances: Census,
    /// What could not be done on the host at that moment, where there was something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A group's instances, counted by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Census {
    /// On their way.
    pub pending: u32,
    /// Taking new flows.
    pub in_service: u32,
    /// Keeping their old flows only.
    pub draining: u32,
    /// Being removed, or failed.
    pub terminating: u32,
}

impl Census {
    /// Counts instances. One that has failed is on its way out, whatever state it was in.
    #[must_use]
    pub fn of(instances: &[Instance]) -> Self {
        let mut census = Self::default();
        for instance in instances {
            let place = match instance.state {
                _ if instance.failed => &mut census.terminating,
                InstanceState::Pending => &mut census.pending,
                InstanceState::InService => &mut census.in_service,
                InstanceState::Draining => &mut census.draining,
                InstanceState::Terminating | InstanceState::Terminated => &mut census.terminating,
            };
            *place += 1;
        }
        census
    }
}
