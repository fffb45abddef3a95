//! The tenant's side of the load balancer, and its network.

use sluice_logic::group::InstanceState;

use super::Tenant;
use crate::daemon::network;
use crate::daemon::services::{difference, services};

impl Tenant {
    /// Makes its network, or finds it as it should be, and the answers' program on its interface.
    pub(super) async fn attach(&mut self) {
        if self.attached.is_some() || self.leaving {
            return;
        }
        match network::ensure(&self.host, &self.spec).await {
            Ok(attached) => {
                self.attached = Some(attached);
                self.problem = None;
            }
            Err(error) => self.step_failed("making its network", &format!("{error:#}")),
        }
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
            match result {
                Ok(Ok(())) => self.services = wanted,
                Ok(Err(error)) => return self.step_failed("setting its services", &error.to_string()),
                Err(error) => return self.step_failed("setting its services", &error.to_string()),
            }
        }
        self.announce().await;
        for member in self.members.values_mut() {
            member.released = member.instance.state == InstanceState::Terminating;
        }
    }

    /// Makes its public addresses known, once its services are there.
    async fn announce(&mut self) {
        if self.announced || self.leaving {
            return;
        }
        match network::announce(&self.host, &self.spec).await {
            Ok(()) => self.announced = true,
            Err(error) => self.step_failed("making its public addresses known", &format!("{error:#}")),
        }
    }
}
