//! Which tenants there are: the directory of their files compared with their tasks, and what nobody wants.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_userspace::service::Service;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_northbound as northbound;
use sluice_northbound::api::{EventKind, RefusedFile, RescanAnswer};
use sluice_northbound::watch::{Change, TenantDirectory};
use sluice_southbound::provider::{Observed, Presence};
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::change;
use super::clouds::{Seen, Sight};
use super::events::NewEvent;
use super::found::Found;
use super::host::Host;
use super::look;
use super::network;
use super::registry::Registry;
use super::services::Claims;
use super::tenant::{Message, Tenant, Tick};
use super::unclaimed::Unclaimed;

/// A task that meets the same bug again and again must not take the host with it.
const REVIVAL_PAUSE: Duration = Duration::from_secs(1);

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
    /// Tenants whose tasks remove everything of them. One that comes back has to wait.
    leaving: BTreeSet<TenantName>,
    waiting: BTreeMap<TenantName, (PathBuf, TenantSpec)>,
    /// Files that are good by themselves, but can't change their running tenant so.
    unchangeable: BTreeMap<PathBuf, RefusedFile>,
    /// What is being removed because it is nobody's.
    orphans: BTreeMap<InstanceId, JoinHandle<()>>,
    unclaimed: Unclaimed,
    tasks: JoinSet<TenantName>,
    running: HashMap<task::Id, TenantName>,
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
    Crashed(TenantName),
}

