//! Where the store is, and how much it keeps.

use std::path::PathBuf;
use std::time::Duration;

use crate::table::Table;

/// The store's file and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The database file; its directory is made.
    pub path: PathBuf,
    /// How much is kept.
    pub limits: Limits,
    /// What was gathered is written so often: a crash loses no more than that.
    pub flush_every: Duration,
}

impl Settings {
    /// The store in that file, with limits and the usual time between two writes.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { path: path.into(), limits, flush_every: Duration::from_secs(5) }
    }
}

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Samples as they were taken.
    pub fine: Duration,
    /// One-minute roll-ups of instances.
    pub instances: Duration,
    /// One-minute roll-ups of groups.
    pub groups: Duration,
    /// Decisions.
    pub decisions: Duration,
    /// The file's size, bytes. What is oldest of the tenant that has most goes first.
    pub size: u64,
}

impl Limits {
    pub(crate) fn of(&self, table: Table) -> Duration {
        match table {
            Table::Fine => self.fine,
            Table::Instances => self.instances,
            Table::Groups => self.groups,
            Table::Decisions => self.decisions,
        }
    }

    /// The bytes that rows may have. The file is up to three times as large: a B-tree's pages are about two thirds
    /// full, a commit writes changed pages beside the old ones, and free ones are not always where they are needed.
    pub(crate) fn rows(&self) -> u64 {
        self.size / 4
    }
}

impl Default for Limits {
    /// Six hours, four weeks, five weeks, 30 days, 1 GiB.
    fn default() -> Self {
        const HOUR: Duration = Duration::from_hours(1);
        Self {
            fine: 6 * HOUR,
            instances: 28 * 24 * HOUR,
            groups: 35 * 24 * HOUR,
            decisions: 30 * 24 * HOUR,
            size: 1 << 30,
        }
    }
}
