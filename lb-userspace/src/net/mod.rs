//! Namespaces, links and addresses of the host.
//!
//! [`Netns`] names and enters network namespaces; [`Links`] talks rtnetlink in one of them. Nothing here
//! changes the namespace of the calling thread, and everything can be said twice.

mod address;
mod arp;
mod device;
mod error;
mod link;
mod mac;
mod mounts;
mod neighbour;
mod netns;
mod packet;
mod peer;
mod routes;
mod tags;
mod veth;

pub use address::Address;
pub use arp::Arp;
pub use error::LinkError;
pub use link::{Framing, Link, Links, Mark, XdpAttached};
pub use mac::MacAddr;
pub use neighbour::Neighbour;
pub use netns::Netns;
pub use packet::FrameSender;
pub use peer::{NetnsPath, Offloads, Peer};
pub use routes::DefaultRoutes;
pub use tags::TagOffload;
pub use veth::VethEnd;
