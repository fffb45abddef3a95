//! Puts what the daemon and the clients say side by side.

use jiff::Timestamp;
use sluice_logic::group::InstanceId;
use sluice_northbound::api::{Event, EventKind};

use crate::drains::{self, Closed};
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
    let summarise = |event: &Event| {
        let first = first_flow(event, events, arrivals);
        ActionSummary {
            at: event.at,
            kind: event.kind,
            reason: event.message.clone(),
            connections_held: connections.held_across(event.at),
            pings_held: pings.held_across(event.at),
            first_flow_ms: first.map(|(_, at)| milliseconds(event.at, at)),
            boot_ms: first.and_then(|(id, _)| boot(id, events)),
        }
    };
    events.iter().filter(acts).map(summarise).collect()
}

/// The first of the instances that the action launched to give an answer, and when it did.
fn first_flow<'a>(
    action: &'a Event,
    events: &'a [Event],
    arrivals: &Arrivals,
) -> Option<(&'a InstanceId, Timestamp)> {
    let answers = launched_by(action, events).filter_map(|id| Some((id, arrivals.first_answer(id)?)));
    answers.min_by_key(|(_, at)| *at)
}

/// From an instance's launch to its being in service, milliseconds.
fn boot(id: &InstanceId, events: &[Event]) -> Option<f64> {
    let at = |kind| {
        let found = events.iter().find(|event| event.kind == kind && event.instance.as_ref() == Some(id));
        found.map(|event| event.at)
    };
    Some(milliseconds(at(EventKind::Launch)?, at(EventKind::InService)?))
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
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

/// Flows that clients began while a drain was in force, and that the draining instance was given nevertheless. The
/// drain's event comes after the load balancer's new table, that of its serving as none is in service before, and clients read
/// the same clock: there is no allowance.
#[must_use]
pub fn strays(observer: &Observer, arrivals: &Arrivals) -> u64 {
    let closed = drains::closed(observer.events()).into_iter();
    closed.map(|Closed { instance, from, until }| arrivals.begun_within(&instance, from, until)).sum()
}
