//! What there is of networks, ports and VIPs at one moment, compared with what should be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use lb_userspace::net::{Address, Link, MacAddr};
use sluice_logic::spec::{NetworkSpec, TenantName};

use super::{NetworkError, Networks, is_our_vip};
use crate::provider::{InstanceSpec, NicSpec};
use crate::scope::Scope;

/// The links and addresses of the daemon's namespace and of the transit namespace at one moment.
#[derive(Debug, Clone)]
pub struct NetworkView {
    scope: Scope,
    host: ByName,
    transit: ByName,
    addresses: Vec<(u32, Address)>,
}

/// An instance's port, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, in the daemon's namespace.
    pub name: String,
    /// The bridge that it is to be a port of.
    pub bridge: String,
    /// The Ethernet address that it is sealed to, on the management network.
    pub sealed: Option<MacAddr>,
}

/// What there is of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// It is as it should be.
    Plugged,
    /// It is on no bridge, on another one, or down.
    Unplugged,
    /// There is none of that name.
    Absent,
}

impl Networks {
    /// The ports of an instance, in the order of its NICs.
    #[must_use]
    pub fn ports(&self, instance: &InstanceSpec) -> Vec<Port> {
        let port = |(number, nic): (usize, &NicSpec)| Port {
            name: self.scope.nic_port(&instance.id, number),
            bridge: nic.bridge.clone(),
            sealed: (instance.management.as_ref() == Some(nic)).then_some(nic.mac),
        };
        instance.nics().enumerate().map(port).collect()
    }

    /// Lists what there is, in three calls of the kernel. Nothing is changed.
    pub async fn view(&self) -> Result<NetworkView, NetworkError> {
        Ok(NetworkView {
            scope: self.scope.clone(),
            host: by_name(self.host.list().await?),
            transit: by_name(self.transit.list().await?),
            addresses: self.transit.all_addresses().await?,
        })
    }

    /// Makes instances' ports what they should be. Those that are absent are left out: their makers know of them.
    pub async fn plug(&self, ports: &[Port]) -> Result<(), NetworkError> {
        for Port { name, bridge, sealed } in ports {
            let Some(link) = self.host.find(name).await? else { continue };
            let bridge = self.host.get(bridge).await?;
            if link.master == Some(bridge.index) && link.up {
                continue;
            }
            self.host.set_master(name, bridge.index).await?;
            if let Some(mac) = sealed {
                self.host.seal_port(name, *mac).await?;
            }
            self.host.set_up(name).await?;
        }
        Ok(())
    }
}

impl NetworkView {
    /// Whether a VIP is on an interface as its daemon has put it there.
    #[must_use]
    pub fn has_vip(&self, vip: Ipv4Addr) -> bool {
        let net = IpNet::from(IpAddr::V4(vip));
        self.addresses.iter().any(|(_, address)| is_our_vip(address) && address.net == net)
    }

    /// What of a tenant's network is not as [`Networks::ensure`] makes it; `None` where all is.
    #[must_use]
    pub fn network_fault(&self, tenant: &TenantName, network: &NetworkSpec) -> Option<String> {
        let names = self.scope.network_links(tenant, &network.name);
        let lacks = |name: &str, what: &str| Some(format!("`{name}` {what}"));
        let Some(bridge) = self.host.get(&names.bridge) else { return lacks(&names.bridge, GONE) };
        let Some(port) = self.host.get(&names.port) else { return lacks(&names.port, GONE) };
        let Some(transit) = self.transit.get(&names.transit) else { return lacks(&names.transit, GONE) };
        if let Some(link) = [bridge, port, transit].into_iter().find(|link| !link.up) {
            return lacks(&link.name, "was down");
        }
        if port.master != Some(bridge.index) {
            return lacks(&names.port, "was not on its bridge");
        }
        let gateway = IpAddr::V4(network.gateway);
        let is_gateway =
            |(index, address): &(u32, Address)| *index == transit.index && address.net.addr() == gateway;
        if !self.addresses.iter().any(is_gateway) {
            return lacks(&names.transit, "had lost the gateway's address");
        }
        None
    }

    /// The index of a tenant's interface in the transit namespace; `None` where there is none.
    #[must_use]
    pub fn interface(&self, tenant: &TenantName, network: &str) -> Option<u32> {
        self.transit.get(&self.scope.network_links(tenant, network).transit).map(|link| link.index)
    }

    /// What there is of a port.
    #[must_use]
    pub fn port(&self, port: &Port) -> PortState {
        let bridge = self.host.get(&port.bridge).map(|bridge| bridge.index);
        match self.host.get(&port.name) {
            None => PortState::Absent,
            Some(link) if link.up && link.master.is_some() && link.master == bridge => PortState::Plugged,
            Some(_) => PortState::Unplugged,
        }
    }
}

const GONE: &str = "was gone";

/// Links by their names: there are some for each instance of the host, and each is looked up.
type ByName = HashMap<String, Link>;

fn by_name(links: Vec<Link>) -> ByName {
    links.into_iter().map(|link| (link.name.clone(), link)).collect()
}
