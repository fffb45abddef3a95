//! `demo`: the main job on real packets.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::plan::Purpose;
use crate::{build, host, setup};

/// Builds `sluice` and becomes `sluice demo`; returns only if that fails.
pub(crate) fn run(arguments: &[OsString], yes: bool) -> Result<()> {
    host::require_root("demo")?;
    setup::ensure(Purpose::Demo, yes)?;
    let sluice = build::sluice("release")?;
    let error = Command::new(&sluice).arg("demo").args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", sluice.display()))
}
