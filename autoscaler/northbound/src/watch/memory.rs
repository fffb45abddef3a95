//! The last good text of every tenant file, so that a restart doesn't forget what is in force.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::tenant_files;
use crate::file;

/// A directory with a copy of each tenant file as it was last taken, under the file's own name.
#[derive(Debug)]
pub(super) struct Memory {
    directory: PathBuf,
}

impl Memory {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The names and texts. A copy that can't be read is as good as none.
    pub(super) fn recall(&self) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let files = tenant_files(&self.directory)?;
        let read = |path: PathBuf| {
            let bytes = file::read(&path).ok()?;
            Some((PathBuf::from(path.file_name()?), bytes))
        };
        Ok(files.into_iter().filter_map(read).collect())
    }

    /// Keeps a text. After a crash there is the old one or the new one.
    pub(super) fn keep(&self, name: &OsStr, text: &[u8]) -> io::Result<()> {
        let mut hidden = OsStr::new(".").to_owned();
        hidden.push(name);
        let (draft, kept) = (self.directory.join(hidden), self.directory.join(name));
        let mut file = File::create(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(draft, kept)?;
        File::open(&self.directory)?.sync_all()
    }

    pub(super) fn forget(&self, name: &OsStr) -> io::Result<()> {
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
