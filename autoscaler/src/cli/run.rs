//! `sluice run`.

use sluice_southbound::descriptors;

use super::Failure;
use super::which::WhichDaemon;

/// Runs the daemon in the foreground.
pub(super) fn run(daemon: &WhichDaemon) -> Result<(), Failure> {
    let (config, scope) = daemon.host_config()?;
    // Connections of syslog alone may be thousands, and probes and providers need some as well. What the daemon starts has
    // the same limit: responders raise theirs anyway, and dnsmasq and nft have only a few open, whatever they may.
    descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(crate::daemon::run(config, scope));
    // What still blocks (a namespace being made) is found again by the next daemon.
    runtime.shutdown_background();
    Ok(result?)
}
