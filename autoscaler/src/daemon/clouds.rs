//! The clouds of this host: their providers, the room in them, and how they have failed.

mod driver;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
#[cfg(feature = "libvirt")]
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::future::join_all;
use sluice_logic::group::InstanceId;
use sluice_logic::placement::{self, Health, NoPlace, Offer};
#[cfg(feature = "libvirt")]
use sluice_logic::spec::AccelChoice;
use sluice_logic::spec::{CloudName, CloudSpec, ProviderKind, ProviderSpec, TemplateSpec, TenantName};
use sluice_northbound::api::{CloudStatus, CloudTrouble};
use sluice_southbound::docker::DockerProvider;
#[cfg(feature = "libvirt")]
use sluice_southbound::libvirt::{LibvirtProvider, LibvirtSettings};
use sluice_southbound::netns::NetnsProvider;
use sluice_southbound::provider::{Observed, Provider};
use sluice_southbound::scope::Scope;
use tokio::time::Instant;

use self::driver::{Driver, LIST_TIMEOUT, Listed};
use super::backoff::Backoff;

/// A poll that comes again soon waits no longer for a provider: one that hangs holds up no other cloud's instances.
const BRIEFLY: Duration = Duration::from_millis(200);

/// The clouds, the most preferred one first.
pub(crate) struct Clouds {
    clouds: Vec<Cloud>,
    /// Clouds with the same provider share what is there.
    drivers: Vec<Driver>,
}

struct Cloud {
    spec: CloudSpec,
    driver: usize,
    used: Arc<AtomicU32>,
    /// Launches that have failed, by tenant: one tenant's bad image is not another's concern.
    troubles: Mutex<BTreeMap<TenantName, Trouble>>,
}

struct Trouble {
    backoff: Backoff,
    reason: String,
}

/// A place in a cloud; it is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something of ours that was seen, and where.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) cloud: CloudName,
    pub(crate) observed: Observed,
}

/// What was listed in one poll.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) observations: Vec<Observation>,
    /// What is there and may be anybody's.
    pub(crate) undecided: BTreeSet<InstanceId>,
    /// The clouds that have answered, and when they were asked: of the others nothing is known.
    pub(crate) answered: BTreeMap<CloudName, Instant>,
    /// Clouds that do not answer any more, with the reason, or that do so again.
    pub(crate) news: Vec<(CloudName, Option<String>)>,
}

impl Clouds {
    /// Opens the providers; none of them has to answer yet. To be called on a tokio runtime.
    pub(crate) fn open(scope: &Scope, clouds: &[CloudSpec]) -> Result<Self> {
        Self::with(clouds, |spec| provider(scope, spec))
    }

    /// The same with providers from elsewhere.
    pub(crate) fn with(
        clouds: &[CloudSpec],
        mut open: impl FnMut(&CloudSpec) -> Result<Arc<dyn Provider>>,
    ) -> Result<Self> {
        let mut specs = clouds.to_vec();
        placement::sort_by_preference(&mut specs);
        let mut all = Self { clouds: Vec::new(), drivers: Vec::new() };
        for spec in specs {
            let known = all.drivers.iter().position(|driver| driver.spec == spec.provider);
            let driver = if let Some(driver) = known {
                driver
            } else {
                all.drivers.push(Driver::new(spec.provider.clone(), open(&spec)?));
                all.drivers.len() - 1
            };
            all.clouds.push(Cloud { spec, driver, used: Arc::default(), troubles: Mutex::default() });
        }
        Ok(all)
    }

    /// The provider of a cloud.
    pub(crate) fn provider(&self, cloud: &CloudName) -> Result<&Arc<dyn Provider>> {
        let found = self.find(cloud).map(|cloud| &self.drivers[cloud.driver].provider);
        found.ok_or_else(|| anyhow!("there is no cloud `{cloud}` in the host file any more"))
    }

    /// The providers, each once, with the name of a cloud that it is for.
    pub(crate) fn providers(&self) -> impl Iterator<Item = (&CloudName, &Arc<dyn Provider>)> {
        self.drivers.iter().enumerate().filter_map(|(number, driver)| {
            let cloud = self.clouds.iter().find(|cloud| cloud.driver == number)?;
            Some((&cloud.spec.name, &driver.provider))
        })
    }

    /// The place of a cloud in the order of preference; one that is not in the host file any more comes last.
    pub(crate) fn rank(&self, cloud: &CloudName) -> usize {
        let place = self.clouds.iter().position(|known| known.spec.name == *cloud);
        place.unwrap_or(self.clouds.len())
    }

