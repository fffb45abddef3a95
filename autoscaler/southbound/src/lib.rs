//! What Sluice does to the world: providers of instances, their metrics, and the tenants' networks.

pub mod addresses;
pub mod bridge_filter;
pub mod cgroup;
pub mod descriptors;
pub mod dhcp;
pub mod docker;
mod instance_locks;
#[cfg(feature = "libvirt")]
pub mod libvirt;
pub mod management;
pub mod metrics;
pub mod neighbour_table;
mod neighbours;
pub mod netns;
pub mod networks;
pub mod outbound;
mod ports;
pub mod probe;
pub mod provider;
pub mod responder;
pub mod scope;
mod secret;
pub mod syslog;
pub mod tags;
pub mod uplink;
