//! How instances are removed, and what is left of none.

use std::time::Duration;

use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use tokio::time::Instant;

use super::{CGROUP_PATIENCE, Inner, process, step, unavailable};
use crate::cgroup::Cgroup;
use crate::provider::ProviderError;

impl Inner {
    pub(super) async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let group = self.group(id);
        process::kill(&group).await.map_err(step(id, "killing"))?;
        self.supervisor_ended(id).await?;
        let supervisors = self.supervisors(id);
        process::kill(&supervisors).await.map_err(step(id, "killing its supervisor"))?;
        self.remove_cgroup(id, &supervisors).await?;
        self.remove_cgroup(id, &group).await?;
        self.ports.unplug(id).await.map_err(step(id, "leaving the network"))?;
        self.remove_namespace(id)?;
        self.labels.remove(id).map_err(step(id, "removing the label"))
    }

    pub(super) async fn remove_cgroup(
        &self,
        id: &InstanceId,
        group: &Cgroup<'_>,
    ) -> Result<(), ProviderError> {
        let deadline = Instant::now() + CGROUP_PATIENCE;
        loop {
            match group.remove() {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(1)).await,
                done => return done.map_err(step(id, "removing the cgroup")),
            }
        }
    }

    pub(super) fn remove_namespace(&self, id: &InstanceId) -> Result<(), ProviderError> {
        Netns::delete(&self.scope.netns(id)).map_err(step(id, "removing the namespace"))
    }

    /// What belongs to no instance: links whose label and alias are both lost, and the scope's own directories.
    pub(super) async fn remove_rest(&self) -> Result<(), ProviderError> {
        self.ports.remove_ownerless().await.map_err(unavailable("a link can't be deleted"))?;
        let parent = self.hierarchies.group(self.scope.cgroup());
        parent.remove().map_err(unavailable("the scope's cgroup can't be removed"))?;
        self.labels.remove_directories().map_err(unavailable("the scope's directory can't be removed"))
    }
}
