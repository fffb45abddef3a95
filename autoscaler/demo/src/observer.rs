//! What the daemon says while the demo or a test runs, kept.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_northbound::api::{Event, EventKind, EventQuery, InstanceStatus, Status};
use sluice_northbound::client::Client;

use crate::drains;
use crate::host_load::LoadMeter;

/// The counters of the load balancer are read about once a second: a count of this age has nothing in it from
/// before the drain that it is compared with.
const COUNTER_AGE: SignedDuration = SignedDuration::from_secs(2);

/// Everything the daemon has said since the observer began.
#[derive(Debug)]
pub struct Observer {
    client: Client,
    next: u64,
    status: Option<Status>,
    events: Vec<Event>,
    draining: BTreeMap<InstanceId, DrainCount>,
}

/// New flows of a draining instance by the load balancer's own counter, in the times when it was to take none.
#[derive(Debug, Clone, Copy, Default)]
struct DrainCount {
    /// Of earlier times.
    earlier: u64,
    /// At this time's beginning.
    baseline: Option<u64>,
    latest: u64,
}

impl DrainCount {
    fn total(self) -> u64 {
        self.earlier + self.latest.saturating_sub(self.baseline.unwrap_or(self.latest))
    }

    /// It is counted, at a time when a baseline may be taken or not.
    fn read(&mut self, new_flows: u64, is_settled: bool) {
        self.latest = new_flows;
        if is_settled {
            self.baseline.get_or_insert(new_flows);
        }
    }

    /// It takes new flows: what is counted from now on is as it should be.
    fn pause(&mut self) {
        *self = Self { earlier: self.total(), ..Self::default() };
    }
}

impl Observer {
    /// Begins with the events that come after those there are.
    pub async fn new(client: Client) -> Result<Self> {
        let last = EventQuery { limit: Some(1), ..EventQuery::default() };
        let next = client.events(&last).await.context("the daemon's events can't be read")?.next;
        Ok(Self { client, next, status: None, events: Vec::new(), draining: BTreeMap::new() })
    }

    /// Reads status and new events; says how many events are new.
    pub async fn look(&mut self) -> Result<usize> {
        let query = EventQuery { after: Some(self.next), limit: Some(10_000), ..EventQuery::default() };
        let page = self.client.events(&query).await?;
        let status = self.client.status().await?;
        self.next = page.next;
        let new = page.events.len();
        self.events.extend(page.events);
        // What began between the two: flows of then may be in the status. These events are read again next time.
        let query = EventQuery { after: Some(self.next), ..query };
        let coming = self.client.events(&query).await?.events;
        for instance in status.tenants.iter().flat_map(|tenant| &tenant.instances) {
            if !coming.iter().any(|event| drains::opens(event, &instance.id)) {
                self.count_drain(instance);
            }
        }
        self.status = Some(status);
        Ok(new)
    }

    /// The last status.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// All events since the observer began, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many of those events are of that kind.
    #[must_use]
    pub fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }

    /// When each instance that was drained stopped to take new flows.
    #[must_use]
    pub fn drains(&self) -> BTreeMap<InstanceId, Timestamp> {
        let drains = self.events.iter().filter(|event| event.kind == EventKind::Draining);
        drains.filter_map(|event| Some((event.instance.clone()?, event.at))).collect()
    }

    /// New flows to draining instances by the load balancer's counters, from two seconds after each drain began on, but for
    /// the time in which they took some as none was in service.
    #[must_use]
    pub fn new_flows_while_draining(&self) -> u64 {
        self.draining.values().map(|count| count.total()).sum()
    }

    fn count_drain(&mut self, instance: &InstanceStatus) {
        let (InstanceState::Draining, Some(new_flows)) = (instance.state, instance.new_flows) else { return };
        let count = self.draining.entry(instance.id.clone()).or_default();
        match drains::last_closed(&self.events, &instance.id) {
            Ok(closed) => {
                // Of a tenant that leaves there is no event for each.
                let since = closed.map_or(instance.since, |closed| closed.max(instance.since));
                count.read(new_flows, Timestamp::now().duration_since(since) > COUNTER_AGE);
            }
            Err(drains::Serves) => count.pause(),
        }
    }

    /// Looks until `condition` holds; an error that names `what` when it does not within `limit`.
    pub async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let meter = LoadMeter::start();
        let waiting = async {
            loop {
                self.look().await?;
                if condition(self) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if let Ok(outcome) = tokio::time::timeout(limit, waiting).await {
            return outcome;
        }
        let load = meter.read();
        anyhow::bail!("not within {limit:?}: {what}; {load}; the last status: {:#?}", self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_flows_count_but_while_a_draining_instance_serves() {
        let mut count = DrainCount::default();
        for (new_flows, is_settled) in [(10, false), (12, true), (13, true)] {
            count.read(new_flows, is_settled);
        }
        assert_eq!(count.total(), 1);
        count.pause();
        count.pause();
        count.read(500, false);
        assert_eq!(count.total(), 1, "it was to take them");
        count.read(501, true);
        count.read(503, true);
        assert_eq!(count.total(), 3);
    }
}
