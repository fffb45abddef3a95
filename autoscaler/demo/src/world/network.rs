//! The client's and the transit namespace and the veth between them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use lb_userspace::net::{Address, Links, Mark, Netns, VethEnd};

use crate::traffic::{ClientThread, Sources};

/// The interface in the client namespace.
pub const CLIENT_LINK: &str = "cl0";
/// The interface in the transit namespace on which clients' packets arrive.
pub(super) const UPLINK: &str = "up0";
/// The uplink's own address, and the clients' default route.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The clients' addresses: 198.51.100.2 to .65. The rest of the subnet (RFC 5737, TEST-NET-2) is for VIPs that
/// clients find by ARP; all other VIPs they reach by the gateway.
const CLIENTS: std::ops::RangeInclusive<u8> = 2..=65;
/// The subnet's prefix length.
const PREFIX: u8 = 24;
/// The interface group of the world's own links; the daemon marks its links with another.
const GROUP: u32 = 0x6465_6d6f;

/// Both namespaces, joined by a veth. Dropping it removes them.
#[derive(Debug)]
pub struct Network {
    name: String,
    client: Netns,
    transit: Netns,
}

impl Network {
    /// Makes the namespaces; what an earlier run left under the same name is removed first.
    pub async fn create(name: &str) -> Result<Self> {
        remove(name)?;
        let client = Netns::create(&client_name(name)).context("no client namespace")?;
        let transit = Netns::create(&transit_name(name)).context("no transit namespace")?;
        let network = Self { name: name.to_owned(), client, transit };
        join(&network.name, &network.client, &network.transit).await?;
        // Ping sockets are for nobody by default, not even for root.
        network.client.set_sysctl("ipv4/ping_group_range", "0 2147483647")?;
        // XDP on the uplink sees what the client sends as it is: its checksums must be whole.
        network.client.disable_offloads(CLIENT_LINK)?;
        Ok(network)
    }

    /// Removes the uplink, and with it the clients' link.
    pub async fn cut(&self) -> Result<()> {
        Ok(Links::open(&self.transit)?.delete(UPLINK).await?)
    }

    /// Makes the uplink anew, as it was.
    pub fn rejoin(&self) -> impl Future<Output = Result<()>> + use<> {
        let (name, client, transit) = (self.name.clone(), self.client.clone(), self.transit.clone());
        async move {
            join(&name, &client, &transit).await?;
            Ok(client.disable_offloads(CLIENT_LINK)?)
        }
    }

    /// The name of the transit namespace.
    #[must_use]
    pub fn transit_name(&self) -> String {
        transit_name(&self.name)
    }

    /// The clients' namespace.
    #[must_use]
    pub fn client(&self) -> &Netns {
        &self.client
    }

    /// The transit namespace.
    #[must_use]
    pub fn transit(&self) -> &Netns {
        &self.transit
    }

    /// A thread for clients.
    pub fn clients(&self) -> Result<ClientThread> {
        ClientThread::enter(&self.client).context("no thread in the client namespace")
    }

    /// The clients' addresses.
    pub fn sources(&self) -> Result<Sources> {
        Sources::new(CLIENTS.map(client_address))
    }

    /// Removes both namespaces, and with them the veth. Idempotent; sockets that are still open hold a namespace
    /// until they are closed.
    pub fn remove(&self) -> Result<()> {
        remove(&self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(world = self.name, %error, "the world's namespaces are not removed");
        }
    }
}

async fn join(name: &str, client: &Netns, transit: &Netns) -> Result<()> {
    let (client, transit) = (Links::open(client)?, Links::open(transit)?);
    let mark = Mark { group: GROUP, alias: format!("{name}: clients") };
    let end = |links, name| VethEnd { links, name, mac: None, master: None };
    client.ensure_veth(&mark, &end(&client, CLIENT_LINK), &end(&transit, UPLINK)).await?;
    for host in CLIENTS {
        client.add_address(CLIENT_LINK, &address(client_address(host))?).await?;
    }
    transit.add_address(UPLINK, &address(GATEWAY)?).await?;
    client.set_up(CLIENT_LINK).await?;
    transit.set_up(UPLINK).await?;
    client.set_default_route(CLIENT_LINK, GATEWAY).await?;
    Ok(())
}

/// Removes both namespaces, and with them the veth. Nothing there is a success.
pub(super) fn remove(name: &str) -> Result<()> {
    for namespace in [client_name(name), transit_name(name)] {
        Netns::delete(&namespace).with_context(|| format!("namespace {namespace} can't be removed"))?;
    }
    Ok(())
}

fn client_name(name: &str) -> String {
    format!("{name}-client")
}

fn transit_name(name: &str) -> String {
    format!("{name}-transit")
}

fn client_address(host: u8) -> Ipv4Addr {
    let [a, b, c, _] = GATEWAY.octets();
    Ipv4Addr::new(a, b, c, host)
}

fn address(address: Ipv4Addr) -> Result<Address> {
    // Of nobody in particular: the daemon takes only what carries its own protocol number for its own.
    Ok(Address { net: IpNet::new(IpAddr::V4(address), PREFIX)?, protocol: 0 })
}