    /// Finds the cloud for a tenant's next instance, and takes a place there.
    pub(crate) fn place(
        &self,
        tenant: &TenantName,
        template: &TemplateSpec,
        now: Instant,
    ) -> Result<(CloudName, Place), NoPlace> {
        loop {
            let offers: Vec<Offer<'_>> =
                self.clouds.iter().map(|cloud| self.offer(cloud, tenant, now)).collect();
            let chosen = placement::place(template, &offers)?.name.clone();
            // Another tenant may have taken the last place meanwhile.
            if let Some(place) = self.find(&chosen).and_then(Cloud::take) {
                return Ok((chosen, place));
            }
        }
    }

    fn offer<'a>(&self, cloud: &'a Cloud, tenant: &TenantName, now: Instant) -> Offer<'a> {
        let backed_off = |trouble: &Trouble| !trouble.backoff.allows(now);
        let health = if lock(&self.drivers[cloud.driver].listing).fault.is_some() {
            Health::Unreachable
        } else if lock(&cloud.troubles).get(tenant).is_some_and(backed_off) {
            Health::BackedOff
        } else {
            Health::Good
        };
        Offer { cloud: &cloud.spec, used: cloud.used.load(Ordering::Relaxed), health }
    }

    /// A place for what is there already, even where there is more than there may be.
    pub(crate) fn occupy(&self, cloud: &CloudName) -> Option<Place> {
        self.find(cloud).map(Cloud::occupy)
    }

    /// A tenant's instance has failed there before it had worked. Returns for how long it gets no other one.
    pub(crate) fn failed(
        &self,
        cloud: &CloudName,
        tenant: &TenantName,
        reason: &str,
        now: Instant,
        jitter: f64,
    ) -> Duration {
        let Some(cloud) = self.find(cloud) else { return Duration::ZERO };
        let mut troubles = lock(&cloud.troubles);
        let fresh = || Trouble { backoff: Backoff::default(), reason: String::new() };
        let trouble = troubles.entry(tenant.clone()).or_insert_with(fresh);
        reason.clone_into(&mut trouble.reason);
        trouble.backoff.failed(now, jitter)
    }

    /// A tenant's instance works there.
    pub(crate) fn works(&self, cloud: &CloudName, tenant: &TenantName) {
        if let Some(cloud) = self.find(cloud) {
            lock(&cloud.troubles).remove(tenant);
        }
    }

    /// Nothing is left of a tenant.
    pub(crate) fn forget(&self, tenant: &TenantName) {
        for cloud in &self.clouds {
            lock(&cloud.troubles).remove(tenant);
        }
    }

    /// Looks at what is there now, lets the providers repair what instances need beside themselves, and waits for every
    /// provider that answers at all. One that has failed is not asked again before its back-off is over.
    pub(crate) async fn poll(&self) -> Snapshot {
        // A moment longer than it may take, so that a provider that does not answer is known for it.
        self.poll_within(LIST_TIMEOUT + BRIEFLY, Some(Instant::now())).await
    }

    /// The same for who polls again soon: what a provider has not said in a moment is in a later poll.
    pub(crate) async fn poll_briefly(&self) -> Snapshot {
        self.poll_within(BRIEFLY, None).await
    }

    async fn poll_within(&self, patience: Duration, not_before: Option<Instant>) -> Snapshot {
        let lists = join_all(self.drivers.iter().map(|driver| driver.list(patience, not_before))).await;
        let mut snapshot = Snapshot::default();
        for (number, listed) in lists.iter().enumerate() {
            let names =
                || self.clouds.iter().filter(|cloud| cloud.driver == number).map(|cloud| &cloud.spec.name);
            match listed {
                Listed::Unknown => {}
                Listed::Failed { reason, is_news } => {
                    let news = names().filter(|_| *is_news);
                    snapshot.news.extend(news.map(|name| (name.clone(), Some(reason.clone()))));
                }
                Listed::Found { began, observed, is_news } => {
                    let news = names().filter(|_| *is_news);
                    snapshot.news.extend(news.map(|name| (name.clone(), None)));
                    snapshot.answered.extend(names().map(|name| (name.clone(), *began)));
                    let names: Vec<&CloudName> = names().collect();
                    for found in observed {
                        if self.may_be_anothers(found, number, &lists) {
                            snapshot.undecided.insert(found.id.clone());
                        } else {
                            snapshot.observations.extend(attributed(&names, found.clone()));
                        }
                    }
                }
            }
        }
        snapshot
    }

    /// Whether what a dockerd calls remains without a label may have its label at another one: their bridge ports look
    /// alike.
    fn may_be_anothers(&self, found: &Observed, at: usize, lists: &[Listed]) -> bool {
        let is_dockers = |driver: &Driver| driver.spec.kind() == ProviderKind::Docker;
        let mut others = self.drivers.iter().zip(lists).enumerate().filter(|(number, _)| *number != at);
        found.spec.is_none()
            && is_dockers(&self.drivers[at])
            && others.any(|(_, (driver, listed))| {
                is_dockers(driver)
                    && match listed {
                        Listed::Found { observed, .. } => {
                            observed.iter().any(|other| other.id == found.id && other.spec.is_some())
                        }
                        Listed::Unknown | Listed::Failed { .. } => true,
                    }
            })
    }

    /// What `sluice clouds` shows.
    pub(crate) fn status(&self, now: Instant) -> Vec<CloudStatus> {
        self.clouds.iter().map(|cloud| self.status_of(cloud, now)).collect()
    }

    fn status_of(&self, cloud: &Cloud, now: Instant) -> CloudStatus {
        let spec = &cloud.spec;
        let trouble = |(tenant, trouble): (&TenantName, &Trouble)| CloudTrouble {
            tenant: tenant.clone(),
            reason: trouble.reason.clone(),
            backed_off_for: trouble.backoff.left(now).as_secs_f64(),
        };
        let listing = lock(&self.drivers[cloud.driver].listing);
        CloudStatus {
            name: spec.name.clone(),
            kind: spec.provider.kind(),
            address: spec.provider.to_string(),
            zone: spec.zone.clone(),
            priority: spec.priority,
            price_per_hour: spec.price_per_hour,
            capacity: spec.capacity,
            used: cloud.used.load(Ordering::Relaxed),
            fault: listing.fault.clone(),
            asked_again_in: listing.fault.is_some().then(|| listing.backoff.left(now).as_secs_f64()),
            troubles: lock(&cloud.troubles).iter().map(trouble).collect(),
        }
    }

    fn find(&self, name: &CloudName) -> Option<&Cloud> {
        self.clouds.iter().find(|cloud| cloud.spec.name == *name)
    }
}

