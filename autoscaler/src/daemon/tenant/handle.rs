//! A tenant's task from outside: what it begins with, what it is told, and what it shows.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use lb_userspace::lb::Counters;
use lb_userspace::service::Service;
use sluice_logic::group::{GroupState, InstanceId};
use sluice_logic::spec::TenantSpec;
use sluice_northbound::api::{
    DrainAnswer, Explanation, InstanceStatus, PushAnswer, PushRequest, ScaleAnswer, TenantStatus,
};
use sluice_southbound::provider::Observed;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::daemon::clouds::Snapshot;
use crate::daemon::drift::View;
use crate::daemon::refusal::Refusal;
use crate::daemon::state::Departure;

/// Messages that may wait for a tenant. A poll that finds no room is left out: the next one says the same.
pub(super) const MAILBOX: usize = 64;

/// What was found on the host at one moment.
#[derive(Debug)]
pub(crate) struct Poll {
    /// Before anything was looked at: what changed later may not be in here.
    pub(crate) began: Instant,
    /// The load balancer's counters, and when they were read.
    pub(crate) counters: Option<(Timestamp, Counters)>,
    /// The load balancer's services.
    pub(crate) services: Option<Vec<Service>>,
    /// What the clouds have.
    pub(crate) snapshot: Snapshot,
}

/// What a tenant's task is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A poll of the host.
    Poll(Arc<Poll>),
    /// What there is of networks.
    Compare(Arc<View>),
    /// Its file has changed.
    Changed(Box<TenantSpec>),
    /// A person sets the desired count.
    Scale(u32, oneshot::Sender<Result<ScaleAnswer, Refusal>>),
    /// A person drains an instance.
    Drain(InstanceId, bool, oneshot::Sender<Result<DrainAnswer, Refusal>>),
    /// A person asks what would happen now.
    Explain(oneshot::Sender<Result<Explanation, Refusal>>),
    /// A user pushes a sample.
    Push(PushRequest, oneshot::Sender<Result<PushAnswer, Refusal>>),
    /// Its file is gone: drain and remove everything of it, then end.
    Leave(Departure),
    /// Its file is back, or its removal waits for a person: it stays.
    Stay,
}

/// What a tenant begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// Its file.
    pub(crate) file: PathBuf,
    /// What it asks for.
    pub(crate) spec: TenantSpec,
    /// What the state file says.
    pub(crate) group: GroupState,
    /// How it was leaving.
    pub(crate) leaving: Option<Departure>,
    /// What is there of it.
    pub(crate) observed: Vec<Observed>,
    /// All services of the load balancer.
    pub(crate) services: Vec<Service>,
}

/// A tenant's task, from outside.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(super) mailbox: mpsc::Sender<Message>,
    pub(super) status: watch::Receiver<TenantStatus>,
}

impl Handle {
    /// Tells it something, once there is room.
    pub(crate) async fn tell(&self, message: Message) {
        // The task ends only when nothing of its tenant is left; then there is nothing to be told.
        let _ = self.mailbox.send(message).await;
    }

    /// Shows it what is there; not when it has not yet read what it was told before.
    pub(crate) fn show(&self, poll: Arc<Poll>) {
        let _ = self.mailbox.try_send(Message::Poll(poll));
    }

    /// Has it compare its networks with what is there; not when it has not yet read what it was told before.
    pub(crate) fn compare(&self, view: Arc<View>) {
        let _ = self.mailbox.try_send(Message::Compare(view));
    }

    /// What it is doing.
    pub(crate) fn status(&self) -> TenantStatus {
        self.status.borrow().clone()
    }

    /// Whether one of its instances has that id.
    pub(crate) fn has(&self, id: &InstanceId) -> bool {
        self.status.borrow().instances.iter().any(|instance| instance.id == *id)
    }

    /// The addresses of its instances, on all its networks.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        self.status.borrow().instances.iter().flat_map(InstanceStatus::addresses).collect()
    }

    /// Waits until it has reconciled for the first time.
    pub(crate) async fn begun(&mut self) {
        let _ = self.status.changed().await;
    }
}
