//! A tenant's networks as its reconciler needs them: bridges, transit interfaces, answers' programs, public addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_logic::spec::{NetworkSpec, Outbound, TenantName, TenantSpec};
use sluice_southbound::networks::{OwnedNetwork, TenantNetwork};
use sluice_southbound::probe;
use sluice_southbound::provider::InstanceSpec;
use tokio::time::{Instant, timeout};

use super::host::Host;
use super::services::Egress;

/// A tenant's networks that are there and work: the first one, and those of the others that are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    /// What instances are plugged into, by the networks' names.
    pub(crate) bridges: BTreeMap<String, String>,
    /// How frames get to them on the first network.
    pub(crate) egress: Egress,
    /// What instances reach by the first network's gateway.
    pub(crate) outbound: Outbound,
    /// Since when.
    pub(crate) since: Instant,
    /// When what instances could reach outside before is to be ended; `None` where it is.
    pub(crate) dismiss_at: Option<Instant>,
}

impl Attached {
    /// The bridge of a network; an error where there is none yet.
    pub(crate) fn bridge(&self, network: &NetworkSpec) -> Result<String> {
        let bridge = self.bridges.get(&network.name).cloned();
        bridge.with_context(|| format!("its network `{}` is not ready", network.name))
    }
}

/// Makes the kernel ready to forward what instances send to the outside, where their tenant wants that. Before the packets
/// are left to the kernel: it must know what to refuse.
pub(crate) async fn admit_outbound(host: &Host, spec: &TenantSpec) -> Result<Outbound> {
    if let (Outbound::Nat, Some(first)) = (spec.outbound, spec.networks.first()) {
        timeout(NFT_PATIENCE, host.networks.admit_outbound(&spec.name, &first.name))
            .await
            .context(NFT_SLOW)??;
    }
    Ok(spec.outbound)
}

/// Ends that, where the tenant does not want it any more. After its program leaves nothing to the kernel.
pub(crate) async fn dismiss_outbound(host: &Host, spec: &TenantSpec) -> Result<()> {
    if let Some(first) = spec.networks.first() {
        timeout(NFT_PATIENCE, host.networks.dismiss_outbound(&spec.name, &first.name))
            .await
            .context(NFT_SLOW)??;
    }
    Ok(())
}

/// Other tenants' rules may be waited for.
const NFT_PATIENCE: Duration = Duration::from_secs(2);
const NFT_SLOW: &str = "nft does not answer";

/// Makes a tenant's first network, which carries the services and by which instances reach the outside, where they may; or
/// finds it as it should be.
pub(crate) async fn ensure_first(host: &Host, spec: &TenantSpec, outbound: Outbound) -> Result<Attached> {
    let first = spec.networks.first().context("the tenant has no network")?;
    let (bridge, egress) = ensure(host, &spec.name, first, outbound).await?;
    let (now, bridges) = (Instant::now(), BTreeMap::from([(first.name.clone(), bridge)]));
    Ok(Attached { bridges, egress, outbound, since: now, dismiss_at: Some(now) })
}

/// Makes those of a tenant's networks that are not attached yet, or finds them as they should be.
pub(crate) async fn ensure_others(host: &Host, spec: &TenantSpec, attached: &mut Attached) -> Result<()> {
    for network in &spec.networks {
        if !attached.bridges.contains_key(&network.name) {
            let (bridge, _) = ensure(host, &spec.name, network, Outbound::None).await?;
            attached.bridges.insert(network.name.clone(), bridge);
        }
    }
    Ok(())
}

async fn ensure(
    host: &Host,
    tenant: &TenantName,
    network: &NetworkSpec,
    outbound: Outbound,
) -> Result<(String, Egress)> {
    let there = host.networks.ensure(tenant, network).await;
    let TenantNetwork { bridge, mut link, interface, mac } =
        there.with_context(|| format!("the network `{}`", network.name))?;
    if let Some(ipv4) = &mut link.ipv4 {
        ipv4.outbound = outbound == Outbound::Nat;
    }
    host.balancer.call(move |balancer| balancer.attach_tenant(&link)).await??;
    Ok((bridge, Egress { interface, mac }))
}

/// Removes the networks that a tenant's file has no more and on which none of its instances is: `in_use` are the bridges
/// that they are plugged into. Whether none is left.
pub(crate) async fn retire(host: &Host, spec: &TenantSpec, in_use: &BTreeSet<&str>) -> Result<bool> {
    let mut none_left = true;
    for network in host.networks.list().await? {
        let wanted = |name: &str| spec.networks.iter().any(|network| network.name == name);
        match &network.owner {
            Some((owner, name)) if *owner == spec.name && !wanted(name) => {}
            _ => continue,
        }
        if in_use.contains(network.links.bridge.as_str()) {
            none_left = false;
        } else {
            remove_one(host, &network).await?;
        }
    }
    Ok(none_left)
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
