//! Which instances the transit namespace knows.

use super::{NetworkError, Networks};
use crate::provider::NicSpec;
use crate::scope::NetworkLinks;

impl Networks {
    /// Makes an instance known in the transit namespace, by its places on its tenant's networks, which are there. Before it
    /// starts: until then the gateways don't answer it, and it is reached from nowhere but by the load balancer.
    pub async fn admit<'a>(&self, nics: impl IntoIterator<Item = &'a NicSpec>) -> Result<(), NetworkError> {
        for (interface, nic) in nics.into_iter().filter_map(gateway_of) {
            self.neighbours.admit(&interface, nic.address, nic.mac).await?;
        }
        Ok(())
    }

    /// Notes the places of an instance that was there before: [`ensure`](Self::ensure) and
    /// [`repair_neighbours`](Self::repair_neighbours) make it known.
    pub fn hold<'a>(&self, nics: impl IntoIterator<Item = &'a NicSpec>) {
        for (interface, nic) in nics.into_iter().filter_map(gateway_of) {
            self.neighbours.hold(&interface, nic.address, nic.mac);
        }
    }

    /// Notes that an instance is gone: [`repair_neighbours`](Self::repair_neighbours) removes what is known of it. None is
    /// a success.
    pub fn release<'a>(&self, nics: impl IntoIterator<Item = &'a NicSpec>) {
        for (interface, nic) in nics.into_iter().filter_map(gateway_of) {
            self.neighbours.release(&interface, nic.address);
        }
    }

    /// Makes what the transit namespace knows of instances whole again, where somebody else has changed it, and removes
    /// what it knows of those that are gone. Whether something was missing.
    pub async fn repair_neighbours(&self) -> Result<bool, NetworkError> {
        Ok(self.neighbours.repair().await?)
    }

    /// Makes the kernel's table of neighbours large enough for what instances on its own kernel have in it, and returns for
    /// how many it has room then; `None` where it is large already.
    pub async fn enlarge_neighbour_table(&self) -> Result<Option<u32>, NetworkError> {
        Ok(self.neighbour_table.enlarge().await?)
    }
}

/// The interface of the transit namespace by which a place on a tenant's network is reached.
fn gateway_of(nic: &NicSpec) -> Option<(String, &NicSpec)> {
    NetworkLinks::of_link(&nic.bridge).map(|links| (links.transit, nic))
}
