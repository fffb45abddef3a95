//! How a tenant goes, with all that is there of it.

use sluice_northbound::api::EventKind;

use super::Tenant;
use super::problems::Work;
use crate::daemon::network;

impl Tenant {
    /// Begins to remove everything of the tenant.
    pub(super) async fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        let message = format!("{} is gone: its instances and networks are removed", self.file.display());
        self.host.events.record(self.event(EventKind::TenantLeaving, message));
        self.vips.restart(|_| false);
        // Before the services go: without them the kernel itself would answer for the addresses.
        let withdrawn = network::withdraw(&self.host, &self.spec).await;
        self.outcome(Work::Addresses, withdrawn);
    }

    /// Removes what is left when the instances are gone. Whether nothing is.
    pub(super) async fn vanish(&mut self) -> bool {
        // A write that is on its way would bring the state file back.
        if !self.services.is_empty() || self.saving.is_running() {
            return false;
        }
        let removed = network::remove(&self.host, &self.spec).await;
        if self.outcome(Work::Network, removed).is_none() {
            return false;
        }
        let forgotten = self.host.state.forget(&self.spec.name).map_err(anyhow::Error::from);
        if self.outcome(Work::State, forgotten).is_none() {
            return false;
        }
        self.host.clouds.forget(&self.spec.name);
        self.host.events.record(self.event(EventKind::TenantRemoved, "nothing is left of it"));
        true
    }
}