impl Supervisor {
    pub(crate) fn new(registry: Arc<Registry>, directory: TenantDirectory) -> Self {
        Self {
            host: registry.host.clone(),
            registry,
            directory,
            told: BTreeMap::new(),
            leaving: BTreeSet::new(),
            waiting: BTreeMap::new(),
            unchangeable: BTreeMap::new(),
            orphans: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Takes over what is there, and returns when every tenant has reconciled once: all that was in service is
    /// in service.
    pub(crate) async fn begin(&mut self, found: &Found) {
        let mut effects = Vec::new();
        for change in self.changes() {
            self.enact(change, found, &mut effects);
        }
        // Tenants whose files were deleted while no daemon ran.
        for saved in found.saved.values() {
            if !self.told.contains_key(&saved.spec.name) {
                self.start(saved.file.clone(), saved.spec.clone(), &mut effects);
                self.leave(&saved.spec.name, &mut effects);
            }
        }
        self.carry_out(effects, found).await;
        self.show_refused();
        for (_, mut handle) in self.registry.handles() {
            handle.begun().await;
        }
        self.remove_stray_networks().await;
    }

    /// Reads the directory again.
    pub(crate) async fn rescan(&mut self) -> RescanAnswer {
        let changes = self.changes();
        if !changes.is_empty() {
            let found = self.found_now().await;
            let mut effects = Vec::new();
            for change in changes {
                self.enact(change, &found, &mut effects);
            }
            self.carry_out(effects, &found).await;
            self.remove_stray_networks().await;
        }
        self.show_refused();
        RescanAnswer { tenants: self.told.keys().cloned().collect(), refused: self.registry.refused() }
    }

    /// Shows the tenants what is there, and removes what is nobody's.
    pub(crate) async fn show(&mut self, tick: Tick) {
        let tick = Arc::new(tick);
        if let Some((_, counters)) = &tick.counters {
            self.registry.set_drops(counters);
        }
        for (_, handle) in self.registry.handles() {
            handle.show(tick.clone());
        }
        self.remove_orphans(&tick.sight);
        let strays = |services: &Vec<Service>| !self.claims().releases(services).is_empty();
        if tick.services.as_ref().is_some_and(strays) {
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
                        return Ended::Crashed(name);
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

    /// A task has met a bug. What it has done is on the host and in its state file, so another one goes on from
    /// there, as after a crash of the whole daemon.
    pub(crate) async fn revive(&mut self, name: &TenantName) {
        tracing::error!(tenant = %name, "its task has ended by a bug (see above); it is begun again");
        tokio::time::sleep(REVIVAL_PAUSE).await;
        let Some((file, spec)) = self.told.get(name).cloned() else { return };
        let mut found = self.found_now().await;
        let saved = self.host.state.load_all().unwrap_or_default().into_iter();
        found.saved = saved.map(|saved| (saved.spec.name.clone(), saved)).collect();
        let mut effects = Vec::new();
        self.start(file, spec, &mut effects);
        if self.leaving.remove(name) {
            self.leave(name, &mut effects);
        }
        self.carry_out(effects, &found).await;
    }

    /// Nothing is left of a tenant: it may come back now.
    pub(crate) async fn forget(&mut self, name: &TenantName) {
        self.registry.remove(name);
        self.leaving.remove(name);
        self.told.remove(name);
        self.show_logs();
        let mut effects = Vec::new();
        if let Some((file, spec)) = self.waiting.remove(name) {
            self.start(file, spec, &mut effects);
        }
        let found = if effects.is_empty() { Found::default() } else { self.found_now().await };
        self.carry_out(effects, &found).await;
    }

    fn changes(&mut self) -> Vec<Change> {
        self.directory.rescan().unwrap_or_else(|error| {
            tracing::error!(%error, "the tenants' directory can't be read; everything stays in force");
            Vec::new()
        })
    }

    /// Takes a change into what the tenants are told; the effects follow once all changes are taken.
    fn enact(&mut self, change: Change, found: &Found, effects: &mut Vec<Effect>) {
        match change {
            Change::Added { path, tenant } => {
                warn(&tenant);
                self.add(path, tenant.spec, found, effects);
            }
            Change::Changed { path, tenant, .. } => {
                warn(&tenant);
                self.change(&path, tenant.spec, effects);
            }
            Change::Removed { path, before } => {
                self.unchangeable.remove(&path);
                self.waiting.remove(&before.name);
                self.leave(&before.name, effects);
            }
            Change::Refused { path, in_force, diagnostics } => {
                let faults: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                let first = faults.first().and_then(|fault| fault.lines().next()).unwrap_or_default();
                let message = format!("{} is refused: {first}", path.display());
                self.refuse(in_force.as_ref(), &message, &faults);
            }
        }
    }

    fn add(&mut self, file: PathBuf, spec: TenantSpec, found: &Found, effects: &mut Vec<Effect>) {
        if self.leaving.contains(&spec.name) {
            self.waiting.insert(spec.name.clone(), (file, spec));
            return;
        }
        // An edit made while no daemon ran is an edit all the same.
        let Some(saved) = found.saved.get(&spec.name).map(|saved| saved.spec.clone()) else {
            let added = NewEvent::new(EventKind::TenantAdded, format!("from {}", file.display()));
            self.host.events.record(added.of(&spec.name));
            self.start(file, spec, effects);
            return;
        };
        self.start(file.clone(), saved, effects);
        self.change(&file, spec, effects);
    }

    fn start(&mut self, file: PathBuf, spec: TenantSpec, effects: &mut Vec<Effect>) {
        self.told.insert(spec.name.clone(), (file.clone(), spec.clone()));
        self.show_logs();
        effects.push(Effect::Start(file, Box::new(spec)));
    }

    /// Lets central logs know which tenants there are.
    fn show_logs(&self) {
        self.host.logs.set_tenants(self.told.values().map(|(_, spec)| spec));
    }

    fn change(&mut self, file: &Path, spec: TenantSpec, effects: &mut Vec<Effect>) {
        let name = spec.name.clone();
        if let Some(waiting) = self.waiting.get_mut(&name) {
            waiting.1 = spec;
            return;
        }
        let Some((_, told)) = self.told.get_mut(&name) else { return };
        let addresses = self.registry.tenant(&name).map(|handle| handle.addresses()).unwrap_or_default();
        if let Some(reason) = change::refused(told, &spec, &addresses) {
            let fault = format!("{}: error: {reason}", file.display());
            let tenant = Some(name.clone());
            let refused = RefusedFile { file: file.to_owned(), tenant, faults: vec![fault.clone()] };
            self.unchangeable.insert(file.to_owned(), refused);
            self.refuse(Some(&name), &fault, std::slice::from_ref(&fault));
            return;
        }
        self.unchangeable.remove(file);
        *told = spec.clone();
        self.show_logs();
        effects.push(Effect::Tell(name, Message::Changed(Box::new(spec))));
    }

    fn leave(&mut self, name: &TenantName, effects: &mut Vec<Effect>) {
        if self.leaving.insert(name.clone()) {
            effects.push(Effect::Tell(name.clone(), Message::Leave));
        }
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

    fn refuse(&self, tenant: Option<&TenantName>, message: &str, faults: &[String]) {
        let event =
            NewEvent::new(EventKind::TenantRefused, message).with(serde_json::json!({ "faults": faults }));
        self.host.events.record(match tenant {
            Some(tenant) => event.of(tenant),
            None => event,
        });
    }

    fn show_refused(&self) {
        let faulty = self.directory.refused().map(|(file, tenant, diagnostics)| RefusedFile {
            file: file.to_owned(),
            tenant: tenant.cloned(),
            faults: diagnostics.iter().map(ToString::to_string).collect(),
        });
        self.registry.set_refused(faulty.chain(self.unchangeable.values().cloned()));
    }

    /// For a tenant that is new or comes back: what it may have left.
    async fn found_now(&self) -> Found {
        let sight = self.host.clouds.look().await;
        look::report(&self.host.events, &sight.news);
        let services = self.host.balancer.call(|balancer| balancer.services()).await.unwrap_or_default();
        Found { saved: BTreeMap::new(), sight, services }
    }

    /// Instances of tenants that are not, and remains without a label that no tenant is making just now.
    fn remove_orphans(&mut self, sight: &Sight) {
        let orphans: Vec<&Seen> = sight.seen.iter().filter(|seen| self.is_orphan(&seen.observed)).collect();
        for seen in self.unclaimed.overdue(&orphans, sight, Instant::now()) {
            self.remove_orphan(seen);
        }
    }

    fn is_orphan(&self, found: &Observed) -> bool {
        let known = found.spec.as_ref().is_some_and(|spec| self.told.contains_key(&spec.tenant));
        !known && self.registry.find(&found.id).is_none()
    }

    fn remove_orphan(&mut self, Seen { cloud, observed: orphan }: &Seen) {
        self.orphans.retain(|_, removal| !removal.is_finished());
        if self.orphans.contains_key(&orphan.id) {
            return;
        }
        let (host, id, cloud) = (self.host.clone(), orphan.id.clone(), cloud.clone());
        let why = match orphan.presence {
            Presence::Broken => "remains without a label",
            _ => "an instance of a tenant that is not",
        };
        let removal = tokio::spawn(async move {
            let removed = match host.clouds.provider(&cloud) {
                Ok(provider) => provider.delete(&id).await.map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => {
                    host.management.iter().for_each(|management| management.release(&id));
                    let event = NewEvent::new(EventKind::OrphanRemoved, format!("{why}: removed"));
                    host.events.record(event.about(&id));
                }
                Err(error) => {
                    tracing::warn!(%id, %cloud, "{error:#}: an orphan can't be removed; it is tried again");
                }
            }
        });
        self.orphans.insert(orphan.id.clone(), removal);
    }

    /// A tenant that leaves keeps what no other has been given.
    fn claims(&self) -> Claims {
        let tenants = || self.told.values().map(|(_, spec)| spec);
        let leaves = |spec: &&TenantSpec| self.leaving.contains(&spec.name);
        Claims::of(tenants().filter(leaves).chain(tenants().filter(|spec| !leaves(spec))))
    }

    /// Puts the claims of the files in force into the load balancer, which first takes from each service what it no
    /// longer has by them, of all tenants.
    async fn claim(&self) {
        match self.host.balancer.claim(self.claims()).await {
            Ok((steps, error)) => {
                for step in steps {
                    tracing::info!("{step}");
                }
                if let Some(error) = error {
                    tracing::warn!(%error, "a service can't be taken from what had it; it is tried again");
                }
            }
            Err(error) => tracing::error!(%error, "the services can't be put in order"),
        }
    }

    /// Public addresses and networks that no tenant has.
    async fn remove_stray_networks(&self) {
        if let Err(error) = self.try_remove_stray_networks().await {
            tracing::warn!("what no tenant has can't be removed: {error:#}; the next change tries again");
        }
    }

    async fn try_remove_stray_networks(&self) -> anyhow::Result<()> {
        let vips: BTreeSet<_> = self.told.values().flat_map(|(_, spec)| network::vips(spec)).collect();
        for stray in self.host.networks.vips().await?.into_iter().filter(|vip| !vips.contains(vip)) {
            tracing::info!(vip = %stray, "a public address that no tenant has is removed");
            self.host.networks.remove_vip(stray).await?;
        }
        for stray in self.host.networks.list().await? {
            let owner = stray.owner.as_ref().map(|(tenant, _)| tenant);
            // One without an owner may be a network that is being made just now.
            if owner.is_some_and(|owner| !self.told.contains_key(owner)) {
                network::remove_one(&self.host, &stray).await?;
            }
        }
        Ok(())
    }
}

/// What a file says may not do what its author wants.
fn warn(tenant: &northbound::tenant::Tenant) {
    for warning in &tenant.warnings {
        tracing::warn!(tenant = %tenant.spec.name, "{warning}");
    }
}
