//! `build-ebpf`, and where things are in the workspace.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bpf_toolchain::{Build, Machine};

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Builds the BPF object into the folder that `lb-userspace`'s build script uses too, and returns its path.
pub(crate) fn object() -> Result<PathBuf> {
    let toolchain = bpf_toolchain::find()?;
    eprintln!("BPF toolchain: {toolchain}");
    let machine = Machine::host();
    let build = Build { workspace: workspace(), target_dir: &target_dir().join("bpf"), machine: &machine };
    let object = bpf_toolchain::build(&toolchain, &build)?;
    let size = object.metadata().with_context(|| format!("cannot read {}", object.display()))?.len();
    eprintln!("{} ({size} bytes)", object.display());
    Ok(object)
}
