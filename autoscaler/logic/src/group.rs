//! A group's instances and their life.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::Decision;
use crate::easing::Easing;
use crate::history::History;
use crate::spec::{CloudName, GroupSpec, TenantName};
use crate::starts::StartTimes;

/// Names an instance on the host: `<tenant>-<8 hex digits>`, never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// Makes an id from a tenant's name and a number that the caller has not used before.
    #[must_use]
    pub fn new(tenant: &TenantName, unique: u32) -> Self {
        Self(format!("{tenant}-{unique:08x}"))
    }

    /// Takes an id that was made before, read back from a label.
    #[must_use]
    pub fn from_label(label: impl Into<String>) -> Self {
        Self(label.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an instance is in its life, as in EC2.
///
/// ```text
/// pending ──ready──► in_service ──drain──► draining ──no flow, or cool-down over──► terminating
///    │                    │                   │                                       ▲    │
///    └─failed, not needed─┴──────failed───────┴────────────────failed─────────────────┘   gone
///                                                                                          ▼
///                                                                                     terminated
/// ```
///
/// [`InstanceState::after`] is this picture as a function. There is no way back: when more instances are wanted, new
/// ones are launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Made or being made; not yet ready. Counts as capacity, not as load.
    Pending,
    /// Takes new flows.
    InService,
    /// Takes no new flow and keeps its old ones. Counts as neither capacity nor load.
    Draining,
    /// Shut down and removed. While it [stops](Instance::stopping), the flows that it had still reach it.
    Terminating,
    /// Gone; kept in the event log only.
    Terminated,
}

/// What moves an instance from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It answers on its port, and the load balancer may send it flows.
    Ready,
    /// It is to take no new flow: a scale-in, or a person's `sluice drain`.
    Drain,
    /// It is to be removed: it has drained, has failed, or was not needed before it was ready.
    Terminate,
    /// Nothing of it exists any more.
    Gone,
}

/// An event that an instance can't take in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an instance that is {state} can't take the event `{event}`: {hint}", hint = self.hint())]
pub struct WrongTransition {
    /// Where the instance is.
    pub state: InstanceState,
    /// What was asked of it.
    pub event: Event,
}

impl WrongTransition {
    fn hint(self) -> &'static str {
        match (self.state, self.event) {
            (InstanceState::Pending, Event::Drain) => "it has no flows yet, terminate it",
            (InstanceState::Draining, Event::Ready | Event::Drain) => "it is on its way out, launch another",
            (InstanceState::Pending | InstanceState::InService | InstanceState::Draining, Event::Gone) => {
                "terminate it first, so that its flows and its backend are given up"
            }
            (InstanceState::Terminated, _) => "it is gone",
            _ => "it is there already or past it",
        }
    }
}

impl InstanceState {
    /// The state after `event`; refused where the picture has no such arrow.
    ///
    /// An event that leads to the state the instance is in already is refused too: it would begin the state
    /// anew, and with it the cool-down.
    ///
    /// ```
    /// use sluice_logic::group::{Event, InstanceState};
    ///
    /// let draining = InstanceState::Pending.after(Event::Ready)?.after(Event::Drain)?;
    /// assert_eq!(draining, InstanceState::Draining);
    /// assert!(draining.after(Event::Ready).is_err(), "there is no way back");
    /// # Ok::<(), sluice_logic::group::WrongTransition>(())
    /// ```
    pub fn after(self, event: Event) -> Result<Self, WrongTransition> {
        match (self, event) {
            (Self::Pending, Event::Ready) => Ok(Self::InService),
            (Self::InService, Event::Drain) => Ok(Self::Draining),
            (Self::Pending | Self::InService | Self::Draining, Event::Terminate) => Ok(Self::Terminating),
            (Self::Terminating, Event::Gone) => Ok(Self::Terminated),
            (state, event) => Err(WrongTransition { state, event }),
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::InService => "in_service",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Terminate => "terminate",
            Self::Gone => "gone",
        })
    }
}

/// What the logic knows of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// Where it runs.
    pub cloud: CloudName,
    /// The place of its cloud in the order of preference: 0 is the most preferred one, the last is left first.
    pub rank: usize,
    /// Its address on the tenant's first network.
    pub address: Ipv4Addr,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When it was created: newest first goes.
    pub created: Timestamp,
    /// When it entered `state`.
    pub since: Timestamp,
    /// Its live flows, when the load balancer has counted them since `since`.
    pub live_flows: Option<u64>,
    /// Its process or machine is gone, or it never became ready.
    pub failed: bool,
    /// It terminates, and has not been shut down yet: the flows that it had still reach it, so that what ends them reaches
    /// their clients. It takes no new one.
    #[serde(default)]
    pub stopping: bool,
}

