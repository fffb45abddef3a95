//! A look at the host: what the load balancer has counted, and what the provider has.

use std::sync::Arc;

use jiff::Timestamp;
use lb_userspace::lb::{Counters, LoadBalancer};
use lb_userspace::service::Service;

use super::host::Host;
use super::tenant::Tick;

/// Takes a look. What can't be had is missing, with a line in the log.
pub(crate) async fn look(host: Arc<Host>) -> Tick {
    let at = Timestamp::now();
    let (counted, observed) = tokio::join!(host.balancer.call(count), host.provider.list());
    let (counters, services) = match counted {
        Ok((counters, services)) => (counters, Some(services)),
        Err(error) => {
            tracing::error!(%error, "nothing was counted");
            (None, None)
        }
    };
    let observed = observed.inspect_err(|error| tracing::warn!(%error, "instances can't be listed")).ok();
    Tick { at, counters, services, observed }
}

fn count(balancer: &mut LoadBalancer) -> (Option<(Timestamp, Counters)>, Vec<Service>) {
    let counters = match balancer.sweep().and_then(|()| balancer.counters()) {
        Ok(counters) => Some((Timestamp::now(), counters)),
        Err(error) => {
            tracing::warn!(%error, "flows can't be counted");
            None
        }
    };
    (counters, balancer.services())
}
