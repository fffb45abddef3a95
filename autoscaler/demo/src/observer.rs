//! What the daemon says while the demo or a test runs, kept.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_northbound::api::{Event, EventKind, EventQuery, InstanceStatus, Status};
use sluice_northbound::client::Client;

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

/// New flows of a draining instance by the load balancer's own counter.
#[derive(Debug, Clone, Copy, Default)]
struct DrainCount {
    baseline: Option<u64>,
    latest: u64,
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
        for instance in status.tenants.iter().flat_map(|tenant| &tenant.instances) {
            self.count_drain(instance);
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

    /// New flows to draining instances by the load balancer's counters, from two seconds after each drain began on.
    #[must_use]
    pub fn new_flows_while_draining(&self) -> u64 {
        self.draining
            .values()
            .map(|count| count.latest.saturating_sub(count.baseline.unwrap_or(count.latest)))
            .sum()
    }

    fn count_drain(&mut self, instance: &InstanceStatus) {
        let (InstanceState::Draining, Some(new_flows)) = (instance.state, instance.new_flows) else { return };
        let count = self.draining.entry(instance.id.clone()).or_default();
        count.latest = new_flows;
        if Timestamp::now().duration_since(instance.since) > COUNTER_AGE {
            count.baseline.get_or_insert(new_flows);
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
