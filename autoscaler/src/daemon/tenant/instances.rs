//! The life of the instances: what the plan says, and what happens by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use lb_userspace::net::MacAddr;
use sluice_logic::decision::{Step, plan};
use sluice_logic::group::{Event, InstanceId, InstanceState};
use sluice_northbound::api::EventKind;
use sluice_southbound::addresses::lowest_free;
use sluice_southbound::provider::{InstanceSpec, NicSpec, Observed, Presence};
use tokio::time::Instant;

use super::problems::Work;
use super::{Tenant, Tick};
use crate::daemon::roster::{Member, adopt, free_id};

/// An instance that was gone so long ago is in no look at the host any more.
const REMEMBERED: Duration = Duration::from_mins(1);

impl Tenant {
    /// Lets the plan change what the instances are to be. The work that follows from it is begun by
    /// [`Tenant::work`].
    pub(super) fn plan(&mut self) {
        let now = Timestamp::now();
        if self.leaving {
            for id in self.staying() {
                self.terminate(&id, "its tenant is being removed");
            }
            return;
        }
        for step in plan(&self.spec.group, self.desired(), &self.instances(), now) {
            match step {
                Step::Launch { reason } => self.launch(&reason),
                Step::Drain { id, reason } => self.drain(&id, &reason),
                Step::Terminate { id, reason } => self.terminate(&id, &reason),
            }
        }
    }

    fn staying(&self) -> Vec<InstanceId> {
        let staying = |member: &&Member| member.instance.state != InstanceState::Terminating;
        self.members.values().filter(staying).map(|member| member.spec.id.clone()).collect()
    }

    fn launch(&mut self, reason: &str) {
        let now = Instant::now();
        if !self.launches.allows(now) {
            return;
        }
        let spec = self.new_spec();
        match self.outcome(Work::Launch, spec) {
            Some(spec) => {
                let message = format!("launching at {}: {reason}", spec.nic.address);
                self.host.events.record(self.event(EventKind::Launch, message).about(&spec.id));
                self.members.insert(spec.id.clone(), Member::pending(spec));
            }
            None => {
                self.launches.failed(now, fastrand::f64());
            }
        }
    }

    fn new_spec(&self) -> Result<InstanceSpec> {
        let attached = self.attached.as_ref().context("its network is not ready")?;
        let network = self.spec.networks.first().context("it has no network")?;
        let taken: BTreeSet<_> = self.members.values().map(|member| member.instance.address).collect();
        let range = network.dhcp_start..=network.dhcp_end;
        let address = lowest_free(&range, network.gateway, network.subnet, &taken)
            .with_context(|| format!("no address is free from {} to {}", range.start(), range.end()))?;
        Ok(InstanceSpec {
            id: free_id(&self.spec.name, &self.members, || fastrand::u32(..)),
            tenant: self.spec.name.clone(),
            created: Timestamp::now(),
            template: self.spec.template.clone(),
            nic: NicSpec {
                bridge: attached.bridge.clone(),
                address,
                prefix: network.subnet.prefix_len(),
                gateway: network.gateway,
                mac: MacAddr::of_instance(address),
            },
        })
    }

    /// No new flow from the next round on.
    pub(super) fn drain(&mut self, id: &InstanceId, reason: &str) {
        if self.advance(id, Event::Drain) {
            self.host.events.record(self.event(EventKind::Draining, format!("draining: {reason}")).about(id));
        }
    }

    /// Nothing any more from the next round on; then it is removed.
    pub(super) fn terminate(&mut self, id: &InstanceId, reason: &str) {
        if self.advance(id, Event::Terminate) {
            if let Some(job) = self.members.get(id).and_then(|member| member.job.as_ref()) {
                job.cancel();
            }
            let message = format!("terminating: {reason}");
            self.host.events.record(self.event(EventKind::Terminating, message).about(id));
        }
    }

