//! The tenants' networks: a bridge each, joined to the transit namespace by a veth with the gateway's address.
//!
//! ```text
//!   the daemon's namespace                              │ transit namespace
//!   instance ── sli-… ┐                                 │
//!   instance ── sli-… ┴ slb-… (bridge, no address) slp-…├─ slt-… (gateway)      uplink (VIP/32)
//! ```
//!
//! Two tenants share no bridge, so no frame of one reaches the other; what passes between them in the transit
//! namespace is for the load balancer's program on `slt-…` to refuse. The host itself takes nothing from a
//! bridge: no IPv6, no ARP answers, no forwarding, strict reverse-path filtering, and a filter that drops what comes
//! through that. The transit namespace knows the instances that it was told of and takes nothing from any other address of
//! the network ([`Networks::admit`]).
//!
//! A trap: where `br_netfilter` is loaded (Docker does it), bridged frames pass the host's iptables `FORWARD`
//! chain, whose policy Docker sets to `DROP`. [`bridge_filter`](crate::bridge_filter) looks for it.

mod error;
mod instances;
mod view;
mod vips;

use std::collections::BTreeMap;
use std::io;

use ipnet::{IpNet, Ipv4Net};
use lb_userspace::lb::{Ipv4Subnet, TenantLink, close_bridge};
use lb_userspace::net::{Link, Links, MacAddr, Netns, NetnsPath, VethEnd};
use sluice_logic::spec::{NetworkSpec, TenantName};

use crate::neighbour_table::NeighbourTable;
use crate::neighbours::Neighbours;
use crate::outbound::Outbound;
use crate::scope::{Labelled, NetworkLinks, Scope};
use crate::tags::ShownTags;
use crate::uplink::Uplink;

pub use error::NetworkError;
pub use view::{NetworkView, Port, PortState};
use vips::is_our_vip;
pub use vips::{Claim, host_addresses};

/// A network that is there and works.
#[derive(Debug, Clone)]
pub struct TenantNetwork {
    /// The bridge, in the daemon's namespace: instances are its ports.
    pub bridge: String,
    /// What the load balancer attaches to.
    pub link: TenantLink,
    /// The index of `link.interface` in the transit namespace.
    pub interface: u32,
    /// The Ethernet address of `link.interface`: frames to instances come from it.
    pub mac: MacAddr,
}

/// A network of this daemon, whole or in parts, also of a tenant that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedNetwork {
    /// Whose, and the tenant's name for it; `None` when a crash left it before that was written down.
    pub owner: Option<(TenantName, String)>,
    /// Its interfaces; any of them may be missing.
    pub links: NetworkLinks,
}

/// The networks of one daemon.
#[derive(Debug, Clone)]
pub struct Networks {
    scope: Scope,
    host: Links,
    transit: Links,
    uplink: String,
    outbound: Outbound,
    tags: ShownTags,
    neighbours: Neighbours,
    neighbour_table: NeighbourTable,
}

impl Networks {
    /// Networks between the current namespace and `transit`, with VIPs on its interface `uplink`. To be called
    /// on a tokio runtime.
    pub fn open(scope: Scope, transit: &Netns, uplink: &str) -> Result<Self, NetworkError> {
        let current = Netns::current().map_err(|source| NetworkError::Netns {
            what: "the namespace of this process can't be opened".to_owned(),
            source,
        })?;
        Self::between(scope, &current, transit, uplink)
    }

    /// As [`open`](Self::open), with the bridges in `host`.
    pub fn between(scope: Scope, host: &Netns, transit: &Netns, uplink: &str) -> Result<Self, NetworkError> {
        let outbound = Outbound::new(&scope, transit, uplink);
        let (host, transit) = (Links::open(host)?, Links::open(transit)?);
        let tags = ShownTags::new(transit.clone(), scope.tags_record());
        let neighbours = Neighbours::new(transit.clone(), scope.group());
        let neighbour_table = NeighbourTable::new(scope.neighbours_record());
        let uplink = uplink.to_owned();
        Ok(Self { scope, host, transit, uplink, outbound, tags, neighbours, neighbour_table })
    }

