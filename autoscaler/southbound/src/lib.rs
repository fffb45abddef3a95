//! What Sluice does to the world: providers of instances, their metrics, and the tenants' networks.

pub mod provider;
