//! A tenant's network as its reconciler needs it: bridge, transit interface, answers' program, public addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use std::time::Duration;

use anyhow::{Context, Result};
use sluice_logic::spec::TenantSpec;
use sluice_southbound::networks::{OwnedNetwork, TenantNetwork};
use sluice_southbound::probe;
use sluice_southbound::provider::InstanceSpec;

use super::host::Host;
use super::services::Egress;

/// A network that is there and works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    /// What instances are plugged into.
    pub(crate) bridge: String,
    /// How frames get to them.
    pub(crate) egress: Egress,
}

/// Makes a tenant's networks, or finds them as they should be. The first one carries the service.
pub(crate) async fn ensure(host: &Host, spec: &TenantSpec) -> Result<Attached> {
    let mut first = None;
    for network in &spec.networks {
        let there = host.networks.ensure(&spec.name, network).await?;
        first.get_or_insert(there);
    }
    let TenantNetwork { bridge, link, interface, mac } = first.context("the tenant has no network")?;
    host.balancer.call(move |balancer| balancer.attach_tenant(&link)).await??;
    Ok(Attached { bridge, egress: Egress { interface, mac } })
}

/// Makes the tenant's public addresses known on the uplink. Not before its services are in the load balancer:
/// until then the kernel itself would answer for them.
pub(crate) async fn announce(host: &Host, spec: &TenantSpec) -> Result<()> {
    for vip in vips(spec) {
        host.networks.ensure_vip(vip).await.with_context(|| format!("{vip} on the uplink"))?;
    }
    Ok(())
}

/// Takes the tenant's public addresses off the uplink.
pub(crate) async fn withdraw(host: &Host, spec: &TenantSpec) -> Result<()> {
    for vip in vips(spec) {
        host.networks.remove_vip(vip).await.with_context(|| format!("{vip} on the uplink"))?;
    }
    Ok(())
}

/// Removes a tenant's networks, the programs on them, and what may still be there of its public addresses. Its
/// instances must be gone.
pub(crate) async fn remove(host: &Host, spec: &TenantSpec) -> Result<()> {
    withdraw(host, spec).await?;
    for network in host.networks.list().await? {
        if network.owner.as_ref().is_some_and(|(owner, _)| *owner == spec.name) {
            remove_one(host, &network).await?;
        }
    }
    Ok(())
}

/// Removes one network and the program on it.
pub(crate) async fn remove_one(host: &Host, network: &OwnedNetwork) -> Result<()> {
    let links = network.links.clone();
    host.balancer.call(move |balancer| balancer.detach_tenant(&links.transit, &links.port)).await??;
    Ok(host.networks.remove(network).await?)
}

/// Waits until an instance takes a connection.
pub(crate) async fn ready(host: &Host, spec: &InstanceSpec, patience: Duration) -> Result<()> {
    let target = SocketAddrV4::new(spec.nic.address, spec.template.port);
    probe::wait_until_ready(&host.transit, target, patience).await?;
    Ok(())
}

/// The tenant's public IPv4 addresses; services on IPv6 are refused when the file is read.
pub(crate) fn vips(spec: &TenantSpec) -> BTreeSet<Ipv4Addr> {
    let vips = spec.services.iter().map(|service| service.vip);
    vips.filter_map(|vip| match vip {
        IpAddr::V4(vip) => Some(vip),
        IpAddr::V6(_) => None,
    })
    .collect()
}
