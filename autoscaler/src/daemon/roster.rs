//! A tenant's instances as the daemon knows them, and how those that were there before it are taken over: pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use lb_userspace::service::{BackendState, Service};
use sluice_logic::group::{Event, GroupState, Instance, InstanceId, InstanceState, WrongTransition};
use sluice_logic::spec::TenantName;
use sluice_southbound::provider::{InstanceSpec, Observed, Presence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod shutdown;

pub(crate) use self::shutdown::Due;
use super::clouds::Place;
use super::rates::{Rates, Reading};

/// One instance.
#[derive(Debug)]
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
    /// A step of its end that failed is not tried again before then.
    pub(crate) not_before: Option<Instant>,
    /// Since when its cloud can't be asked to stop it, at each try.
    unasked: Option<Instant>,
    /// A job waits for its end.
    pub(crate) watched: bool,
    /// How it ended has been asked for.
    pub(crate) ending_asked: bool,
    /// It has been counted as one that works.
    pub(crate) known_good: bool,
    /// Since when it has been seen paused, at each poll.
    pub(crate) paused: Option<Instant>,
    /// Its place in its cloud; `None` where that is not in the host file any more.
    _place: Option<Place>,
    /// What the load balancer has been told of, and when it had taken it in.
    told: Option<(Part, Instant)>,
    /// A drain of which the load balancer has not been told.
    decided: Option<DecidedDrain>,
}

/// What an instance is to the load balancer: its state, and whether it is [stopping](Instance::stopping).
type Part = (InstanceState, bool);

/// A drain between the decision and the load balancer's new table: until then the instance takes new flows.
#[derive(Debug)]
struct DecidedDrain {
    reason: String,
    serving_since: Timestamp,
}

impl Member {
    /// An instance that is to be made.
    pub(crate) fn pending(spec: InstanceSpec) -> Self {
        let created = spec.created;
        Self::found(spec, InstanceState::Pending, created)
    }

    /// The same with its cloud's place in the order of preference, and its place there, which is given back when the
    /// instance is gone.
    pub(crate) fn in_cloud(mut self, rank: usize, place: Option<Place>) -> Self {
        self.instance.rank = rank;
        Self { _place: place, ..self }
    }

    fn found(spec: InstanceSpec, state: InstanceState, since: Timestamp) -> Self {
        let instance = Instance {
            id: spec.id.clone(),
            cloud: spec.cloud.clone(),
            rank: 0,
            address: spec.nic.address,
            state,
            created: spec.created,
            since,
            live_flows: None,
            failed: false,
            stopping: false,
        };
        Self {
            spec,
            instance,
            reading: Reading::default(),
            rates: Rates::default(),
            job: None,
            not_before: None,
            unasked: None,
            watched: false,
            ending_asked: false,
            known_good: false,
            paused: None,
            _place: None,
            told: None,
            decided: None,
        }
    }
}

impl Member {
    /// It is to take no new flow. It drains from when the load balancer has taken that in: see
    /// [`drain_begun`](Self::drain_begun).
    pub(crate) fn drain(&mut self, reason: &str, now: Timestamp) -> Result<(), WrongTransition> {
        let serving_since = self.instance.since;
        self.instance.apply(Event::Drain, now)?;
        self.decided = Some(DecidedDrain { reason: reason.to_owned(), serving_since });
        Ok(())
    }

    /// Begins a drain that the load balancer has taken in just now, and returns why it was decided; `None` where
    /// there is none that has not begun.
    pub(crate) fn drain_begun(&mut self, now: Timestamp) -> Option<String> {
        let decided = self.decided.take().filter(|_| self.instance.state == InstanceState::Draining)?;
        self.instance.since = now;
        Some(decided.reason)
    }

    /// What it is to clients, and since when: one whose drain the load balancer has not taken in is in service.
    pub(crate) fn in_force(&self) -> (InstanceState, Timestamp) {
        match &self.decided {
            Some(decided) if self.instance.state == InstanceState::Draining => {
                (InstanceState::InService, decided.serving_since)
            }
            _ => (self.instance.state, self.instance.since),
        }
    }

