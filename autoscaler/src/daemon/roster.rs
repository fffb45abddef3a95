//! A tenant's instances as the daemon knows them, and how those that were there before it are taken over: pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use lb_userspace::service::{BackendState, Service};
use sluice_logic::group::{GroupState, Instance, InstanceId, InstanceState};
use sluice_logic::spec::TenantName;
use sluice_southbound::provider::{InstanceSpec, Observed, Presence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rates::{Rates, Reading};

/// One instance.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// What it is made of.
    pub(crate) spec: InstanceSpec,
    /// Where it is in its life.
    pub(crate) instance: Instance,
    /// What was read last.
    pub(crate) reading: Reading,
    /// What came of it.
    pub(crate) rates: Rates,
    /// The job that makes or removes it, while one does; cancelling it ends the job.
    pub(crate) job: Option<CancellationToken>,
    /// A removal that failed is not tried again before then.
    pub(crate) not_before: Option<Instant>,
    /// The state that the load balancer has been told of, and when it had taken it in.
    pub(crate) told: Option<(InstanceState, Timestamp)>,
}

impl Member {
    /// An instance that is to be made.
    pub(crate) fn pending(spec: InstanceSpec) -> Self {
        let created = spec.created;
        Self::found(spec, InstanceState::Pending, created)
    }

    fn found(spec: InstanceSpec, state: InstanceState, since: Timestamp) -> Self {
        let instance = Instance {
            id: spec.id.clone(),
            address: spec.nic.address,
            state,
            created: spec.created,
            since,
            live_flows: None,
            failed: false,
        };
        Self {
            spec,
            instance,
            reading: Reading::default(),
            rates: Rates::default(),
            job: None,
            not_before: None,
            told: None,
        }
    }
}

impl Member {
    /// The load balancer has taken in what the instance is now.
    pub(crate) fn tell(&mut self, now: Timestamp) {
        if self.told.is_none_or(|(state, _)| state != self.instance.state) {
            self.told = Some((self.instance.state, now));
        }
    }

    /// Since when the load balancer has treated the instance as what it is now.
    pub(crate) fn settled(&self) -> Option<Timestamp> {
        self.told.filter(|(state, _)| *state == self.instance.state).map(|(_, since)| since)
    }
}

/// Takes over what is there of a tenant's instances: those in service and draining go on without a change,
/// whatever became of the state file. `None` for remains without a label.
///
/// - What was started and has ended, and what was never started, is removed; the plan replaces it.
/// - Draining is what the state file or the load balancer calls so: a crash between the two leaves only one.
/// - What runs without the load balancer's knowledge is started again, which changes nothing where it runs
///   already, and is in service when it is ready.
pub(crate) fn adopt(
    observed: &Observed,
    services: &[Service],
    saved: &GroupState,
    now: Timestamp,
) -> Option<Member> {
    let spec = observed.spec.clone()?;
    let known = saved.last_known(&spec.id);
    let known_since = |state| known.filter(|&(was, _)| was == state).map(|(_, since)| since);
    let drains_since = known_since(InstanceState::Draining);
    let (state, since) = match (observed.presence, carries(services, spec.nic.address)) {
        (Presence::Created | Presence::Exited | Presence::Broken, _) => (InstanceState::Terminating, now),
        (Presence::Running, Some(BackendState::Draining)) => {
            (InstanceState::Draining, drains_since.unwrap_or(now))
        }
        (Presence::Running, Some(BackendState::Active)) => match drains_since {
            Some(since) => (InstanceState::Draining, since),
            None => (InstanceState::InService, known_since(InstanceState::InService).unwrap_or(now)),
        },
        (Presence::Running, Some(BackendState::Down) | None) => match drains_since {
            Some(_) => (InstanceState::Terminating, now),
            None => (InstanceState::Pending, now),
        },
    };
    let mut member = Member::found(spec, state, since);
    member.instance.failed = observed.presence == Presence::Exited;
    member.instance.rewind(now);
    Some(member)
}

