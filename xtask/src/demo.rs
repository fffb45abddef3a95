//! `demo`: the main job on real packets.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tools::Purpose;
use crate::{build, host, images, setup};

/// Builds `sluice` and becomes `sluice demo`; returns only if that fails.
pub(crate) fn run(arguments: &[OsString], yes: bool) -> Result<()> {
    host::require_root("demo")?;
    let purpose = purpose(arguments);
    setup::ensure(purpose, yes)?;
    if purpose == Purpose::Machines {
        images::machine()?;
    }
    let sluice = build::sluice("release")?;
    let error = Command::new(&sluice).arg("demo").args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", sluice.display()))
}

/// The demo in containers or virtual machines needs more than building does.
fn purpose(arguments: &[OsString]) -> Purpose {
    let has = |words: [&str; 2]| arguments.iter().any(|argument| words.iter().any(|word| argument == word));
    if has(["docker", "--provider=docker"]) {
        Purpose::Containers
    } else if has(["libvirt", "--provider=libvirt"]) {
        Purpose::Machines
    } else {
        Purpose::Demo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_need_what_they_run_on() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(purpose(&words("--provider docker")), Purpose::Containers);
        assert_eq!(purpose(&words("--provider=docker --json")), Purpose::Containers);
        assert_eq!(purpose(&words("--provider libvirt")), Purpose::Machines);
        assert_eq!(purpose(&words("--provider=libvirt --json")), Purpose::Machines);
        assert_eq!(purpose(&words("--json")), Purpose::Demo);
    }
}
