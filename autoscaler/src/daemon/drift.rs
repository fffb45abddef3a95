//! Drift: what the daemon has made and somebody else has changed. It is compared with what should be every two seconds,
//! put right, and told as an event; what can't be put right is a problem.
//!
//! Here is what belongs to all tenants; each tenant's task compares its own networks, ports and VIPs with the same view.

use std::sync::Arc;
use std::time::Duration;

use lb_userspace::lb::{self, LoadBalancer, Repaired, XdpMode};
use sluice_northbound::api::EventKind;
use sluice_southbound::bridge_filter;
use sluice_southbound::networks::NetworkView;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::events::NewEvent;
use super::problems::Finding;
use super::registry::{Registry, shown};

/// From one poll to the next.
const INTERVAL: Duration = Duration::from_secs(2);
/// The kernel answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there was of networks at one moment.
#[derive(Debug)]
pub(crate) struct View {
    /// Before anything was listed: what has changed since may not be in here.
    pub(crate) began: Instant,
    /// What was there.
    pub(crate) networks: NetworkView,
}

/// Polls until it is dropped.
pub(super) async fn watch(registry: Arc<Registry>) {
    let mut polls = tokio::time::interval(INTERVAL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        polls.tick().await;
        // Side by side: what hangs holds up no other.
        tokio::join!(
            repair_data_plane(&registry),
            show_networks(&registry),
            repair_outbound(&registry),
            find_bridge_filter(&registry),
        );
    }
}

/// Puts back pins and programs.
async fn repair_data_plane(registry: &Registry) {
    let host = &registry.host;
    let repair = |balancer: &mut LoadBalancer| (balancer.repair(), balancer.mode());
    let (repaired, mode) = match timeout(PATIENCE, host.balancer.call(repair)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return tracing::error!(%error, "pins and programs can't be compared"),
        Err(_) => return tracing::warn!("the load balancer is busy: pins and programs are compared later"),
    };
    let findings = match repaired {
        Ok(repaired) => {
            for what in repaired {
                host.events.record(NewEvent::new(EventKind::Drift, describe(&what, mode)));
            }
            Vec::new()
        }
        Err(error) => vec![finding(&error)],
    };
    registry.set_mode(mode);
    host.problems.set(&host.events, "pins and programs", findings);
}

fn describe(repaired: &Repaired, mode: XdpMode) -> String {
    match repaired {
        Repaired::Pins => {
            "pins of the load balancer's maps were gone: they are there again, with all flows".to_owned()
        }
        Repaired::Uplink => {
            let mode = shown(mode);
            format!(
                "the uplink had no program, or is another interface of the same name: it is attached again ({mode} XDP)"
            )
        }
        Repaired::Tenant(interface) => format!("`{interface}` had no program: it is attached again"),
    }
}

fn finding(error: &lb::Error) -> Finding {
    Finding {
        about: "the load balancer".to_owned(),
        what: format!("its pins and programs can't be put back: {error}"),
        way_out:
            "it is tried again every two seconds; what the kernel says is in the daemon's log (`dmesg` too)"
                .to_owned(),
    }
}

/// Shows the tenants' tasks what there is of networks. What can't be listed now changes nothing.
async fn show_networks(registry: &Registry) {
    let began = Instant::now();
    match timeout(PATIENCE, registry.host.networks.view()).await {
        Ok(Ok(networks)) => {
            let view = Arc::new(View { began, networks });
            for (_, handle) in registry.handles() {
                handle.compare(view.clone());
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "networks can't be listed"),
        Err(_) => tracing::warn!("networks could not be listed in time"),
    }
}

/// Makes the rules of outbound connections whole.
async fn repair_outbound(registry: &Registry) {
    let host = &registry.host;
    let what = match timeout(PATIENCE, host.networks.repair_outbound()).await {
        Ok(Ok(is_repaired)) => {
            if is_repaired {
                let message = "the rules of outbound connections had been changed: they are whole again";
                host.events.record(NewEvent::new(EventKind::Drift, message));
            }
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("nft does not answer".to_owned()),
    };
    let finding = |what| Finding {
        about: "outbound connections".to_owned(),
        what: format!("their rules can't be compared: {what}"),
        way_out: "see what `nft list ruleset` says in the transit namespace".to_owned(),
    };
    host.problems.set(&host.events, "outbound connections", what.map(finding).into_iter().collect());
}

/// Finds a packet filter that drops bridged frames, which may have come after the daemon.
async fn find_bridge_filter(registry: &Registry) {
    let finding = |(what, way_out)| Finding { about: "the packet filter".to_owned(), what, way_out };
    match bridge_filter::fault().await {
        Ok(fault) => {
            let findings = fault.map(finding).into_iter().collect();
            registry.host.problems.set(&registry.host.events, "the packet filter", findings);
        }
        Err(error) => tracing::debug!(%error, "it is not known whether iptables drops bridged frames"),
    }
}
