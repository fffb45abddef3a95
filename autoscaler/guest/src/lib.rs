//! What an instance has inside, be it a container or a virtual machine: programs of this host with the libraries that
//! they load, and scripts for a busybox that ask for addresses, tell metrics and send the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::NamedTempFile;

/// Debian's `busybox-static` puts it there.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Scripts with their places in the image. `etc/dhcp INTERFACE` asks for an address and keeps it;
/// `etc/manage ADDRESS [LOG-SERVER]` answers there on port 9100, `/metrics`, as `node_exporter` does, and sends what is
/// logged to the server. They need `sh`, `awk`, `grep`, `hostname`, `ip`, `logger`, `nc`, `sed`, `sleep`, `syslogd` and
/// `udhcpc` of [`busybox`] in the path, and the folder `var/log`.
pub const SCRIPTS: [(&str, &str); 4] = [
    ("etc/dhcp", include_str!("dhcp")),
    ("etc/lease", include_str!("lease")),
    ("etc/manage", include_str!("manage")),
    ("etc/exporter", include_str!("exporter")),
];

/// A program of this host.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub content: Vec<u8>,
    /// What it loads, the loader among them; none where it is static. They have the same paths in an image.
    pub libraries: Vec<PathBuf>,
}

impl Program {
    /// A program as it is.
    pub fn of(path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { content, libraries: libraries(path)? })
    }

    /// A program without its debug information, which is most of one that cargo builds. Where that can't be removed it
    /// stays.
    pub fn stripped(path: &Path) -> Result<Self> {
        let Ok(content) = strip(path) else { return Self::of(path) };
        Ok(Self { content, libraries: libraries(path)? })
    }
}

/// The busybox of this host, which loads nothing.
pub fn busybox() -> Result<Program> {
    if !Path::new(BUSYBOX).exists() {
        bail!("{BUSYBOX} is missing: `apt-get install busybox-static`, or `./x setup`");
    }
    Program::of(Path::new(BUSYBOX))
}

fn strip(program: &Path) -> Result<Vec<u8>> {
    let small = NamedTempFile::new()?;
    let status = Command::new("strip").arg("-o").arg(small.path()).arg(program).output()?.status;
    ensure!(status.success(), "strip failed ({status})");
    Ok(fs::read(small.path())?)
}

fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} can't run on this host: {}", program.display(), line.trim());
    }
    Ok(paths(&text))
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or the loader's path alone.
fn paths(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007f5a)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f5b)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f5c)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths(text), expected.map(PathBuf::from));
        assert!(paths("\tstatically linked\n").is_empty());
    }

    /// This test is a program that cargo has built.
    #[test]
    fn a_stripped_program_is_less_than_half_of_it_and_runs() {
        let own = std::env::current_exe().expect("a path");
        let (whole, small) = (Program::of(&own).expect("read"), Program::stripped(&own).expect("read"));
        assert!(small.content.len() * 2 < whole.content.len(), "{}", small.content.len());
        assert_eq!(small.libraries, whole.libraries);
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("small");
        fs::copy(&own, &path).expect("its mode");
        fs::write(&path, &small.content).expect("written");
        let listed = Command::new(&path).arg("--list").output().expect("it runs");
        assert!(String::from_utf8_lossy(&listed.stdout).contains("runs: test"), "{listed:?}");
    }
}