/// What the load balancer gives to an address, over all services: the most that any of them does.
fn carries(services: &[Service], address: Ipv4Addr) -> Option<BackendState> {
    let address = IpAddr::V4(address);
    let backends = services.iter().flat_map(|service| &service.backends);
    backends.filter(|backend| backend.address == address).map(|backend| backend.state).min()
}

/// An id that no instance has.
pub(crate) fn free_id(
    tenant: &TenantName,
    taken: &BTreeMap<InstanceId, Member>,
    mut random: impl FnMut() -> u32,
) -> InstanceId {
    loop {
        let id = InstanceId::new(tenant, random());
        if !taken.contains_key(&id) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::services::{Egress, services};
    use crate::daemon::testing::{at, instance, name, observed, tenant};
    use lb_userspace::net::MacAddr;

    const EGRESS: Egress = Egress { interface: 7, mac: MacAddr([2, 0, 0, 0, 0, 1]) };

    fn pinned(instances: &[Instance]) -> Vec<Service> {
        services(&tenant("demo"), instances, EGRESS)
    }

    fn adopted(presence: Presence, pinned: &[Service], saved: &GroupState) -> (InstanceState, Timestamp) {
        let member = adopt(&observed(2, presence), pinned, saved, at(100)).unwrap();
        (member.instance.state, member.instance.since)
    }

    fn saved(state: InstanceState) -> GroupState {
        let mut instance = instance(2, state);
        instance.since = at(50);
        let mut saved = GroupState::default();
        saved.remember(&[instance]);
        saved
    }

    #[test]
    fn what_is_in_service_stays_so_since_when_it_was() {
        let pinned = pinned(&[instance(2, InstanceState::InService)]);
        let known = saved(InstanceState::InService);
        assert_eq!(adopted(Presence::Running, &pinned, &known), (InstanceState::InService, at(50)));
        let lost = GroupState::default();
        assert_eq!(adopted(Presence::Running, &pinned, &lost), (InstanceState::InService, at(100)));
    }

    #[test]
    fn draining_is_what_either_side_calls_draining() {
        let active = pinned(&[instance(2, InstanceState::InService)]);
        let draining = pinned(&[instance(2, InstanceState::Draining)]);
        let known = saved(InstanceState::Draining);
        assert_eq!(adopted(Presence::Running, &draining, &known), (InstanceState::Draining, at(50)));
        assert_eq!(adopted(Presence::Running, &active, &known), (InstanceState::Draining, at(50)));
        let lost = GroupState::default();
        assert_eq!(adopted(Presence::Running, &draining, &lost), (InstanceState::Draining, at(100)));
        assert_eq!(adopted(Presence::Running, &[], &known), (InstanceState::Terminating, at(100)));
    }

    #[test]
    fn what_runs_unknown_to_the_load_balancer_has_to_become_ready_first() {
        for known in [GroupState::default(), saved(InstanceState::InService)] {
            assert_eq!(adopted(Presence::Running, &[], &known).0, InstanceState::Pending);
        }
    }

    #[test]
    fn what_does_not_run_is_removed() {
        let pinned = pinned(&[instance(2, InstanceState::InService)]);
        for presence in [Presence::Created, Presence::Exited] {
            let known = saved(InstanceState::InService);
            assert_eq!(adopted(presence, &pinned, &known).0, InstanceState::Terminating);
        }
        assert!(adopt(&observed(2, Presence::Broken), &pinned, &GroupState::default(), at(0)).is_none());
    }

    #[test]
    fn an_id_that_is_taken_is_not_given_again() {
        let member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        let taken = BTreeMap::from([(member.spec.id.clone(), member)]);
        let mut numbers = [2, 9].into_iter();
        assert_eq!(free_id(&name("demo"), &taken, || numbers.next().unwrap()).as_str(), "demo-00000009");
    }
}
