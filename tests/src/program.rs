//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// The program `sluice`: what `SLUICE_BIN` names, otherwise the one beside the test, built now so that it is never
/// an old one.
pub fn sluice() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match std::env::var_os("SLUICE_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("the test is not in a target directory")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "sluice"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    let done = cargo.status().context("cargo can't be run")?;
    ensure!(done.success(), "`cargo build -p sluice` failed; or name a program with SLUICE_BIN");
    Ok(profile.join("sluice"))
}