    /// Makes a tenant's network what is asked, whatever is there of it. Idempotent; a running network keeps
    /// running.
    pub async fn ensure(
        &self,
        tenant: &TenantName,
        spec: &NetworkSpec,
    ) -> Result<TenantNetwork, NetworkError> {
        let names = self.scope.network_links(tenant, &spec.name);
        let mark = self.scope.network_mark(tenant, &spec.name);
        let (bridge_mac, transit_mac) = self.scope.network_macs(tenant, &spec.name);
        self.must_be_free(spec, &names.transit).await?;

        let bridge = self.host.ensure_bridge(&mark, &names.bridge, bridge_mac).await?;
        harden_bridge(&self.host, &names.bridge).await?;
        self.host.set_up(&names.bridge).await?;

        let port = end(&self.host, &names.port, None, Some(bridge.index));
        let gateway = end(&self.transit, &names.transit, Some(transit_mac), None);
        let (_, transit) = self.host.ensure_veth(&mark, &port, &gateway).await?;
        self.host.set_up(&names.port).await?;
        self.open_gateway(&names.transit).await?;
        self.transit.set_up(&names.transit).await?;
        let gateway = Ipv4Net::new_assert(spec.gateway, spec.subnet.prefix_len());
        self.neighbours.ensure(&names.transit, gateway).await?;
        self.host.wait_until_forwarding(&names.port).await?;

        Ok(TenantNetwork {
            link: TenantLink {
                interface: names.transit,
                peer: names.port,
                peer_netns: self.host.netns().clone(),
                ipv4: Some(Ipv4Subnet { net: spec.subnet.trunc(), gateway: spec.gateway, outbound: false }),
                ipv6: None,
            },
            bridge: names.bridge,
            interface: transit.index,
            mac: transit_mac,
        })
    }

    /// Lets the kernel forward what a network's instances send to the outside, and masquerade it behind the uplink's own
    /// address. Idempotent, also before there is the network.
    pub async fn admit_outbound(&self, tenant: &TenantName, network: &str) -> Result<(), NetworkError> {
        let addresses = self.transit.addresses(&self.uplink).await?;
        if !addresses.iter().any(|address| address.net.addr().is_ipv4() && !is_our_vip(address)) {
            return Err(NetworkError::NoSource(self.uplink.clone()));
        }
        Ok(self.outbound.admit(&self.scope.network_links(tenant, network).transit).await?)
    }

    /// Ends that. None is a success.
    pub async fn dismiss_outbound(&self, tenant: &TenantName, network: &str) -> Result<(), NetworkError> {
        Ok(self.outbound.dismiss(&self.scope.network_links(tenant, network).transit).await?)
    }

    /// Makes what outbound connections take whole again, where somebody else has removed it. Whether that was so.
    pub async fn repair_outbound(&self) -> Result<bool, NetworkError> {
        Ok(self.outbound.repair().await?)
    }

    /// Removes all networks of a tenant. Its instances lose their bridge; idempotent.
    pub async fn remove_tenant(&self, tenant: &TenantName) -> Result<(), NetworkError> {
        for network in self.list().await? {
            if network.owner.as_ref().is_some_and(|(owner, _)| owner == tenant) {
                self.remove(&network).await?;
            }
        }
        Ok(())
    }

    /// Removes a network. Idempotent.
    pub async fn remove(&self, network: &OwnedNetwork) -> Result<(), NetworkError> {
        let group = self.scope.group();
        self.outbound.dismiss(&network.links.transit).await?;
        self.neighbours.remove(&network.links.transit).await?;
        self.host.delete_ours(group, &network.links.port).await?;
        self.transit.delete_ours(group, &network.links.transit).await?;
        self.host.delete_ours(group, &network.links.bridge).await?;
        Ok(())
    }

    /// All networks of this daemon, also half-made ones and those of tenants that are gone.
    pub async fn list(&self) -> Result<Vec<OwnedNetwork>, NetworkError> {
        let mut found = BTreeMap::new();
        for links in [&self.host, &self.transit] {
            for link in links.list().await? {
                self.note(&link, &mut found);
            }
        }
        Ok(found.into_iter().map(|(links, owner)| OwnedNetwork { owner, links }).collect())
    }

    /// Looks at the uplink. `netns` is the transit namespace as a person enters it.
    pub async fn observe_uplink(&self, netns: NetnsPath) -> Result<Uplink, NetworkError> {
        Ok(Uplink::observe(&self.transit, netns, &self.uplink).await?)
    }

    /// Switches off what hides VLAN tags from XDP on the uplink, as it was observed. What stays on is a fault of the uplink.
    pub async fn show_tags(&self, uplink: &Uplink) -> Result<(), NetworkError> {
        Ok(self.tags.show(uplink.hidden_tags.clone()).await?)
    }

    /// Removes every network and VIP of this daemon, and nothing else. Returns what was removed.
    pub async fn remove_all(&self) -> Result<Vec<String>, NetworkError> {
        let mut removed = Vec::new();
        for vip in self.vips().await? {
            self.remove_vip(vip).await?;
            removed.push(format!("{vip} on {}", self.uplink));
        }
        for network in self.list().await? {
            self.remove(&network).await?;
            removed.push(network.links.bridge);
        }
        self.neighbours.remove_all().await?;
        removed.extend(self.outbound.remove().await?);
        removed.extend(self.tags.restore().await?);
        removed.extend(self.neighbour_table.restore().await?);
        Ok(removed)
    }

