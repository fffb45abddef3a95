//! Whether what is pinned can be adopted.
//!
//! The folder of the pins is named after the version of the maps' layout. A daemon of another version neither reads
//! them nor puts its programs on their links, where packets would go on with half of either; and one of the same
//! version sees to it that the sizes are those that it knows, since a defect there would be misread silently.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya::maps::lpm_trie::Key;
use lb_common::abi::{
    Address, AnswerBudget, AnswerValue, BackendValue, Control, Counters, Endpoint, EndpointKey, Exceptions,
    FlowUse, Hint, LiveFlows, ServiceValue, Suspect, Table, TenantKey, TenantValue,
};
use lb_common::attempt::AttemptSet;
use lb_common::handshake;
use lb_common::recent::Set;

use super::maps::NAMES;
use super::own_tables::{ANSWER_FRAGMENTS, FRAGMENTS, OUTBOUND_FLOWS};
use super::{Error, loader};

/// The sizes of a map's keys and values, in bytes.
fn sizes(map: &str) -> Option<(usize, usize)> {
    const INDEX: usize = size_of::<u32>();
    Some(match map {
        "control" => (INDEX, size_of::<Control>()),
        // Where a value is a map, it is the map's number.
        "vips" | FRAGMENTS => (size_of::<Address>(), size_of::<u32>()),
        "services" => (size_of::<EndpointKey>(), size_of::<ServiceValue>()),
        "service_hints" => (INDEX, size_of::<Hint>()),
        "endpoints" => (INDEX, size_of::<Endpoint>()),
        "generations" | "flows" => (INDEX, size_of::<u32>()),
        "tables" => (INDEX, size_of::<Table>()),
        "backends" => (INDEX, size_of::<BackendValue>()),
        "answers" => (size_of::<EndpointKey>(), size_of::<AnswerValue>()),
        "tenants" => (size_of::<TenantKey>(), size_of::<TenantValue>()),
        "local_addresses" => (size_of::<Key<[u8; 16]>>(), size_of::<u32>()),
        "open_ports" | ANSWER_FRAGMENTS | OUTBOUND_FLOWS => (size_of::<u32>(), size_of::<u32>()),
        "answer_budgets" => (INDEX, size_of::<AnswerBudget>()),
        "flow_sweeps" | "flow_common" | "drops" => (INDEX, size_of::<u64>()),
        "flow_use" => (INDEX, size_of::<FlowUse>()),
        "attempts" => (INDEX, size_of::<AttemptSet>()),
        "recent_flows" => (INDEX, size_of::<Set>()),
        "suspects" => (0, size_of::<Suspect>()),
        "handshakes" => (INDEX, handshake::CELLS),
        "exceptions" => (INDEX, size_of::<Exceptions>()),
        "backend_counters" | "service_counters" => (INDEX, size_of::<Counters>()),
        "backend_live_flows" | "service_live_flows" => (INDEX, size_of::<LiveFlows>()),
        _ => return None,
    })
}

/// Refuses pins of another version below the root, and maps of this one whose sizes are others.
pub(super) fn check(root: &Path) -> Result<(), Error> {
    if let Some(found) = other_version(root) {
        return Err(Error::OtherVersion { pin_root: root.to_owned(), found });
    }
    let pins = loader::pin_directory(root);
    NAMES.iter().try_for_each(|name| check_map(name, pins.join(name)))
}

/// The folder of the pins of another version, if there are any.
pub(super) fn other_version(root: &Path) -> Option<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| {
        let number = name.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        number.is_some() && *name != loader::version()
    })
}

fn check_map(name: &'static str, pin: PathBuf) -> Result<(), Error> {
    if !pin.exists() {
        return Ok(());
    }
    let info = MapInfo::from_pin(&pin).map_err(Error::map(name))?;
    let found = (info.key_size() as usize, info.value_size() as usize);
    match sizes(name) {
        Some(expected) if expected != found => Err(Error::OtherLayout { map: name, pin, found, expected }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, sizes};

    #[test]
    fn every_map_has_its_sizes() {
        for name in NAMES {
            assert!(sizes(name).is_some(), "{name}");
        }
    }
}
