//! The life of the instances: what the plan says, and what happens by itself.

use std::mem;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use lb_userspace::net::MacAddr;
use serde_json::Value;
use sluice_logic::decision::{Step, plan, plan_leaving};
use sluice_logic::group::{Event, InstanceId, InstanceState};
use sluice_logic::placement::NoPlace;
use sluice_logic::spec::{CloudName, NetworkSpec};
use sluice_northbound::api::{EventKind, FailedLaunch};
use sluice_southbound::addresses::lowest_free;
use sluice_southbound::provider::{Halt, InstanceSpec, NicSpec, Observed, Presence};
use tokio::time::Instant;

use super::problems::Work;
use super::{Poll, Tenant, settled_in};
use crate::daemon::clouds::{Observation, Snapshot};
use crate::daemon::roster::{Member, adopt, free_id};

/// An instance that was gone so long ago is in no poll of the host any more.
const REMEMBERED: Duration = Duration::from_mins(1);

/// Why an instance is replaced that has ended; how it did is asked for.
const ENDED: &str = "its process has ended";

/// An instance that is paused for so long is replaced. `docker commit`, and whoever copies a disk, pauses it for less.
const PAUSED_FOR: Duration = Duration::from_secs(10);

/// An instance that has been in service for so long works.
const WORKS_AFTER: SignedDuration = SignedDuration::from_secs(10);

impl Tenant {
    /// Lets the plan change what the instances are to be. The work that follows from it is begun by
    /// [`Tenant::work`].
    pub(super) fn plan(&mut self) {
        let now = Timestamp::now();
        let mut instances = self.instances();
        if self.draining_serve {
            // Flows may begin there until the load balancer has taken in that one is in service.
            for instance in &mut instances {
                instance.live_flows = instance.live_flows.filter(|&flows| flows > 0);
            }
        }
        let steps = match &self.leaving {
            Some(leaving) => plan_leaving(&self.spec.group, leaving.since(), &instances, now),
            None => plan(&self.spec.group, self.desired(), &instances, now),
        };
        for step in steps {
            match step {
                Step::Launch { reason } => self.launch(&reason),
                Step::Drain { id, reason } => self.drain(&id, &reason),
                Step::Terminate { id, reason } => self.terminate(&id, &reason),
            }
        }
    }

    fn launch(&mut self, reason: &str) {
        let now = Instant::now();
        if !self.launches.allows(now) {
            return;
        }
        let made = self.next_member(now);
        // The clouds have their own time to wait; the next round asks them again.
        let has_no_place = made.as_ref().is_err_and(anyhow::Error::is::<NoPlace>);
        match self.outcome(Work::Launch, made) {
            Some(member) => {
                let spec = &member.spec;
                let message = format!("launching at {} on `{}`: {reason}", spec.nic.address, spec.cloud);
                self.host.events.record(self.event(EventKind::Launch, message).about(&spec.id));
                self.host.logs.set_instance(spec);
                self.members.insert(member.spec.id.clone(), member);
            }
            None if has_no_place => {}
            None => {
                self.launches.failed(now, fastrand::f64());
            }
        }
    }

    fn next_member(&self, now: Instant) -> Result<Member> {
        let clouds = &self.host.clouds;
        let (cloud, place) = clouds.place(&self.spec.name, &self.spec.template, now)?;
        let rank = clouds.rank(&cloud);
        Ok(Member::pending(self.new_spec(cloud)?).in_cloud(rank, Some(place)))
    }

    fn new_spec(&self, cloud: CloudName) -> Result<InstanceSpec> {
        let mut nics = self.nics()?.into_iter();
        let nic = nics.next().context("it has no network")?;
        let id = free_id(&self.spec.name, &self.members, || fastrand::u32(..));
        let management = match &self.host.management {
            Some(management) => Some(management.lease(&id).context("the management network is full")?),
            None => None,
        };
        Ok(InstanceSpec {
            id,
            tenant: self.spec.name.clone(),
            created: Timestamp::now(),
            cloud,
            template: self.spec.template.clone(),
            nic,
            other_nics: nics.collect(),
            management,
        })
    }

