//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sluice_demo::world::World;

use crate::midday;

/// The program `sluice`: what `SLUICE_BIN` names, otherwise the one beside the test, built now so that it is never
/// an old one.
pub fn sluice() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match std::env::var_os("SLUICE_BIN") {
        Some(path) => Ok(path.into()),
        None => build(&["-p", "sluice"])
            .map(|profile| profile.join("sluice"))
            .map_err(|error| format!("{error:#}; or name a program with SLUICE_BIN")),
    });
    built.clone().map_err(anyhow::Error::msg)
}

/// The responder as a program of its own, for guests: what `SLUICE_RESPONDER` names, otherwise built now.
pub fn responder() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match std::env::var_os("SLUICE_RESPONDER") {
        Some(path) => Ok(path.into()),
        None => build(&["-p", "sluice-southbound", "--example", "responder"])
            .map(|profile| profile.join("examples/responder"))
            .map_err(|error| format!("{error:#}; or name a program with SLUICE_RESPONDER")),
    });
    built.clone().map_err(anyhow::Error::msg)
}

/// Builds something of the workspace beside the test, and returns the folder of its profile.
fn build(what: &[&str]) -> Result<PathBuf> {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("the test is not in a target directory")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet"]).args(what).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    let done = cargo.status().context("cargo can't be run")?;
    ensure!(done.success(), "`cargo build {}` failed", what.join(" "));
    Ok(profile.to_owned())
}

/// What instances have logged, as `sluice export` prints it. It is of this day, also when the test begins before midnight.
pub fn logs(world: &World, args: &[&str]) -> Result<String> {
    let done = world.sluice(&[&["export", "--kind", "logs", "--tz", &midday()], args].concat())?;
    ensure!(done.status.success(), "{done:?}");
    Ok(String::from_utf8(done.stdout)?)
}

/// What `sluice lb` prints of a world's load balancer as JSON.
pub fn lb(world: &World, args: &[&str]) -> Result<Value> {
    let config = world.host_file();
    let config = config.to_str().context("a path in UTF-8")?;
    let done = world.sluice(&[&["lb", "--config", config, "--json"], args].concat())?;
    ensure!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// How many of something a test takes: what the environment says for a longer run, or the default.
#[must_use]
pub fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}
