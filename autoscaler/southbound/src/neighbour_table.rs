//! Room in the kernel's table of IPv4 neighbours.
//!
//! The table is one for all namespaces of a host. What Sluice has in it doesn't count ([`crate::networks::Networks::admit`]).
//! But an instance in a namespace or a container runs on the host's own kernel: whom it asks for on its tenant's networks, and
//! who asks for it there, is in the table too. By default there is room for 1,024, a quarter of what one network of 20 bits
//! may have, and then the host finds no client on its uplink's link any more that it doesn't know. So the table is made
//! larger, as far as it isn't already, and what it was stands in a file until it is that again.
//!
//! The kernel shows the limits in its first network namespace alone: this process's, or else that of process 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lb_userspace::net::Netns;

/// Above so many, neighbours that nobody has used for five seconds go (`net.ipv4.neigh.default.gc_thresh2`).
const SOFT: (&str, u32) = ("ipv4/neigh/default/gc_thresh2", 1 << 17);
/// There are no more than so many (`gc_thresh3`): what instances in 64 networks of 20 bits may ask for. Each takes half a
/// kilobyte of the kernel's memory while it is there.
const HARD: (&str, u32) = ("ipv4/neigh/default/gc_thresh3", 1 << 18);

/// Why the table can't be made larger, or what it was.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourTableError {
    /// Its limits can't be read or set.
    #[error(
        "the limits of the kernel's table of neighbours can't be {what}: {source}; on the host itself: \
         `sysctl -w net.ipv4.neigh.default.gc_thresh3={}`", HARD.1
    )]
    Limits {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The record can't be read or written.
    #[error("{}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task was cancelled, as only the end of the runtime does.
    #[error("a task has failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The limits of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    soft: u32,
    hard: u32,
}

/// Ours.
const LARGE: Limits = Limits { soft: SOFT.1, hard: HARD.1 };

impl Limits {
    /// What they become, so that there is room; `None` where there is.
    fn enlarged(self) -> Option<Self> {
        (self.hard < LARGE.hard).then(|| Self { soft: self.soft.max(LARGE.soft), hard: LARGE.hard })
    }

    /// What they become again; `None` where somebody has set others meanwhile.
    fn restored(self, before: Self) -> Option<Self> {
        (before.enlarged() == Some(self)).then_some(before)
    }

    /// Reads a line of the record. One that a crash has cut is of limits that weren't changed yet.
    fn parse(text: &str) -> Option<Self> {
        let (soft, hard) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { soft: soft.parse().ok()?, hard: hard.parse().ok()? })
    }
}

/// The table, as one daemon has made it.
#[derive(Debug, Clone)]
pub(crate) struct NeighbourTable {
    record: PathBuf,
}

impl NeighbourTable {
    /// With its record in a file whose directory is there while a daemon runs.
    pub(crate) fn new(record: PathBuf) -> Self {
        Self { record }
    }

    /// Makes it large where it isn't, and returns for how many it has room then.
    pub(crate) async fn enlarge(&self) -> Result<Option<u32>, NeighbourTableError> {
        let record = self.record.clone();
        tokio::task::spawn_blocking(move || {
            let kernel = Kernel::open()?;
            let now = kernel.limits()?;
            let Some(large) = now.enlarged() else { return Ok(None) };
            // Where somebody has made it smaller meanwhile, that is what it is to become again.
            fs::write(&record, format!("{} {}\n", now.soft, now.hard)).map_err(fault(&record))?;
            kernel.set(large)?;
            Ok(Some(large.hard))
        })
        .await?
    }

    /// Makes it what it was, unless somebody else has changed it since. Returns what was done.
    pub(crate) async fn restore(&self) -> Result<Option<String>, NeighbourTableError> {
        let record = self.record.clone();
        tokio::task::spawn_blocking(move || {
            let text = match fs::read_to_string(&record) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                text => text.map_err(fault(&record))?,
            };
            let mut done = None;
            if let Some(before) = Limits::parse(&text) {
                let kernel = Kernel::open()?;
                if let Some(before) = kernel.limits()?.restored(before) {
                    kernel.set(before)?;
                    done = Some(format!("room for {} neighbours", LARGE.hard));
                }
            }
            fs::remove_file(&record).map_err(fault(&record))?;
            Ok(done)
        })
        .await?
    }
}

/// The kernel's first namespace.
struct Kernel(Netns);

impl Kernel {
    fn open() -> Result<Self, NeighbourTableError> {
        let first = || {
            let current = Netns::current()?;
            match current.sysctl(HARD.0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Netns::of_process(1),
                _ => Ok(current),
            }
        };
        first().map(Self).map_err(limits("read"))
    }

    fn limits(&self) -> Result<Limits, NeighbourTableError> {
        let read = |key: &str| {
            let value = self.0.sysctl(key)?;
            value.parse().map_err(io::Error::other)
        };
        let both = || Ok(Limits { soft: read(SOFT.0)?, hard: read(HARD.0)? });
        both().map_err(limits("read"))
    }

    /// The soft limit is never above the hard one.
    fn set(&self, Limits { soft, hard }: Limits) -> Result<(), NeighbourTableError> {
        let mut settings = [(HARD.0, hard), (SOFT.0, soft)];
        if hard < LARGE.hard {
            settings.reverse();
        }
        let set = |(key, value): (&str, u32)| self.0.set_sysctl(key, &value.to_string());
        settings.into_iter().try_for_each(set).map_err(limits("set"))
    }
}

fn limits(what: &'static str) -> impl FnOnce(io::Error) -> NeighbourTableError {
    move |source| NeighbourTableError::Limits { what, source }
}

fn fault(record: &Path) -> impl FnOnce(io::Error) -> NeighbourTableError {
    let path = record.to_owned();
    move |source| NeighbourTableError::Record { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_table_is_made_large_and_becomes_what_it_was() {
        let small = Limits { soft: 512, hard: 1024 };
        assert_eq!(small.enlarged(), Some(LARGE));
        assert_eq!(LARGE.restored(small), Some(small));
        assert_eq!(Limits::parse("512 1024\n"), Some(small));
        for cut in ["", "512", "512 10", "512 1024"] {
            assert_eq!(Limits::parse(cut), None, "{cut}");
        }
    }

    #[test]
    fn a_persons_limits_stay() {
        assert_eq!(LARGE.enlarged(), None);
        let larger = Limits { soft: 1, hard: LARGE.hard + 1 };
        assert_eq!(larger.enlarged(), None);
        let small = Limits { soft: 512, hard: 1024 };
        assert_eq!(larger.restored(small), None, "it was changed meanwhile");
        let other = Limits { soft: 200_000, hard: 200_001 };
        let large = other.enlarged().unwrap();
        assert_eq!((large.soft, large.restored(other)), (200_000, Some(other)));
    }
}
