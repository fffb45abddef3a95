//! Neighbours of a link, and routes to one of them each.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};

use super::error::LinkError;
use super::link::{Link, Links};
use super::mac::MacAddr;

/// A neighbour on a link, as the kernel's table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address; `None` while the kernel asks for it.
    pub mac: Option<MacAddr>,
    /// Whether it was fixed by [`Links::set_neighbour`]: then nothing that comes from the link changes it, and it doesn't
    /// count towards the size of the table (`net.ipv4.neigh.default.gc_thresh3`).
    pub fixed: bool,
}

impl Links {
    /// Fixes the Ethernet address of a neighbour, so that it is never asked for.
    pub async fn set_neighbour(&self, link: &str, address: IpAddr, mac: MacAddr) -> Result<(), LinkError> {
        let index = self.get(link).await?.index;
        let request = self.handle.neighbours().add(index, address).link_layer_address(&mac.0).replace();
        request.execute().await.map_err(|error| self.error("adding a neighbour to", link, error))
    }

    /// The IPv4 neighbours on all links, each with its link's index.
    pub async fn all_neighbours(&self) -> Result<Vec<(u32, Neighbour)>, LinkError> {
        let list = || self.handle.neighbours().get().set_address_family(AddressFamily::Inet).execute();
        let messages = self.collect(list).await;
        let messages = messages.map_err(|error| self.error("listing", "neighbours", error))?;
        Ok(messages.iter().filter_map(|found| Some((found.header.ifindex, neighbour_of(found)?))).collect())
    }

    /// Takes a neighbour out of the table. None there is a success.
    pub async fn remove_neighbour(&self, link: &Link, address: Ipv4Addr) -> Result<(), LinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = link.index;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
        let done = self.handle.neighbours().del(message).execute().await;
        self.unless_absent("removing a neighbour from", &link.name, done)
    }

    /// Has packets to one address leave by a link. Whether that was not so; a route of somebody else to this address stays.
    pub async fn add_neighbour_route(&self, link: &Link, address: Ipv4Addr) -> Result<bool, LinkError> {
        let route = on_link(link.index, address);
        let done = self.handle.route().add(route).execute().await;
        self.unless_present("adding a route by", &link.name, done)
    }

    /// Ends that. None there is a success.
    pub async fn remove_neighbour_route(&self, link: &Link, address: Ipv4Addr) -> Result<(), LinkError> {
        let route = on_link(link.index, address);
        let done = self.handle.route().del(route).execute().await;
        self.unless_absent("removing a route by", &link.name, done)
    }

    /// Lets nothing to a network, and nothing from it where reverse paths are filtered, strictly or loosely, but what more
    /// specific routes let. `metric` tells whose route it is. Whether it was not there.
    pub async fn add_unreachable(&self, net: Ipv4Net, metric: u32) -> Result<bool, LinkError> {
        let done = self.handle.route().add(unreachable(net, metric)).execute().await;
        self.unless_present("adding the unreachable route", &net.to_string(), done)
    }

    /// Ends that. None there is a success.
    pub async fn remove_unreachable(&self, net: Ipv4Net, metric: u32) -> Result<(), LinkError> {
        let done = self.handle.route().del(unreachable(net, metric)).execute().await;
        self.unless_absent("removing the unreachable route", &net.to_string(), done)
    }

    /// The networks that are unreachable by routes of that metric. Reads all routes of the namespace.
    pub async fn unreachable_nets(&self, metric: u32) -> Result<Vec<Ipv4Net>, LinkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages = self.collect(|| self.handle.route().get(all).execute()).await;
        let messages = messages.map_err(|error| self.error("listing", "routes", error))?;
        Ok(messages.iter().filter_map(|message| unreachable_net(message, metric)).collect())
    }

    fn unless_present(
        &self,
        operation: &'static str,
        what: &str,
        done: Result<(), rtnetlink::Error>,
    ) -> Result<bool, LinkError> {
        match done.map_err(|error| self.error(operation, what, error)) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unless_absent(
        &self,
        operation: &'static str,
        what: &str,
        done: Result<(), rtnetlink::Error>,
    ) -> Result<(), LinkError> {
        match done.map_err(|error| self.error(operation, what, error)) {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
            done => done,
        }
    }
}

fn on_link(index: u32, address: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build()
}

fn unreachable(net: Ipv4Net, metric: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .kind(RouteType::Unreachable)
        .priority(metric)
        .build()
}

fn unreachable_net(message: &RouteMessage, metric: u32) -> Option<Ipv4Net> {
    let has_metric = message.attributes.contains(&RouteAttribute::Priority(metric));
    if message.header.kind != RouteType::Unreachable || !has_metric {
        return None;
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    Ipv4Net::new(destination, message.header.destination_prefix_length).ok()
}

fn neighbour_of(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(*found),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.clone().try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    let fixed = message.header.state == NeighbourState::Permanent;
    Some(Neighbour { address: address?, mac, fixed })
}
