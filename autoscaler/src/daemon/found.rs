//! What there is of the tenants when a daemon, or one of their tasks, begins.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lb_userspace::service::Service;
use sluice_logic::group::GroupState;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_southbound::provider::{InstanceSpec, Observed, Presence};

use super::clouds::Snapshot;
use super::state::SavedTenant;
use super::tenant::Beginning;

/// What is there when the daemon begins.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// From the state files, by tenant.
    pub(crate) saved: BTreeMap<TenantName, SavedTenant>,
    /// From the clouds.
    pub(crate) snapshot: Snapshot,
    /// From the load balancer.
    pub(crate) services: Vec<Service>,
}

impl Found {
    /// What is there of one tenant.
    pub(crate) fn beginning(&self, file: PathBuf, spec: TenantSpec) -> Beginning {
        let saved = self.saved.get(&spec.name);
        let seen = self.snapshot.observations.iter().map(|seen| &seen.observed);
        let mine = |found: &&Observed| found.spec.as_ref().is_some_and(|s| s.tenant == spec.name);
        let mut observed: Vec<Observed> = seen.filter(mine).cloned().collect();
        observed.extend(saved.into_iter().flat_map(|saved| self.unanswered(saved)));
        Beginning {
            group: saved.map_or_else(GroupState::default, |saved| saved.group.clone()),
            leaving: saved.and_then(|saved| saved.leaving),
            observed,
            services: self.services.clone(),
            file,
            spec,
        }
    }

    /// The instances there are, also those that clouds that did not answer had.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &InstanceSpec> {
        let hidden = |spec: &&InstanceSpec| !self.snapshot.answered.contains_key(&spec.cloud);
        let saved = self.saved.values().flat_map(|saved| &saved.instances).filter(hidden);
        self.snapshot.observations.iter().filter_map(|seen| seen.observed.spec.as_ref()).chain(saved)
    }

    /// What a tenant had on clouds that do not answer. As long as nobody knows better it runs.
    fn unanswered(&self, saved: &SavedTenant) -> impl Iterator<Item = Observed> {
        let hidden = |spec: &&InstanceSpec| !self.snapshot.answered.contains_key(&spec.cloud);
        saved.instances.iter().filter(hidden).map(|spec| Observed {
            id: spec.id.clone(),
            presence: Presence::Running,
            spec: Some(spec.clone()),
        })
    }
}
