//! The host file, `sluice.yml`.
//!
//! `examples/sluice.yml` has every key with its default and unit. Only `transit.uplink` must be given.

mod clouds;
mod history;
mod logs;
mod management;
mod open_ports;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_logic::spec::CloudSpec;

use crate::diagnostic::{Diagnostic, Faults, Source};
use crate::yaml::Node;

pub use history::HistoryConfig;
pub use logs::LogsConfig;
pub use management::ManagementConfig;
pub use open_ports::OpenPort;

/// The daemon's name where the file gives none.
pub const DEFAULT_NAME: &str = "sluice";
/// Default of `sample_interval`.
pub const DEFAULT_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What the operator of a host asked for, checked and with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Scopes all that the daemon creates, so that several daemons can share a host: 1 to 16 of a-z,
    /// 0-9 and `_`, the first a letter.
    pub name: String,
    /// Where the XDP programs run.
    pub transit: TransitConfig,
    /// The directory of the tenants' files.
    pub tenants: PathBuf,
    /// Whether the removal of more than one tenant, and of more than a half of all, within a minute waits for a person.
    pub confirm_removal: bool,
    /// What must survive a reboot.
    pub state: PathBuf,
    /// What need not survive a reboot.
    pub run: PathBuf,
    /// How to talk to the daemon.
    pub api: ApiConfig,
    /// The directory in a bpffs below which maps and links are pinned.
    pub pins: PathBuf,
    /// Metrics are read so often.
    pub sample_interval: Duration,
    /// Where instances can run.
    pub clouds: Vec<CloudSpec>,
    /// The load balancer's sizes and times.
    pub load_balancer: LoadBalancerConfig,
    /// How much is kept of the past.
    pub history: HistoryConfig,
    /// Central logs.
    pub logs: LogsConfig,
    /// The network on which instances are read and heard.
    pub management: ManagementConfig,
}

/// Where the XDP programs run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitConfig {
    /// The name of the transit namespace, as `ip netns` knows it; `None` is the daemon's own namespace.
    pub namespace: Option<String>,
    /// The interface in it on which clients' packets arrive. It must exist.
    pub uplink: String,
    /// Ports at which this host's own processes answer clients, at every VIP that has no service there.
    pub open_to_clients: BTreeSet<OpenPort>,
    /// Ports at which this host's own processes answer instances, at every gateway.
    pub open_to_instances: BTreeSet<OpenPort>,
}

/// How to talk to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiConfig {
    /// Its Unix socket.
    pub socket: PathBuf,
}

/// The load balancer's sizes, in entries, and times.
///
/// The maps are made once: another size takes effect when the pins have been removed (`sluice down`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancerConfig {
    /// Live flows: those of which both ends have spoken.
    pub max_flows: u32,
    /// Flows that aren't live yet; each service has an equal part of its own.
    pub max_nascent_flows: u32,
    /// Services of all tenants together.
    pub max_services: u32,
    /// Backends of all tenants together.
    pub max_backends: u32,
    /// When a flow without packets ends.
    pub timeouts: TimeoutConfig,
}

impl Default for LoadBalancerConfig {
    fn default() -> Self {
        Self {
            max_flows: 1_048_576,
            max_nascent_flows: 2_097_152,
            max_services: 512,
            max_backends: 4_096,
            timeouts: TimeoutConfig::default(),
        }
    }
}

/// A flow without a packet for so long has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutConfig {
    /// TCP after its handshake. AWS NLB: 350 s.
    pub tcp: Duration,
    /// ICMP echo. Linux conntrack: 30 s.
    pub icmp: Duration,
    /// UDP. AWS NLB and Linux conntrack: 120 s.
    pub udp: Duration,
    /// A flow that isn't live yet: that both ends are yet to speak of.
    pub nascent: Duration,
    /// TCP after its end.
    pub closed: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(350),
            icmp: Duration::from_secs(30),
            udp: Duration::from_mins(2),
            nascent: Duration::from_secs(64),
            closed: Duration::from_secs(5),
        }
    }
}

/// A host file that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// What it asks for.
    pub config: HostConfig,
    /// What may not do what its author wants, sorted by place.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a host file. `file` is what messages call it.
///
/// # Errors
/// All faults of the file, and its warnings, sorted by place.
pub fn parse(file: &str, text: &str) -> Result<Host, Vec<Diagnostic>> {
    let source = Source { label: file, text };
    source.read(crate::yaml::parse(text), read)
}

pub(crate) fn read(source: Source<'_>, node: &Node) -> Result<Host, Vec<Diagnostic>> {
    let mut faults = Faults::new(source);
    let made = read::host(&mut faults, node);
    let (config, warnings) = faults.conclude(made)?;
    Ok(Host { config, warnings })
}

/// How many of a file's keys on the first level are a host's.
pub(crate) fn familiar_keys(node: &Node) -> usize {
    crate::tenant::top_keys(node).iter().filter(|key| read::KEYS.contains(&key.as_str())).count()
}
