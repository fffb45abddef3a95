//! DHCP on the tenants' networks: a dnsmasq for each network that has virtual machines, with a fixed lease for each of
//! them.
//!
//! ```text
//!   the daemon's namespace             │ the server's own namespace
//!   slb-… (bridge) ── sld-… ═══════════╪══ lan (169.254.53.1)
//! ```
//!
//! In a namespace of its own the server hears and answers on that one bridge and nowhere else, whatever is in its
//! configuration. It has no address of the tenant's subnet, so it takes none away, and needs none: it broadcasts what it
//! says (`shared-network` and `dhcp-broadcast` of dnsmasq). A lease is a file, and never ends: an instance keeps its
//! address as long as it lives.
//!
//! A server runs on without the daemon, and is found again by its namespace, its files in `/run` and the path of its
//! configuration among its arguments. One that has ended is started again when the daemon looks at the clouds.

use std::collections::BTreeSet;
use std::fs;
use std::hash::Hasher as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fnv::FnvHasher;
use ipnet::{IpNet, Ipv4Net};
use lb_userspace::net::{Address, LinkError, Links, MacAddr, Netns, VethEnd};
use sluice_logic::group::InstanceId;

use crate::scope::{Scope, instance_id};

mod server;

use server::Server;

/// The server's interface, in its namespace.
const INTERFACE: &str = "lan";
/// Its address there: link-local (RFC 3927), and in no tenant's subnet.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 1);

/// Why a network has no DHCP.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// A link is not as it should be.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A file, a namespace or a process is not as it should be.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server does not start.
    #[error("dnsmasq does not start behind {port}: {reason}")]
    Start {
        /// Its port on the network's bridge.
        port: String,
        /// What it says.
        reason: String,
    },
}

/// A network that is to have DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpNetwork {
    /// Its bridge, as [`Scope`] names it.
    pub bridge: String,
    /// The addresses on it.
    pub subnet: Ipv4Net,
    /// The default route that the leases give; `None` is none.
    pub router: Option<Ipv4Addr>,
    /// The log server that the leases name; `None` is none.
    pub log_server: Option<Ipv4Addr>,
}

/// What an instance gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub id: InstanceId,
    /// By which it is known.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
}

/// The leases that one provider has given, and the servers, which all providers of a daemon share.
#[derive(Debug, Clone)]
pub struct DhcpServers {
    scope: Scope,
    host: Links,
    directory: PathBuf,
    owner: String,
    /// Whether the servers that were there before have what [`answer_no_arp`] sets.
    hardened: Arc<AtomicBool>,
}

