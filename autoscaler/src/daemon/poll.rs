//! A poll of the host: what the load balancer has counted, and what the clouds have.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lb_userspace::lb::{Counters, LoadBalancer};
use lb_userspace::service::Service;
use sluice_logic::spec::CloudName;
use sluice_northbound::api::EventKind;
use tokio::time::{Instant, MissedTickBehavior};

use super::balancer::Balancer;
use super::events::{EventLog, NewEvent};
use super::host::Host;
use super::tenant::Poll;

/// `LoadBalancer::sweep` is to be called so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Polls once. What can't be had is missing, with a line in the log.
pub(crate) async fn poll(host: Arc<Host>) -> Poll {
    let began = Instant::now();
    let (counted, snapshot) = tokio::join!(host.balancer.call(count), host.clouds.poll_briefly());
    let (counters, services) = match counted {
        Ok((counters, services)) => (counters, Some(services)),
        Err(error) => {
            tracing::error!(%error, "nothing was counted");
            (None, None)
        }
    };
    report(&host.events, &snapshot.news);
    if let Some((_, counters)) = &counters {
        let mut watch = host.flow_table.lock().unwrap_or_else(PoisonError::into_inner);
        let findings = watch.poll(counters, Instant::now());
        host.problems.set(&host.events, "the flow table", findings);
    }
    Poll { began, counters, services, snapshot }
}

/// Says which clouds have gone, and which are back.
pub(crate) fn report(events: &EventLog, news: &[(CloudName, Option<String>)]) {
    for (cloud, fault) in news {
        events.record(match fault {
            Some(reason) => {
                let message = format!("the cloud `{cloud}`: {reason}; what runs there is left as it is");
                NewEvent::new(EventKind::CloudLost, message)
            }
            None => NewEvent::new(EventKind::CloudBack, format!("the cloud `{cloud}` answers again")),
        });
    }
}

/// Sweeps the flow tables while polls are too rare for the flows' clock; a poll sweeps too. Never returns.
pub(crate) async fn sweep_between(balancer: &Balancer, sample_interval: Duration) {
    if sample_interval <= SWEEP_INTERVAL {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let swept = balancer.call(LoadBalancer::sweep).await;
        if let Err(error) = swept.map_err(anyhow::Error::from).and_then(|swept| Ok(swept?)) {
            tracing::warn!("idle flows can't be ended: {error:#}");
        }
    }
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
