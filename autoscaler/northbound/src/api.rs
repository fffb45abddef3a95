//! The daemon's HTTP API over its Unix socket: paths, and the JSON that goes over them.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/events?tenant=&limit=&after=&wait=` | | [`EventPage`] |
//! | `GET /v1/clouds` | | a list of [`CloudStatus`] |
//! | `POST /v1/tenants/{tenant}/scale` | [`ScaleRequest`] | [`ScaleAnswer`] |
//! | `POST /v1/instances/{id}/drain` | [`DrainRequest`] | [`DrainAnswer`] |
//! | `GET /v1/tenants/{tenant}/explain` | | [`Explanation`] |
//! | `POST /v1/tenants/{tenant}/samples` | [`PushRequest`] | [`PushAnswer`] |
//! | `GET /v1/export?kind=&day=&zone=&tenant=&format=` | | CSV or lines of JSON: [`Query`](crate::export::Query) |
//! | `POST /v1/confirm-removal` | [`ConfirmRequest`] | [`ConfirmAnswer`] |
//! | `POST /v1/rescan` | | [`RescanAnswer`] |
//! | `POST /v1/stop` | | [`StopAnswer`] |
//!
//! Who may open the socket (mode 0600, root) may do everything: there is no other check. A refusal is a
//! [`Problem`] with a status code of 400 (the input is wrong), 404 (no such thing) or 409 (not now).

mod commands;
mod events;
mod explain;
mod problem;
mod push;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::decision::Decision;
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_logic::spec::{CloudName, Metric, ProviderKind, TenantName};

pub use commands::{DrainAnswer, DrainRequest, Problem, RescanAnswer, ScaleAnswer, ScaleRequest, StopAnswer};
pub use events::{Event, EventKind, EventPage, EventQuery};
pub use explain::{Explanation, NewestSample};
pub use problem::HostProblem;
pub use push::{PushAnswer, PushRequest};

/// What the daemon is doing, all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon itself.
    pub daemon: DaemonStatus,
    /// What is not as it should be on the host, oldest first.
    #[serde(default)]
    pub problems: Vec<HostProblem>,
    /// By name.
    pub tenants: Vec<TenantStatus>,
    /// Tenants whose files are gone, and that stay until a person confirms their removal.
    #[serde(default)]
    pub held: Vec<HeldRemoval>,
    /// Tenant files that are not in force as they stand, with all their faults.
    pub refused: Vec<RefusedFile>,
    /// Dropped packets since the maps were made, by the name of the reason; those that are zero are left out.
    pub drops: BTreeMap<String, u64>,
    /// Central logs, where they are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogStatus>,
}

/// What has come of central logs since the daemon began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Where they are taken, in the transit namespace.
    pub listen: SocketAddr,
    /// Messages kept.
    pub kept: u64,
    /// Among these, kept as they came, since they are not syslog.
    pub malformed: u64,
    /// Messages of tenants whose files say that nothing is kept.
    pub declined: u64,
    /// Messages that found no room: UDP that came too fast, a full disk, a tenant's day that is full.
    pub lost: u64,
    /// Datagrams, and connections, from addresses that are neither an instance's, nor in a tenant's network, nor a host's:
    /// not read.
    #[serde(default)]
    pub unknown: u64,
    /// Connections closed at once, since there were too many of their address (64) or of all (4,096).
    #[serde(default)]
    pub refused: u64,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it was ready to serve.
    pub since: Timestamp,
    /// The prefix of everything it owns on the host.
    pub name: String,
    /// The transit namespace.
    pub transit: String,
    /// The interface on which clients' packets arrive.
    pub uplink: String,
    /// How the XDP program runs on it.
    pub xdp_mode: XdpMode,
}

/// How an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver, before a socket buffer is made.
    Native,
    /// In the network stack: works with any driver, and is several times slower.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// A tenant file that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFile {
    /// The file.
    pub file: PathBuf,
    /// The tenant whose last good form stays in force, where there was one.
    pub tenant: Option<TenantName>,
    /// It is good by itself, and waits for what another tenant has.
    #[serde(default)]
    pub waits: bool,
    /// Its faults, each with line and column, as `sluice check` prints them.
    pub faults: Vec<String>,
}

/// A tenant whose file is gone, with too many others at once for that to be a person's will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRemoval {
    /// The tenant, which stays in force.
    pub tenant: TenantName,
    /// The file that is gone.
    pub file: PathBuf,
}

/// Lets tenants go whose files are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// Which; none is all that are held.
    #[serde(default)]
    pub tenants: Vec<TenantName>,
}

/// Their removal has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmAnswer {
    /// Whose.
    pub tenants: Vec<TenantName>,
}

