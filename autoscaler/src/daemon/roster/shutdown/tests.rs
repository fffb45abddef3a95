use lb_userspace::net::MacAddr;
use lb_userspace::service::{BackendState, Service};
use sluice_logic::group::{Event, GroupState, Instance};
use sluice_southbound::provider::Presence;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::daemon::roster::adopt;
use crate::daemon::services::{Egress, services, steps};
use crate::daemon::testing::{at, instance, observed, tenant};

const EGRESS: Egress = Egress { interface: 7, mac: MacAddr([2, 0, 0, 0, 0, 1]) };

/// What happens outside, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The load balancer has this of it; `None`: nothing.
    Backend(Option<BackendState>),
    /// It is told to stop.
    Told,
    /// Its processes have ended.
    Ended,
    Removed,
}

/// One instance, what is around it, and the daemon's view of it; `None` while no daemon runs.
struct World {
    presence: Presence,
    balancer: Vec<Service>,
    /// What the state file says, where it was not lost.
    saved: GroupState,
    keeps_state: bool,
    member: Option<Member>,
    clock: i64,
    effects: Vec<Effect>,
}

impl World {
    /// An instance that drains, by the load balancer and a state file.
    fn draining(keeps_state: bool) -> Self {
        let draining = instance(2, InstanceState::Draining);
        let balancer = services(&tenant("demo"), std::slice::from_ref(&draining), EGRESS, false, at(0));
        let mut saved = GroupState::default();
        saved.remember(&[draining]);
        let (presence, member, effects) = (Presence::Running, None, Vec::new());
        let mut world = Self { presence, balancer, saved, keeps_state, member, clock: 100, effects };
        world.restart();
        world
    }

    fn restart(&mut self) {
        let saved = if self.keeps_state { self.saved.clone() } else { GroupState::default() };
        let found = observed(2, self.presence);
        self.member = adopt(&found, &self.balancer, &saved, false, at(self.clock));
    }

    /// One thing that the daemon does, as [`Tenant::reconcile`](crate::daemon::tenant) would next. `false` where
    /// nothing is left to do.
    fn step(&mut self) -> bool {
        self.clock += 1;
        let (now, clock) = (Instant::now(), at(self.clock));
        let Some(member) = &mut self.member else { return false };
        if member.instance.state == InstanceState::Draining {
            // The cool-down is over.
            member.instance.apply(Event::Terminate, clock).unwrap();
            return true;
        }
        let wanted = services(&tenant("demo"), std::slice::from_ref(&member.instance), EGRESS, false, clock);
        if !steps(&wanted, &self.balancer).is_empty() {
            self.balancer = wanted;
            self.effects
                .push(Effect::Backend(self.balancer[1].backends.first().map(|backend| backend.state)));
            return true;
        }
        if member.settled().is_none() {
            member.tell(now);
            return true;
        }
        if self.saved.last_known(&member.instance.id).map(|(state, _)| state) != Some(member.instance.state) {
            self.saved.remember(std::slice::from_ref(&member.instance));
            return true;
        }
        match (member.due(now, clock), self.presence) {
            (Some(Due::Stop { .. }), _) => {
                self.effects.push(Effect::Told);
                member.job = Some(CancellationToken::new());
            }
            (Some(Due::Remove), _) => {
                self.effects.push(Effect::Removed);
                self.member = None;
                return false;
            }
            (None, Presence::Running) => {
                self.presence = Presence::Exited;
                self.effects.push(Effect::Ended);
            }
            (None, _) => member.stopped(),
            (due, _) => panic!("{due:?}"),
        }
        true
    }
}

/// Runs to the end, with a crash and a restart after so many steps; the effects, and how many steps there were.
fn run(keeps_state: bool, crash_after: usize) -> (Vec<Effect>, usize) {
    let mut world = World::draining(keeps_state);
    let mut done = 0;
    while world.step() {
        done += 1;
        assert!(done < 100, "it never ends: {:?}", world.effects);
        if done == crash_after {
            world.restart();
        }
    }
    (world.effects, done)
}

#[test]
fn an_instance_stops_before_its_backend_goes_and_that_before_the_instance() {
    use Effect::{Backend, Ended, Removed, Told};
    let stopping = Backend(Some(BackendState::Stopping));
    let (effects, length) = run(true, usize::MAX);
    assert_eq!(effects, [stopping, Told, Ended, Backend(None), Removed]);
    for (keeps_state, crash_after) in (1..=length).flat_map(|after| [(true, after), (false, after)]) {
        let (effects, _) = run(keeps_state, crash_after);
        let place = |wanted: Effect| effects.iter().position(|effect| *effect == wanted);
        let order = [stopping, Told, Ended, Backend(None), Removed].map(place);
        assert!(order.is_sorted() && order.iter().all(Option::is_some), "{crash_after}: {effects:?}");
        let backends = effects.iter().filter(|effect| matches!(effect, Backend(_)));
        assert!(backends.eq(&[stopping, Backend(None)]), "{crash_after}: {effects:?}");
    }
}

fn terminating(instance: Instance) -> Member {
    let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
    member.instance = instance;
    member.instance.apply(Event::Terminate, at(10)).unwrap();
    member
}

#[test]
fn what_has_no_flows_or_has_failed_is_removed_at_once() {
    let mut failed = instance(2, InstanceState::Draining);
    failed.failed = true;
    for instance in [failed, instance(2, InstanceState::Pending)] {
        let mut member = terminating(instance);
        assert_eq!(member.due(Instant::now(), at(11)), None, "the load balancer does not know");
        member.tell(Instant::now());
        assert_eq!(member.due(Instant::now(), at(11)), Some(Due::Remove));
    }
}

#[test]
fn the_time_to_stop_in_begins_once() {
    let mut member = terminating(instance(2, InstanceState::InService));
    member.tell(Instant::now());
    let passed = |seconds| Some(Due::Stop { passed: Duration::from_secs(seconds) });
    assert_eq!(member.due(Instant::now(), at(14)), passed(4));
    assert_eq!(member.due(Instant::now(), at(-50)), passed(0), "the clock was set back");
    member.job = Some(CancellationToken::new());
    assert_eq!(member.due(Instant::now(), at(14)), None, "it is being told");
}

#[test]
fn a_cloud_that_cannot_be_asked_is_asked_again_and_given_up_after_a_while() {
    let mut member = terminating(instance(2, InstanceState::InService));
    member.tell(Instant::now());
    let begun = Instant::now();
    let mut now = begun;
    while member.instance.stopping {
        let clock = at(20) + now.duration_since(begun);
        member.not_asked(now, clock);
        if let Some(next) = member.next_try(now) {
            assert_eq!(member.due(now, clock), None, "not at once");
            assert_eq!(member.due(next, clock), Some(Due::Stop { passed: Duration::ZERO }));
            assert_eq!(member.next_try(next), None, "it is due");
            now = next;
        }
    }
    assert_eq!(now.duration_since(begun), UNASKED_FOR);
    assert_eq!(member.settled(), None, "the load balancer is to forget it first");
    member.tell(Instant::now());
    assert_eq!(member.due(Instant::now(), at(99)), Some(Due::Remove));
}
