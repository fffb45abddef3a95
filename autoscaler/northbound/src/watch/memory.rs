//! The last good text of every tenant file, so that a restart doesn't forget what is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::tenant_files;
use crate::file;

/// A directory with a copy of each tenant file as it was last taken, under the file's own name; or none.
#[derive(Debug, Default)]
pub(super) struct Memory {
    directory: Option<PathBuf>,
    /// What it has, by the tenant files' paths.
    kept: BTreeMap<PathBuf, Vec<u8>>,
    /// Files whose texts could not be kept; the log says so.
    unkept: BTreeSet<PathBuf>,
}

impl Memory {
    /// The copies in `directory`, which is made, of the files in `tenants`. One that can't be read is as good as none.
    pub(super) fn open(directory: &Path, tenants: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut kept = BTreeMap::new();
        for path in tenant_files(directory)? {
            if let (Ok(text), Some(name)) = (file::read(&path), path.file_name()) {
                kept.insert(tenants.join(name), text);
            }
        }
        Ok(Self { directory: Some(directory.to_owned()), kept, unkept: BTreeSet::new() })
    }

    /// The texts, by the tenant files' paths.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.kept.iter().map(|(path, text)| (path.as_path(), text.as_slice()))
    }

    /// Whether it has this text of a file.
    pub(super) fn has(&self, path: &Path, text: &[u8]) -> bool {
        self.kept.get(path).is_some_and(|kept| kept == text)
    }

    /// Keeps a text. What can't be kept is in force all the same; it would only not outlive a bad edit and a restart.
    pub(super) fn keep(&mut self, path: &Path, text: &[u8]) {
        let (Some(directory), Some(name)) = (&self.directory, path.file_name()) else { return };
        if self.has(path, text) {
            return;
        }
        match write(directory, name, text) {
            Ok(()) => {
                self.kept.insert(path.to_owned(), text.to_owned());
                self.unkept.remove(path);
            }
            // Tried again at each scan, and said once.
            Err(error) => {
                if self.unkept.insert(path.to_owned()) {
                    tracing::warn!(path = %path.display(), %error, "the tenant file can't be remembered");
                }
            }
        }
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.kept.remove(path);
        self.unkept.remove(path);
        let (Some(directory), Some(name)) = (&self.directory, path.file_name()) else { return };
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the tenant file can't be forgotten");
            }
            _ => {}
        }
    }
}

/// Writes a copy. After a crash there is the old one or the new one.
fn write(directory: &Path, name: &OsStr, text: &[u8]) -> io::Result<()> {
    let mut hidden = OsStr::new(".").to_owned();
    hidden.push(name);
    let (draft, kept) = (directory.join(hidden), directory.join(name));
    let mut file = File::create(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(draft, kept)?;
    File::open(directory)?.sync_all()
}
