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
    setup::ensure(purpose(arguments), yes)?;
    let sluice = build::sluice("release")?;
    let error = Command::new(&sluice).arg("demo").args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", sluice.display()))
}

/// The demo in containers needs more than building does.
fn purpose(arguments: &[OsString]) -> Purpose {
    let in_containers =
        arguments.iter().any(|argument| argument == "docker" || argument == "--provider=docker");
    if in_containers { Purpose::Containers } else { Purpose::Demo }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_need_a_dockerd() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(purpose(&words("--provider docker")), Purpose::Containers);
        assert_eq!(purpose(&words("--provider=docker --json")), Purpose::Containers);
        assert_eq!(purpose(&words("--json")), Purpose::Demo);
    }
}
