//! How a tenant goes whose file is gone, and how it stays when that is back.
//!
//! Its instances drain as in a scale-in, but are kept as what they are: the load balancer alone is told that they take no new
//! flow. So a tenant that is back in time has them in service again in one step.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_logic::group::{Instance, InstanceState};
use sluice_logic::spec::GroupSpec;
use sluice_northbound::api::EventKind;
use tokio::time::Instant;

use super::Tenant;
use super::problems::Work;
use crate::daemon::network;
use crate::daemon::state::Departure;

/// Without instances, clients of a service are refused for so long before it is removed: what they had open is reset, in
/// place of hanging.
const LINGER: Duration = Duration::from_secs(3);

/// A tenant on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    departure: Departure,
    /// Since when it has no instance.
    empty_since: Option<Instant>,
    /// Its public addresses are off the uplink, and its services may go.
    has_withdrawn: bool,
}

impl Leaving {
    pub(super) fn new(departure: Departure) -> Self {
        Self { departure, empty_since: None, has_withdrawn: false }
    }

    pub(super) fn departure(&self) -> Departure {
        self.departure
    }

    /// Since when.
    pub(super) fn since(&self) -> Timestamp {
        self.departure.since
    }

    /// Its instances are gone by then.
    pub(super) fn until(&self, group: &GroupSpec) -> Timestamp {
        let cool_down = SignedDuration::try_from(group.cool_down).unwrap_or(SignedDuration::MAX);
        self.since().checked_add(cool_down).unwrap_or(Timestamp::MAX)
    }
}

impl Tenant {
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether nothing is to be served or made any more.
    pub(super) fn has_withdrawn(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.has_withdrawn)
    }

    /// The instances as the load balancer is to treat them.
    pub(super) fn served(&self) -> Vec<Instance> {
        let mut instances = self.instances();
        if self.is_leaving() {
            let serving = instances.iter_mut().filter(|instance| instance.state == InstanceState::InService);
            serving.for_each(|instance| instance.state = InstanceState::Draining);
        }
        instances
    }

    /// Begins to drain the tenant.
    pub(super) async fn leave(&mut self, departure: Departure) {
        if let Some(leaving) = &mut self.leaving {
            leaving.departure.is_confirmed |= departure.is_confirmed;
            return;
        }
        self.leaving = Some(Leaving::new(departure));
        // The counts of before say nothing of flows that begin just now.
        self.members.values_mut().for_each(|member| member.instance.live_flows = None);
        let message = format!(
            "{} is gone: its instances drain, at most for its cool-down, then it is removed; write the file again to keep it",
            self.file.display()
        );
        self.host.events.record(self.event(EventKind::TenantLeaving, message));
        // Before the load balancer knows: a daemon that finds them draining must know that they may come back.
        self.flush().await;
    }

    /// Ends that: what is left of it serves again.
    pub(super) fn stay(&mut self) {
        let Some(leaving) = self.leaving.take() else { return };
        if leaving.has_withdrawn {
            self.attached = None;
        }
        self.services.clear();
        let message = format!("it stays: {} instances take new flows again", self.members.len());
        self.host.events.record(self.event(EventKind::TenantStays, message));
    }

    /// Takes its public addresses off the uplink once no instance has been there for a while. Before the services go:
    /// without them the kernel itself would answer for the addresses.
    pub(super) async fn withdraw(&mut self) {
        let is_empty = self.members.is_empty();
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| is_empty && !leaving.has_withdrawn) else {
            return;
        };
        let now = Instant::now();
        if now.duration_since(*leaving.empty_since.get_or_insert(now)) < LINGER {
            return;
        }
        self.vips.restart(|_| false);
        let withdrawn = network::withdraw(&self.host, &self.spec).await;
        if self.outcome(Work::Addresses, withdrawn).is_some()
            && let Some(leaving) = &mut self.leaving
        {
            leaving.has_withdrawn = true;
        }
    }

    /// Removes what is left when the instances are gone. Whether nothing is.
    pub(super) async fn vanish(&mut self) -> bool {
        // A write that is on its way would bring the state file back.
        if !self.has_withdrawn() || !self.services.is_empty() || self.saving.is_running() {
            return false;
        }
        let removed = network::remove(&self.host, &self.spec).await;
        if self.outcome(Work::Network, removed).is_none() {
            return false;
        }
        let forgotten = self.host.state.forget(&self.spec.name).map_err(anyhow::Error::from);
        if self.outcome(Work::State, forgotten).is_none() {
            return false;
        }
        self.host.clouds.forget(&self.spec.name);
        self.host.events.record(self.event(EventKind::TenantRemoved, "nothing is left of it"));
        true
    }
}
