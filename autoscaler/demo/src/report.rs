//! Puts what the daemon and the clients say side by side.

use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use sluice_northbound::api::{Event, EventKind};

use crate::observer::Observer;
use crate::summary::{ActionSummary, ConnectionSummary};
use crate::traffic::{Arrivals, HttpLoad, Pings, TcpHolders};

/// Every scaling action, and who was there.
#[must_use]
pub fn actions(
    events: &[Event],
    connections: &TcpHolders,
    pings: &Pings,
    arrivals: &Arrivals,
) -> Vec<ActionSummary> {
    let acts = |event: &&Event| {
        matches!(event.kind, EventKind::ScaleOut | EventKind::ScaleIn | EventKind::ManualScale)
    };
    let summarise = |event: &Event| ActionSummary {
        at: event.at,
        kind: event.kind,
        reason: event.message.clone(),
        connections_held: connections.held_across(event.at),
        pings_held: pings.held_across(event.at),
        first_flow_ms: first_flow(event, events, arrivals),
    };
    events.iter().filter(acts).map(summarise).collect()
}

/// How long after the action the first of the instances that it launched gave its first answer, milliseconds.
fn first_flow(action: &Event, events: &[Event], arrivals: &Arrivals) -> Option<f64> {
    let first = launched_by(action, events).filter_map(|id| arrivals.first_answer(id)).min()?;
    Some(first.duration_since(action.at).as_secs_f64() * 1000.0)
}

/// The instances launched after the action and before the next one.
fn launched_by<'a>(action: &'a Event, events: &'a [Event]) -> impl Iterator<Item = &'a InstanceId> {
    let ours = events.iter().filter(|event| event.tenant == action.tenant);
    let after = ours.filter(|event| event.seq > action.seq);
    let next_action = |event: &&Event| {
        matches!(event.kind, EventKind::ScaleOut | EventKind::ScaleIn | EventKind::ManualScale)
    };
    after
        .take_while(move |event| !next_action(event))
        .filter(|event| event.kind == EventKind::Launch)
        .filter_map(|event| event.instance.as_ref())
}

/// The connections, and all that went wrong anywhere, with its details.
#[must_use]
pub fn connections(connections: &TcpHolders, pings: &Pings, load: &HttpLoad) -> ConnectionSummary {
    let counts = connections.counts();
    ConnectionSummary {
        opened: counts.opened,
        exchanges: connections.exchanges(),
        broken: counts.broken,
        broken_flows: connections.broken(),
        failed_requests: load.failures(),
        lost_pings: pings.broken(),
    }
}

/// Flows that clients began after a drain was in force, and that the draining instance was given nevertheless. The
/// drain's event comes after the load balancer's new table, and clients read the same clock: there is no allowance.
#[must_use]
pub fn strays(observer: &Observer, arrivals: &Arrivals) -> u64 {
    let drains = observer.drains();
    drains.iter().map(|(id, since): (&InstanceId, &Timestamp)| arrivals.begun_after(id, *since)).sum()
}
