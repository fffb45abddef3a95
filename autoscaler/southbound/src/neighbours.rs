//! The instances that the interfaces of a namespace have as their only neighbours there.
//!
//! The kernel has one table of IPv4 neighbours for all namespaces of a host, of a limited size
//! (`net.ipv4.neigh.default.gc_thresh3`). An interface with a route to its network makes an entry for whoever asks it by ARP
//! or is to be answered, so an instance that speaks in the name of all addresses of its network would fill the table for
//! everybody. So an interface that leads to instances has no such route. Each instance has a route and a fixed entry of its
//! own, which the kernel doesn't count, and nothing that comes from the network changes. The network itself is unreachable:
//! with reverse paths filtered, strictly or loosely, the kernel drops what comes from any other sender, ARP too
//! (`arp_process` in `net/ipv4/arp.c`), before it makes an entry.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::{IpNet, Ipv4Net};
use lb_userspace::net::{Link, LinkError, Links, MacAddr, Neighbour};

/// What there should be on one interface.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// The interface's own address and network, once it is to have them.
    net: Option<Ipv4Net>,
    instances: BTreeMap<Ipv4Addr, MacAddr>,
}

/// The neighbours on the interfaces of one namespace. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Neighbours {
    links: Links,
    /// The metric of the unreachable routes, which tells them from other people's.
    metric: u32,
    wanted: Arc<Mutex<BTreeMap<String, Wanted>>>,
}

impl Neighbours {
    /// Those in the namespace of `links`. Nothing is read or made yet.
    pub(crate) fn new(links: Links, metric: u32) -> Self {
        Self { links, metric, wanted: Arc::default() }
    }

    /// Notes an instance that is there already.
    pub(crate) fn hold(&self, interface: &str, address: Ipv4Addr, mac: MacAddr) {
        self.wanted().entry(interface.to_owned()).or_default().instances.insert(address, mac);
    }

    /// Makes an instance known, before it is there.
    pub(crate) async fn admit(
        &self,
        interface: &str,
        address: Ipv4Addr,
        mac: MacAddr,
    ) -> Result<(), LinkError> {
        self.hold(interface, address, mac);
        self.links.set_neighbour(interface, IpAddr::V4(address), mac).await?;
        let link = self.links.get(interface).await?;
        self.links.add_neighbour_route(&link, address).await.map(drop)
    }

    /// Notes that an instance is gone: the next [`repair`](Self::repair) removes what is known of it.
    pub(crate) fn release(&self, interface: &str, address: Ipv4Addr) {
        if let Some(wanted) = self.wanted().get_mut(interface) {
            wanted.instances.remove(&address);
        }
    }

    /// Gives an interface, which is up, its one address, and no neighbours in its network but the instances. Those that are
    /// known already are reached all the while.
    pub(crate) async fn ensure(&self, interface: &str, net: Ipv4Net) -> Result<(), LinkError> {
        self.wanted().entry(interface.to_owned()).or_default().net = Some(net);
        self.add(interface).await?;
        for old in self.links.addresses(interface).await? {
            if let IpNet::V4(old) = old.net
                && old != net
            {
                self.links.remove_address(interface, old.into()).await?;
                self.links.remove_unreachable(old.trunc(), self.metric).await?;
            }
        }
        self.links.ensure_lone_address(interface, net).await?;
        self.links.add_unreachable(net.trunc(), self.metric).await?;
        // With its last address, an interface that gets another one has lost its routes.
        self.add(interface).await
    }

    /// Adds what is missing of the instances on one interface.
    async fn add(&self, interface: &str) -> Result<(), LinkError> {
        let link = self.links.get(interface).await?;
        let fixed = fixed_on(&self.links.all_neighbours().await?, &link);
        // Those that an earlier build has fixed are reached by the route that goes.
        for &address in fixed.keys() {
            self.links.add_neighbour_route(&link, address).await?;
        }
        self.complete(&link, &fixed).await.map(drop)
    }

