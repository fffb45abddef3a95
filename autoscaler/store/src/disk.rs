//! The database file: opened, repaired, set aside when it is damaged, written and read.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use redb::{Builder, Database, Error, ReadableDatabase, StorageError, WriteTransaction};

use crate::table;

/// Memory for pages: the newest rows are what is read and written.
const CACHE: usize = 16 << 20;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be used now; it is tried again with the next write.
    #[error("the store {} is not open: {reason}", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it open.
    #[error("the store {} is in use by another process: ask the daemon, or stop it first", .0.display())]
    InUse(PathBuf),
    /// Reading or writing failed.
    #[error("the store {} failed: {source}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// How.
        source: Error,
    },
    /// The content of the file is not what it should be; it is set aside with the next write.
    #[error("the store {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    /// Why it is not open, where it isn't.
    state: RwLock<Result<Database, String>>,
    /// Whether a reader or the writer has met damage since it was opened.
    damaged: AtomicBool,
}

impl Disk {
    /// Nothing is opened yet.
    pub(crate) fn new(path: &Path) -> Self {
        let state = RwLock::new(Err("it has not been opened".to_owned()));
        Self { path: path.to_owned(), state, damaged: AtomicBool::new(false) }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).is_ok()
    }

    /// Whether damage was met since it was opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Opens the file anew; one that is damaged is set aside, and a new one begun. Returns what it was set aside as.
    ///
    /// After a crash redb takes up the last commit. Where damage was met every page's checksum is verified first: not
    /// after any other fault, as a full disk is tried again every few seconds.
    pub(crate) fn open(&self) -> Result<Option<PathBuf>, StoreError> {
        let check = self.damaged.swap(false, Ordering::Relaxed);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        close(&mut state);
        let opened = match self.attempt(check) {
            Err(StoreError::Damaged { reason, .. }) => {
                let aside = self.set_aside(&reason);
                aside.and_then(|aside| Ok((self.attempt(false)?, Some(aside))))
            }
            opened => opened.map(|database| (database, None)),
        };
        match opened {
            Ok((database, aside)) => {
                *state = Ok(database);
                Ok(aside)
            }
            Err(error) => {
                *state = Err(error.to_string());
                Err(error)
            }
        }
    }

    /// Opens the file as it is, for reading while no daemon runs; nothing is made or set aside.
    pub(crate) fn open_existing(&self) -> Result<(), StoreError> {
        if !self.path.exists() {
            let reason = "there is no such file".to_owned();
            return Err(StoreError::Closed { path: self.path.clone(), reason });
        }
        let opened = self.guarded(|| Ok(builder(false).open(&self.path)?))?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Ok(opened);
        Ok(())
    }

    fn attempt(&self, check: bool) -> Result<Database, StoreError> {
        self.guarded(|| {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory).map_err(StorageError::from)?;
            }
            let database = builder(check).create(&self.path)?;
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            table::create(&transaction)?;
            transaction.commit()?;
            Ok(database)
        })
    }

    fn set_aside(&self, reason: &str) -> Result<PathBuf, StoreError> {
        let aside = self.path.with_extension("damaged");
        fs::rename(&self.path, &aside).map_err(|error| self.explain(StorageError::from(error).into()))?;
        tracing::error!(
            file = %self.path.display(),
            reason,
            "the store is damaged: it is now {}, and a new one is begun",
            aside.display()
        );
        Ok(aside)
    }

    /// Changes the database in one step.
    pub(crate) fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), StoreError> {
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            // A crash is repaired without a walk over the whole file.
            transaction.set_quick_repair(true);
            work(&transaction)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Reads what was last committed.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        self.with(|database| work(&database.begin_read()?))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            Ok(database) => {
                let done = self.guarded(|| work(database));
                if matches!(done, Err(StoreError::Damaged { .. })) {
                    self.damaged.store(true, Ordering::Relaxed);
                }
                done
            }
            Err(reason) => Err(StoreError::Closed { path: self.path.clone(), reason: reason.clone() }),
        }
    }

    /// redb trusts a file that it has closed itself; where another has changed it since, redb may panic.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => done.map_err(|error| self.explain(error)),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
                let reason = format!("reading it ended in a panic: {}", said.unwrap_or("without a word"));
                Err(StoreError::Damaged { path: self.path.clone(), reason })
            }
        }
    }

    fn explain(&self, error: Error) -> StoreError {
        let path = self.path.clone();
        let foreign = |kind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
        match &error {
            Error::DatabaseAlreadyOpen => StoreError::InUse(path),
            Error::Io(io) if foreign(io.kind()) => StoreError::Damaged { path, reason: io.to_string() },
            Error::Corrupted(_)
            | Error::UpgradeRequired(_)
            | Error::TableTypeMismatch { .. }
            | Error::TypeDefinitionChanged { .. }
            | Error::TableIsMultimap(_)
            | Error::LockPoisoned(_) => StoreError::Damaged { path, reason: error.to_string() },
            _ => StoreError::Failed { path, source: error },
        }
    }
}

fn builder(check: bool) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(check);
    builder
}

/// A database that has met a panic may meet another one while it is closed.
fn close(state: &mut Result<Database, String>) {
    let before = std::mem::replace(state, Err("it is being opened".to_owned()));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(before)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What redb says of a fault of the disk, and of a page that is not what it was.
    fn fault(disk: &Disk, error: Error) {
        assert!(disk.read(|_| -> Result<(), Error> { Err(error) }).is_err());
    }

    #[test]
    fn only_damage_has_the_whole_file_checked_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(&directory.path().join("store.redb"));
        assert_eq!(disk.open().unwrap(), None);
        fault(&disk, Error::Io(io::Error::from(io::ErrorKind::StorageFull)));
        assert!(!disk.is_damaged());
        fault(&disk, Error::Corrupted("a page".to_owned()));
        fault(&disk, Error::Io(io::Error::from(io::ErrorKind::StorageFull)));
        assert!(disk.is_damaged(), "a reader's word counts too");
        assert_eq!(disk.open().unwrap(), None, "it was sound");
        assert!(!disk.is_damaged());
    }
}
