//! What all tenants share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_userspace::net::Netns;
use sluice_logic::spec::CloudName;
use sluice_southbound::networks::Networks;
use sluice_southbound::provider::Provider;
use sluice_store::Store;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::balancer::Balancer;
use super::events::EventLog;
use super::state::StateDir;

/// The host and the daemon's hold on it.
pub(crate) struct Host {
    /// The data plane.
    pub(crate) balancer: Balancer,
    /// Where instances run.
    pub(crate) provider: Arc<dyn Provider>,
    /// The cloud that it is.
    pub(crate) cloud: CloudName,
    /// The tenants' networks and public addresses.
    pub(crate) networks: Networks,
    /// The namespace in which the XDP programs run.
    pub(crate) transit: Netns,
    /// What happened.
    pub(crate) events: EventLog,
    /// What outlives the daemon.
    pub(crate) state: StateDir,
    /// What is kept of the past.
    pub(crate) store: Store,
    /// The instances that may yet be made, where their number is limited.
    pub(crate) slots: Option<Slots>,
    /// From one look at the host to the next.
    pub(crate) sample_interval: Duration,
}

/// The room for instances on this host.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    capacity: u32,
}

impl Slots {
    /// Room for so many instances of all tenants together.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(capacity as usize)), capacity }
    }

    /// Takes a place; it is given back when it is dropped.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit> {
        let full = || format!("this host is full: {} instances are its `capacity`", self.capacity);
        self.free.clone().try_acquire_owned().with_context(full)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("provider", &self.provider.kind()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_host_takes_no_more_until_one_leaves() {
        let slots = Slots::new(2);
        let (first, _second) = (slots.take().unwrap(), slots.take().unwrap());
        assert!(slots.take().unwrap_err().to_string().contains('2'));
        drop(first);
        assert!(slots.take().is_ok());
    }
}
