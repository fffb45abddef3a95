//! `management`: the network on which instances are read and heard.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use std::net::Ipv4Addr;

use crate::diagnostic::Faults;
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::Node;

/// Of the addresses that RFC 2544 (C.2.2) sets apart for benchmarks: nobody routes them, so no client has one.
const DEFAULT_SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 19, 0, 0), 16);

/// The management network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagementConfig {
    /// Whether there is one. Without it exporters are read over the tenants' networks.
    pub enabled: bool,
    /// Its addresses, one for each instance of all tenants, and the first for the daemon.
    pub subnet: Ipv4Net,
}

impl Default for ManagementConfig {
    fn default() -> Self {
        Self { enabled: true, subnet: DEFAULT_SUBNET }
    }
}

impl ManagementConfig {
    /// The addresses that no tenant may have; `None` where there is no management network.
    #[must_use]
    pub fn reserved(&self) -> Option<Ipv4Net> {
        self.enabled.then_some(self.subnet)
    }
}

/// Reads the section. `None` has been reported.
pub(super) fn management(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<ManagementConfig> {
    let default = ManagementConfig::default();
    let mut fields = match fields.section(faults, "management") {
        Section::Open(fields) => fields,
        Section::Absent => return Some(default),
        Section::Refused => return None,
    };
    let enabled = fields.defaulted(faults, &["enabled"], default.enabled, value::boolean);
    let subnet = fields.defaulted(faults, &["subnet"], default.subnet, subnet);
    fields.finish(faults);
    Some(ManagementConfig { enabled: enabled?, subnet: subnet? })
}

fn subnet(node: &Node) -> Result<Ipv4Net, Complaint> {
    let net = value::subnet(node)?;
    if net.prefix_len() <= 24 {
        return Ok(net);
    }
    let room = (1_u64 << (32 - net.prefix_len())) - 3;
    let message = format!("{net} has addresses for {room} instances of all tenants together");
    Err(Complaint::with_help(message, "give a /24 or a larger one, such as the default 198.19.0.0/16"))
}
