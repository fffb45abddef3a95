//! The daemon as a child process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_northbound::client::{Client, ClientError};
use tokio::time::{sleep, timeout};

use super::files::Files;
use crate::host_load::LoadMeter;

/// A daemon that does not answer so long after its start will not.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// So often the API is tried.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// Log lines shown with an error.
const TAIL: usize = 20;

/// Starts `sluice run`; its log lines are added to the log file.
pub(super) fn start(sluice: &Path, files: &Files) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(files.log())
        .context("the daemon's log can't be opened")?;
    let mut command = Command::new(sluice);
    command.arg("run").arg("--config").arg(files.host());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(files.programs()).chain(std::env::split_paths(&inherited));
    command.env("PATH", std::env::join_paths(path).context("PATH")?);
    // Ctrl-C on the terminal is for us; we end the daemon in order.
    command.process_group(0);
    command.spawn().with_context(|| format!("{} can't be started", sluice.display()))
}

/// Waits until the daemon's API answers.
pub(super) async fn ready(daemon: &mut Child, client: &Client, files: &Files) -> Result<()> {
    let pid = daemon.id();
    let meter = LoadMeter::start();
    let answering = async {
        loop {
            if let Some(status) = daemon.try_wait()? {
                bail!("the daemon ended at its start, {status}");
            }
            match client.status().await {
                // The pid tells it from one that is just being killed.
                Ok(status) if status.daemon.pid == pid => return Ok(()),
                Ok(_) | Err(ClientError::NoDaemon(_) | ClientError::Broken { .. }) => sleep(TRY_EVERY).await,
                Err(error) => return Err(error.into()),
            }
        }
    };
    let outcome = timeout(READY_WITHIN, answering).await;
    let outcome = outcome
        .unwrap_or_else(|_| bail!("the daemon did not answer within {READY_WITHIN:?}; {}", meter.read()));
    outcome.with_context(|| format!("the last lines of {}:\n{}", files.log().display(), tail(&files.log())))
}

/// Ends the daemon by `SIGTERM`.
pub(super) async fn stop(mut daemon: Child) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(daemon.id())?), Signal::SIGTERM)?;
    let meter = LoadMeter::start();
    let ended = async {
        while daemon.try_wait()?.is_none() {
            sleep(TRY_EVERY).await;
        }
        anyhow::Ok(())
    };
    let outcome = timeout(READY_WITHIN, ended).await;
    outcome.unwrap_or_else(|_| bail!("the daemon did not end within {READY_WITHIN:?}; {}", meter.read()))
}

/// `sluice down`, also where no daemon runs.
pub(super) fn down(sluice: &Path, files: &Files) -> Result<()> {
    let mut command = Command::new(sluice);
    command.arg("down").arg("--stop").arg("--purge").arg("--config").arg(files.host());
    let done = command.output().with_context(|| format!("{} can't be run", sluice.display()))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "`sluice down` failed, {}: {}", done.status, said.trim());
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
