//! Sluice's load balancer as a library: loader and pins, services, Maglev tables, draining, counters, and the
//! namespaces, veths and bridges around it.
//!
//! [`service`] has the words: services, backends and their states. [`lb`] makes the maps and programs in the kernel what
//! they say, and [`lb::look`] reads what is there from another process. [`net`] has namespaces and links, without BPF.
//! [`object`] is the embedded object, whose maps' layout is [`lb_common::abi`].

pub mod lb;
pub mod net;
pub mod object;
pub mod service;
