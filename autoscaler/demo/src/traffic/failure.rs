//! What can go wrong with a client's exchange.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;

/// The kind of a failed exchange; the name under which it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The connection was refused: a RST in answer to the SYN.
    Refused,
    /// A RST on an open connection.
    Reset,
    /// The other side ended the connection before we did.
    ClosedByPeer,
    /// No answer in time.
    Timeout,
    /// Another instance answered than the one that holds the flow.
    OtherInstance,
    /// An answer that is not what was asked for.
    BadAnswer,
    /// An ICMP error: network, host, protocol or port unreachable.
    Unreachable,
    /// Anything else the socket said.
    Socket,
}

/// A failed exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// What was seen, for people.
    pub detail: String,
}

impl Failure {
    /// No answer within `limit` to what `step` names.
    #[must_use]
    pub fn timeout(step: &str, limit: std::time::Duration) -> Self {
        Self { kind: FailureKind::Timeout, detail: format!("{step}: nothing within {limit:?}") }
    }

    /// The other side ended the connection first.
    #[must_use]
    pub fn closed_by_peer(step: &str) -> Self {
        Self { kind: FailureKind::ClosedByPeer, detail: format!("{step}: end of stream") }
    }

    /// An answer that is not what was asked for.
    #[must_use]
    pub fn bad_answer(answer: &str) -> Self {
        Self { kind: FailureKind::BadAnswer, detail: format!("unexpected answer {answer:?}") }
    }

    /// An answer of another instance than the one that holds the flow.
    #[must_use]
    pub fn other_instance(expected: &InstanceId, found: &InstanceId) -> Self {
        Self { kind: FailureKind::OtherInstance, detail: format!("{found} answered on a flow of {expected}") }
    }

    /// What the socket said while `step` was done.
    #[must_use]
    pub fn socket(step: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => FailureKind::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => FailureKind::Reset,
            io::ErrorKind::UnexpectedEof => FailureKind::ClosedByPeer,
            io::ErrorKind::TimedOut => FailureKind::Timeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => FailureKind::Unreachable,
            _ => FailureKind::Socket,
        };
        Self { kind, detail: format!("{step}: {error}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for Failure {}
