//! What would happen now, and why not more.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::decision::Decision;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Metric, TenantName};
use sluice_store::Census;

/// What a tenant's policies would do now, and what keeps them from doing more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whose.
    pub tenant: TenantName,
    /// How many instances there should be.
    pub desired: u32,
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
    /// How many there are, by state.
    pub instances: Census,
    /// What would be decided now. It is not carried out: the next look at the host decides anew.
    pub decision: Decision,
    /// Why it adds nothing, or no more than it does.
    pub why_not_more: Vec<String>,
    /// Why it removes nothing, or no more than it does.
    pub why_not_fewer: Vec<String>,
    /// The newest samples that policies can look at.
    pub newest: Vec<NewestSample>,
    /// Samples that were refused since the daemon began, by why.
    pub refused: BTreeMap<String, u64>,
    /// Why the past is not being kept, where it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_problem: Option<String>,
}

/// The newest sample of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewestSample {
    /// Whose; `None` is the group's as a whole.
    pub instance: Option<InstanceId>,
    /// Of what.
    pub metric: Metric,
    /// When it was taken.
    pub at: Timestamp,
    /// In the metric's own unit.
    pub value: f64,
}
