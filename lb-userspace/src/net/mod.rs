//! Namespaces, links and addresses of the host.

mod mac;
mod netns;

pub use mac::MacAddr;
pub use netns::Netns;