    /// It has failed: nothing any more, and another one in its place.
    pub(super) fn fail(&mut self, id: &InstanceId, reason: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.instance.failed = true;
        }
        self.host.events.record(self.event(EventKind::InstanceFailed, reason).about(id));
        self.terminate(id, "it has failed");
    }

    /// Moves an instance to its next state; `false` where there is no such way.
    pub(super) fn advance(&mut self, id: &InstanceId, event: Event) -> bool {
        let now = Timestamp::now();
        let Some(member) = self.members.get_mut(id) else { return false };
        match member.instance.apply(event, now) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%id, %error, "left as it is");
                false
            }
        }
    }

    /// Nothing is left of it.
    pub(super) fn forget(&mut self, id: &InstanceId) {
        let now = Timestamp::now();
        self.members.remove(id);
        self.samples.forget(id);
        self.gone.insert(id.clone(), now);
        self.gone.retain(|_, gone| now.duration_since(*gone).unsigned_abs() < REMEMBERED);
        self.host.events.record(self.event(EventKind::Terminated, "gone").about(id));
    }

    /// Compares the instances with what the provider has. What a look can't know yet, because it began before
    /// the instance's last change, it says nothing about.
    pub(super) fn compare(&mut self, tick: &Tick, observed: &[Observed]) {
        let mine = || {
            observed.iter().filter(|found| found.spec.as_ref().is_some_and(|s| s.tenant == self.spec.name))
        };
        let unknown: Vec<Observed> = mine()
            .filter(|found| !self.members.contains_key(&found.id))
            .filter(|found| self.gone.get(&found.id).is_none_or(|gone| *gone < tick.at))
            .cloned()
            .collect();
        let ended: Vec<(InstanceId, &str)> = self
            .members
            .values()
            .filter_map(|member| {
                let found = observed.iter().find(|found| found.id == member.spec.id);
                Some((member.spec.id.clone(), why_ended(member, found, tick.at)?))
            })
            .collect();
        for found in unknown {
            self.take_in_orphan(&found);
        }
        for (id, reason) in ended {
            self.fail(&id, reason);
        }
    }

    fn take_in_orphan(&mut self, found: &Observed) {
        let Some(mut member) = adopt(found, &[], &self.group, Timestamp::now()) else { return };
        member.instance.state = InstanceState::Terminating;
        let message = "found on the host and in no group: it is removed";
        self.host.events.record(self.event(EventKind::OrphanRemoved, message).about(&found.id));
        self.members.insert(found.id.clone(), member);
    }

    pub(super) fn report_adopted(&self) {
        for member in self.members.values() {
            let message = format!("taken over at {}, {}", member.instance.address, member.instance.state);
            self.host.events.record(self.event(EventKind::Adopted, message).about(&member.spec.id));
        }
    }
}

/// Why an instance that should run does not; `None` where it runs, or where that can't be told.
fn why_ended(member: &Member, found: Option<&Observed>, looked: Timestamp) -> Option<&'static str> {
    match (member.instance.state, found.map(|found| found.presence)) {
        (InstanceState::Terminating | InstanceState::Terminated, _) => None,
        (_, Some(Presence::Exited)) => Some("its process has ended"),
        (InstanceState::Pending, _) | (_, Some(Presence::Running)) => None,
        (_, Some(Presence::Created | Presence::Broken)) => Some("parts of it are gone"),
        (_, None) if member.instance.since < looked => Some("nothing of it is there any more"),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{at, observed};

    fn member(state: InstanceState) -> Member {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        member.instance.state = state;
        member.instance.since = at(10);
        member
    }

    #[test]
    fn an_ended_process_is_a_failure_in_every_state_but_the_last() {
        let exited = observed(2, Presence::Exited);
        for state in [InstanceState::Pending, InstanceState::InService, InstanceState::Draining] {
            assert!(why_ended(&member(state), Some(&exited), at(0)).is_some(), "{state}");
        }
        assert_eq!(why_ended(&member(InstanceState::Terminating), Some(&exited), at(20)), None);
    }

    #[test]
    fn absence_counts_only_when_the_look_began_after_the_last_change() {
        let serving = member(InstanceState::InService);
        assert!(why_ended(&serving, None, at(11)).is_some());
        assert_eq!(why_ended(&serving, None, at(10)), None);
        assert_eq!(why_ended(&member(InstanceState::Pending), None, at(99)), None, "it is being made");
    }

    #[test]
    fn what_runs_is_fine() {
        let running = observed(2, Presence::Running);
        assert_eq!(why_ended(&member(InstanceState::InService), Some(&running), at(20)), None);
        let created = observed(2, Presence::Created);
        assert_eq!(why_ended(&member(InstanceState::Pending), Some(&created), at(20)), None);
    }
}
