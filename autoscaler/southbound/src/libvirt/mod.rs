//! The `libvirt` provider: an instance is a virtual machine.
//!
//! A libvirt is reached by its URI; it may be on another host, and then so are its images. What exists of an instance
//! is found by the label in its domain's metadata, and by the names of its files in the storage pool (see [`Scope`]).
//! The label is written before anything else and removed after everything else. A domain without our label is never
//! touched, whatever its name.
//!
//! The library blocks, so each call has a thread and a time limit of its own.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{AccelChoice, LibvirtTemplate, ProviderKind};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use crate::dhcp::{DhcpError, DhcpNetwork, DhcpServers, Lease};
use crate::instance_locks::InstanceLocks;
use crate::provider::{InstanceMetrics, InstanceSpec, Observed, Presence, Provider, ProviderError};
use crate::scope::Scope;

mod accel;
mod connection;
mod domain;
mod password;
mod pool;
mod seed;
mod xml;

use accel::Accel;
use connection::{Connection, Fault};
use domain::Own;
use pool::PoolPlace;

const KIND: ProviderKind = ProviderKind::Libvirt;

/// A question is answered within this.
const ANSWER: Duration = Duration::from_secs(10);
/// A domain and its files are made, started or removed within this, also on a host that does ten at once.
const WORK: Duration = Duration::from_mins(1);

/// Between two looks at a domain that is about to end.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two looks at a domain that may end some day.
const WATCH: Duration = Duration::from_secs(1);

/// A libvirt, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtSettings {
    /// As `virsh -c` takes it: `qemu:///system`, `qemu+ssh://root@host/system`.
    pub uri: String,
    /// The directory of disks and seeds, on libvirt's host. It is made if need be.
    pub pool: String,
    /// How guests run.
    pub accel: AccelChoice,
}

/// Makes instances of virtual machines. Cheap to clone; clones are one provider.
#[derive(Debug, Clone)]
pub struct LibvirtProvider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scope: Scope,
    place: PoolPlace,
    choice: AccelChoice,
    connection: Connection,
    /// By which guests get their addresses.
    servers: DhcpServers,
    /// Found out when the first instance is made.
    accel: OnceCell<Accel>,
    /// One at a time finds out: what it makes has a name.
    trial: Mutex<()>,
    locks: InstanceLocks,
}

impl LibvirtProvider {
    /// The provider of a scope. Nothing is connected yet: a libvirt that isn't there is a fault of each call. To be
    /// called on a tokio runtime.
    pub fn open(scope: Scope, settings: &LibvirtSettings) -> Result<Self, ProviderError> {
        Ok(Self(Arc::new(Inner {
            place: PoolPlace::of(&scope, &settings.pool),
            servers: DhcpServers::open(scope.clone(), &settings.uri).map_err(unavailable)?,
            scope,
            choice: settings.accel,
            connection: Connection::to(&settings.uri),
            accel: OnceCell::new(),
            trial: Mutex::default(),
            locks: InstanceLocks::default(),
        })))
    }

