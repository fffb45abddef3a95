//! The processes of an instance.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

/// The command lines of the processes that have `word` in theirs.
pub fn processes_about(word: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end meanwhile.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) {
            found.push(line);
        }
    }
    Ok(found)
}

/// The processes in the namespace of that name: those whose `/proc/<pid>/ns/net` is the same file.
pub fn processes_in(netns: &str) -> Result<Vec<Pid>> {
    let path = Path::new("/run/netns").join(netns);
    let wanted = fs::metadata(&path).with_context(|| format!("no namespace {netns}"))?.st_ino();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // A process may end between the two calls.
        if fs::metadata(entry.path().join("ns/net")).is_ok_and(|file| file.st_ino() == wanted) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
