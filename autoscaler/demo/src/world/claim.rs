//! One world of a name at a time.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context as _, Result, bail};

/// A name that is taken for as long as this lives: the kernel lets go of it however the process ends.
///
/// It is an abstract Unix socket (`unix(7)`), which needs no file that somebody would have to remove.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held, not read")] UnixListener);

impl Claim {
    pub(super) fn take(name: &str) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("sluice-world-{name}"))?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                bail!("`{name}` is in use by another process on this host: wait for its end, or end it")
            }
            Err(error) => Err(error).with_context(|| format!("`{name}` can't be claimed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once() {
        let first = Claim::take("claim_test").expect("free");
        let refused = Claim::take("claim_test").expect_err("taken").to_string();
        assert!(refused.contains("claim_test"), "{refused}");
        drop(first);
        Claim::take("claim_test").expect("free again");
    }
}