    /// Does `work` on an instance once its lock is free, on a thread of its own and to the end even if nobody waits
    /// any more: what is half made would otherwise be met by a later call on the same instance.
    async fn on<T, F>(&self, id: &InstanceId, step: &'static str, work: F) -> Result<T, ProviderError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &Connect) -> Result<T, Fault> + Send + 'static,
    {
        let lock = self.0.locks.take(id).await;
        let inner = Arc::clone(&self.0);
        let work = move |connect: &Connect| {
            let _lock = lock;
            work(&inner, connect)
        };
        self.0.connection.call(WORK, work).await.map_err(failed(id, step))
    }

    /// Reserves the instance's addresses on all its networks.
    async fn lease(&self, spec: &InstanceSpec) -> Result<(), DhcpError> {
        for nic in spec.nics() {
            let lease = Lease { id: spec.id.clone(), mac: nic.mac, address: nic.address };
            let network = DhcpNetwork {
                bridge: nic.bridge.clone(),
                subnet: nic.subnet(),
                router: nic.gateway,
                log_server: (spec.management.as_ref() == Some(nic)).then(|| nic.manager()),
            };
            self.0.servers.lease(&network, &lease).await?;
        }
        Ok(())
    }

    /// How guests run here.
    async fn accel(&self) -> Result<Accel, Fault> {
        let decide = || {
            let inner = Arc::clone(&self.0);
            self.0.connection.call(WORK, move |connect| {
                // One that nobody waits for any more goes on.
                let _alone = inner.trial.lock().unwrap_or_else(PoisonError::into_inner);
                let pool = inner.place.ensure(connect)?;
                accel::decide(connect, &inner.scope, &pool, inner.choice)
            })
        };
        self.0.accel.get_or_try_init(decide).await.copied()
    }

    /// Whether it runs; `None` where there is no such instance.
    async fn is_running(&self, id: &InstanceId) -> Result<Option<bool>, Fault> {
        let (inner, id) = (Arc::clone(&self.0), id.clone());
        self.0.connection.call(ANSWER, move |connect| inner.is_running(connect, &id)).await
    }

    /// Waits until it no longer runs, at most until `deadline`. Whether it has ended.
    async fn wait_for_end(&self, id: &InstanceId, deadline: Instant) -> Result<bool, Fault> {
        while self.is_running(id).await? == Some(true) {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
        Ok(true)
    }
}

#[async_trait]
impl Provider for LibvirtProvider {
    fn kind(&self) -> ProviderKind {
        KIND
    }

    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        const STEP: &str = "making the virtual machine";
        let accel = self.accel().await.map_err(failed(&spec.id, STEP))?;
        self.lease(spec).await.map_err(|error| not_done(&spec.id, STEP, &error))?;
        let owned = spec.clone();
        self.on(&spec.id, STEP, move |inner, connect| inner.create(connect, accel, &owned)).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let own = id.clone();
        let started = self.on(id, "starting", move |inner, connect| inner.start(connect, &own)).await?;
        started.ok_or_else(|| ProviderError::Unknown(id.clone()))
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        const STEP: &str = "stopping";
        let deadline = Instant::now() + grace;
        let own = id.clone();
        let asked = self.on(id, STEP, move |inner, connect| inner.ask_to_end(connect, &own)).await?;
        let hears = asked.ok_or_else(|| ProviderError::Unknown(id.clone()))?;
        if hears && self.wait_for_end(id, deadline).await.map_err(failed(id, STEP))? {
            return Ok(());
        }
        let own = id.clone();
        self.on(id, STEP, move |inner, connect| inner.switch_off(connect, &own)).await
    }

    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError> {
        const STEP: &str = "removing";
        let own = id.clone();
        self.on(id, STEP, move |inner, connect| inner.delete(connect, &own)).await?;
        // It has no more use for its addresses.
        self.0.servers.release(id).await.map_err(|error| not_done(id, STEP, &error))
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let inner = Arc::clone(&self.0);
        self.0.connection.call(ANSWER, move |connect| inner.list(connect)).await.map_err(unavailable)
    }

    async fn maintain(&self) -> Result<(), ProviderError> {
        self.0.servers.maintain().await.map_err(unavailable)
    }

    async fn remove_all(&self) -> Result<Vec<InstanceId>, ProviderError> {
        let mut removed = Vec::new();
        for observed in self.list().await? {
            self.delete(&observed.id).await?;
            removed.push(observed.id);
        }
        let inner = Arc::clone(&self.0);
        let done = self.0.connection.call(WORK, move |connect| inner.remove_pool(connect)).await;
        done.map_err(unavailable)?;
        self.0.servers.sweep().await.map_err(unavailable)?;
        Ok(removed)
    }

    async fn ended(&self, id: &InstanceId) {
        loop {
            match self.is_running(id).await {
                Ok(Some(true)) => {}
                Ok(Some(false) | None) => return,
                // A libvirt that is away says nothing of its guests.
                Err(error) => tracing::debug!(%id, %error, "whether it runs is not known"),
            }
            sleep(WATCH).await;
        }
    }

    async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError> {
        let (inner, own) = (Arc::clone(&self.0), spec.clone());
        let read = self.0.connection.call(ANSWER, move |connect| inner.metrics(connect, &own)).await;
        let unknown = || ProviderError::Unknown(spec.id.clone());
        read.map_err(failed(&spec.id, "reading the metrics"))?.ok_or_else(unknown)
    }
}

/// The steps of an instance's life. Each can be done again, also after a crash in its middle.
impl Inner {
    fn create(&self, connect: &Connect, accel: Accel, spec: &InstanceSpec) -> Result<(), Fault> {
        let vm = template(spec)?;
        domain::check_machine(connect, accel, vm)?;
        let name = self.scope.domain(&spec.id);
        let pool = self.place.ensure(connect)?;
        let document = domain::document(&self.scope, &self.place, accel, spec, vm)?;
        if let Some(own) = domain::find(connect, &self.scope, &spec.id)? {
            if own.domain.is_active()? {
                return Ok(());
            }
        } else {
            // First of all: whatever is made from here on, the label says whose it is.
            Domain::define_xml_flags(connect, &document, sys::VIR_DOMAIN_DEFINE_VALIDATE)?;
        }
        if let Some(disk) = vm.boot.disk() {
            pool.make_overlay(&name, disk)?;
        }
        pool.make_seed(connect, &name, &seed::image(spec, vm)?)
    }

