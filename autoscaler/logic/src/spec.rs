//! What a tenant asked for: its `tenant.yml`, checked and with every default filled in.

mod azure;
mod cloud;
mod metric;
mod outbound;
mod pace;
mod policy;
mod schedule;
mod service;
mod source;
mod span;
mod step;
mod template;
mod vip;
mod vm;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use self::cloud::{
    AccelChoice, CloudName, CloudSpec, DockerAddress, DockerTls, ProviderKind, ProviderSpec,
};
pub use self::service::{Protocol, ServiceSpec, Spread};
pub use self::template::{DockerTemplate, NetnsTemplate, PullPolicy, RegistryLogin, TemplateSpec};
pub use self::vip::VipFault;
pub use self::vm::{
    CloudInit, DEFAULT_SHUTDOWN_TIMEOUT, GuestPassword, GuestUser, ImageFormat, LibvirtTemplate, VmBoot,
    VmDisk,
};

pub use self::azure::{Profile, ProfileTime, Rule, RuleChange, Rules, TimedProfile};
pub use self::metric::{
    Aggregation, BadMetric, BadMetricName, Metric, MetricName, Percentile, Scope, Signal, Statistic,
    UnknownWord,
};
pub use self::outbound::Outbound;
pub use self::pace::{Amount, Direction, Pace, RateLimit, ScaleInControl, Select};
pub use self::policy::{
    Custom, Dynamic, MissingData, PolicySpec, Predictive, PredictiveMode, Proactive, Reactive, Static,
    TargetTracking, Tolerance,
};
pub use self::schedule::{BadCron, BadZone, Cron, Schedule, Start, StaticEntry, Zone};
pub use self::source::{Exporter, MetricSource, MetricSpec, PromQuery};
pub use self::step::{Adjustment, Comparison, Simple, Step, StepAdjustment};

/// A tenant's name: 1 to 32 of `a–z`, `0–9`, `-` and `_`, the first a letter or digit.
///
/// It becomes part of the names of namespaces, cgroups and labels, so nothing else is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(String);

/// Why a text is not a [`TenantName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tenant name: 1 to 32 of a-z, 0-9, `-` and `_`, the first a letter or digit")]
pub struct BadTenantName(String);

impl TenantName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantName {
    type Error = BadTenantName;

    fn try_from(text: String) -> Result<Self, BadTenantName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts_well && text.len() <= 32 && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            Err(BadTenantName(text))
        }
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> Self {
        name.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A customer of the service: one `tenant.yml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantSpec {
    /// Unique on the host.
    pub name: TenantName,
    /// Where its instances live: each is on all of them. The first one carries the services and the default route.
    pub networks: Vec<NetworkSpec>,
    /// What its instances reach beside its networks.
    #[serde(default)]
    pub outbound: Outbound,
    /// What clients address.
    pub services: Vec<ServiceSpec>,
    /// What an instance is made of.
    pub template: TemplateSpec,
    /// How many instances there may be, and at which pace their number changes.
    pub group: GroupSpec,
    /// What is measured of its own, and where that comes from.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
    /// What decides how many there should be. Empty: the number stays where a person puts it.
    pub policies: Vec<PolicySpec>,
    /// `should_log`: whether the tenant's logs are kept.
    pub keep_logs: bool,
    /// `should_encrypt_pwd`: whether guests get their password as a salted hash only.
    pub encrypt_passwords: bool,
}

/// An IPv4 network of a tenant: one bridge on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The tenant's name for it.
    pub name: String,
    /// The addresses on the bridge.
    pub subnet: Ipv4Net,
    /// The transit namespace's address in the subnet; on a tenant's first network the instances' default route.
    pub gateway: Ipv4Addr,
    /// First address given to an instance.
    pub dhcp_start: Ipv4Addr,
    /// Last address given to an instance.
    pub dhcp_end: Ipv4Addr,
}

/// A scaling group's limits and pace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// After a scaling action no further one starts for so long, where its direction has no time of its own:
    /// [`buffer_time_out`](Self::buffer_time_out), [`buffer_time_in`](Self::buffer_time_in).
    pub buffer_time: Duration,
    /// How long a draining instance keeps its flows before it is shut down.
    pub cool_down: Duration,
    /// What tames it beyond that.
    #[serde(default)]
    pub pace: Pace,
}

impl GroupSpec {
    /// After a scaling action, in either direction, the number goes up no sooner than after so long.
    #[must_use]
    pub fn buffer_time_out(&self) -> Duration {
        self.pace.out.buffer_time.unwrap_or(self.buffer_time)
    }

    /// After a scaling action, in either direction, the number goes down no sooner than after so long.
    #[must_use]
    pub fn buffer_time_in(&self) -> Duration {
        self.pace.r#in.buffer_time.unwrap_or(self.buffer_time)
    }
}
