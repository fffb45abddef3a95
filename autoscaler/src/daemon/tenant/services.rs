//! The tenant's side of the load balancer, and its network.

use jiff::Timestamp;
use sluice_northbound::api::EventKind;
use tokio::time::Instant;

use super::Tenant;
use super::problems::Work;
use crate::daemon::network;
use crate::daemon::services::{difference, services};

impl Tenant {
    /// Makes its network, or finds it as it should be, and the answers' program on its interface.
    pub(super) async fn attach(&mut self) {
        if self.attached.is_some() || self.leaving {
            return;
        }
        let made = network::ensure(&self.host, &self.spec).await;
        self.attached = self.outcome(Work::Network, made);
    }

    /// Makes the load balancer's services what the instances are now: for packets, one step a service.
    pub(super) async fn balance(&mut self) {
        let wanted = match &self.attached {
            _ if self.leaving => Vec::new(),
            Some(attached) => services(&self.spec, &self.instances(), attached.egress, Timestamp::now()),
            // Without its network, what the load balancer has stays as it is.
            None => return,
        };
        let difference = difference(&wanted, &self.services);
        if !difference.apply.is_empty() || !difference.remove.is_empty() {
            let result = self
                .host
                .balancer
                .call(move |balancer| {
                    difference.apply.iter().try_for_each(|service| balancer.apply(service))?;
                    difference.remove.iter().try_for_each(|key| balancer.remove(key))
                })
                .await;
            let done = result.map_err(anyhow::Error::from).and_then(|done| Ok(done?));
            if self.outcome(Work::Services, done).is_none() {
                return;
            }
            self.services = wanted;
        }
        self.taken_in();
        self.announce().await;
    }

    /// The load balancer has taken in what the instances are now. Drains begin here and not with their decision: no
    /// client's flow that begins after the event meets the instance.
    fn taken_in(&mut self) {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let mut begun = Vec::new();
        for member in self.members.values_mut() {
            member.tell(now);
            if let Some(reason) = member.drain_begun(clock) {
                begun.push((member.spec.id.clone(), reason));
            }
        }
        for (id, reason) in begun {
            self.host
                .events
                .record(self.event(EventKind::Draining, format!("draining: {reason}")).about(&id));
        }
    }

    /// Makes its public addresses known, once its services are there.
    async fn announce(&mut self) {
        if self.announced || self.leaving {
            return;
        }
        let known = network::announce(&self.host, &self.spec).await;
        self.announced = self.outcome(Work::Addresses, known).is_some();
    }
}