    fn start(&self, connect: &Connect, id: &InstanceId) -> Result<Option<()>, Fault> {
        let Some(own) = domain::find(connect, &self.scope, id)? else { return Ok(None) };
        if !own.domain.is_active()? {
            own.domain.create()?;
        }
        Ok(Some(()))
    }

    /// Whether it may hear that.
    fn ask_to_end(&self, connect: &Connect, id: &InstanceId) -> Result<Option<bool>, Fault> {
        let Some(own) = domain::find(connect, &self.scope, id)? else { return Ok(None) };
        if matches!(domain::presence(&own)?, Presence::Halted(_)) {
            return Ok(Some(false));
        }
        match own.domain.shutdown() {
            // It has ended meanwhile.
            Err(error) if error.code() == ErrorNumber::OperationInvalid => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        Ok(Some(true))
    }

    fn switch_off(&self, connect: &Connect, id: &InstanceId) -> Result<(), Fault> {
        match domain::find(connect, &self.scope, id)? {
            Some(own) => domain::vanishing(domain::switch_off(&own.domain)).map(|_| ()),
            None => Ok(()),
        }
    }

    fn delete(&self, connect: &Connect, id: &InstanceId) -> Result<(), Fault> {
        let own = domain::find(connect, &self.scope, id);
        if let Ok(Some(Own { domain, .. })) = &own {
            domain::switch_off(domain)?;
        }
        if let Some(pool) = self.place.open(connect)? {
            pool.delete_of(&self.scope.domain(id))?;
        }
        match own {
            Ok(Some(own)) => domain::vanishing(domain::undefine(&own.domain)).map(|_| ()),
            Ok(None) | Err(Fault::Foreign(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

impl Inner {
    /// Removes the pool, and what a crash has left there of finding out how guests run.
    fn remove_pool(&self, connect: &Connect) -> Result<(), Fault> {
        if let Some(pool) = self.place.open(connect)? {
            match accel::clear(connect, &self.scope, &pool) {
                Ok(()) | Err(Fault::Foreign(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.place.remove(connect)
    }
}

/// What is there.
impl Inner {
    fn list(&self, connect: &Connect) -> Result<Vec<Observed>, Fault> {
        let mut found = Vec::new();
        for (id, own) in domain::list(connect, &self.scope)? {
            let Some(presence) = domain::vanishing(domain::presence(&own))? else { continue };
            found.push(Observed { id, presence, spec: own.spec });
        }
        let known: BTreeSet<InstanceId> = found.iter().map(|observed| observed.id.clone()).collect();
        let files: BTreeSet<InstanceId> = match self.place.open(connect)? {
            Some(pool) => pool.instances(&self.scope)?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        let leases = self.servers.instances().map_err(|error| Fault::Other(error.to_string()))?;
        let orphans = files.union(&leases).filter(|id| !known.contains(id)).cloned();
        found.extend(orphans.map(|id| Observed { id, presence: Presence::Broken, spec: None }));
        Ok(found)
    }

    fn is_running(&self, connect: &Connect, id: &InstanceId) -> Result<Option<bool>, Fault> {
        let Some(own) = domain::find(connect, &self.scope, id)? else { return Ok(None) };
        domain::vanishing(own.domain.is_active().map_err(Fault::from))
    }

    fn metrics(&self, connect: &Connect, spec: &InstanceSpec) -> Result<Option<InstanceMetrics>, Fault> {
        let Some(own) = domain::find(connect, &self.scope, &spec.id)? else { return Ok(None) };
        domain::vanishing(domain::metrics(&own.domain, spec))
    }
}

/// What the instance is on this kind of cloud.
fn template(spec: &InstanceSpec) -> Result<&LibvirtTemplate, Fault> {
    spec.template.libvirt.as_ref().ok_or_else(|| {
        Fault::Other(format!(
            "the template of `{}` does not say what a virtual machine is: it needs `libvirt`",
            spec.tenant
        ))
    })
}

fn failed(id: &InstanceId, step: &'static str) -> impl FnOnce(Fault) -> ProviderError {
    let id = id.clone();
    move |fault| match fault {
        fault if fault.is_outage() => unavailable(fault),
        fault => ProviderError::Step { id, step, reason: fault.to_string() },
    }
}

fn not_done(id: &InstanceId, step: &'static str, error: &DhcpError) -> ProviderError {
    ProviderError::Step { id: id.clone(), step, reason: error.to_string() }
}

fn unavailable(fault: impl Display) -> ProviderError {
    ProviderError::Unavailable { provider: KIND, reason: fault.to_string() }
}

#[cfg(test)]
mod tests;
