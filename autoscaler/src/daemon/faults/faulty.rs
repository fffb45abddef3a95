//! A provider that fails when it is told to.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{ProviderKind, TenantName};
use sluice_southbound::netns::NetnsProvider;
use sluice_southbound::provider::{InstanceMetrics, InstanceSpec, Observed, Provider, ProviderError};

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is made.
    CreateFails,
    /// It is half made when the disk is full.
    DiskFull,
    /// It never comes to be started.
    BootHangs,
    /// It runs, and has not the address that it should have.
    NoAddress,
    /// It runs, and never answers on its port.
    NeverHealthy,
    /// It never answers, and can't be removed at first.
    DeleteFails,
}

/// A real provider, and what is wrong with it.
pub(super) struct Faulty {
    inner: NetnsProvider,
    faults: Mutex<BTreeMap<TenantName, Fault>>,
    away: AtomicBool,
}

impl Faulty {
    pub(super) fn around(inner: NetnsProvider) -> Self {
        Self { inner, faults: Mutex::default(), away: AtomicBool::new(false) }
    }

    /// The provider, without faults.
    pub(super) fn inner(&self) -> &NetnsProvider {
        &self.inner
    }

    /// A tenant's instances fail from now on.
    pub(super) fn inject(&self, tenant: &TenantName, fault: Fault) {
        self.faults.lock().unwrap().insert(tenant.clone(), fault);
    }

    /// Nobody's instances fail any more.
    pub(super) fn clear(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Every call fails, or none does.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn fault(&self, id: &InstanceId) -> Option<Fault> {
        let (tenant, _) = id.as_str().rsplit_once('-')?;
        let faults = self.faults.lock().unwrap();
        faults.iter().find(|(name, _)| name.as_str() == tenant).map(|(_, fault)| *fault)
    }

    fn answer(&self) -> Result<(), ProviderError> {
        if self.away.load(Ordering::Relaxed) {
            let reason = "nobody is at home".to_owned();
            return Err(ProviderError::Unavailable { provider: ProviderKind::Docker, reason });
        }
        Ok(())
    }
}

fn failed(id: &InstanceId, step: &'static str, reason: &str) -> ProviderError {
    ProviderError::Step { id: id.clone(), step, reason: reason.to_owned() }
}

#[async_trait]
impl Provider for Faulty {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Docker
    }

    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        self.answer()?;
        let mut spec = spec.clone();
        match self.fault(&spec.id) {
            Some(Fault::CreateFails) => return Err(failed(&spec.id, "making the container", "no image")),
            // Its program listens where nobody probes.
            Some(Fault::NeverHealthy | Fault::DeleteFails) => spec.template.port += 1,
            // What is sent to its address finds nobody.
            Some(Fault::NoAddress) => spec.nic.address = Ipv4Addr::from(u32::from(spec.nic.address) + 100),
            _ => {}
        }
        self.inner.create(&spec).await?;
        match self.fault(&spec.id) {
            Some(Fault::DiskFull) => Err(failed(&spec.id, "unpacking", "no space left on device")),
            _ => Ok(()),
        }
    }

    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.answer()?;
        match self.fault(id) {
            Some(Fault::BootHangs) => std::future::pending().await,
            _ => self.inner.start(id).await,
        }
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        self.answer()?;
        self.inner.stop(id, grace.min(Duration::from_millis(100))).await
    }

    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.answer()?;
        if self.fault(id) == Some(Fault::DeleteFails) {
            // Once for the whole tenant: the next try works.
            let (tenant, _) = id.as_str().rsplit_once('-').unwrap();
            self.faults.lock().unwrap().retain(|name, _| name.as_str() != tenant);
            return Err(failed(id, "removing the container", "no way"));
        }
        self.inner.delete(id).await
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        self.answer()?;
        self.inner.list().await
    }

    async fn ended(&self, id: &InstanceId) {
        self.inner.ended(id).await;
    }

    async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError> {
        self.answer()?;
        self.inner.metrics(spec).await
    }
}
