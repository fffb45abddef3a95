//! `sluice run`.

use super::Failure;
use super::args::RunArgs;
use super::check::host_config;
use crate::daemon;

/// Runs the daemon in the foreground.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = host_config(&args.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(daemon::run(config));
    // What still blocks (a namespace being made) is found again by the next daemon.
    runtime.shutdown_background();
    Ok(result?)
}
