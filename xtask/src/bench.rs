//! `bench`: the measurements are a package of their own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, cargo_command, workspace};
use crate::tools::Purpose;
use crate::{host, setup};

/// Builds the benchmarks and becomes them; returns only if that fails.
pub(crate) fn run(arguments: &[OsString], yes: bool) -> Result<()> {
    if !workspace().join("bench/Cargo.toml").is_file() {
        bail!("there is no package in {}", workspace().join("bench").display());
    }
    host::require_root("bench")?;
    setup::ensure(Purpose::Bench, yes)?;
    let object = build::object(bpf_toolchain::BENCH_OBJECT)?;
    let mut command = cargo_command(&["run", "--quiet", "--release", "--package", "sluice-bench", "--"]);
    Err(command.arg("--object").arg(object).args(arguments).exec()).context("cannot run cargo")
}