    fn note(&self, link: &Link, found: &mut BTreeMap<NetworkLinks, Option<(TenantName, String)>>) {
        if link.group != self.scope.group() {
            return;
        }
        let Some(links) = NetworkLinks::of_link(&link.name) else { return };
        let owner = found.entry(links).or_default();
        if let Some(Labelled::Network(tenant, name)) =
            link.alias.as_deref().and_then(|alias| self.scope.read_alias(alias))
        {
            *owner = Some((tenant, name));
        }
    }

    /// A network whose addresses are somebody else's would take their traffic. One that is there already has had its
    /// addresses first.
    async fn must_be_free(&self, spec: &NetworkSpec, interface: &str) -> Result<(), NetworkError> {
        let links = self.transit.list().await?;
        let name_of = |index| links.iter().find(|link| link.index == index);
        let addresses = self.transit.all_addresses().await?;
        let others = addresses.iter().filter_map(|(index, address)| Some((name_of(*index)?, address.net)));
        let (own, others): (Vec<_>, Vec<_>) = others.partition(|(link, _)| link.name == interface);
        if own.iter().any(|(_, net)| net.addr() == spec.gateway) {
            return Ok(());
        }
        let subnet = IpNet::V4(spec.subnet.trunc());
        // A wider network of the operator's loses a part of it to the tenant, which may be what was meant; this host's own
        // address there is not.
        let in_the_way = |(link, net): &(&Link, IpNet)| {
            let own = link.group == self.scope.group() && net.contains(&subnet);
            own || subnet.contains(net) || subnet.contains(&net.addr())
        };
        match others.into_iter().find(in_the_way) {
            Some((link, there)) => {
                Err(NetworkError::InUse { subnet: spec.subnet, there, interface: link.name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Answers that the load balancer leaves to the kernel are routed to the client. Instances can ask for the gateway's
    /// address only, and by `arp_ignore` 2 only from the network, also where the host filters reverse paths loosely
    /// (`net.ipv4.conf.all.rp_filter` 2): who has no route of its own gets no answer and no entry among the neighbours.
    async fn open_gateway(&self, interface: &str) -> Result<(), NetworkError> {
        let settings = [
            ("ipv6", "disable_ipv6", "1"),
            ("ipv4", "forwarding", "1"),
            ("ipv4", "arp_ignore", "2"),
            ("ipv4", "arp_announce", "2"),
            ("ipv4", "rp_filter", "1"),
        ];
        set(self.transit.netns(), interface, &settings).await
    }
}

/// The host is no neighbour of the instances on a bridge.
pub(crate) async fn harden_bridge(host: &Links, bridge: &str) -> Result<(), NetworkError> {
    let settings = [
        ("ipv6", "disable_ipv6", "1"),
        ("ipv4", "arp_ignore", "8"),
        ("ipv4", "rp_filter", "1"),
        ("ipv4", "forwarding", "0"),
    ];
    set(host.netns(), bridge, &settings).await?;
    filter(host.netns(), bridge, close_bridge).await
}

/// Puts a filter on an interface.
pub(crate) async fn filter(
    netns: &Netns,
    interface: &str,
    attach: fn(&Netns, &str) -> Result<(), lb_userspace::lb::Error>,
) -> Result<(), NetworkError> {
    let (inside, name) = (netns.clone(), interface.to_owned());
    let done = tokio::task::spawn_blocking(move || attach(&inside, &name)).await;
    let done = done.map_err(|error| NetworkError::Setting(io::Error::other(error)))?;
    done.map_err(|source| NetworkError::Filter { interface: interface.to_owned(), source: Box::new(source) })
}

fn end<'a>(links: &'a Links, name: &'a str, mac: Option<MacAddr>, master: Option<u32>) -> VethEnd<'a> {
    VethEnd { links, name, mac, master }
}

/// Makes settings of an interface: family, key, value.
pub(crate) async fn set(
    netns: &Netns,
    interface: &str,
    settings: &[(&'static str, &'static str, &'static str)],
) -> Result<(), NetworkError> {
    let (netns, interface, settings) = (netns.clone(), interface.to_owned(), settings.to_owned());
    let work = move || {
        for (family, key, value) in settings {
            match netns.set_sysctl(&format!("{family}/conf/{interface}/{key}"), value) {
                // A kernel without IPv6 has nothing to switch off.
                Err(error) if error.kind() == io::ErrorKind::NotFound && family == "ipv6" => {}
                done => done?,
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(std::convert::identity)
        .map_err(NetworkError::Setting)
}
