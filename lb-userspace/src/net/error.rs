//! Why a link is not as it should be.

use std::io;

/// Why something could not be done to a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket in the namespace.
    #[error("no netlink socket in {netns}: {source}")]
    Socket {
        /// The namespace.
        netns: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused; `EPERM` means that the process is not root.
    #[error("{operation} {link} in {netns} failed: {source}")]
    Refused {
        /// What was asked, as a verb.
        operation: &'static str,
        /// The interface.
        link: String,
        /// The namespace.
        netns: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such interface.
    #[error("there is no interface {link} in {netns}")]
    Missing {
        /// The interface.
        link: String,
        /// The namespace.
        netns: String,
    },
    /// An interface of that name exists, and somebody else made it.
    #[error(
        "interface {link} in {netns} is in the way: it is {found}, not ours; rename or remove it (`ip link del`)"
    )]
    Foreign {
        /// The interface.
        link: String,
        /// The namespace.
        netns: String,
        /// What it is.
        found: String,
    },
    /// A bridge's port carries no frames though it should.
    #[error(
        "bridge port {link} in {netns} carries no frames: see that its bridge and its other end are up (`ip link`)"
    )]
    NotForwarding {
        /// The port.
        link: String,
        /// The namespace.
        netns: String,
    },
    /// Netlink answered something that makes no sense, or the connection is gone.
    #[error("{operation} {link} in {netns} failed: {reason}")]
    Protocol {
        /// What was asked.
        operation: &'static str,
        /// The interface.
        link: String,
        /// The namespace.
        netns: String,
        /// What came back.
        reason: String,
    },
}

impl LinkError {
    /// The kernel's error number, where the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
