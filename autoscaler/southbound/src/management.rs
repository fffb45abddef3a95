//! The management network: a bridge that every instance is on, with a namespace of its own behind it from which their
//! exporters are read, and in which their syslog is taken.
//!
//! ```text
//!   the daemon's namespace                    │ <name>.management
//!   instance ── sli-… ┐                       │
//!   instance ── sli-… ┴ slm-… (bridge)   slq-…├─ manage (the subnet's first address)
//! ```
//!
//! Nothing is routed from it or to it: in its namespace is no other interface, and neither the host nor the transit
//! namespace has an address on it. An instance reaches that one address. Not other instances, nor can it speak for one:
//! its port is sealed ([`Links::seal_port`]), what comes must have the sender's own address ([`admit_own_addresses`]), and the
//! Ethernet address of each is known and not asked for. Nor has what
//! is in a tenant's network a way to it.
//!
//! Its namespace takes nothing from an address that no instance has (`neighbours.rs`).
//!
//! A [`MacAddr`] follows from the address ([`MacAddr::of_instance`]), so what the namespace knows of neighbours stays
//! true when an address passes to another instance.

mod leases;

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use lb_userspace::lb::admit_own_addresses;
use lb_userspace::net::{Links, MacAddr, Netns, VethEnd};
use sluice_logic::group::InstanceId;

use self::leases::Leases;
use crate::neighbours::Neighbours;
use crate::networks::{NetworkError, filter, harden_bridge, set};
use crate::provider::{InstanceSpec, NicSpec};
use crate::scope::Scope;

/// The interface in the network's own namespace.
const INTERFACE: &str = "manage";

/// The management network of one daemon, and who has which address on it.
#[derive(Debug)]
pub struct Management {
    scope: Scope,
    host: Links,
    inside: Links,
    neighbours: Neighbours,
    subnet: Ipv4Net,
    leases: Mutex<Leases>,
}

impl Management {
    /// Makes the network, or finds it as it should be, with its bridge in the current namespace. Idempotent. To be
    /// called on a tokio runtime.
    pub async fn ensure(scope: Scope, subnet: Ipv4Net) -> Result<Self, NetworkError> {
        let host = current()?;
        let names = scope.management_links();
        let (bridge_mac, inner_mac) = scope.management_macs();
        let mark = scope.management_mark();
        let bridge = host.ensure_bridge(&mark, &names.bridge, bridge_mac).await?;
        harden_bridge(&host, &names.bridge).await?;
        host.set_up(&names.bridge).await?;

        let inside = Links::open(&namespace(&names.netns).await?)?;
        let port = VethEnd { links: &host, name: &names.port, mac: None, master: Some(bridge.index) };
        let inner = VethEnd { links: &inside, name: INTERFACE, mac: Some(inner_mac), master: None };
        host.ensure_veth(&mark, &port, &inner).await?;
        host.set_up(&names.port).await?;
        let neighbours = Neighbours::new(inside.clone(), scope.group());
        let management =
            Self { scope, host, inside, neighbours, subnet: subnet.trunc(), leases: Mutex::default() };
        management.configure().await?;
        management.host.wait_until_forwarding(&names.port).await?;
        Ok(management)
    }

    /// The one address of the namespace, and no older one.
    async fn configure(&self) -> Result<(), NetworkError> {
        let settings = [
            ("ipv6", "disable_ipv6", "1"),
            ("ipv4", "forwarding", "0"),
            ("ipv4", "arp_ignore", "2"),
            ("ipv4", "rp_filter", "1"),
        ];
        set(self.inside.netns(), INTERFACE, &settings).await?;
        filter(self.inside.netns(), INTERFACE, admit_own_addresses).await?;
        self.inside.set_up(INTERFACE).await?;
        let address = Ipv4Net::new_assert(self.address(), self.subnet.prefix_len());
        Ok(self.neighbours.ensure(INTERFACE, address).await?)
    }