/// A tenant and its group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Its name.
    pub name: TenantName,
    /// Its services, as `sluice check` prints them: `45.45.45.45/icmp`, `45.45.45.45:*/tcp`.
    pub services: Vec<String>,
    /// What the load balancer has counted, by service; what it could not count at the last sample is left out.
    pub counters: BTreeMap<String, ServiceCounters>,
    /// Their public addresses, each once.
    pub vips: Vec<IpAddr>,
    /// How many instances there should be.
    pub desired: u32,
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
    /// What its policies look at, in their order.
    pub loads: Vec<Load>,
    /// The last decision, also "nothing".
    pub last_decision: Option<Decision>,
    /// When the last scaling action began.
    pub last_action: Option<Timestamp>,
    /// Set while the tenant is being removed.
    pub leaving: bool,
    /// By then its instances are gone, while it is being removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving_until: Option<Timestamp>,
    /// Why its network or its services are not as they should be, where they are not.
    pub problem: Option<String>,
    /// The last instance that has failed before it had worked, until one has worked after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_launch: Option<FailedLaunch>,
    /// Its instances, oldest first.
    pub instances: Vec<InstanceStatus>,
}

/// An instance has failed before it had worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLaunch {
    /// Which.
    pub instance: InstanceId,
    /// Where.
    pub cloud: CloudName,
    /// When.
    pub at: Timestamp,
    /// Why, as its cloud or its process says.
    pub reason: String,
}

/// What a policy looks at, and from where on it acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Which metric.
    pub metric: Metric,
    /// Its mean over the window and the instances in service; `None` while there is none to be had.
    pub value: Option<f64>,
    /// The policy's threshold, in the metric's own unit.
    pub threshold: f64,
}

/// What the load balancer has counted for a service since it made it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCounters {
    /// Packets from clients.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Packets to clients.
    pub reply_packets: u64,
    /// Their bytes, likewise.
    pub reply_bytes: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Flows alive at the last sample.
    pub live_flows: u64,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub id: InstanceId,
    /// Where it runs.
    pub cloud: CloudName,
    /// Its address on the tenant's first network.
    pub address: Ipv4Addr,
    /// Its addresses on the tenant's other networks, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_addresses: Vec<Ipv4Addr>,
    /// Where it is in its life.
    pub state: InstanceState,
    /// What it waits for while it is made, and how far that is: `pulling image shop:1.4: 41 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it entered `state`.
    pub since: Timestamp,
    /// CPU utilisation at the last sample: 1.0 is all cores of its template.
    pub cpu: Option<f64>,
    /// Packets a second towards it at the last sample.
    pub packets_per_second: Option<f64>,
    /// Flows begun a second at the last sample.
    pub new_flows_per_second: Option<f64>,
    /// Flows begun since it became a backend.
    pub new_flows: Option<u64>,
    /// Live flows at the last sample.
    pub live_flows: Option<u64>,
    /// Its part of all flows that the tenant's instances began between the last two samples, 0 to 1; `None`
    /// when none began.
    pub new_flow_share: Option<f64>,
}

impl InstanceStatus {
    /// Its addresses on all networks of its tenant, the first network's first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.address).chain(self.other_addresses.iter().copied())
    }
}

/// A cloud, the most preferred one first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloudStatus {
    /// Its name.
    pub name: CloudName,
    /// Its driver.
    pub kind: ProviderKind,
    /// Where the driver finds it.
    pub address: String,
    /// The place that it shares its fate with.
    pub zone: Option<String>,
    /// The one with the highest gets instances first.
    pub priority: u32,
    /// What an instance costs in an hour.
    pub price_per_hour: f64,
    /// Most instances; `None` is no limit.
    pub capacity: Option<u32>,
    /// The instances that are there, of all tenants.
    pub used: u32,
    /// Why it does not answer, while it doesn't.
    pub fault: Option<String>,
    /// Then it is asked again in so many seconds.
    pub asked_again_in: Option<f64>,
    /// Tenants whose last instance there has failed.
    pub troubles: Vec<CloudTrouble>,
}

/// A tenant's instance has failed on a cloud before it had worked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloudTrouble {
    /// Whose.
    pub tenant: TenantName,
    /// Why.
    pub reason: String,
    /// It gets no other one there for so many seconds.
    pub backed_off_for: f64,
}

/// The paths, as the router wants them.
pub mod path {
    /// `GET`: [`Status`](super::Status).
    pub const STATUS: &str = "/v1/status";
    /// `GET`: [`EventPage`](super::EventPage).
    pub const EVENTS: &str = "/v1/events";
    /// `GET`: a list of [`CloudStatus`](super::CloudStatus).
    pub const CLOUDS: &str = "/v1/clouds";
    /// `POST`: [`ScaleRequest`](super::ScaleRequest).
    pub const SCALE: &str = "/v1/tenants/{tenant}/scale";
    /// `POST`: [`DrainRequest`](super::DrainRequest).
    pub const DRAIN: &str = "/v1/instances/{id}/drain";
    /// `GET`: [`Explanation`](super::Explanation).
    pub const EXPLAIN: &str = "/v1/tenants/{tenant}/explain";
    /// `POST`: [`PushRequest`](super::PushRequest).
    pub const PUSH: &str = "/v1/tenants/{tenant}/samples";
    /// `GET`, with a [`Query`](crate::export::Query).
    pub const EXPORT: &str = "/v1/export";
    /// `POST`, with a [`ConfirmRequest`](super::ConfirmRequest).
    pub const CONFIRM: &str = "/v1/confirm-removal";
    /// `POST`, without a body.
    pub const RESCAN: &str = "/v1/rescan";
    /// `POST`, without a body.
    pub const STOP: &str = "/v1/stop";
}