impl Instance {
    /// Moves it to its next state. One that may have flows, and can end them, is to stop before it is removed.
    ///
    /// The count of live flows is forgotten: the one of the state before says nothing about this one.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Result<(), WrongTransition> {
        let has_flows =
            !self.failed && matches!(self.state, InstanceState::InService | InstanceState::Draining);
        self.state = self.state.after(event)?;
        self.stopping = has_flows && self.state == InstanceState::Terminating;
        self.since = now;
        self.live_flows = None;
        Ok(())
    }

    /// Whether it counts towards the desired number: pending or in service, and not failed.
    #[must_use]
    pub fn is_capacity(&self) -> bool {
        !self.failed && matches!(self.state, InstanceState::Pending | InstanceState::InService)
    }

    /// Whether it carries load that counts: in service, and not failed.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        !self.failed && self.state == InstanceState::InService
    }

    /// After the clock was set back: a state that would begin in the future began now.
    pub fn rewind(&mut self, now: Timestamp) {
        self.created = self.created.min(now);
        self.since = self.since.min(now);
    }
}

/// What of a group outlives the daemon: the content of its state file.
///
/// Everything else is found on the host. Unknown keys are ignored and missing ones are as in
/// [`GroupState::default`], so a newer or older daemon can read it. Losing the file breaks no flow: see
/// [`GroupState::desired_or_found`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupState {
    /// How many instances there should be; `None` where that was never written or was lost.
    pub desired: Option<u32>,
    /// When the last scaling action began.
    pub last_action: Option<Timestamp>,
    /// Since when each draining instance drains: its cool-down does not begin anew with the daemon.
    pub draining_since: BTreeMap<InstanceId, Timestamp>,
    /// Since when each instance terminates: it is never in service again, and the time to stop in does not begin anew with
    /// the daemon.
    pub terminating_since: BTreeMap<InstanceId, Timestamp>,
    /// Since when each instance is in service: its samples count from then on.
    pub in_service_since: BTreeMap<InstanceId, Timestamp>,
    /// What its policies need to know of the recent past.
    pub history: History,
    /// How long its instances took to start.
    pub starts: StartTimes,
    /// Its way down to a maximum that was edited below the desired number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub easing: Option<Easing>,
}

impl GroupState {
    /// The state of a group that has just been made: the fewest instances, nothing done yet.
    #[must_use]
    pub fn fresh(spec: &GroupSpec) -> Self {
        Self { desired: Some(spec.min), ..Self::default() }
    }

    /// How many instances there should be; where that is not known, as many as were found, within the limits.
    ///
    /// For a new group that is the minimum. For one whose state file is lost it is its capacity, so that nothing
    /// is drained because a file is missing.
    #[must_use]
    pub fn desired_or_found(&self, spec: &GroupSpec, found: &[Instance]) -> u32 {
        self.desired.unwrap_or_else(|| {
            let capacity = found.iter().filter(|instance| instance.is_capacity()).count();
            spec.clamp(u32::try_from(capacity).unwrap_or(u32::MAX))
        })
    }

    /// Takes over what was decided.
    pub fn record(&mut self, decision: &Decision) {
        self.desired = Some(decision.to);
        self.last_action = decision.last_action;
        self.history.record(decision);
    }

    /// Takes over since when the instances serve, drain or terminate, and forgets those that do neither.
    pub fn remember(&mut self, instances: &[Instance]) {
        let since = |state: InstanceState| {
            let of_state = instances.iter().filter(move |instance| instance.state == state);
            of_state.map(|instance| (instance.id.clone(), instance.since)).collect()
        };
        self.draining_since = since(InstanceState::Draining);
        self.terminating_since = since(InstanceState::Terminating);
        self.in_service_since = since(InstanceState::InService);
    }

    /// The state in which an instance found on the host was last, and since when. `None`: it was not yet ready.
    #[must_use]
    pub fn last_known(&self, id: &InstanceId) -> Option<(InstanceState, Timestamp)> {
        let kept = [
            (InstanceState::Terminating, &self.terminating_since),
            (InstanceState::Draining, &self.draining_since),
            (InstanceState::InService, &self.in_service_since),
        ];
        kept.into_iter().find_map(|(state, since)| since.get(id).map(|&since| (state, since)))
    }

    /// After the clock was set back: what would begin in the future began now.
    ///
    /// Without it a cool-down or a buffer time would last until the clock has caught up. Harmless at any other
    /// time, so a daemon may call it in every round.
    pub fn rewind(&mut self, now: Timestamp) {
        self.last_action = self.last_action.map(|at| at.min(now));
        self.history.rewind(now);
        self.easing.iter_mut().for_each(|easing| easing.rewind(now));
        let states = [&mut self.terminating_since, &mut self.draining_since, &mut self.in_service_since];
        for since in states.into_iter().flat_map(BTreeMap::values_mut) {
            *since = (*since).min(now);
        }
    }
}

impl GroupSpec {
    /// The nearest count within the limits. Should they contradict each other, the maximum holds: too few
    /// instances are repaired by an edit, too many may cost what nobody agreed to.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sluice_logic::spec::{GroupSpec, Pace};
    ///
    /// let minutes = Duration::from_mins;
    /// let pace = Pace::default();
    /// let group = GroupSpec { min: 2, max: 5, buffer_time: minutes(2), cool_down: minutes(5), pace };
    /// assert_eq!([0, 3, 9].map(|count| group.clamp(count)), [2, 3, 5]);
    /// ```
    #[must_use]
    pub fn clamp(&self, count: u32) -> u32 {
        count.max(self.min).min(self.max)
    }
}

/// Time from `since` to `now`; none when the clock was set back in between.
pub(crate) fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}
