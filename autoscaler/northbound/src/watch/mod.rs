//! The tenants' directory as the source of truth.
//!
//! [`TenantDirectory`] says what changed since it last looked; [`Watcher`] says when to look. A loop of both is all
//! that a daemon needs:
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use sluice_northbound::watch::{FALLBACK, TenantDirectory, Watcher};
//!
//! let mut watcher = Watcher::start("/etc/sluice/tenants", FALLBACK);
//! let mut tenants = TenantDirectory::new("/etc/sluice/tenants").remembering("/var/lib/sluice/tenants")?;
//! loop {
//!     for change in tenants.rescan()? {
//!         println!("{change:?}");
//!     }
//!     watcher.changed().await;
//! }
//! # }
//! ```

mod change;
mod claims;
mod directory;
mod listing;
mod memory;
mod removal;
mod tenant_file;
#[cfg(test)]
mod tests;
mod watcher;
mod writers;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use change::Change;
pub use directory::{Doubt, TenantDirectory};
pub use listing::{Listing, MARKER};
pub use removal::{SETTLE, WINDOW};
pub use watcher::{FALLBACK, Watcher};

/// The tenant files of a directory, by name: `*.yml` and `*.yaml`, without hidden ones, which editors make.
///
/// # Errors
/// The directory can't be read. That says nothing about the tenants.
pub fn tenant_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // What can't be looked at is for the reader to report; a FIFO would block it.
        let regular = fs::metadata(&path).map_or(true, |metadata| metadata.is_file());
        if regular && has_tenant_name(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn has_tenant_name(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}
