//! What has happened, as the event log has it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon began to serve.
    DaemonStarted,
    /// The daemon ended; packets still flow.
    DaemonStopped,
    /// A tenant's file is new.
    TenantAdded,
    /// A tenant's file has changed, and the change is in force.
    TenantChanged,
    /// A tenant file was refused; what was in force stays in force.
    TenantRefused,
    /// A tenant's file is gone: its instances drain, then it is removed.
    TenantLeaving,
    /// A tenant that was leaving stays: its file is back, or its removal waits for a person.
    TenantStays,
    /// A tenant's file is gone, with too many others at once: it stays in force until a person confirms.
    RemovalHeld,
    /// A tenant's file that was gone, while its removal was held, is back.
    RemovalCleared,
    /// Nothing is left of a tenant.
    TenantRemoved,
    /// The desired count went up by a policy.
    ScaleOut,
    /// The desired count went down by a policy.
    ScaleIn,
    /// The desired count was set by a person.
    ManualScale,
    /// Nothing is done, for a reason other than before.
    Hold,
    /// An instance is being made.
    Launch,
    /// An instance takes new flows.
    InService,
    /// An instance that was there before the daemon is taken over as it is.
    Adopted,
    /// An instance takes no new flow any more, as long as another is in service. Once more where it did take some again, as
    /// none was.
    Draining,
    /// No instance of a group is in service: new flows go to those that drain and still serve, until one is. Once for each time.
    DrainingServes,
    /// An instance is being removed.
    Terminating,
    /// An instance is gone.
    Terminated,
    /// An instance could not be made, never became ready, or ended by itself.
    InstanceFailed,
    /// Something of ours that nobody wants was removed.
    OrphanRemoved,
    /// A step on the host failed; it is tried again.
    StepFailed,
    /// Something on the host is not as it should be: a [`HostProblem`](super::HostProblem) begins.
    ProblemFound,
    /// What was not as it should be is mended.
    ProblemSolved,
    /// A part of the daemon, or a tenant's task, has panicked, which is a bug: it is restarted.
    Panicked,
    /// Something that the daemon has made was not as it should be, whoever did that: it is put right. Where it can't be, a
    /// [`ProblemFound`](Self::ProblemFound) or [`StepFailed`](Self::StepFailed) follows.
    Drift,
    /// A cloud does not answer any more.
    CloudLost,
    /// A cloud answers again.
    CloudBack,
    /// An instance has sent lines that are not syslog; at most one such event of a tenant in ten minutes.
    LogsMalformed,
    /// Lines of a tenant's log could not be kept, as its day is full, or the disk; as seldom.
    LogsLost,
    /// Flows of a tenant's service were not recorded, as its quota of the flow table is full, or the table; at most
    /// one such event of a service in ten minutes.
    FlowTableFull,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one, over restarts.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: EventKind,
    /// Whose; `None` where it is about the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Which instance, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What and why, for people.
    pub message: String,
    /// The same for programs, where there is more to say.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQuery {
    /// Only this tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Only the newest so many; default 50, at most 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only those with a greater [`Event::seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Where there is none: wait so many seconds for one, at most 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// Events, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The `after` with which the next call continues.
    pub next: u64,
}
