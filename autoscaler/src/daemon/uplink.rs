//! Finds what keeps packets from coming in, or answers from leaving, by the uplink, for as long as it lasts; and has the uplink
//! show VLAN tags.

use std::sync::Arc;
use std::time::Duration;

use lb_userspace::net::NetnsPath;
use sluice_northbound::host::TransitConfig;
use sluice_southbound::networks::NetworkError;
use sluice_southbound::uplink::{Uplink, UplinkFault};
use tokio::time::{MissedTickBehavior, timeout};

use super::host::Host;
use super::problems::Finding;

/// From one poll to the next.
const INTERVAL: Duration = Duration::from_secs(5);
/// Netlink answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Polls until it is dropped.
pub(crate) async fn watch(host: Arc<Host>, transit: TransitConfig) {
    let mut polls = tokio::time::interval(INTERVAL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        polls.tick().await;
        poll(&host, &transit).await;
    }
}

/// Polls once. What can't be had now changes nothing.
pub(crate) async fn poll(host: &Host, transit: &TransitConfig) {
    let netns = transit.namespace.clone().map_or(NetnsPath::Here, NetnsPath::Name);
    match timeout(PATIENCE, observe(host, netns)).await {
        Ok(Ok(uplink)) => {
            let findings = uplink.faults().into_iter().map(|fault| finding(&transit.uplink, fault));
            host.problems.set(&host.events, "uplink", findings.collect());
        }
        Ok(Err(error)) => tracing::warn!(%error, "the uplink can't be looked at"),
        Err(_) => tracing::warn!("the uplink could not be looked at in time"),
    }
}

/// Looks at the uplink, and switches off what hides VLAN tags there.
async fn observe(host: &Host, netns: NetnsPath) -> Result<Uplink, NetworkError> {
    let uplink = host.networks.observe_uplink(netns.clone()).await?;
    if uplink.hidden_tags.is_empty() {
        return Ok(uplink);
    }
    if let Err(error) = host.networks.show_tags(&uplink).await {
        tracing::warn!(%error, "VLAN tags stay hidden on the uplink");
    }
    let shown = host.networks.observe_uplink(netns).await?;
    for hidden in uplink.hidden_tags.iter().filter(|hidden| !shown.hidden_tags.contains(hidden)) {
        let offload = hidden.offload.name();
        tracing::info!(interface = hidden.interface, offload, "switched off, so that XDP sees VLAN tags");
    }
    Ok(shown)
}

fn finding(uplink: &str, fault: UplinkFault) -> Finding {
    let UplinkFault { what, way_out } = fault;
    Finding { about: format!("the uplink `{uplink}`"), what, way_out }
}
