//! What this host has: facts for the plan, read without changing anything.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::tools::Sign;

/// Whether this process may do what root may: `/proc/self` belongs to the effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Fails with the way out where the process isn't root.
pub(crate) fn require_root(task: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!(
        "`{task}` loads BPF programs and makes network namespaces, so it needs root: run `sudo ./x {task}`"
    );
}

/// Where a program is: on `PATH` or in the folders of root's programs, which are not on everybody's `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether what a package brings is there.
pub(crate) fn has(sign: Sign) -> bool {
    match sign {
        Sign::Program(name) => program(name).is_some(),
        Sign::Library(name) => succeeds(Path::new("pkg-config"), &["--exists", name]),
    }
}

/// Whether a command runs and succeeds; what it prints is dropped.
pub(crate) fn succeeds(program: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether the cargo that runs this task is one of rustup's toolchains.
pub(crate) fn cargo_is_rustups() -> bool {
    env::var_os("RUSTUP_TOOLCHAIN").is_some()
}

/// The version of a Debian package that is installed.
pub(crate) fn apt_installed(package: &str) -> Option<String> {
    let format = "${db:Status-Status} ${Version}";
    let output = Command::new("dpkg-query").args(["-W", "-f", format, package]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).strip_prefix("installed ").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        assert!(program("sh").is_some());
        assert_eq!(program("no-such-program-anywhere"), None);
    }
}
