//! The load balancer: what is pinned in the kernel, as one value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::net::Netns;
use crate::service::{Service, ServiceKey};

/// Where the load balancer runs and how large its maps are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory in a bpffs below which maps and links are pinned; `v<ABI>` is added.
    pub pin_root: PathBuf,
    /// The transit namespace.
    pub transit: Netns,
    /// The interface in it on which clients' packets arrive.
    pub uplink: String,
    /// Map sizes, for the first load; what is pinned keeps its size.
    pub limits: Limits,
    /// When a flow without packets ends.
    pub timeouts: FlowTimeouts,
}

/// The sizes of the maps, in entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Flows of which two packets or more were seen.
    pub flows: u32,
    /// Flows of which one packet was seen; the oldest goes first when there are more.
    pub nascent_flows: u32,
    /// Services.
    pub services: u32,
    /// Backends.
    pub backends: u32,
}

/// A flow without a packet for so long has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTimeouts {
    /// TCP after its first two packets. AWS NLB: 350 s.
    pub tcp: Duration,
    /// ICMP echo. Linux conntrack: 30 s.
    pub icmp: Duration,
    /// Any flow of one packet.
    pub nascent: Duration,
    /// TCP after a FIN from both ends or a RST: late segments still reach their backend.
    pub closed: Duration,
}

/// A tenant's interface in the transit namespace.
#[derive(Debug, Clone)]
pub struct TenantLink {
    /// The interface in the transit namespace: answers come in here.
    pub interface: String,
    /// The other end of the veth, and the namespace it is in: it needs an XDP program to receive redirected frames.
    pub peer: String,
    /// The namespace of `peer`.
    pub peer_netns: Netns,
    /// The tenant's addresses; nothing else may come from there.
    pub subnet: IpNet,
    /// The interface's own address: the only one of this host that instances may talk to.
    pub gateway: IpAddr,
}

/// Counts since the maps were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounters {
    /// Packets from clients.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Packets to clients.
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Flows alive at the last sweep.
    pub live_flows: u64,
}

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// By backend address.
    pub backends: BTreeMap<IpAddr, FlowCounters>,
    /// By service.
    pub services: BTreeMap<ServiceKey, FlowCounters>,
    /// Dropped packets, by the name of the reason.
    pub drops: BTreeMap<&'static str, u64>,
}

/// Why the load balancer could not do what it was asked. Nothing is half done then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Placeholder until the loader lands.
    #[error("not implemented")]
    Missing,
}

/// The load balancer of one uplink: programs, maps and links, pinned so that packets flow without this process.
///
/// Calls are synchronous and take well under a millisecond, [`apply`](Self::apply) up to about 20 ms (it waits
/// for the kernel to finish with the old table).
#[derive(Debug)]
pub struct LoadBalancer {}

impl LoadBalancer {
    /// Loads the programs, or adopts what an earlier process has pinned; new programs replace the old ones on
    /// their links without a packet between.
    pub fn open(_settings: &Settings) -> Result<Self, Error> {
        Err(Error::Missing)
    }

    /// Starts or adopts a tenant's side: the answer program on its interface. Idempotent.
    pub fn attach_tenant(&mut self, _link: &TenantLink) -> Result<(), Error> {
        Err(Error::Missing)
    }

    /// Ends a tenant's side. Idempotent.
    pub fn detach_tenant(&mut self, _interface: &str) -> Result<(), Error> {
        Err(Error::Missing)
    }

    /// Makes the service what is asked, whatever it was: one atomic step for packets. Idempotent, and cheap where
    /// nothing changes. A backend that is no longer listed is gone: its flows are forgotten.
    pub fn apply(&mut self, _service: &Service) -> Result<(), Error> {
        Err(Error::Missing)
    }

    /// Removes a service. Idempotent.
    pub fn remove(&mut self, _key: &ServiceKey) -> Result<(), Error> {
        Err(Error::Missing)
    }

    /// The services as the maps have them: after a restart, what the last daemon left.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        Vec::new()
    }

    /// Moves the flows' clock on, ends idle flows and counts the live ones. To be called about once a second.
    pub fn sweep(&mut self) -> Result<(), Error> {
        Err(Error::Missing)
    }

    /// All counters.
    pub fn counters(&self) -> Result<Counters, Error> {
        Err(Error::Missing)
    }

    /// Removes every pin below the root, and so every program and map. Returns what was removed.
    pub fn remove_pins(_pin_root: &Path) -> Result<Vec<PathBuf>, Error> {
        Err(Error::Missing)
    }
}
