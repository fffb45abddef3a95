//! Addresses and routes of a link.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};

use super::error::LinkError;
use super::link::Links;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address and its prefix.
    pub net: IpNet,
    /// Who put it there (`IFA_PROTO`, Linux 5.18, `proto` of `ip address`): 0 is nobody in particular, 1 to 3
    /// are the kernel's.
    pub protocol: u8,
}

impl Links {
    /// Adds an address to a link. The same address with the same prefix there already is a success, and keeps
    /// its protocol.
    pub async fn add_address(&self, link: &str, address: &Address) -> Result<(), LinkError> {
        let index = self.get(link).await?.index;
        let mut request = self.handle.address().add(index, address.net.addr(), address.net.prefix_len());
        if address.protocol != 0 {
            let protocol = AddressAttribute::Protocol(AddressProtocol::from(address.protocol));
            request.message_mut().attributes.push(protocol);
        }
        match request.execute().await {
            Ok(()) => Ok(()),
            Err(error) => match self.error("adding an address to", link, error) {
                error if error.errno() == Some(libc::EEXIST) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Gives a link an address without the route to the address's network that the kernel makes beside each other one. The
    /// address with that route is replaced, and the link is at no time without it. Whether it was not so before.
    pub async fn ensure_lone_address(&self, link: &str, net: Ipv4Net) -> Result<bool, LinkError> {
        let messages = self.address_messages(link).await?;
        let same =
            |message: &&AddressMessage| address_of(message).is_some_and(|found| found.net == IpNet::V4(net));
        match messages.iter().find(same) {
            Some(message) if is_lone(message) => return Ok(false),
            Some(_) if net.prefix_len() < 32 => {
                // A link that loses its last address loses its routes and neighbours with it.
                let meanwhile = Address { net: Ipv4Net::from(net.addr()).into(), protocol: 0 };
                self.add_address(link, &meanwhile).await?;
                self.remove_address(link, net.into()).await?;
                self.add_lone_address(link, net).await?;
                self.remove_address(link, meanwhile.net).await?;
            }
            // The kernel makes none for an address alone.
            Some(_) => return Ok(false),
            None => self.add_lone_address(link, net).await?,
        }
        Ok(true)
    }

    async fn add_lone_address(&self, link: &str, net: Ipv4Net) -> Result<(), LinkError> {
        let index = self.get(link).await?.index;
        let mut request = self.handle.address().add(index, net.addr().into(), net.prefix_len());
        let flags = AddressAttribute::Flags(AddressFlags::Noprefixroute);
        request.message_mut().attributes.push(flags);
        request.execute().await.map_err(|error| self.error("adding an address to", link, error))
    }

    /// The addresses of a link.
    pub async fn addresses(&self, link: &str) -> Result<Vec<Address>, LinkError> {
        let messages = self.address_messages(link).await?;
        Ok(messages.iter().filter_map(address_of).collect())
    }

    /// The addresses of all links, each with its link's index.
    pub async fn all_addresses(&self) -> Result<Vec<(u32, Address)>, LinkError> {
        let messages = self.collect(|| self.handle.address().get().execute()).await;
        let messages = messages.map_err(|error| self.error("listing", "addresses", error))?;
        let found = messages.iter().filter_map(|message| Some((message.header.index, address_of(message)?)));
        Ok(found.collect())
    }

    /// The IPv4 addresses of all links that have no route to their network, each with its link's index.
    pub async fn lone_addresses(&self) -> Result<Vec<(u32, Ipv4Net)>, LinkError> {
        let messages = self.collect(|| self.handle.address().get().execute()).await;
        let messages = messages.map_err(|error| self.error("listing", "addresses", error))?;
        let found =
            messages.iter().filter(|message| is_lone(message)).filter_map(|message| {
                match address_of(message)?.net {
                    IpNet::V4(net) => Some((message.header.index, net)),
                    IpNet::V6(_) => None,
                }
            });
        Ok(found.collect())
    }

    /// Removes an address from a link; its protocol does not matter. No such address is a success.
    pub async fn remove_address(&self, link: &str, net: IpNet) -> Result<(), LinkError> {
        let messages = self.address_messages(link).await?;
        let same = |message: &AddressMessage| address_of(message).is_some_and(|found| found.net == net);
        for message in messages.into_iter().filter(same) {
            match self.handle.address().del(message).execute().await {
                Ok(()) => {}
                Err(error) => match self.error("removing an address from", link, error) {
                    error if error.errno() == Some(libc::EADDRNOTAVAIL) => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Makes `gateway` the default route of the namespace, in place of another by the same way.
    pub async fn set_default_route(&self, link: &str, gateway: Ipv4Addr) -> Result<(), LinkError> {
        let index = self.get(link).await?.index;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build();
        let done = self.handle.route().add(route).replace().execute().await;
        done.map_err(|error| self.error("adding the default route by", link, error))
    }

    /// Adds a route to a network by a gateway, in place of another to the same network.
    pub async fn set_route(&self, link: &str, to: Ipv4Net, gateway: Ipv4Addr) -> Result<(), LinkError> {
        let index = self.get(link).await?.index;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(gateway)
            .output_interface(index)
            .build();
        let done = self.handle.route().add(route).replace().execute().await;
        done.map_err(|error| self.error("adding a route by", link, error))
    }

    async fn address_messages(&self, link: &str) -> Result<Vec<AddressMessage>, LinkError> {
        let index = self.get(link).await?.index;
        let of_link = || self.handle.address().get().set_link_index_filter(index).execute();
        self.collect(of_link).await.map_err(|error| self.error("listing the addresses of", link, error))
    }
}

/// Whether it has no route to its network.
fn is_lone(message: &AddressMessage) -> bool {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    flags.is_some_and(|flags| flags.contains(AddressFlags::Noprefixroute))
}

fn address_of(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut other, mut protocol) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            AddressAttribute::Protocol(found) => protocol = u8::from(*found),
            _ => {}
        }
    }
    // On a link with a peer address IFA_ADDRESS is the peer's; IPv6 has no IFA_LOCAL.
    let net = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
    Some(Address { net, protocol })
}
