//! Keeps what the transit namespace and the management network know of the instances as it should be, and room for it.

use std::sync::Arc;
use std::time::Duration;

use sluice_southbound::networks::NetworkError;
use tokio::time::{MissedTickBehavior, timeout};

use super::host::Host;

/// From one poll to the next.
const INTERVAL: Duration = Duration::from_secs(5);
/// Netlink answers in milliseconds, thousands of times.
const PATIENCE: Duration = Duration::from_secs(10);

/// Polls until it is dropped.
pub(super) async fn watch(host: Arc<Host>) {
    let mut polls = tokio::time::interval(INTERVAL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut unable = None;
    loop {
        polls.tick().await;
        let fault = enlarge(&host).await;
        if let Some(fault) = &fault
            && unable.as_ref() != Some(fault)
        {
            tracing::warn!("{fault}: instances in namespaces and containers can fill it for everybody");
        }
        unable = fault;
        match timeout(PATIENCE, repair(&host)).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::warn!("routes or neighbours of instances were missing: they are there again");
            }
            Ok(Err(error)) => tracing::error!(%error, "routes and neighbours of instances can't be repaired"),
            Err(_) => tracing::error!("routes and neighbours of instances could not be repaired in time"),
        }
    }
}

/// Why the kernel's table of neighbours can't be made large enough.
async fn enlarge(host: &Host) -> Option<String> {
    match timeout(PATIENCE, host.networks.enlarge_neighbour_table()).await {
        Ok(Ok(room)) => {
            if let Some(room) = room {
                tracing::info!(
                    room,
                    "the kernel's table of neighbours is larger now; `sluice down` puts it back"
                );
            }
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the kernel's table of neighbours could not be looked at in time".to_owned()),
    }
}

async fn repair(host: &Host) -> Result<bool, NetworkError> {
    let missing = host.networks.repair_neighbours().await?;
    match &host.management {
        Some(management) => Ok(management.repair().await? || missing),
        None => Ok(missing),
    }
}
