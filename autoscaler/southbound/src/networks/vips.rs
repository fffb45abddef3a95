//! VIPs on the uplink: which addresses may be one, whether another machine has it, and telling the link.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use lb_userspace::net::{Address, Arp, Link, LinkError, Links, MacAddr};
use sluice_logic::spec::VipFault;

use super::{NetworkError, Networks};

/// Who put an address on the uplink: `S`, in the `proto` of `ip address` (`IFA_PROTO`, Linux 5.18). An address
/// label would need room in the interface's name, and the operator may use labels.
const VIP_PROTOCOL: u8 = b'S';

/// Whose a VIP is on the link, once it is on the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else answers for it.
    Ours,
    /// It was on the uplink before this call, and another machine answers for it too. It stays, for the flows that it
    /// has.
    Contested(MacAddr),
}

impl Networks {
    /// Whether an address may be a VIP, by the addresses that the transit namespace has now.
    ///
    /// # Errors
    /// [`NetworkError::Vip`] where it may not.
    pub async fn check_vip(&self, vip: Ipv4Addr) -> Result<(), NetworkError> {
        let addresses = host_addresses(&self.transit).await?;
        let addresses = addresses.iter().map(|(interface, net)| (interface.as_str(), *net));
        VipFault::of(vip, addresses).map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Puts a VIP on the uplink, so that its address is asked for there and found, and announces it. Idempotent, also after
    /// a restart. An address that is in a network of the uplink is asked for first, for half a second.
    ///
    /// # Errors
    /// [`NetworkError::Vip`] and [`NetworkError::Taken`] where it is another's; then it is not put there.
    pub async fn claim_vip(&self, vip: Ipv4Addr) -> Result<Claim, NetworkError> {
        self.check_vip(vip).await?;
        let link = self.transit.get(&self.uplink).await?;
        let addresses = self.transit.addresses(&self.uplink).await?;
        let there = addresses.iter().any(|found| is_our_vip(found) && found.net.addr() == IpAddr::V4(vip));
        let holder = if is_on_link(vip, &addresses) { self.holder(&link, vip).await? } else { None };
        match holder {
            Some(mac) if there => return Ok(Claim::Contested(mac)),
            Some(mac) => return Err(NetworkError::Taken { vip, mac, uplink: self.uplink.clone() }),
            None if there => {}
            None => {
                let address = Address { net: host_net(vip), protocol: VIP_PROTOCOL };
                self.transit.add_address(&self.uplink, &address).await?;
            }
        }
        self.announce(&link, vip)?;
        Ok(Claim::Ours)
    }

    /// Takes a VIP off the uplink, if it is ours. Idempotent.
    pub async fn remove_vip(&self, vip: Ipv4Addr) -> Result<(), NetworkError> {
        if self.vips().await?.contains(&vip) {
            self.transit.remove_address(&self.uplink, host_net(vip)).await?;
        }
        Ok(())
    }

    /// The VIPs on the uplink that are ours.
    pub async fn vips(&self) -> Result<Vec<Ipv4Addr>, NetworkError> {
        let addresses = match self.transit.addresses(&self.uplink).await {
            // `down` must work where the uplink has gone.
            Err(LinkError::Missing { .. }) => return Ok(Vec::new()),
            addresses => addresses?,
        };
        let vip = |address: &Address| match address.net {
            IpNet::V4(net) if is_our_vip(address) => Some(net.addr()),
            _ => None,
        };
        Ok(addresses.iter().filter_map(vip).collect())
    }

    async fn holder(&self, link: &Link, vip: Ipv4Addr) -> Result<Option<MacAddr>, NetworkError> {
        let arp = Arp::open(self.transit.netns(), link).map_err(|source| self.arp_error(vip, source))?;
        arp.holder(vip).await.map_err(|source| self.arp_error(vip, source))
    }

    /// The second announcement is two seconds after the first one, and nobody waits for it.
    fn announce(&self, link: &Link, vip: Ipv4Addr) -> Result<(), NetworkError> {
        let arp = Arp::open(self.transit.netns(), link).map_err(|source| self.arp_error(vip, source))?;
        let uplink = self.uplink.clone();
        tokio::spawn(async move {
            if let Err(error) = arp.announce(vip).await {
                tracing::warn!(%vip, uplink, %error, "the VIP can't be announced: neighbours that know it elsewhere go on so");
            }
        });
        Ok(())
    }

    fn arp_error(&self, vip: Ipv4Addr, source: io::Error) -> NetworkError {
        NetworkError::Arp { vip, uplink: self.uplink.clone(), source }
    }
}

/// The IPv4 addresses of a namespace's interfaces that are no VIPs.
pub async fn host_addresses(links: &Links) -> Result<Vec<(String, Ipv4Net)>, LinkError> {
    let interfaces = links.list().await?;
    let name = |index| interfaces.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let addresses = links.all_addresses().await?;
    let own = addresses.into_iter().filter(|(_, address)| !is_our_vip(address));
    let named = own.filter_map(|(index, address)| match address.net {
        IpNet::V4(net) => Some((name(index)?, net)),
        IpNet::V6(_) => None,
    });
    Ok(named.collect())
}

/// Whether neighbours ask for an address by ARP, as it is in a network of the interface with these addresses.
fn is_on_link(vip: Ipv4Addr, addresses: &[Address]) -> bool {
    let others = addresses.iter().filter(|address| !is_our_vip(address));
    others.into_iter().any(|address| address.net.contains(&IpAddr::V4(vip)))
}

pub(super) fn is_our_vip(address: &Address) -> bool {
    address.protocol == VIP_PROTOCOL && address.net.prefix_len() == address.net.max_prefix_len()
}

fn host_net(vip: Ipv4Addr) -> IpNet {
    IpNet::from(IpAddr::V4(vip))
}
