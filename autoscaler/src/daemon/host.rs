//! What all tenants share.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_userspace::net::Netns;
use sluice_southbound::management::Management;
use sluice_southbound::networks::Networks;
use sluice_store::Store;

use super::balancer::Balancer;
use super::clouds::Clouds;
use super::events::EventLog;
use super::flow_table::FlowTableWatch;
use super::logs::Logs;
use super::problems::Problems;
use super::state::StateDir;

/// The host and the daemon's hold on it.
pub(crate) struct Host {
    /// The data plane.
    pub(crate) balancer: Balancer,
    /// Where instances run.
    pub(crate) clouds: Clouds,
    /// The tenants' networks and public addresses.
    pub(crate) networks: Networks,
    /// The network on which instances are read and heard; `None` where the host file switches it off.
    pub(crate) management: Option<Arc<Management>>,
    /// The namespace in which the XDP programs run.
    pub(crate) transit: Netns,
    /// What happened.
    pub(crate) events: EventLog,
    /// How full the flow table was at the last poll.
    pub(crate) flow_table: Mutex<FlowTableWatch>,
    /// What is not as it should be.
    pub(crate) problems: Problems,
    /// What outlives the daemon.
    pub(crate) state: StateDir,
    /// Central logs.
    pub(crate) logs: Arc<Logs>,
    /// What is kept of the past.
    pub(crate) store: Store,
    /// From one poll of the host to the next.
    pub(crate) sample_interval: Duration,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("clouds", &self.clouds).finish_non_exhaustive()
    }
}
