//! Which tenants there are: the directory of their files compared with their tasks, and what nobody wants.

mod files;
mod strays;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lb_userspace::service::Service;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_northbound::api::{RefusedFile, RescanAnswer};
use sluice_northbound::watch::{Listing, TenantDirectory};
use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::found::Found;
use super::host::Host;
use super::orphans::Orphans;
use super::poll;
use super::registry::Registry;
use super::restart::{self, Panics};
use super::state::Departure;
use super::tenant::{Message, Poll, Tenant};

/// For the last writes when the daemon ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Keeps the tenants' tasks what the files ask for.
#[derive(Debug)]
pub(crate) struct Supervisor {
    host: Arc<Host>,
    registry: Arc<Registry>,
    directory: TenantDirectory,
    /// What each tenant's task was last told, and its file.
    told: BTreeMap<TenantName, (PathBuf, TenantSpec)>,
    /// The reading of the directory that is under way, where one takes too long.
    reading: Option<JoinHandle<io::Result<Listing>>>,
    /// Whether it was tried to read the directory at all.
    has_read: bool,
    /// Tenants whose tasks drain and remove everything of them.
    leaving: BTreeSet<TenantName>,
    /// Files that are good by themselves, but can't change their running tenant so.
    immutable: BTreeMap<PathBuf, RefusedFile>,
    /// Orphans that are being removed.
    removals: BTreeMap<InstanceId, JoinHandle<()>>,
    orphans: Orphans,
    tasks: JoinSet<TenantName>,
    running: HashMap<task::Id, TenantName>,
    /// The tenants whose tasks have panicked, and when each is to be restarted; `None`: it was.
    panicked: BTreeMap<TenantName, (Panics, Option<Instant>)>,
}

/// What a change of the files leads to.
#[derive(Debug)]
enum Effect {
    /// A tenant's task starts.
    Start(PathBuf, Box<TenantSpec>),
    /// A tenant's task is told something.
    Tell(TenantName, Message),
}

/// How a tenant's task ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nothing is left of the tenant.
    Gone(TenantName),
    /// By a bug.
    Panicked(TenantName, JoinError),
}