    /// Makes all interfaces what they should be where somebody else has changed them, and removes what is left of
    /// instances that are gone. Interfaces that are not there are left to who makes them, and one that can't be repaired
    /// keeps no other from it. Whether something was missing.
    pub(crate) async fn repair(&self) -> Result<bool, LinkError> {
        let now = Present {
            links: self.links.list().await?,
            neighbours: self.links.all_neighbours().await?,
            addresses: self.links.lone_addresses().await?,
        };
        let nets: Vec<(String, Ipv4Net)> =
            self.wanted().iter().filter_map(|(name, wanted)| Some((name.clone(), wanted.net?))).collect();
        let (mut missing, mut done) = (false, Ok(()));
        for (interface, net) in nets {
            let Some(link) = now.links.iter().find(|link| link.name == interface && link.up) else {
                continue;
            };
            match self.repair_one(link, net, &now).await {
                Ok(one) => missing |= one,
                Err(error) => done = Err(error),
            }
        }
        done.map(|()| missing)
    }

    async fn repair_one(&self, link: &Link, net: Ipv4Net, now: &Present) -> Result<bool, LinkError> {
        let fixed = fixed_on(&now.neighbours, link);
        let mut missing = false;
        if !now.addresses.contains(&(link.index, net)) {
            missing |= self.links.ensure_lone_address(&link.name, net).await?;
        }
        missing |= self.links.add_unreachable(net.trunc(), self.metric).await?;
        missing |= self.complete(link, &fixed).await?;
        for &address in fixed.keys() {
            // Asked at the last moment: an instance may have been admitted meanwhile.
            if !self.is_wanted(&link.name, address) {
                self.links.remove_neighbour_route(link, address).await?;
                self.links.remove_neighbour(link, address).await?;
            }
        }
        Ok(missing)
    }

    /// Adds what is missing of the instances on a link, which has those as neighbours. Whether anything was.
    async fn complete(
        &self,
        link: &Link,
        fixed: &BTreeMap<Ipv4Addr, Option<MacAddr>>,
    ) -> Result<bool, LinkError> {
        let wanted = self.wanted().get(&link.name).map(|wanted| wanted.instances.clone());
        let mut missing = false;
        for (address, mac) in wanted.unwrap_or_default() {
            if fixed.get(&address) != Some(&Some(mac)) {
                self.links.set_neighbour(&link.name, IpAddr::V4(address), mac).await?;
                missing = true;
            }
            missing |= self.links.add_neighbour_route(link, address).await?;
        }
        Ok(missing)
    }

    /// Forgets an interface that is about to go with all its routes and neighbours, and ends what would outlive it.
    pub(crate) async fn remove(&self, interface: &str) -> Result<(), LinkError> {
        let known = self.wanted().get(interface).and_then(|wanted| wanted.net);
        let addresses = match self.links.addresses(interface).await {
            Err(LinkError::Missing { .. }) => Vec::new(),
            addresses => addresses?,
        };
        let there = addresses.into_iter().filter_map(|address| match address.net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        });
        for net in there.chain(known) {
            self.links.remove_unreachable(net.trunc(), self.metric).await?;
        }
        self.wanted().remove(interface);
        Ok(())
    }

    /// Ends everything that would outlive the interfaces, also of those that are gone.
    pub(crate) async fn remove_all(&self) -> Result<(), LinkError> {
        self.wanted().clear();
        for net in self.links.unreachable_nets(self.metric).await? {
            self.links.remove_unreachable(net, self.metric).await?;
        }
        Ok(())
    }

    fn is_wanted(&self, interface: &str, address: Ipv4Addr) -> bool {
        self.wanted().get(interface).is_some_and(|wanted| wanted.instances.contains_key(&address))
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<String, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is in the namespace.
struct Present {
    links: Vec<Link>,
    neighbours: Vec<(u32, Neighbour)>,
    addresses: Vec<(u32, Ipv4Net)>,
}

/// The fixed neighbours of a link.
fn fixed_on(all: &[(u32, Neighbour)], link: &Link) -> BTreeMap<Ipv4Addr, Option<MacAddr>> {
    let fixed = all.iter().filter(|(index, neighbour)| *index == link.index && neighbour.fixed);
    fixed.map(|(_, neighbour)| (neighbour.address, neighbour.mac)).collect()
}