impl fmt::Debug for Clouds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clouds.iter().map(|cloud| &cloud.spec.name)).finish()
    }
}

impl Cloud {
    fn take(&self) -> Option<Place> {
        let more = |used: u32| self.spec.capacity.is_none_or(|capacity| used < capacity).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(&self.used)))
    }

    fn occupy(&self) -> Place {
        self.used.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(&self.used))
    }
}

/// Whose of a provider's clouds something is: what its label says; the first one's where that is none of them, as
/// after a change of names.
fn attributed(clouds: &[&CloudName], mut observed: Observed) -> Option<Observation> {
    let first = *clouds.first()?;
    let labelled = observed.spec.as_ref().map(|spec| &spec.cloud);
    let cloud = clouds.iter().copied().find(|cloud| labelled == Some(*cloud)).unwrap_or(first).clone();
    if let Some(spec) = &mut observed.spec {
        spec.cloud = cloud.clone();
    }
    Some(Observation { cloud, observed })
}

fn provider(scope: &Scope, cloud: &CloudSpec) -> Result<Arc<dyn Provider>> {
    Ok(match &cloud.provider {
        ProviderSpec::Netns => Arc::new(NetnsProvider::open(scope.clone())?),
        ProviderSpec::Docker(address) => Arc::new(DockerProvider::open(scope.clone(), address.clone())?),
        #[cfg(feature = "libvirt")]
        ProviderSpec::Libvirt { uri, pool, accel } => libvirt(scope, uri, pool.as_deref(), *accel)?,
        #[cfg(not(feature = "libvirt"))]
        ProviderSpec::Libvirt { .. } => anyhow::bail!(
            "the cloud `{}`: this program was built without libvirt: build it with the feature `libvirt`",
            cloud.name
        ),
    })
}

#[cfg(feature = "libvirt")]
fn libvirt(scope: &Scope, uri: &str, pool: Option<&Path>, accel: AccelChoice) -> Result<Arc<dyn Provider>> {
    let default = || format!("/var/lib/libvirt/{}", scope.name());
    let pool = pool.map_or_else(default, |pool| pool.display().to_string());
    let settings = LibvirtSettings { uri: uri.to_owned(), pool, accel };
    Ok(Arc::new(LibvirtProvider::open(scope.clone(), &settings)?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
