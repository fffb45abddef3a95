//! What is on the host and of no tenant.

use std::collections::BTreeSet;

use sluice_northbound::api::EventKind;
use sluice_southbound::provider::{Observed, Presence};
use tokio::time::Instant;

use super::Supervisor;
use crate::daemon::clouds::{Observation, Snapshot};
use crate::daemon::events::NewEvent;
use crate::daemon::network;
use crate::daemon::services::Claims;

impl Supervisor {
    /// Instances of tenants that are not, and remains without a label that no tenant is making just now.
    pub(super) fn remove_orphans(&mut self, snapshot: &Snapshot) {
        if !self.knows_all() {
            return;
        }
        let orphans: Vec<&Observation> =
            snapshot.observations.iter().filter(|seen| self.is_orphan(&seen.observed)).collect();
        for seen in self.orphans.overdue(&orphans, snapshot, Instant::now()) {
            self.remove_orphan(seen);
        }
    }

    fn is_orphan(&self, found: &Observed) -> bool {
        let known = found.spec.as_ref().is_some_and(|spec| self.told.contains_key(&spec.tenant));
        !known && self.registry.find(&found.id).is_none()
    }

    fn remove_orphan(&mut self, Observation { cloud, observed: orphan }: &Observation) {
        self.removals.retain(|_, removal| !removal.is_finished());
        if self.removals.contains_key(&orphan.id) {
            return;
        }
        let (host, id, cloud) = (self.host.clone(), orphan.id.clone(), cloud.clone());
        let spec = orphan.spec.clone();
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
                    if let Some(spec) = spec {
                        host.networks.release(spec.tenant_nics());
                    }
                    host.management.iter().for_each(|management| management.release(&id));
                    let event = NewEvent::new(EventKind::OrphanRemoved, format!("{why}: removed"));
                    host.events.record(event.about(&id));
                }
                Err(error) => {
                    tracing::warn!(%id, %cloud, "{error:#}: an orphan can't be removed; it is tried again");
                }
            }
        });
        self.removals.insert(orphan.id.clone(), removal);
    }

    /// What the files in force give to whom: a tenant that leaves keeps what it has.
    pub(super) fn claims(&self) -> Claims {
        Claims::of(self.told.values().map(|(_, spec)| spec), self.knows_all())
    }

    /// Puts the claims of the files in force into the load balancer, which first takes from each service what it no
    /// longer has by them, of all tenants.
    pub(super) async fn claim(&self) {
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
    pub(super) async fn remove_stray_networks(&self) {
        if !self.knows_all() {
            return;
        }
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
