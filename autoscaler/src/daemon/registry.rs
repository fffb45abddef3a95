//! What the API sees of the daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lb_userspace::lb::{self, Counters};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{
    ConfirmAnswer, DaemonStatus, HeldRemoval, RefusedFile, RescanAnswer, Status, StopAnswer, XdpMode,
};
use tokio::sync::{mpsc, oneshot};

use super::host::Host;
use super::refusal::Refusal;
use super::tenant::Handle;

/// What the API asks of the supervisor.
#[derive(Debug)]
pub(crate) enum Request {
    /// Read the tenants' directory again.
    Rescan(oneshot::Sender<RescanAnswer>),
    /// Let these tenants go whose removal is held; none is all.
    Confirm(Vec<TenantName>, oneshot::Sender<Result<ConfirmAnswer, Refusal>>),
    /// End; everything stays as it is.
    Stop(oneshot::Sender<StopAnswer>),
}

/// Written by the supervisor, read by the API.
#[derive(Debug)]
pub(crate) struct Registry {
    /// What all tenants share.
    pub(crate) host: Arc<Host>,
    daemon: DaemonStatus,
    requests: mpsc::Sender<Request>,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tenants: BTreeMap<TenantName, Handle>,
    refused: BTreeMap<PathBuf, RefusedFile>,
    held: Vec<HeldRemoval>,
    drops: BTreeMap<String, u64>,
    /// How the uplink's program runs, where that has changed since the daemon began.
    mode: Option<lb::XdpMode>,
}

/// How the uplink's program runs, as the API says it.
pub(super) fn shown(mode: lb::XdpMode) -> XdpMode {
    match mode {
        lb::XdpMode::Native => XdpMode::Native,
        lb::XdpMode::Generic => XdpMode::Generic,
    }
}

impl Registry {
    pub(crate) fn new(host: Arc<Host>, daemon: DaemonStatus) -> (Arc<Self>, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(8);
        (Arc::new(Self { host, daemon, requests, inner: RwLock::default() }), receiver)
    }

    /// Everything, for `sluice status`.
    pub(crate) fn status(&self) -> Status {
        let inner = self.read();
        Status {
            daemon: DaemonStatus {
                xdp_mode: inner.mode.map_or(self.daemon.xdp_mode, shown),
                ..self.daemon.clone()
            },
            problems: self.host.problems.list(),
            tenants: inner.tenants.values().map(Handle::status).collect(),
            held: inner.held.clone(),
            refused: inner.refused.values().cloned().collect(),
            drops: inner.drops.clone(),
            logs: self.host.logs.status(),
        }
    }

    /// A tenant's task.
    pub(crate) fn tenant(&self, name: &TenantName) -> Result<Handle, Refusal> {
        let inner = self.read();
        inner.tenants.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = inner.tenants.keys().map(TenantName::as_str).collect();
            let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            Refusal::Unknown(format!("no tenant {name}; the tenants are: {known}"))
        })
    }

    /// The task of the tenant to which an instance belongs.
    pub(crate) fn tenant_of(&self, id: &InstanceId) -> Result<Handle, Refusal> {
        self.find(id).ok_or_else(|| Refusal::Unknown(format!("no instance {id}: see `sluice status`")))
    }

    /// The same, where nobody asked by name.
    pub(crate) fn find(&self, id: &InstanceId) -> Option<Handle> {
        self.read().tenants.values().find(|handle| handle.has(id)).cloned()
    }

    /// Asks the supervisor.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Refusal::Ending)?;
        answer.await.map_err(|_| Refusal::Ending)
    }

    pub(crate) fn handles(&self) -> Vec<(TenantName, Handle)> {
        self.read().tenants.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    pub(crate) fn refused(&self) -> Vec<RefusedFile> {
        self.read().refused.values().cloned().collect()
    }

    pub(crate) fn add(&self, name: TenantName, handle: Handle) {
        self.write().tenants.insert(name, handle);
    }

    pub(crate) fn remove(&self, name: &TenantName) {
        self.write().tenants.remove(name);
    }

    /// Lets go of all tenants' tasks.
    pub(crate) fn clear(&self) {
        self.write().tenants.clear();
    }

    /// The files that are refused now.
    pub(crate) fn set_refused(&self, files: impl IntoIterator<Item = RefusedFile>) {
        self.write().refused = files.into_iter().map(|file| (file.file.clone(), file)).collect();
    }

    /// The tenants whose removal is held now.
    pub(crate) fn set_held(&self, held: Vec<HeldRemoval>) {
        self.write().held = held;
    }

    pub(crate) fn set_drops(&self, counters: &Counters) {
        let counted = counters.drops.iter().filter(|(_, count)| **count > 0);
        self.write().drops = counted.map(|(&reason, &count)| (reason.to_owned(), count)).collect();
    }

    /// How the uplink's program runs now.
    pub(crate) fn set_mode(&self, mode: lb::XdpMode) {
        self.write().mode = Some(mode);
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
