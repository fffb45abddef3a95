//! Loading the object, and its pins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{self, FlowTableShape};
use lb_common::attempt::ATTEMPTS_A_SET;
use lb_common::hash::Seed;

use super::maps::NAMES;
use super::{Error, Limits};

/// The folder in which the maps of this version of the ABI are pinned.
pub(super) fn pin_directory(root: &Path) -> PathBuf {
    root.join(version())
}

/// What the folder of this version is called.
pub(super) fn version() -> String {
    format!("v{}", abi::VERSION)
}

/// Loads an object's programs, on the maps that are pinned or on new ones, which it pins. Tells whether there were any.
pub(super) fn load(object: &[u8], pins: &Path, limits: &Limits) -> Result<(Ebpf, bool), Error> {
    fs::create_dir_all(pins).map_err(Error::file("creating", pins))?;
    let adopted = NAMES.iter().all(|name| pins.join(name).exists());
    let mut loader = EbpfLoader::new();
    for &name in NAMES {
        loader.map_pin_path(name, pins.join(name));
    }
    for (name, entries) in sizes(limits) {
        loader.map_max_entries(name, entries);
    }
    let mut ebpf = loader.load(object)?;
    for (name, program) in ebpf.programs_mut() {
        use aya::programs::Program;
        let result = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => continue,
        };
        result.map_err(Error::program(name_of(name)))?;
    }
    // Open in no process but a watcher's, so that it is emptied when that ends.
    drop(ebpf.take_map("watchers"));
    Ok((ebpf, adopted))
}

/// The addresses that are this host's but no VIPs: as many subnets as `tenants` has room for in both families, and some
/// hundreds of the uplink's own.
const MOST_LOCAL: u32 = 2_560;

/// The sizes that the configuration decides.
fn sizes(limits: &Limits) -> [(&'static str, u32); 20] {
    let Limits { flows, nascent_flows, services, backends } = *limits;
    [
        ("flows", FlowTableShape::for_flows(flows).parts),
        ("flow_sweeps", FlowTableShape::for_flows(flows).parts),
        ("flow_use", services),
        ("asked", services),
        ("attempts", attempt_sets(nascent_flows, services)),
        // Four flows a set of eight: room for those that share one by chance.
        ("recent_flows", (flows / 4).max(1).next_power_of_two()),
        ("services", services),
        ("endpoints", services),
        ("vips", services),
        ("fragments", services),
        // Tenants' subnets, VIPs, and the uplink's own addresses.
        ("local_addresses", services.saturating_add(MOST_LOCAL)),
        ("generations", services),
        ("tables", services.saturating_mul(2)),
        ("exceptions", services),
        ("service_counters", services),
        ("service_live_flows", services),
        ("backends", backends),
        ("backend_counters", backends),
        ("backend_live_flows", backends),
        // One for each service that a backend answers for; four on average.
        ("answers", backends.saturating_mul(4)),
    ]
}

/// The sets of all services: as many for each, a power of two.
fn attempt_sets(attempts: u32, services: u32) -> u32 {
    let services = services.max(1);
    let sets = u64::from(attempts).div_ceil(u64::from(services)).div_ceil(ATTEMPTS_A_SET as u64);
    let each = u32::try_from(sets)
        .unwrap_or(u32::MAX)
        .clamp(LEAST_ATTEMPT_SETS, MOST_ATTEMPT_SETS)
        .next_power_of_two();
    each.saturating_mul(services)
}

/// Sets of attempts of a service, at least: 64 attempts, and at most: a million.
const LEAST_ATTEMPT_SETS: u32 = 16;
const MOST_ATTEMPT_SETS: u32 = 1 << 18;

/// The programs, by the names that errors carry.
fn name_of(name: &str) -> &'static str {
    ["uplink", "answer", "transmit", "receive", "sweep"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("unknown")
}

/// A number that clients can't know.
pub(super) fn random_seed() -> Seed {
    use std::hash::{BuildHasher, RandomState};
    // The standard library keys it from the system's random numbers.
    Seed::new(RandomState::new().hash_one(0x5eed) | 1)
}

/// Removes the root with every pin below it.
pub(super) fn remove_pins(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    remove_below(root, &mut removed).map_err(Error::file("removing pins below", root))?;
    Ok(removed)
}

fn remove_below(folder: &Path, removed: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path(), removed)?;
        } else {
            fs::remove_file(entry.path())?;
            removed.push(entry.path());
        }
    }
    fs::remove_dir(folder)
}
