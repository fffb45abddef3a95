//! Why a request of a person or a program is not done.

/// The reason says what, why, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is wrong.
    #[error("{0}")]
    Wrong(String),
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// Right, but not now.
    #[error("{0}")]
    NotNow(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}
