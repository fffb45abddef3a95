//! Where the load balancer runs, and how large it is.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::net::Netns;
use crate::service::Protocol;

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
    /// Ports that no service takes and that are open all the same.
    pub open_ports: OpenPorts,
}

/// Ports that are open though no service takes them: processes of this host answer. All others are closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenPorts {
    /// At every VIP, for clients.
    pub at_vips: BTreeSet<(Protocol, u16)>,
    /// At every gateway, for instances.
    pub at_gateways: BTreeSet<(Protocol, u16)>,
}

/// The sizes of the maps, in entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Live flows: those of which both ends have spoken.
    pub flows: u32,
    /// Attempts of all services together: flows of which one end has spoken, or whose handshake isn't over. Each service has an
    /// equal part of its own, in which the oldest go first; a part is at least 64, and a power of two.
    pub nascent_flows: u32,
    /// Services.
    pub services: u32,
    /// Backends.
    pub backends: u32,
}

/// A flow without a packet for so long has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTimeouts {
    /// TCP after its handshake. AWS NLB: 350 s.
    pub tcp: Duration,
    /// ICMP echo. Linux conntrack: 30 s.
    pub icmp: Duration,
    /// UDP. AWS NLB and Linux conntrack: 120 s.
    pub udp: Duration,
    /// An attempt: a flow that both ends are yet to speak of. Linux gives a handshake up after 63 s.
    pub nascent: Duration,
    /// TCP after a FIN from both ends or a RST: late segments still reach their backend.
    pub closed: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flows: 1 << 20, nascent_flows: 1 << 21, services: 512, backends: 4096 }
    }
}

impl Default for FlowTimeouts {
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

/// A tenant's interface in the transit namespace.
#[derive(Debug, Clone)]
pub struct TenantLink {
    /// The interface in the transit namespace: answers come in here.
    pub interface: String,
    /// The other end of the veth, and the namespace it is in: it needs an XDP program to receive redirected frames.
    pub peer: String,
    /// The namespace of `peer`.
    pub peer_netns: Netns,
    /// The tenant's IPv4 addresses; without, no IPv4 packet is let in.
    pub ipv4: Option<Ipv4Subnet>,
    /// The tenant's IPv6 addresses; without, no IPv6 packet is let in.
    pub ipv6: Option<Ipv6Subnet>,
}

/// A tenant's IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Subnet {
    /// The addresses of instances; nothing else may come from there.
    pub net: Ipv4Net,
    /// The interface's own address: the only one of this host that instances may talk to.
    pub gateway: Ipv4Addr,
    /// Whether what instances send that is no answer is left to the kernel, but for what goes to another tenant. What the
    /// kernel does with it is for its packet filter to say.
    pub outbound: bool,
}

/// A tenant's IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Subnet {
    /// The addresses of instances; nothing else may come from there, but for neighbour discovery's own.
    pub net: Ipv6Net,
    /// The interface's own address: the only one of this host that instances may talk to.
    pub gateway: Ipv6Addr,
}
