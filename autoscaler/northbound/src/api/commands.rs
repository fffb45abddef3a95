//! What people ask of the daemon, and its answers.

use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;

use super::RefusedFile;

/// Sets the desired count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The desired count; within the group's limits.
    pub count: u32,
}

/// The desired count is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleAnswer {
    /// Whose.
    pub tenant: TenantName,
    /// Before.
    pub from: u32,
    /// Now.
    pub to: u32,
}

/// Drains an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Whether the desired count goes down by one; otherwise another instance takes its place.
    #[serde(default)]
    pub decrement: bool,
}

/// The instance drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainAnswer {
    /// Whose.
    pub tenant: TenantName,
    /// Which.
    pub instance: InstanceId,
    /// The group's desired count now.
    pub desired: u32,
}

/// The tenants' directory was read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescanAnswer {
    /// The tenants in force.
    pub tenants: Vec<TenantName>,
    /// The files that are refused.
    pub refused: Vec<RefusedFile>,
}

/// The daemon is ending; packets still flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    /// Its process: gone when it has ended.
    pub pid: u32,
}

/// Why a request was refused or has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What, why, and the way out.
    pub error: String,
}
