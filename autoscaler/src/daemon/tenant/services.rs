//! The tenant's side of the load balancer, and its network.

use jiff::Timestamp;

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
            Some(attached) => services(&self.spec, &self.instances(), attached.egress),
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
        self.announce().await;
        let now = Timestamp::now();
        for member in self.members.values_mut() {
            member.tell(now);
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
