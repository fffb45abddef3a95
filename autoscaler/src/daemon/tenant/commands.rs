//! What people change: the desired count, an instance, the tenant's file.

use jiff::Timestamp;
use serde_json::json;
use sluice_logic::decision;
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_logic::samples::longest_window;
use sluice_logic::spec::TenantSpec;
use sluice_northbound::api::{DrainAnswer, EventKind, ScaleAnswer};

use super::Tenant;
use super::problems::Work;
use crate::daemon::change;
use crate::daemon::network;
use crate::daemon::refusal::Refusal;
use crate::daemon::services::keys;

impl Tenant {
    /// Sets the desired count.
    pub(super) fn scale(&mut self, count: u32) -> Result<ScaleAnswer, Refusal> {
        self.must_stay()?;
        let instances = self.instances();
        let decision = decision::manual(&self.as_group(&instances), count, Timestamp::now())
            .map_err(|error| Refusal::Wrong(error.to_string()))?;
        let answer = ScaleAnswer { tenant: self.spec.name.clone(), from: decision.from, to: decision.to };
        self.host.events.record(self.event(EventKind::ManualScale, &decision.reason).with(json!(decision)));
        self.accept(decision);
        Ok(answer)
    }

    /// Drains an instance: with `decrement` the group shrinks by it, without another takes its place.
    pub(super) fn drain_by_hand(&mut self, id: &InstanceId, decrement: bool) -> Result<DrainAnswer, Refusal> {
        self.must_stay()?;
        let state = self.members.get(id).map(|member| member.instance.state);
        match state {
            None => return Err(Refusal::Unknown(format!("no instance {id}: see `sluice status`"))),
            Some(InstanceState::InService) => {}
            Some(state) => {
                return Err(Refusal::NotNow(format!(
                    "{id} is {state}: only an instance in service can drain"
                )));
            }
        }
        let in_service = self.members.values().filter(|member| member.instance.is_serving()).count();
        if in_service == 1 {
            return Err(Refusal::NotNow(format!(
                "{id} is the only instance in service: nobody would take new flows; scale out first"
            )));
        }
        if decrement {
            self.scale(self.desired().saturating_sub(1))?;
        }
        self.drain(id, "by hand");
        Ok(DrainAnswer { tenant: self.spec.name.clone(), instance: id.clone(), desired: self.desired() })
    }

    /// Puts a new form of the tenant's file in force.
    pub(super) fn change(&mut self, spec: TenantSpec) {
        if self.is_leaving() || spec == self.spec {
            return;
        }
        let message = change::describe(&self.spec, &spec);
        self.host.events.record(self.event(EventKind::TenantChanged, message));
        self.keys = keys(&spec);
        // What the load balancer took from others of its services for this edit is not known here: the next round asks.
        self.services.clear();
        self.samples.set_horizon(longest_window(&spec.policies));
        let before = std::mem::replace(&mut self.spec, spec);
        self.declare_metrics(&before.metrics);
        self.recall();
        if before.template != self.spec.template {
            // What has failed was made by the other one.
            self.launches.succeeded();
            self.failed_launch = None;
            self.host.clouds.forget(&self.spec.name);
        }
        // Its networks and public addresses may have changed: the next round compares them.
        self.attached = None;
        self.old_networks = super::OldNetworks::Perhaps;
        let vips = network::vips(&self.spec);
        self.vips.restart(|vip| vips.contains(&vip));
        self.decide(Timestamp::now());
    }

    /// An answer that a person can rely on: what was asked for is on disk too.
    pub(super) fn saved_or<T>(&self, answer: Result<T, Refusal>) -> Result<T, Refusal> {
        match self.problems.get(&Work::State) {
            Some(reason) => answer.and_then(|_| {
                Err(Refusal::NotNow(format!(
                    "it is being done, but could not be saved: {reason}; it is saved once that is mended, and a daemon that \
                     starts before then does not know of it"
                )))
            }),
            None => answer,
        }
    }

    pub(super) fn must_stay(&self) -> Result<(), Refusal> {
        if self.is_leaving() {
            return Err(Refusal::NotNow(format!("{} is being removed: its file is gone", self.spec.name)));
        }
        Ok(())
    }
}
