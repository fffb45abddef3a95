//! Sluice's load balancer as a library: loader and pins, services, Maglev tables, draining, counters, and the
//! namespaces, veths and bridges around it.

pub mod lb;
pub mod net;
pub mod object;
pub mod service;
