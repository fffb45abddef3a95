//! The driver of a kind of cloud.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lb_userspace::net::MacAddr;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{TemplateSpec, TenantName};

/// How an instance is plugged into one of its tenant's networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// The bridge's interface name, in the daemon's namespace.
    pub bridge: String,
    /// The instance's address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The default route.
    pub gateway: Ipv4Addr,
    /// The instance's own MAC address.
    pub mac: MacAddr,
}

/// All that is needed to make an instance, and to find it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its name.
    pub id: InstanceId,
    /// Whose it is.
    pub tenant: TenantName,
    /// When it was asked for.
    pub created: Timestamp,
    /// What it is made of.
    pub template: TemplateSpec,
    /// Its place on the tenant's first network.
    pub nic: NicSpec,
}

/// What is there of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Some parts exist, but it has not been started.
    Created,
    /// It runs.
    Running,
    /// It was started, and has ended.
    Exited,
    /// Remains without a readable label: to be deleted.
    Broken,
}

/// An instance as its provider sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// From its label.
    pub id: InstanceId,
    /// What is there.
    pub presence: Presence,
    /// The label; `None` only for [`Presence::Broken`].
    pub spec: Option<InstanceSpec>,
}

/// Raw metrics of an instance; rates are differences of two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMetrics {
    /// When it was read.
    pub at: Timestamp,
    /// CPU time used since the instance began.
    pub cpu: Duration,
    /// Memory in use, bytes, where the provider can tell.
    pub memory: Option<u64>,
}

/// Why a provider could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// There is no such instance.
    #[error("no instance {0}")]
    Unknown(InstanceId),
    /// The provider itself can't be used now.
    #[error("{provider} is not available: {reason}")]
    Unavailable {
        /// Which.
        provider: &'static str,
        /// Why, and the way out.
        reason: String,
    },
    /// A step of making, stopping or deleting failed.
    #[error("{step} of {id} failed: {reason}")]
    Step {
        /// Whose.
        id: InstanceId,
        /// Which step.
        step: &'static str,
        /// Why.
        reason: String,
    },
}

/// The driver of a kind of cloud.
///
/// Every call is idempotent (what is already so is a success) and cancellable (dropping the future at any point
/// leaves something that [`list`](Provider::list) shows and [`delete`](Provider::delete) removes). A provider
/// keeps no state of its own: what exists is what [`list`](Provider::list) finds by label, also after a crash.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The kind of cloud, as in `sluice.yml`.
    fn kind(&self) -> &'static str;

    /// Makes all that the instance needs, short of starting it.
    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError>;

    /// Starts an instance that was created.
    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError>;

    /// Asks it to end, and ends it by force after `grace`.
    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError>;

    /// Removes it and everything of it, running or not.
    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError>;

    /// Everything of ours that exists, by label. A foreign thing is never listed.
    async fn list(&self) -> Result<Vec<Observed>, ProviderError>;

    /// Waits until a running instance has ended, by itself or because it was stopped. Cancel safe. A provider that
    /// can't tell never returns: then the next [`list`](Provider::list) shows it.
    async fn ended(&self, _id: &InstanceId) {
        std::future::pending::<()>().await;
    }

    /// Its metrics now.
    async fn metrics(&self, id: &InstanceId) -> Result<InstanceMetrics, ProviderError>;
}
