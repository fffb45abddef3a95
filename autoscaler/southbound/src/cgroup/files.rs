//! The kernel's files of control groups.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::CgroupError;

/// A cgroup mount of `/proc/self/mountinfo` (proc(5)).
pub(super) struct Mount {
    pub(super) version: u8,
    pub(super) path: PathBuf,
    pub(super) options: Vec<String>,
}

impl Mount {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        let mut fields = filesystem.split(' ');
        let version = match fields.next()? {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => return None,
        };
        let options = fields.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Self { version, path: PathBuf::from(path), options })
    }
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

pub(super) fn number(path: PathBuf) -> Result<u64, CgroupError> {
    let text = read(&path)?;
    text.trim().parse().map_err(|_| CgroupError::Form { path, text })
}

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|error| failed("reading", path, error))
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|error| failed("writing", path, error))
}

/// Writes a file that not every kernel has.
pub(super) fn optional(path: &Path, value: &str) -> Result<(), CgroupError> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

pub(super) fn failed(operation: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Io { operation, path: path.to_owned(), source }
}