/// One at a time in this process makes or removes servers.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl DhcpServers {
    /// The servers of a scope, for bridges in the current namespace. `owner` tells one provider's leases from
    /// another's. To be called on a tokio runtime.
    pub fn open(scope: Scope, owner: &str) -> Result<Self, DhcpError> {
        let host = Netns::current().map_err(io_error("the namespace of this process can't be opened"))?;
        let directory = scope.run_dir().join("dhcp");
        let mut hasher = FnvHasher::default();
        hasher.write(owner.as_bytes());
        let owner = format!("{:016x}", hasher.finish());
        Ok(Self { host: Links::open(&host)?, scope, directory, owner, hardened: Arc::default() })
    }

    /// Gives an instance its lease, on a network whose server runs from then on. Idempotent.
    pub async fn lease(&self, network: &DhcpNetwork, lease: &Lease) -> Result<(), DhcpError> {
        let _turn = TURN.lock().await;
        let server = self.server(&network.bridge);
        let netns = self.plug(&server, &network.bridge).await?;
        let (network, lease, owner) = (network.clone(), lease.clone(), self.owner.clone());
        blocking(move || {
            server.write_lease(&lease, &owner)?;
            server.ensure(&netns, &network)
        })
        .await
    }

    /// Ends the leases of an instance, and the servers that then have none. No lease is a success.
    pub async fn release(&self, id: &InstanceId) -> Result<(), DhcpError> {
        let _turn = TURN.lock().await;
        let (servers, id, owner) = (self.servers()?, id.clone(), self.owner.clone());
        blocking(move || servers.iter().try_for_each(|server| server.forget(&id, &owner))).await?;
        self.remove_idle().await
    }

    /// The instances that have a lease of this owner.
    pub fn instances(&self) -> Result<BTreeSet<InstanceId>, DhcpError> {
        let mut found = BTreeSet::new();
        for server in self.servers()? {
            for name in server.leases()? {
                let id = name.strip_suffix(&self.owner).and_then(|name| name.strip_suffix('.'));
                found.extend(id.and_then(instance_id));
            }
        }
        Ok(found)
    }

    /// Removes the servers without a lease, whose networks have no instances any more.
    pub async fn sweep(&self) -> Result<(), DhcpError> {
        let _turn = TURN.lock().await;
        self.remove_idle().await
    }

    /// Starts the servers anew that have ended, and removes those without a lease, which a crash may have left. Does
    /// nothing while another call is at work on them.
    pub async fn maintain(&self) -> Result<(), DhcpError> {
        let Ok(_turn) = TURN.try_lock() else { return Ok(()) };
        self.remove_idle().await?;
        let servers = self.servers()?;
        let servers: Vec<_> =
            servers.into_iter().map(|server| (self.scope.dhcp_netns(&server.digits), server)).collect();
        let harden = !self.hardened.swap(true, Ordering::Relaxed);
        // One that can't be started keeps no other from it.
        let maintain = move |(netns, server): &(String, Server)| {
            // One that is half made has none yet.
            if harden && let Ok(netns) = Netns::open(netns) {
                answer_no_arp(&netns)?;
            }
            server.revive(netns)
        };
        blocking(move || servers.iter().map(maintain).fold(Ok(()), Result::and)).await
    }

    async fn remove_idle(&self) -> Result<(), DhcpError> {
        for server in self.servers()? {
            if server.leases()?.is_empty() {
                self.remove(server).await?;
            }
        }
        match fs::remove_dir(&self.directory) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Err(io_error("the directory of the DHCP servers can't be removed")(error))
            }
            _ => Ok(()),
        }
    }

    /// The files go last: by them it is found again.
    async fn remove(&self, server: Server) -> Result<(), DhcpError> {
        let (netns, own) = (self.scope.dhcp_netns(&server.digits), server.clone());
        blocking(move || {
            own.stop()?;
            Netns::delete(&netns).map_err(io_error("a DHCP server's namespace can't be removed"))
        })
        .await?;
        self.host.delete_ours(self.scope.group(), &server.port()).await?;
        fs::remove_dir_all(&server.directory).map_err(io_error("a DHCP server's files can't be removed"))
    }

    /// Joins the server's namespace to the bridge.
    async fn plug(&self, server: &Server, bridge: &str) -> Result<Netns, DhcpError> {
        // First of all, so that what is made from here on is found again.
        fs::create_dir_all(server.leases_dir())
            .map_err(io_error("a DHCP server's directory can't be made"))?;
        let name = self.scope.dhcp_netns(&server.digits);
        let netns = blocking(move || {
            let netns = Netns::create(&name).map_err(io_error("a DHCP server's namespace can't be made"))?;
            netns
                .set_sysctl("ipv6/conf/default/disable_ipv6", "1")
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
                .map_err(io_error("IPv6 can't be switched off for a DHCP server"))?;
            Ok(netns)
        })
        .await?;
        let (inside, mark, port) =
            (Links::open(&netns)?, self.scope.dhcp_mark(&server.digits), server.port());
        let master = Some(self.host.get(bridge).await?.index);
        let outer = VethEnd { links: &self.host, name: &port, mac: None, master };
        let inner = VethEnd { links: &inside, name: INTERFACE, mac: None, master: None };
        self.host.ensure_veth(&mark, &outer, &inner).await?;
        self.host.set_up(&port).await?;
        let address = Address { net: IpNet::from(IpAddr::V4(ADDRESS)), protocol: 0 };
        inside.add_address(INTERFACE, &address).await?;
        let own = netns.clone();
        blocking(move || answer_no_arp(&own)).await?;
        inside.set_up(INTERFACE).await?;
        self.host.wait_until_forwarding(&port).await?;
        Ok(netns)
    }

    fn server(&self, bridge: &str) -> Server {
        let digits = bridge.split_once('-').map_or(bridge, |(_, digits)| digits).to_owned();
        Server { directory: self.directory.join(&digits), digits }
    }

    /// All servers of which anything exists.
    fn servers(&self) -> Result<Vec<Server>, DhcpError> {
        let names = names(&self.directory)?;
        Ok(names
            .into_iter()
            .map(|digits| Server { directory: self.directory.join(&digits), digits })
            .collect())
    }
}

/// A server hears and answers broadcasts alone. Whoever could ask for its address would be a neighbour, in a table that is
/// the whole host's.
fn answer_no_arp(netns: &Netns) -> Result<(), DhcpError> {
    let done = netns.set_sysctl(&format!("ipv4/conf/{INTERFACE}/arp_ignore"), "8");
    done.map_err(io_error("ARP can't be switched off for a DHCP server"))
}

/// The names in a directory; none where there is none.
fn names(directory: &Path) -> Result<Vec<String>, DhcpError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("the DHCP servers can't be listed"))?,
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> DhcpError {
    let what = what.to_owned();
    move |source| DhcpError::Io { what, source }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DhcpError> + Send + 'static,
) -> Result<T, DhcpError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io_error("a task has failed")(io::Error::other(error))))
}