    /// A place on each of the tenant's networks, in their order. The first one's gateway is the default route: answers to
    /// clients leave by it.
    fn nics(&self) -> Result<Vec<NicSpec>> {
        let attached = self.attached.as_ref().context("its network is not ready")?;
        let members = self.members.values();
        let taken = members.flat_map(|member| member.spec.nics()).map(|nic| nic.address).collect();
        let place = |(index, network): (usize, &NetworkSpec)| {
            let range = network.dhcp_start..=network.dhcp_end;
            let address = lowest_free(&range, network.gateway, network.subnet, &taken)
                .with_context(|| format!("no address is free from {} to {}", range.start(), range.end()))?;
            Ok(NicSpec {
                bridge: attached.bridge(network)?,
                address,
                prefix: network.subnet.prefix_len(),
                gateway: (index == 0).then_some(network.gateway),
                mac: MacAddr::of_instance(address),
            })
        };
        self.spec.networks.iter().enumerate().map(place).collect()
    }

    /// No new flow once the load balancer knows, which it is told in this round; then the event is recorded.
    pub(super) fn drain(&mut self, id: &InstanceId, reason: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Err(error) = member.drain(reason, Timestamp::now()) {
            tracing::debug!(%id, %error, "left as it is");
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

    /// It has failed: nothing any more, and another one in its place. Where it has not worked for a while, so may
    /// the next one fail: then that has to wait.
    pub(super) fn fail(&mut self, id: &InstanceId, reason: &str) {
        self.fail_with(id, reason, Value::Null);
    }

    /// The same with what programs may want to know of it.
    pub(super) fn fail_with(&mut self, id: &InstanceId, reason: &str, mut details: Value) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.instance.failed = true;
        let cloud = &member.spec.cloud;
        let mut message = reason.to_owned();
        if has_yet_to_work(member, Timestamp::now()) {
            let (tenant, now) = (&self.spec.name, Instant::now());
            let wait = self.host.clouds.failed(cloud, tenant, reason, now, fastrand::f64());
            message = format!("{reason}; the next try on `{cloud}` is in {:.1} s", wait.as_secs_f64());
            self.failed_launch = Some(FailedLaunch {
                instance: id.clone(),
                cloud: cloud.clone(),
                at: Timestamp::now(),
                reason: reason.to_owned(),
            });
        }
        if let Some(details) = details.as_object_mut() {
            details.insert("reason".to_owned(), reason.into());
        }
        self.host.events.record(self.event(EventKind::InstanceFailed, message).about(id).with(details));
        self.terminate(id, "it has failed");
    }

    /// Failures of the past are forgotten once an instance has come to work after them. One that worked before them
    /// says nothing of them.
    pub(super) fn note_known_good(&mut self, now: Timestamp) {
        for member in self.members.values_mut() {
            if is_newly_known_good(member, now) {
                self.launches.succeeded();
                self.failed_launch = None;
                self.host.clouds.works(&member.spec.cloud, &self.spec.name);
            }
        }
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
        let now = Instant::now();
        if let Some(member) = self.members.remove(id) {
            self.host.networks.release(member.spec.tenant_nics());
        }
        self.samples.forget(id);
        self.host.management.iter().for_each(|management| management.release(id));
        self.gone.insert(id.clone(), now);
        self.gone.retain(|_, gone| now.duration_since(*gone) < REMEMBERED);
        self.host.events.record(self.event(EventKind::Terminated, "gone").about(id));
    }

    /// Compares the instances with what the clouds have. What a poll can't know yet, because a cloud was asked before
    /// the instance's last change or has not answered, it says nothing about.
    pub(super) fn compare(&mut self, poll: &Poll) {
        let snapshot = &poll.snapshot;
        let unknown: Vec<&Observation> =
            snapshot.observations.iter().filter(|seen| self.is_unknown(seen, snapshot)).collect();
        let ended: Vec<(InstanceId, &str)> = self
            .members
            .values_mut()
            .filter_map(|member| {
                let asked = *snapshot.answered.get(&member.spec.cloud)?;
                let seen = snapshot.observations.iter().find(|seen| seen.observed.id == member.spec.id);
                let found = seen.map(|seen| &seen.observed);
                note_pause(member, found, asked);
                Some((member.spec.id.clone(), why_ended(member, found, asked)?))
            })
            .collect();
        for seen in self.orphans.overdue(&unknown, snapshot, Instant::now()) {
            self.take_in_orphan(&seen.observed);
        }
        for (id, reason) in ended {
            if reason == ENDED { self.ask_ending(&id) } else { self.fail(&id, reason) }
        }
    }

    /// Whether an instance has this tenant's label and is none of its instances, nor was one when its cloud was asked.
    fn is_unknown(&self, Observation { cloud, observed }: &Observation, snapshot: &Snapshot) -> bool {
        let mine = observed.spec.as_ref().is_some_and(|spec| spec.tenant == self.spec.name);
        let gone = self.gone.get(&observed.id);
        let asked = snapshot.answered.get(cloud);
        let is_gone = gone.is_some_and(|gone| asked.is_none_or(|asked| gone >= asked));
        mine && !is_gone && !self.members.contains_key(&observed.id)
    }

    fn take_in_orphan(&mut self, found: &Observed) {
        let Some(mut member) = adopt(found, &[], &self.group, false, Timestamp::now()) else { return };
        member.instance.state = InstanceState::Terminating;
        let message = "found on the host and in no group: it is removed";
        self.host.events.record(self.event(EventKind::OrphanRemoved, message).about(&found.id));
        self.members.insert(found.id.clone(), settled_in(&self.host, member));
    }

    pub(super) fn report_adopted(&self) {
        for member in self.members.values() {
            let message = format!("taken over at {}, {}", member.instance.address, member.instance.state);
            self.host.events.record(self.event(EventKind::Adopted, message).about(&member.spec.id));
        }
    }
}

/// Whether it has not been in service long enough to show that one made like it works.
fn has_yet_to_work(member: &Member, now: Timestamp) -> bool {
    match member.instance.state {
        InstanceState::Pending => true,
        InstanceState::InService => now.duration_since(member.instance.since) < WORKS_AFTER,
        InstanceState::Draining | InstanceState::Terminating | InstanceState::Terminated => false,
    }
}

/// Whether it shows, for the first time, that one made like it works.
fn is_newly_known_good(member: &mut Member, now: Timestamp) -> bool {
    let works = member.instance.is_serving() && !has_yet_to_work(member, now);
    works && !mem::replace(&mut member.known_good, true)
}

/// Keeps since when an instance is paused.
fn note_pause(member: &mut Member, found: Option<&Observed>, looked: Instant) {
    let is_paused = found.is_some_and(|found| found.presence == Presence::Halted(Halt::Paused));
    member.paused = is_paused.then(|| member.paused.unwrap_or(looked));
}

/// Why an instance that should run does not; `None` where it runs, or where that can't be told.
fn why_ended(member: &Member, found: Option<&Observed>, looked: Instant) -> Option<&'static str> {
    let current = member.settled().is_some_and(|settled| settled < looked);
    match (member.instance.state, found.map(|found| found.presence)) {
        (InstanceState::Terminating | InstanceState::Terminated, _) => None,
        // An instance runs only once: whenever it was seen to have ended, it has.
        (_, Some(Presence::Exited)) => Some(ENDED),
        (_, Some(Presence::Halted(halt @ Halt::Paused))) => {
            let long = |since| looked.duration_since(since) >= PAUSED_FOR;
            member.paused.is_some_and(long).then(|| halt.reason())
        }
        (_, Some(Presence::Halted(halt))) => Some(halt.reason()),
        (InstanceState::Pending, _) | (_, Some(Presence::Running)) => None,
        (_, Some(Presence::Created | Presence::Broken)) => current.then_some("parts of it are gone"),
        (_, None) => current.then_some("nothing of it is there any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{at, observed};

    #[test]
    fn an_instance_works_when_it_has_served_for_a_while() {
        let mut member = member(InstanceState::InService, Instant::now());
        member.instance.since = at(0);
        assert!(has_yet_to_work(&member, at(9)));
        assert!(!has_yet_to_work(&member, at(10)));
        member.instance.state = InstanceState::Pending;
        assert!(has_yet_to_work(&member, at(99)));
    }

    #[test]
    fn an_instance_proves_once_that_one_like_it_works() {
        let mut member = member(InstanceState::InService, Instant::now());
        member.instance.since = at(0);
        assert_eq!(
            [9, 10, 11].map(|second| is_newly_known_good(&mut member, at(second))),
            [false, true, false]
        );
    }

    fn member(state: InstanceState, told: Instant) -> Member {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        member.instance.state = state;
        member.tell(told);
        member
    }

    #[test]
    fn an_ended_process_is_a_failure_in_every_state_but_the_last() {
        let (exited, now) = (observed(2, Presence::Exited), Instant::now());
        for state in [InstanceState::Pending, InstanceState::InService, InstanceState::Draining] {
            assert!(why_ended(&member(state, now), Some(&exited), now).is_some(), "{state}");
        }
        let ending = member(InstanceState::Terminating, now);
        assert_eq!(why_ended(&ending, Some(&exited), now + REMEMBERED), None);
    }

    #[test]
    fn what_was_paused_is_a_failure_and_says_why() {
        let now = Instant::now();
        let halted = |halt| observed(2, Presence::Halted(halt));
        let serving = member(InstanceState::InService, now);
        let disk = why_ended(&serving, Some(&halted(Halt::Disk)), now);
        assert!(disk.is_some_and(|why| why.contains("no room")));
        let running = observed(2, Presence::Running);
        let seen = |member: &mut Member, found: &Observed, second| {
            let looked = now + Duration::from_secs(second);
            note_pause(member, Some(found), looked);
            why_ended(member, Some(found), looked)
        };
        for state in [InstanceState::Pending, InstanceState::Draining] {
            let (mut paused, found) = (member(state, now), halted(Halt::Paused));
            assert_eq!([1, 10].map(|second| seen(&mut paused, &found, second)), [None, None], "{state}");
            assert_eq!(seen(&mut paused, &running, 11), None, "it goes on");
            assert_eq!([12, 21].map(|second| seen(&mut paused, &found, second)), [None, None]);
            assert_eq!(seen(&mut paused, &found, 22), Some("it was paused"));
        }
        let mut ending = member(InstanceState::Terminating, now);
        assert_eq!([1, 99].map(|second| seen(&mut ending, &halted(Halt::Paused), second)), [None, None]);
    }

    #[test]
    fn absence_counts_only_when_the_look_began_after_the_last_change() {
        let now = Instant::now();
        let serving = member(InstanceState::InService, now);
        assert!(why_ended(&serving, None, now + REMEMBERED).is_some());
        assert_eq!(why_ended(&serving, None, now), None);
        let pending = member(InstanceState::Pending, now);
        assert_eq!(why_ended(&pending, None, now + REMEMBERED), None, "it is being made");
    }

    #[test]
    fn what_runs_is_fine() {
        let now = Instant::now();
        let running = observed(2, Presence::Running);
        assert_eq!(why_ended(&member(InstanceState::InService, now), Some(&running), now), None);
        let created = observed(2, Presence::Created);
        assert_eq!(why_ended(&member(InstanceState::Pending, now), Some(&created), now), None);
        let serving = member(InstanceState::InService, now);
        assert_eq!(why_ended(&serving, Some(&created), now), None, "seen while it was being made");
        assert!(why_ended(&serving, Some(&created), now + REMEMBERED).is_some());
    }
}
