//! The bridge ports of instances: veths that reach into their namespaces.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use lb_userspace::net::{Address, Link, LinkError, Links, Netns, VethEnd};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::ProviderKind;

use crate::networks::{NetworkError, set};
use crate::provider::{InstanceSpec, NicSpec, Traffic};
use crate::scope::{Labelled, Scope, is_instance_port};

/// More NICs than an instance can have.
const MOST_NICS: usize = 16;

/// Why an instance could not be joined to its networks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// A link is not as it should be.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A setting can't be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The prefix of an address is none.
    #[error(transparent)]
    Prefix(#[from] ipnet::PrefixLenError),
}

/// The ports of the instances of one kind of cloud.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    scope: Scope,
    kind: ProviderKind,
    host: Links,
}

impl Ports {
    /// Ports in the namespace `host`, where the bridges are. To be called on a tokio runtime.
    pub(crate) fn open(scope: Scope, kind: ProviderKind, host: &Netns) -> Result<Self, LinkError> {
        Ok(Self { scope, kind, host: Links::open(host)? })
    }

    /// Joins an instance's namespace to all its networks, whatever is there of them already. Its interfaces are
    /// `eth<n>`, numbered from `first` on.
    pub(crate) async fn plug(
        &self,
        spec: &InstanceSpec,
        netns: &Netns,
        first: usize,
    ) -> Result<(), PortError> {
        let inside = Links::open(netns)?;
        for (number, nic) in spec.nics().enumerate() {
            let port = self.scope.nic_port(&spec.id, number);
            self.plug_nic(spec, nic, &port, &inside, &format!("eth{}", first + number)).await?;
        }
        Ok(())
    }

    async fn plug_nic(
        &self,
        spec: &InstanceSpec,
        nic: &NicSpec,
        port: &str,
        inside: &Links,
        interface: &str,
    ) -> Result<(), PortError> {
        let mark = self.scope.instance_mark(self.kind, &spec.tenant, &spec.id);
        let bridge = self.host.get(&nic.bridge).await?;
        let outer = VethEnd { links: &self.host, name: port, mac: None, master: Some(bridge.index) };
        let inner = VethEnd { links: inside, name: interface, mac: Some(nic.mac), master: None };
        self.host.ensure_veth(&mark, &outer, &inner).await?;
        if spec.management.as_ref() == Some(nic) {
            self.host.seal_port(port, nic.mac).await?;
        }
        self.host.set_up(port).await?;

        // A tenant's networks are IPv4, and the kernel's table of IPv6 neighbours is one for all of the host, too.
        set(inside.netns(), interface, &[("ipv6", "disable_ipv6", "1")]).await?;
        inside.set_up(interface).await?;
        let net = Ipv4Net::new(nic.address, nic.prefix)?;
        if spec.management.as_ref() == Some(nic) {
            self.lead_to_daemon(nic, net, inside, interface).await?;
        } else {
            inside.add_address(interface, &Address { net: IpNet::V4(net), protocol: 0 }).await?;
        }
        if let Some(gateway) = nic.gateway {
            self.fix_neighbour(nic, gateway, inside, interface).await?;
            inside.set_default_route(interface, gateway).await?;
        }
        Ok(self.host.wait_until_forwarding(port).await?)
    }

    /// On the management network an instance reaches the daemon alone. With a route to the whole network it could fill the
    /// host's table of neighbours by asking for all of it.
    async fn lead_to_daemon(
        &self,
        nic: &NicSpec,
        net: Ipv4Net,
        inside: &Links,
        interface: &str,
    ) -> Result<(), LinkError> {
        inside.ensure_lone_address(interface, net).await?;
        let link = inside.get(interface).await?;
        inside.add_neighbour_route(&link, nic.manager()).await?;
        self.fix_neighbour(nic, nic.manager(), inside, interface).await
    }

    /// Tells an instance the Ethernet address of its gateway, or of the daemon: it is reached also while the host's table of
    /// neighbours is full, and whatever another instance says by ARP.
    async fn fix_neighbour(
        &self,
        nic: &NicSpec,
        address: Ipv4Addr,
        inside: &Links,
        interface: &str,
    ) -> Result<(), LinkError> {
        match self.scope.gateway_mac(&nic.bridge) {
            Some(mac) => inside.set_neighbour(interface, address.into(), mac).await,
            // Not a bridge of ours.
            None => Ok(()),
        }
    }

    /// Removes an instance's ports; their other ends go with them. None there is a success.
    pub(crate) async fn unplug(&self, id: &InstanceId) -> Result<(), PortError> {
        let names: BTreeSet<String> = (0..MOST_NICS).map(|nic| self.scope.nic_port(id, nic)).collect();
        for link in self.host.list().await? {
            let owner = self.owner(&link);
            // A port of that name with another owner: their names collide, and this one was never plugged in.
            let its_own = owner.as_ref() == Some(id);
            let half_made = owner.is_none() && link.alias.is_none() && link.group == self.scope.group();
            if its_own || half_made && names.contains(&link.name) {
                self.host.delete_ours(self.scope.group(), &link.name).await?;
            }
        }
        Ok(())
    }

    /// What has gone over the tenant's networks: what a port sends, the instance receives.
    pub(crate) async fn traffic(&self, spec: &InstanceSpec) -> Result<Traffic, PortError> {
        let mut ports = Vec::new();
        for (number, _) in spec.tenant_nics().enumerate() {
            let port = self.host.get(&self.scope.nic_port(&spec.id, number)).await?;
            ports.push(Traffic { received: port.sent, sent: port.received });
        }
        Ok(ports.into_iter().sum())
    }

    /// The instances that have a port.
    pub(crate) async fn ids(&self) -> Result<BTreeSet<InstanceId>, PortError> {
        let links = self.host.list().await?;
        Ok(links.iter().filter_map(|link| self.owner(link)).collect())
    }

    /// Removes ports without an owner: a crash came between the making and the alias.
    pub(crate) async fn remove_ownerless(&self) -> Result<(), PortError> {
        for link in self.host.list().await? {
            let ours = link.group == self.scope.group() && is_instance_port(&link.name);
            if ours && self.scope.read_alias(link.alias.as_deref().unwrap_or_default()).is_none() {
                self.host.delete_ours(self.scope.group(), &link.name).await?;
            }
        }
        Ok(())
    }

    /// The bridges' namespace.
    #[cfg(test)]
    pub(crate) fn host(&self) -> &Links {
        &self.host
    }

    fn owner(&self, link: &Link) -> Option<InstanceId> {
        if link.group != self.scope.group() {
            return None;
        }
        match self.scope.read_alias(link.alias.as_deref()?)? {
            Labelled::Instance(kind, _, id) if kind == self.kind => Some(id),
            _ => None,
        }
    }
}
