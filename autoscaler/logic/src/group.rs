//! A group's instances and their life.

use std::fmt;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::spec::TenantName;

/// Names an instance on the host: `<tenant>-<8 hex digits>`, never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// Makes an id from a tenant's name and a number that the caller has not used before.
    #[must_use]
    pub fn new(tenant: &TenantName, unique: u32) -> Self {
        Self(format!("{tenant}-{unique:08x}"))
    }

    /// Takes an id that was made before, read back from a label.
    #[must_use]
    pub fn from_label(label: impl Into<String>) -> Self {
        Self(label.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an instance is in its life, as in EC2.
///
/// ```text
/// pending ──ready──► in_service ──scale-in──► draining ──no flow, or cool-down over──► terminating ──► terminated
///    └────────────────────┴──failed──────────────────────────────────────────────────────►┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Made or being made; not yet ready. Counts as capacity, not as load.
    Pending,
    /// Takes new flows.
    InService,
    /// Takes no new flow and keeps its old ones. Counts as neither capacity nor load.
    Draining,
    /// Being removed.
    Terminating,
    /// Gone; kept in the event log only.
    Terminated,
}

/// What the logic knows of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// Its address on the tenant's first network.
    pub address: Ipv4Addr,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When it was created: newest first goes.
    pub created: Timestamp,
    /// When it entered `state`.
    pub since: Timestamp,
    /// Its live flows, when the load balancer has counted them since `since`.
    pub live_flows: Option<u64>,
    /// Its process or machine is gone, or it never became ready.
    pub failed: bool,
}
