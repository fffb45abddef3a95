//! What the tenants' directory holds, read at one moment.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::writers;
use crate::file;

/// A hidden file that the daemon keeps in the tenants' directory. Where it is missing, the directory may be the empty
/// place of a filesystem that is not mounted.
pub const MARKER: &str = ".sluice-tenants";

const MARKER_TEXT: &str = "Sluice knows this directory by this file: where it is missing, \
                           as in the empty place of a filesystem that is not mounted,\n\
                           the tenants whose files are missing stay in force. Leave it here.\n";

/// Which file, and how it was last changed: alike as long as nobody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) stamp: Stamp,
    /// How long before the reading it was changed last, by the clock of the wall.
    pub(super) age: Duration,
}

/// What came of reading one file.
#[derive(Debug)]
pub(super) enum Reading {
    /// All of it, and nobody had it open for writing.
    Whole(Text),
    /// Somebody writes to it.
    BeingWritten,
    /// The directory has the name, but what it names can't be read, or is no file.
    Unreadable(io::Error),
}

/// What the tenants' directory holds.
#[derive(Debug)]
pub struct Listing {
    /// The tenant files.
    pub(super) files: BTreeMap<PathBuf, Reading>,
    /// Whether the daemon's marker is there.
    pub(super) is_marked: bool,
    /// Device and inode of the directory.
    pub(super) identity: (u64, u64),
}

impl Listing {
    /// Reads the directory. With `mark`, a marker is put into it where there is none; that it can't be is no error.
    ///
    /// # Errors
    /// The directory can't be read. That says nothing about its tenants.
    pub fn read(directory: &Path, mark: bool) -> io::Result<Self> {
        let metadata = fs::metadata(directory)?;
        let marker = directory.join(MARKER);
        if mark
            && !marker.exists()
            && let Err(error) = fs::write(&marker, MARKER_TEXT)
        {
            tracing::debug!(%error, marker = %marker.display(), "the tenants' directory can't be marked");
        }
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if super::has_tenant_name(&path)
                && let Some(reading) = read(&path)
            {
                files.insert(path, reading);
            }
        }
        Ok(Self { files, is_marked: marker.exists(), identity: (metadata.dev(), metadata.ino()) })
    }
}

/// Reads one file; `None` where there is none any more.
fn read(path: &Path) -> Option<Reading> {
    match try_read(path) {
        Ok(reading) => Some(reading),
        // A link to nowhere is a name that is there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => None,
        Err(error) => Some(Reading::Unreadable(error)),
    }
}

fn try_read(path: &Path) -> io::Result<Reading> {
    // Before it is opened: a FIFO would block.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let file = File::open(path)?;
    let before = file.metadata()?;
    let bytes = file::read_open(&file)?;
    let after = file.metadata()?;
    if Stamp::of(&before) != Stamp::of(&after) || writers::has_writer(&file) {
        return Ok(Reading::BeingWritten);
    }
    let changed = SystemTime::UNIX_EPOCH
        + Duration::new(
            u64::try_from(after.ctime()).unwrap_or(0),
            u32::try_from(after.ctime_nsec()).unwrap_or(0),
        );
    let age = SystemTime::now().duration_since(changed).unwrap_or_default();
    Ok(Reading::Whole(Text { bytes, stamp: Stamp::of(&after), age }))
}
