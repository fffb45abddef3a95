//! `build-ebpf`, and how the other tasks call cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use bpf_toolchain::{Build, Machine};

use crate::setup::touch;

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// A cargo command in the workspace that embeds the BPF object, whatever the caller's environment says.
pub(crate) fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(arguments).current_dir(workspace()).env_remove("SLUICE_BPF");
    command
}

/// Builds a BPF object into the folder that `lb-userspace`'s build script uses too, and returns its path.
pub(crate) fn object(name: &str) -> Result<PathBuf> {
    let toolchain = bpf_toolchain::find()?;
    eprintln!("BPF toolchain: {toolchain}");
    let (target_dir, machine) = (bpf_target_dir(), Machine::host());
    let build = Build { object: name, workspace: workspace(), target_dir: &target_dir, machine: &machine };
    Ok(bpf_toolchain::build(&toolchain, &build)?)
}

/// The command that lints the programs of a BPF object.
pub(crate) fn lint_object(name: &str) -> Result<Command> {
    let toolchain = bpf_toolchain::find()?;
    let (target_dir, machine) = (bpf_target_dir(), Machine::host());
    let build = Build { object: name, workspace: workspace(), target_dir: &target_dir, machine: &machine };
    bpf_toolchain::lint_command(&toolchain, &build)
        .with_context(|| format!("{} has no clippy: run `cargo xtask setup`", toolchain.rustc.display()))
}

fn bpf_target_dir() -> PathBuf {
    target_dir().join("bpf")
}

/// Builds `sluice` and returns its path.
pub(crate) fn sluice(profile: &str) -> Result<PathBuf> {
    let status = cargo_command(&["build", "--package", "sluice", "--bin", "sluice", "--profile", profile])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("building sluice failed; the compiler's errors are above");
    }
    Ok(sluice_path(profile))
}

/// Where cargo puts `sluice`.
pub(crate) fn sluice_path(profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    target_dir().join(folder).join("sluice")
}

/// Makes the next build embed the object anew. cargo compares times, and a toolchain's files may be older than a
/// build that had to do without them.
pub(crate) fn forget_embedded_object() -> Result<()> {
    touch(&workspace().join("lb-userspace/build.rs"))
}