impl Supervisor {
    pub(crate) fn new(registry: Arc<Registry>, directory: TenantDirectory) -> Self {
        Self {
            host: registry.host.clone(),
            registry,
            directory,
            told: BTreeMap::new(),
            reading: None,
            has_read: false,
            leaving: BTreeSet::new(),
            immutable: BTreeMap::new(),
            removals: BTreeMap::new(),
            orphans: Orphans::default(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            panicked: BTreeMap::new(),
        }
    }

    /// Takes over what is there, and returns when every tenant has reconciled once: all that was in service is
    /// in service.
    ///
    /// What was in force before is in force again, also where the tenants' directory can't be read; only then comes what the
    /// files say now.
    pub(crate) async fn begin(&mut self, found: &Found) {
        let mut effects = Vec::new();
        let before = self.directory.in_force();
        let before: Vec<_> = before.map(|(path, tenant)| (path.to_owned(), tenant.spec.clone())).collect();
        for (path, spec) in before {
            if found.saved.get(&spec.name).is_some_and(|saved| saved.leaving.is_some()) {
                self.leaving.insert(spec.name.clone());
            }
            self.add(path, spec, found, &mut effects);
        }
        let mut changes = self.changes().await;
        if let Some(settled) = self.directory.next_look().filter(|_| self.told.is_empty()) {
            // Files that were written just before the daemon started: whoever waits for it waits for them.
            sleep_until(settled.into()).await;
            changes.extend(self.changes().await);
        }
        for change in changes {
            self.enact(change, found, &mut effects);
        }
        self.carry_out(effects, found).await;
        self.show_files();
        for (_, mut handle) in self.registry.handles() {
            handle.begun().await;
        }
        self.remove_stray_networks().await;
    }

    /// When there is something to find in the directory without anything that happens.
    pub(crate) fn next_look(&self) -> Option<std::time::Instant> {
        self.directory.next_look()
    }

    /// Reads the directory again.
    pub(crate) async fn rescan(&mut self) -> RescanAnswer {
        let changes = self.changes().await;
        if !changes.is_empty() {
            let found = self.found_now().await;
            let mut effects = Vec::new();
            for change in changes {
                self.enact(change, &found, &mut effects);
            }
            self.carry_out(effects, &found).await;
            self.remove_stray_networks().await;
        }
        self.show_files();
        RescanAnswer { tenants: self.told.keys().cloned().collect(), refused: self.registry.refused() }
    }

    /// Shows the tenants what is there, and removes orphans.
    pub(crate) async fn show(&mut self, poll: Poll) {
        let poll = Arc::new(poll);
        if let Some((_, counters)) = &poll.counters {
            self.registry.set_drops(counters);
        }
        for (_, handle) in self.registry.handles() {
            handle.show(poll.clone());
        }
        self.remove_orphans(&poll.snapshot);
        let strays = |services: &Vec<Service>| !self.claims().releases(services).is_empty();
        if poll.services.as_ref().is_some_and(strays) {
            self.claim().await;
        }
    }

    /// Waits for the end of a tenant's task. Never returns while there is none. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Ended {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(Ok((id, name))) => {
                    self.running.remove(&id);
                    return Ended::Gone(name);
                }
                Some(Err(error)) => {
                    if let Some(name) = self.running.remove(&error.id()) {
                        return Ended::Panicked(name, error);
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Lets every task write its last state, and ends. What exists stays.
    pub(crate) async fn end(mut self) {
        self.registry.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("not every tenant's state was saved in time; the next start finds it on the host");
        }
    }

    /// A tenant's task has panicked: it is to be restarted after a while, and holds up no other until then.
    pub(crate) fn note_panic(&mut self, name: &TenantName, error: JoinError) {
        let now = Instant::now();
        let (panics, restart_at) = self.panicked.entry(name.clone()).or_default();
        let wait = panics.count(now);
        *restart_at = Some(now + wait);
        self.host.events.record(restart::panicked("its task", error, wait).of(name));
    }

    /// When the next task is to be restarted.
    pub(crate) fn next_restart(&self) -> Option<Instant> {
        self.panicked.values().filter_map(|(_, restart_at)| *restart_at).min()
    }

    /// Restarts the tasks for which it is time. What each has done is on the host and in its state file, so another one goes on
    /// from there, as after a crash of the whole daemon.
    pub(crate) async fn restart(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (name, (_, restart_at)) in &mut self.panicked {
            if restart_at.is_some_and(|at| at <= now) {
                *restart_at = None;
                due.push(name.clone());
            }
        }
        for name in due {
            self.restart_one(&name).await;
        }
    }

    async fn restart_one(&mut self, name: &TenantName) {
        let Some((file, spec)) = self.told.get(name).cloned() else { return };
        let mut found = self.found_now().await;
        let saved = self.host.state.load_all().unwrap_or_default().into_iter();
        found.saved = saved.map(|saved| (saved.spec.name.clone(), saved)).collect();
        let mut effects = Vec::new();
        self.start(file, spec, &mut effects);
        if self.leaving.contains(name) {
            let departure = Departure { since: Timestamp::now(), is_confirmed: false };
            self.leave(name, departure, &mut effects);
        }
        self.carry_out(effects, &found).await;
    }

    /// Nothing is left of a tenant: what it had is free. Where its file has come back meanwhile, it begins anew.
    pub(crate) async fn forget(&mut self, name: &TenantName) {
        self.registry.remove(name);
        self.panicked.remove(name);
        let mut effects = Vec::new();
        if self.leaving.remove(name) {
            self.told.remove(name);
            self.directory.has_left(name);
        } else if let Some((file, spec)) = self.told.get(name).cloned() {
            self.start(file, spec, &mut effects);
        }
        self.show_logs();
        let found = if effects.is_empty() { Found::default() } else { self.found_now().await };
        self.carry_out(effects, &found).await;
        // Another may have waited for what it had.
        self.rescan().await;
    }

    /// Carries out what changes of the files lead to: first the load balancer is told whose the services are now, so that
    /// nothing is given before all that has to be taken is.
    async fn carry_out(&mut self, effects: Vec<Effect>, found: &Found) {
        self.claim().await;
        for effect in effects {
            match effect {
                Effect::Start(file, spec) => {
                    let name = spec.name.clone();
                    let beginning = found.beginning(file, *spec);
                    let (handle, task) = Tenant::task(self.host.clone(), beginning);
                    self.running.insert(self.tasks.spawn(task).id(), name.clone());
                    self.registry.add(name, handle);
                }
                Effect::Tell(name, message) => {
                    if let Ok(handle) = self.registry.tenant(&name) {
                        handle.tell(message).await;
                    }
                }
            }
        }
    }

    /// For a tenant that is new or comes back: what it may have left.
    async fn found_now(&self) -> Found {
        let snapshot = self.host.clouds.poll().await;
        poll::report(&self.host.events, &snapshot.news);
        let services = self.host.balancer.call(|balancer| balancer.services()).await.unwrap_or_default();
        Found { saved: BTreeMap::new(), snapshot, services }
    }
}
