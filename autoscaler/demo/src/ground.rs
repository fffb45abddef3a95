//! What the demo's instances run on.

use std::path::Path;

use anyhow::{Result, bail};
use sluice_containers::{Dockerd, Image};
use sluice_logic::spec::ProviderKind;

use crate::world::HostSettings;

/// The one tenant. Connections are held for less than the cool-down, so that every drain can end by itself; a tenth
/// of a core is little enough for real load on a small machine.
const IN_NAMESPACES: &str = "\
t_name: demo
nw_name: demo-net
subnet: 10.231.80.0/24
subnet_addr: 10.231.80.1
dhcp_start: 10.231.80.10
dhcp_end: 10.231.80.99
public_ip: 198.51.100.80
min_instances: 2
max_instances: 5
policy: dynamic
threshold: 0.5
window: 4s
buffer_time: 5s
cool_down: 15s
cpus: 0.1
request_cost: 2ms
";

/// The same in containers.
const IN_CONTAINERS: &str = "\
tenant: demo
networks:
  - {name: demo-net, subnet: 10.231.80.0/24, gateway: 10.231.80.1, dhcp: {start: 10.231.80.10, end: 10.231.80.99}}
services:
  - {vip: 198.51.100.80, protocol: icmp}
  - {vip: 198.51.100.80, protocol: tcp}
group: {min: 2, max: 5, buffer_time: 5s, cool_down: 15s}
policies:
  - reactive: {threshold: 50%, window: 4s}
template:
  cpus: 0.1
  memory: 64MiB
  request_cost: 2ms
  docker: {image: sluice/responder:demo, pull: never}
";

/// The image of [`IN_CONTAINERS`].
const IMAGE: &str = "sluice/responder:demo";

#[cfg(test)]
pub(crate) const TENANTS: [&str; 2] = [IN_NAMESPACES, IN_CONTAINERS];

/// What instances run on, for as long as it lives.
#[derive(Debug)]
pub(crate) enum Ground {
    /// The host itself.
    Namespaces,
    /// A dockerd of the demo's own.
    Containers(Dockerd),
}

impl Ground {
    /// Makes it ready; the instances' program is `sluice` itself, as the responder.
    pub(crate) async fn prepare(kind: ProviderKind, sluice: &Path) -> Result<Self> {
        match kind {
            ProviderKind::Netns => Ok(Self::Namespaces),
            ProviderKind::Docker => {
                let dockerd = Dockerd::start("demo").await?;
                dockerd.load(&Image::of(IMAGE, sluice, &["responder"])?).await?;
                Ok(Self::Containers(dockerd))
            }
            ProviderKind::Libvirt => bail!("there is no demo on libvirt yet"),
        }
    }

    /// The host file's part.
    pub(crate) fn settings(&self) -> HostSettings {
        let clouds = match self {
            Self::Namespaces => None,
            Self::Containers(dockerd) => {
                let socket = dockerd.socket();
                Some(format!("[{{name: containers, provider: docker, socket: {}}}]", socket.display()))
            }
        };
        HostSettings { clouds, ..HostSettings::default() }
    }

    /// The tenant's file.
    pub(crate) fn tenant(&self) -> &'static str {
        match self {
            Self::Namespaces => IN_NAMESPACES,
            Self::Containers(_) => IN_CONTAINERS,
        }
    }
}
