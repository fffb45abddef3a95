//! A world of one's own: a client namespace, a transit namespace, and a daemon that serves them.
//!
//! ```text
//! <name>-client                 <name>-transit              the host's namespace
//!   cl0 198.51.100.2–65/24 ───── up0 198.51.100.1/24          tenants' bridges and instances,
//!   (clients' sockets)           (XDP; the VIPs)              made by `sluice run`
//! ```
//!
//! Everything carries the world's name. It is removed when the world is dropped; what a killed process has left is
//! found by that name and removed by the next start.

mod network;

pub use network::{CLIENT_LINK, GATEWAY, Network, UPLINK};
