//! Looking at a load balancer from another process: reads what is pinned and changes nothing, whether its daemon runs
//! or not.

mod explain;
mod flows;
mod probe;
mod sandbox;
mod state;
mod watch;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};

pub use explain::{ChosenBy, Explanation, Outcome, Question, SlotView};
pub use flows::{FlowFilter, FlowList, FlowState, FlowView};
pub use state::{BackendView, DropCount, ServiceView, Share};
pub use watch::{Sample, Watch, WatchFilter, Watched};

use super::maps::{Maps, NAMES};
use super::parts::Parts;
use super::{Error, layout, links, loader};

/// What is pinned of a load balancer, open for reading.
///
/// Each call reads the maps as they are then; while the daemon changes something, two maps may be of different moments.
pub struct Look {
    maps: Maps,
    flows: Parts,
    pins: PathBuf,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Look {
    /// Opens what is pinned below the root. Needs root, or `CAP_BPF`, `CAP_SYS_ADMIN` for the parts of the flow table, and access
    /// to the pins.
    ///
    /// # Errors
    ///
    /// [`Error::NothingPinned`] where there is no load balancer; [`Error::OtherVersion`] where there is one that another
    /// version of this program has loaded; [`Error::Map`] where a map can't be opened.
    pub fn open(pin_root: &Path) -> Result<Self, Error> {
        let pins = loader::pin_directory(pin_root);
        if !NAMES.iter().all(|name| pins.join(name).exists()) {
            return Err(nothing_pinned(pin_root));
        }
        let maps = Maps::from_pins(&pins)?;
        let flows = Parts::from_pins(&pins)?;
        Ok(Self { maps, flows, pins })
    }
}

/// The id of the program that is on the uplink.
fn uplink_program(pins: &Path) -> Option<u32> {
    let entries = fs::read_dir(links::folder(pins)).ok()?.flatten();
    let mut uplinks = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(links::UPLINK));
    let link = FdLink::from(PinnedLink::from_pin(uplinks.next()?.path()).ok()?);
    Some(link.info().ok()?.program_id())
}

/// Says whether it is another version's pins that are there.
fn nothing_pinned(pin_root: &Path) -> Error {
    let pin_root = pin_root.to_owned();
    match layout::other_version(&pin_root) {
        Some(found) => Error::OtherVersion { pin_root, found },
        None => Error::NothingPinned { pin_root },
    }
}