    /// The load balancer has taken in what the instance is now.
    pub(crate) fn tell(&mut self, now: Instant) {
        if self.settled().is_none() {
            self.told = Some((self.part(), now));
        }
    }

    /// The load balancer has stopped just now to give it new flows, as it did while none was in service: what was counted
    /// before says nothing of the last of those. Whether it drains, and has before.
    pub(crate) fn stop_serving(&mut self, now: Instant) -> bool {
        let drains = self.instance.state == InstanceState::Draining;
        if drains {
            self.told = Some((self.part(), now));
            self.instance.live_flows = None;
        }
        drains && self.decided.is_none()
    }

    /// Since when the load balancer has treated the instance as what it is now.
    pub(crate) fn settled(&self) -> Option<Instant> {
        self.told.filter(|(part, _)| *part == self.part()).map(|(_, since)| since)
    }

    fn part(&self) -> Part {
        (self.instance.state, self.instance.stopping)
    }
}

/// Takes over what is there of a tenant's instances: those in service and draining go on without a change,
/// whatever became of the state file. `None` for remains without a label.
///
/// - What terminates by the state file or the load balancer goes on to do so, from where it was: while the load balancer
///   has its backend, it is told to stop, again perhaps; then it is removed.
/// - What was started and runs no more, and what was never started, is removed; the plan replaces it.
/// - Draining is what the state file or the load balancer calls so: a crash between the two leaves only one. Where the
///   tenant `leaves`, the load balancer calls those in service so too, which may be back.
/// - What runs without the load balancer's knowledge is started again, which changes nothing where it runs
///   already, and is in service when it is ready.
pub(crate) fn adopt(
    observed: &Observed,
    services: &[Service],
    saved: &GroupState,
    leaves: bool,
    now: Timestamp,
) -> Option<Member> {
    let spec = observed.spec.clone()?;
    let known = saved.last_known(&spec.id);
    let known_since = |state| known.filter(|&(was, _)| was == state).map(|(_, since)| since);
    let (drains_since, ends_since) =
        (known_since(InstanceState::Draining), known_since(InstanceState::Terminating));
    let backend = carries(services, spec.nic.address);
    let is_shut_down = ends_since.is_some() || backend == Some(BackendState::Stopping);
    let (state, since) = match (observed.presence, backend) {
        _ if is_shut_down => (InstanceState::Terminating, ends_since.unwrap_or(now)),
        (Presence::Created | Presence::Halted(_) | Presence::Exited | Presence::Broken, _) => {
            (InstanceState::Terminating, now)
        }
        (Presence::Running, Some(BackendState::Draining)) => match known {
            Some((InstanceState::InService, since)) if leaves => (InstanceState::InService, since),
            _ => (InstanceState::Draining, drains_since.unwrap_or(now)),
        },
        (Presence::Running, Some(BackendState::Active)) => match drains_since {
            Some(since) => (InstanceState::Draining, since),
            None => (InstanceState::InService, known_since(InstanceState::InService).unwrap_or(now)),
        },
        (Presence::Running, Some(BackendState::Stopping | BackendState::Down) | None) => match drains_since {
            Some(_) => (InstanceState::Terminating, now),
            None => (InstanceState::Pending, now),
        },
    };
    let mut member = Member::found(spec, state, since);
    let has_ended = matches!(observed.presence, Presence::Exited | Presence::Halted(_));
    member.instance.failed = has_ended && !is_shut_down;
    member.instance.stopping = is_shut_down && backend.is_some_and(|state| state != BackendState::Down);
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
    use sluice_southbound::provider::Halt;

    const EGRESS: Egress = Egress { interface: 7, mac: MacAddr([2, 0, 0, 0, 0, 1]) };

    fn pinned(instances: &[Instance]) -> Vec<Service> {
        services(&tenant("demo"), instances, EGRESS, false, at(0))
    }

    fn adopted(presence: Presence, pinned: &[Service], saved: &GroupState) -> (InstanceState, Timestamp) {
        let member = adopt(&observed(2, presence), pinned, saved, false, at(100)).unwrap();
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
    fn what_drains_for_a_tenant_that_leaves_may_be_back() {
        let pinned = pinned(&[instance(2, InstanceState::Draining)]);
        let adopted = |saved: &GroupState, leaves| {
            let member = adopt(&observed(2, Presence::Running), &pinned, saved, leaves, at(100)).unwrap();
            (member.instance.state, member.instance.since)
        };
        let serving = saved(InstanceState::InService);
        assert_eq!(adopted(&serving, true), (InstanceState::InService, at(50)));
        assert_eq!(adopted(&serving, false), (InstanceState::Draining, at(100)));
        assert_eq!(adopted(&saved(InstanceState::Draining), true), (InstanceState::Draining, at(50)));
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
        for presence in [Presence::Created, Presence::Halted(Halt::Paused), Presence::Exited] {
            let known = saved(InstanceState::InService);
            assert_eq!(adopted(presence, &pinned, &known).0, InstanceState::Terminating);
        }
        assert!(
            adopt(&observed(2, Presence::Broken), &pinned, &GroupState::default(), false, at(0)).is_none()
        );
    }

    #[test]
    fn an_instance_is_settled_when_the_load_balancer_knows_its_last_state() {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        let (first, later) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        assert_eq!(member.settled(), None);
        member.tell(first);
        member.tell(later);
        assert_eq!(member.settled(), Some(first), "it was told before");
        member.instance.apply(Event::Ready, at(9)).unwrap();
        assert_eq!(member.settled(), None);
        member.tell(later);
        assert_eq!(member.settled(), Some(later));
    }

    #[test]
    fn a_drain_begins_when_the_load_balancer_has_taken_it_in() {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        member.instance.apply(Event::Ready, at(10)).unwrap();
        member.drain("too many", at(20)).unwrap();
        assert_eq!(member.in_force(), (InstanceState::InService, at(10)));
        assert_eq!(member.drain_begun(at(21)).as_deref(), Some("too many"));
        assert_eq!(member.in_force(), (InstanceState::Draining, at(21)));
        assert_eq!(member.drain_begun(at(22)), None, "it has begun already");
        assert_eq!(member.instance.since, at(21));
    }

    #[test]
    fn one_that_served_while_it_drained_is_settled_when_it_stops() {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        let (first, later) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(9));
        member.instance.apply(Event::Ready, at(10)).unwrap();
        member.tell(first);
        assert!(!member.stop_serving(later), "it does not drain");
        assert_eq!(member.settled(), Some(first));
        member.drain("too many", at(20)).unwrap();
        assert!(!member.stop_serving(first), "its drain has not begun");
        member.tell(first);
        member.drain_begun(at(20)).unwrap();
        member.instance.live_flows = Some(0);
        assert!(member.stop_serving(later));
        assert_eq!((member.settled(), member.instance.live_flows), (Some(later), None));
        assert_eq!(member.instance.since, at(20), "its cool-down goes on");
    }

    #[test]
    fn a_drain_that_a_failure_overtakes_never_begins() {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        assert!(member.drain("too many", at(5)).is_err());
        member.instance.apply(Event::Ready, at(10)).unwrap();
        member.drain("too many", at(20)).unwrap();
        member.instance.apply(Event::Terminate, at(21)).unwrap();
        assert_eq!(member.in_force(), (InstanceState::Terminating, at(21)));
        assert_eq!(member.drain_begun(at(22)), None);
        assert_eq!(member.instance.since, at(21));
    }

    #[test]
    fn an_id_that_is_taken_is_not_given_again() {
        let member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        let taken = BTreeMap::from([(member.spec.id.clone(), member)]);
        let mut numbers = [2, 9].into_iter();
        assert_eq!(free_id(&name("demo"), &taken, || numbers.next().unwrap()).as_str(), "demo-00000009");
    }
}