    /// The namespace from which instances are reached.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        self.inside.netns()
    }

    /// Its address: the first of the subnet.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()).saturating_add(1))
    }

    /// Where an instance is reached; `None` where it has no place here, as one that was made before there was this
    /// network or when it had other addresses.
    #[must_use]
    pub fn address_of(&self, spec: &InstanceSpec) -> Option<Ipv4Addr> {
        spec.management.as_ref().map(|nic| nic.address).filter(|address| self.subnet.contains(address))
    }

    /// Gives an instance a place, until it is [released](Self::release); `None` when the subnet is used up. An address
    /// that another instance had is given late.
    #[must_use]
    pub fn lease(&self, id: &InstanceId) -> Option<NicSpec> {
        let address = self.leases().give(id, self.subnet, self.address())?;
        Some(NicSpec {
            bridge: self.scope.management_links().bridge,
            address,
            prefix: self.subnet.prefix_len(),
            gateway: None,
            mac: MacAddr::of_instance(address),
        })
    }

    /// Notes the place of an instance that was there before: [`repair`](Self::repair) makes it known.
    pub fn hold(&self, spec: &InstanceSpec) {
        if let Some(address) = self.address_of(spec) {
            let mut leases = self.leases();
            leases.hold(&spec.id, address);
            if leases.holder(address) == Some(&spec.id) {
                self.neighbours.hold(INTERFACE, address, MacAddr::of_instance(address));
            }
        }
    }

    /// Takes an instance's place back; [`repair`](Self::repair) removes what is known of it. None is a success.
    pub fn release(&self, id: &InstanceId) {
        let mut leases = self.leases();
        if let Some(address) = leases.release(id) {
            self.neighbours.release(INTERFACE, address);
        }
    }

    /// Makes what the namespace knows of instances whole again, where somebody else has changed it, and removes what it
    /// knows of those that are gone. Whether something was missing.
    pub async fn repair(&self) -> Result<bool, NetworkError> {
        Ok(self.neighbours.repair().await?)
    }

    /// The instance that has an address, or had it last: what it has sent may come after its end.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr) -> Option<InstanceId> {
        self.leases().holder(address).cloned()
    }

    /// Makes an instance that has a place known in the namespace, before it is there.
    pub async fn admit(&self, spec: &InstanceSpec) -> Result<(), NetworkError> {
        let Some(address) = self.address_of(spec) else { return Ok(()) };
        Ok(self.neighbours.admit(INTERFACE, address, MacAddr::of_instance(address)).await?)
    }

    /// Seals the port of an instance whose provider has only isolated it: a virtual machine's, which libvirt makes.
    pub async fn seal(&self, spec: &InstanceSpec) -> Result<(), NetworkError> {
        let (Some(nic), Some(number)) = (&spec.management, spec.nics().count().checked_sub(1)) else {
            return Ok(());
        };
        Ok(self.host.seal_port(&self.scope.nic_port(&spec.id, number), nic.mac).await?)
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a scope's management network, whole or in parts. Returns what was removed.
pub async fn remove(scope: &Scope) -> Result<Vec<String>, NetworkError> {
    let (host, names, mut removed) = (current()?, scope.management_links(), Vec::new());
    for link in [&names.port, &names.bridge] {
        if host.find(link).await?.is_some() {
            host.delete_ours(scope.group(), link).await?;
            removed.push(link.clone());
        }
    }
    let there = Netns::names().map_err(unusable("namespaces can't be listed"))?.contains(&names.netns);
    if there {
        Netns::delete(&names.netns).map_err(unusable("the management namespace can't be removed"))?;
        removed.push(names.netns);
    }
    Ok(removed)
}

fn current() -> Result<Links, NetworkError> {
    let host = Netns::current().map_err(unusable("the namespace of this process can't be opened"))?;
    Ok(Links::open(&host)?)
}

async fn namespace(name: &str) -> Result<Netns, NetworkError> {
    let name = name.to_owned();
    let made = tokio::task::spawn_blocking(move || Netns::create(&name)).await;
    made.map_err(io::Error::other)
        .and_then(std::convert::identity)
        .map_err(unusable("the management namespace can't be made"))
}

fn unusable(what: &str) -> impl FnOnce(io::Error) -> NetworkError {
    let what = what.to_owned();
    move |source| NetworkError::Netns { what, source }
}
