//! The client's and the transit namespace and the veth between them.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::net::Netns;

use crate::traffic::{ClientThread, Sources};

/// The interface in the client namespace.
pub const CLIENT_LINK: &str = "cl0";
/// The interface in the transit namespace on which clients' packets arrive.
pub const UPLINK: &str = "up0";
/// The uplink's own address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The clients' addresses: 198.51.100.2 to .65.
const CLIENTS: std::ops::RangeInclusive<u8> = 2..=65;
/// The prefix of the link (RFC 5737, TEST-NET-2).
const PREFIX: u8 = 24;

/// Both namespaces, joined by a veth. Dropping it removes them.
#[derive(Debug)]
pub struct Network {
    name: String,
    client: Netns,
    transit: Netns,
}

impl Network {
    /// Makes the namespaces; what an earlier run left under the same name is removed first.
    pub fn create(name: &str) -> Result<Self> {
        remove(name)?;
        let client = Netns::create(&client_name(name)).context("no client namespace")?;
        let transit = Netns::create(&transit_name(name)).context("no transit namespace")?;
        let network = Self { name: name.to_owned(), client, transit };
        network.join()?;
        Ok(network)
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

    /// Has the clients find `vip` on their link, by ARP.
    pub fn route(&self, vip: Ipv4Addr) -> Result<()> {
        ip(&client_name(&self.name), &format!("route replace {vip}/32 dev {CLIENT_LINK}"))
    }

    fn join(&self) -> Result<()> {
        let (client, transit) = (client_name(&self.name), transit_name(&self.name));
        ip(&client, &format!("link add {CLIENT_LINK} type veth peer name {UPLINK} netns {transit}"))?;
        for host in CLIENTS {
            ip(&client, &format!("addr add {}/{PREFIX} dev {CLIENT_LINK}", client_address(host)))?;
        }
        ip(&transit, &format!("addr add {GATEWAY}/{PREFIX} dev {UPLINK}"))?;
        for (namespace, link) in [(&client, CLIENT_LINK), (&transit, UPLINK)] {
            ip(namespace, "link set lo up")?;
            ip(namespace, &format!("link set {link} up"))?;
        }
        self.client.run(|| {
            // Ping sockets are for nobody by default, not even for root.
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
            let done =
                Command::new("ethtool").args(["-K", CLIENT_LINK, "tx", "off", "tso", "off"]).output()?;
            ensure!(done.status.success(), "ethtool: {}", String::from_utf8_lossy(&done.stderr));
            Ok(())
        })?
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            tracing::warn!(world = self.name, %error, "the world's namespaces are not removed");
        }
    }
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

fn ip(namespace: &str, command: &str) -> Result<()> {
    let done = Command::new("ip").args(["-n", namespace]).args(command.split(' ')).output()?;
    ensure!(done.status.success(), "ip {command}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
