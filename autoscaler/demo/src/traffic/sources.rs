//! The clients' own addresses.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

/// The addresses clients send from, taken in turn.
#[derive(Debug, Clone)]
pub struct Sources(Vec<Ipv4Addr>);

impl Sources {
    /// At least one address; each must be one of the client namespace's.
    pub fn new(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Result<Self> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        ensure!(!addresses.is_empty(), "clients need at least one source address");
        Ok(Self(addresses))
    }

    /// The address of the `n`-th flow.
    #[must_use]
    pub fn of(&self, n: u64) -> Ipv4Addr {
        let len = self.0.len() as u64;
        // The remainder is below a `usize`.
        self.0[usize::try_from(n % len).unwrap_or(0)]
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Ipv4Addr] {
        &self.0
    }
}
