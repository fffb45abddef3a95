//! The tenant's side of the load balancer, and its network.

use std::time::Duration;

use jiff::Timestamp;
use lb_userspace::service::Service;
use serde_json::json;
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::spec::Outbound;
use sluice_northbound::api::EventKind;
use tokio::time::Instant;

use super::problems::Work;
use super::{OldNetworks, Tenant};
use crate::daemon::network;
use crate::daemon::roster::Member;
use crate::daemon::services::{closes, services, steps};

/// What could not be ended outside is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);

impl Tenant {
    /// Makes its networks, or finds them as they should be, with the answers' program on their interfaces. Without the
    /// first one nothing can be done; without another no instance is made.
    pub(super) async fn attach(&mut self) {
        if self.has_withdrawn() {
            return;
        }
        let mut is_new = false;
        if self.attached.as_ref().is_none_or(|attached| attached.outbound != self.spec.outbound) {
            let admitted = network::admit_outbound(&self.host, &self.spec).await;
            // Clients are served also where instances can't reach the outside.
            let outbound = self.outcome(Work::Outbound, admitted).unwrap_or_default();
            let made = network::ensure_first(&self.host, &self.spec, outbound).await;
            self.attached = self.outcome(Work::Network, made);
            is_new = true;
        }
        if let Some(attached) = &mut self.attached {
            let made = network::ensure_others(&self.host, &self.spec, attached).await;
            self.outcome(Work::OtherNetworks, made);
        }
        self.dismiss_outbound().await;
        if is_new && self.attached.is_some() {
            self.plug().await;
        }
    }

    /// Ends what instances could reach outside before, where their tenant wants that no more: its program leaves nothing to the
    /// kernel by now. Clients are served meanwhile.
    async fn dismiss_outbound(&mut self) {
        let is_due = |at: Instant| at <= Instant::now();
        let due = self.attached.as_ref().and_then(|attached| attached.dismiss_at).is_some_and(is_due);
        if !due || self.spec.outbound != Outbound::None {
            return;
        }
        let dismissed = network::dismiss_outbound(&self.host, &self.spec).await;
        let again = dismissed.is_err().then(|| Instant::now() + RETRY);
        self.outcome(Work::Outbound, dismissed);
        if let Some(attached) = &mut self.attached {
            attached.dismiss_at = again;
        }
    }

    /// Makes the ports of instances what they should be: a bridge that was made anew has none.
    async fn plug(&mut self) {
        let has_ports = |member: &&Member| {
            matches!(member.instance.state, InstanceState::InService | InstanceState::Draining)
        };
        let members = self.members.values().filter(has_ports);
        let ports: Vec<_> = members.flat_map(|member| self.host.networks.ports(&member.spec)).collect();
        let plugged = self.host.networks.plug(&ports).await;
        self.outcome(Work::Ports, plugged.map_err(Into::into));
    }

    /// Removes networks that its file has no more, once no instance is on them.
    pub(super) async fn retire_networks(&mut self) {
        if self.old_networks == OldNetworks::None || self.is_leaving() {
            return;
        }
        let nics = self.members.values().flat_map(|member| member.spec.nics());
        let in_use = nics.map(|nic| nic.bridge.as_str()).collect();
        let retired = network::retire(&self.host, &self.spec, &in_use).await;
        if self.outcome(Work::OldNetworks, retired) == Some(true) {
            self.old_networks = OldNetworks::None;
        }
    }

    /// Makes the load balancer's services what the instances are now: for packets, one step a service.
    pub(super) async fn balance(&mut self) {
        if !self.has_withdrawn() {
            self.judge_vips().await;
        }
        let wanted = match &self.attached {
            _ if self.has_withdrawn() => Vec::new(),
            Some(attached) => {
                let closing = closes(self.is_leaving(), self.desired());
                let now = Timestamp::now();
                self.allowed(services(&self.spec, &self.served(), attached.egress, closing, now))
            }
            // Without its network, what the load balancer has stays as it is.
            None => return,
        };
        let draining_serve = wanted.iter().any(Service::draining_serve);
        if draining_serve {
            self.let_draining_serve();
        }
        if !steps(&wanted, &self.services).is_empty() {
            let settled = self.host.balancer.settle(self.spec.name.clone(), wanted).await;
            let done = settled.map_err(anyhow::Error::from).and_then(|settled| {
                self.services = settled.services;
                settled.error.map_or(Ok(()), |error| Err(error.into()))
            });
            if self.outcome(Work::Services, done).is_none() {
                return;
            }
        }
        if !draining_serve {
            self.stop_draining_from_serving();
        }
        self.taken_in();
        self.announce();
    }

    /// No instance is in service: new flows go to those that drain.
    fn let_draining_serve(&mut self) {
        if std::mem::replace(&mut self.draining_serve, true) {
            return;
        }
        let is_draining =
            |instance: &&Instance| instance.state == InstanceState::Draining && !instance.failed;
        let ids: Vec<_> =
            self.served().iter().filter(is_draining).map(|instance| instance.id.clone()).collect();
        let names: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
        let message = format!(
            "no instance is in service: new flows go to what drains and still serves, until one is: {}",
            names.join(", ")
        );
        let event = self.event(EventKind::DrainingServes, message).with(json!({ "instances": ids }));
        self.host.events.record(event);
    }

    /// One is in service again, or none is wanted any more: the load balancer has taken that in.
    fn stop_draining_from_serving(&mut self) {
        if !std::mem::take(&mut self.draining_serve) {
            return;
        }
        let now = Instant::now();
        let stopped = self
            .members
            .values_mut()
            .filter_map(|member| member.stop_serving(now).then_some(&member.spec.id));
        let stopped: Vec<InstanceId> = stopped.cloned().collect();
        for id in stopped {
            let message = "draining: it takes no new flow any more, as it did while none was in service";
            self.host.events.record(self.event(EventKind::Draining, message).about(&id));
        }
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
}
