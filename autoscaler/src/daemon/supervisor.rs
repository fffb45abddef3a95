//! Which tenants there are: the directory of their files compared with their tasks, and what nobody wants.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_userspace::service::{Service, ServiceKey};
use sluice_logic::group::{GroupState, InstanceId};
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_northbound::api::{EventKind, RefusedFile, RescanAnswer};
use sluice_northbound::watch::{Change, TenantDirectory};
use sluice_southbound::provider::{Observed, Presence};
use tokio::task::{JoinHandle, JoinSet};

use super::change;
use super::events::NewEvent;
use super::host::Host;
use super::network;
use super::registry::Registry;
use super::services::key;
use super::state::SavedTenant;
use super::tenant::{Beginning, Message, Tenant, Tick};

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
    tasks: JoinSet<TenantName>,
}

/// What is there when the daemon begins.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// From the state files, by tenant.
    pub(crate) saved: BTreeMap<TenantName, SavedTenant>,
    /// From the providers.
    pub(crate) observed: Vec<Observed>,
    /// From the load balancer.
    pub(crate) services: Vec<Service>,
}

impl Found {
    /// What is there of one tenant.
    fn beginning(&self, file: PathBuf, spec: TenantSpec) -> Beginning {
        let saved = self.saved.get(&spec.name);
        let mine = |found: &&Observed| found.spec.as_ref().is_some_and(|s| s.tenant == spec.name);
        Beginning {
            group: saved.map_or_else(GroupState::default, |saved| saved.group.clone()),
            former: saved.map(|saved| keys(&saved.spec)).unwrap_or_default(),
            observed: self.observed.iter().filter(mine).cloned().collect(),
            services: self.services.clone(),
            file,
            spec,
        }
    }
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
            tasks: JoinSet::new(),
        }
    }

    /// Takes over what is there, and returns when every tenant has reconciled once: all that was in service is
    /// in service.
    pub(crate) async fn begin(&mut self, found: &Found) {
        let changes = self.changes();
        for change in changes {
            self.enact(change, found).await;
        }
        // Tenants whose files were deleted while no daemon ran.
        for saved in found.saved.values() {
            if !self.told.contains_key(&saved.spec.name) {
                self.start(saved.file.clone(), saved.spec.clone(), found);
                self.leave(&saved.spec.name).await;
            }
        }
        self.show_refused();
        for (_, mut handle) in self.registry.handles() {
            handle.begun().await;
        }
        self.remove_stray_services(&found.services).await;
        self.remove_stray_networks().await;
    }

    /// Reads the directory again.
    pub(crate) async fn rescan(&mut self) -> RescanAnswer {
        let changes = self.changes();
        if !changes.is_empty() {
            let found = self.found_now().await;
            for change in changes {
                self.enact(change, &found).await;
            }
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
        for orphan in tick.observed.iter().flatten() {
            self.remove_orphan(orphan);
        }
        if let Some(services) = &tick.services {
            self.remove_stray_services(services).await;
        }
    }

    /// Waits for a tenant of which nothing is left. Never returns while there is none.
    pub(crate) async fn left(&mut self) -> TenantName {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(name)) => return name,
                Some(Err(error)) => {
                    tracing::error!(%error, "a tenant's task ended by a bug; restart the daemon");
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Nothing is left of a tenant: it may come back now.
    pub(crate) async fn forget(&mut self, name: &TenantName) {
        self.registry.remove(name);
        self.leaving.remove(name);
        self.told.remove(name);
        if let Some((file, spec)) = self.waiting.remove(name) {
            let found = self.found_now().await;
            self.start(file, spec, &found);
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        self.directory.rescan().unwrap_or_else(|error| {
            tracing::error!(%error, "the tenants' directory can't be read; everything stays in force");
            Vec::new()
        })
    }

    async fn enact(&mut self, change: Change, found: &Found) {
        match change {
            Change::Added { path, tenant } => self.add(path, tenant.spec, found).await,
            Change::Changed { path, tenant, .. } => self.change(&path, tenant.spec).await,
            Change::Removed { path, before } => {
                self.unchangeable.remove(&path);
                self.waiting.remove(&before.name);
                self.leave(&before.name).await;
            }
            Change::Refused { path, in_force, diagnostics } => {
                let faults: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                let first = faults.first().and_then(|fault| fault.lines().next()).unwrap_or_default();
                let message = format!("{} is refused: {first}", path.display());
                self.refuse(in_force.as_ref(), &message, &faults);
            }
        }
    }

    async fn add(&mut self, file: PathBuf, spec: TenantSpec, found: &Found) {
        if self.leaving.contains(&spec.name) {
            self.waiting.insert(spec.name.clone(), (file, spec));
            return;
        }
        // An edit made while no daemon ran is an edit all the same.
        let Some(saved) = found.saved.get(&spec.name).map(|saved| saved.spec.clone()) else {
            let added = NewEvent::new(EventKind::TenantAdded, format!("from {}", file.display()));
            self.host.events.record(added.of(&spec.name));
            self.start(file, spec, found);
            return;
        };
        self.start(file.clone(), saved, found);
        self.change(&file, spec).await;
    }

    fn start(&mut self, file: PathBuf, spec: TenantSpec, found: &Found) {
        let name = spec.name.clone();
        let beginning = found.beginning(file.clone(), spec.clone());
        let handle = Tenant::spawn(self.host.clone(), beginning, &mut self.tasks);
        self.told.insert(name.clone(), (file, spec));
        self.registry.add(name, handle);
    }

    async fn change(&mut self, file: &Path, spec: TenantSpec) {
        let name = spec.name.clone();
        if let Some(waiting) = self.waiting.get_mut(&name) {
            waiting.1 = spec;
            return;
        }
        let Some((_, told)) = self.told.get_mut(&name) else { return };
        if let Some(reason) = change::refused(told, &spec) {
            let fault = format!("{}: error: {reason}", file.display());
            let tenant = Some(name.clone());
            let refused = RefusedFile { file: file.to_owned(), tenant, faults: vec![fault.clone()] };
            self.unchangeable.insert(file.to_owned(), refused);
            self.refuse(Some(&name), &fault, std::slice::from_ref(&fault));
            return;
        }
        self.unchangeable.remove(file);
        *told = spec.clone();
        if let Ok(handle) = self.registry.tenant(&name) {
            handle.tell(Message::Changed(Box::new(spec))).await;
        }
    }

    async fn leave(&mut self, name: &TenantName) {
        if let Ok(handle) = self.registry.tenant(name)
            && self.leaving.insert(name.clone())
        {
            handle.tell(Message::Leave).await;
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
        let observed = self.host.provider.list().await.unwrap_or_default();
        let services = self.host.balancer.call(|balancer| balancer.services()).await.unwrap_or_default();
        Found { saved: BTreeMap::new(), observed, services }
    }

    /// An instance of a tenant that is not, or remains without a label that no tenant is making just now.
    fn remove_orphan(&mut self, orphan: &Observed) {
        let known = orphan.spec.as_ref().is_some_and(|spec| self.told.contains_key(&spec.tenant));
        if known || self.registry.find(&orphan.id).is_some() {
            return;
        }
        self.orphans.retain(|_, removal| !removal.is_finished());
        if self.orphans.contains_key(&orphan.id) {
            return;
        }
        let (host, id) = (self.host.clone(), orphan.id.clone());
        let why = match orphan.presence {
            Presence::Broken => "remains without a label",
            _ => "an instance of a tenant that is not",
        };
        let removal = tokio::spawn(async move {
            match host.provider.delete(&id).await {
                Ok(()) => {
                    let event = NewEvent::new(EventKind::OrphanRemoved, format!("{why}: removed"));
                    host.events.record(event.about(&id));
                }
                Err(error) => tracing::warn!(%id, %error, "an orphan can't be removed; it is tried again"),
            }
        });
        self.orphans.insert(orphan.id.clone(), removal);
    }

    /// Services that no tenant has.
    async fn remove_stray_services(&self, services: &[Service]) {
        let wanted: BTreeSet<ServiceKey> = self.told.values().flat_map(|(_, spec)| keys(spec)).collect();
        for stray in services.iter().map(|service| service.key).filter(|key| !wanted.contains(key)) {
            tracing::info!(service = %stray, "a service that no tenant has is removed");
            let removed = self.host.balancer.call(move |balancer| balancer.remove(&stray)).await;
            if let Err(error) = removed.map_err(anyhow::Error::from).and_then(|done| Ok(done?)) {
                tracing::warn!("a stray service can't be removed: {error:#}; it is tried again");
            }
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

fn keys(spec: &TenantSpec) -> Vec<ServiceKey> {
    spec.services.iter().map(key).collect()
}
