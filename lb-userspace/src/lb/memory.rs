//! What the maps take of the host's memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{IterableMap as _, MapData};

use super::maps::NAMES;
use super::parts::{FLOWS, Parts};
use super::{Error, LoadBalancer};

/// What the pinned maps take, as the kernel counts it. All of it is taken when they are made, but for the tables that each VIP
/// and each tenant has of its own, and some 200 bytes for each subnet of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Bytes, by map.
    pub maps: BTreeMap<&'static str, u64>,
    /// Live flows for which there is room.
    pub flows: u32,
}

impl Memory {
    /// All maps together, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.maps.values().sum()
    }

    /// What a live flow takes: its entry in the flow table, with its share of the room that evens the parts out, and its tag
    /// in the cache of recent flows. In bytes.
    #[must_use]
    pub fn per_flow(&self) -> u64 {
        let of = |map| self.maps.get(map).copied().unwrap_or_default();
        (of("flows") + of("recent_flows")) / u64::from(self.flows.max(1))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, flows, each) = (self.total() >> 20, self.flows, self.per_flow());
        write!(f, "{total} MiB, with room for {flows} live flows of {each} bytes each")
    }
}

impl LoadBalancer {
    /// What the maps take of the host's memory.
    pub fn memory(&self) -> Result<Memory, Error> {
        let mut maps = BTreeMap::new();
        let failed = |name| Error::file("reading the memory of", name);
        for &name in NAMES {
            let map = MapData::from_pin(self.pins.join(name)).map_err(Error::map(name))?;
            maps.insert(name, memory_of(&map).map_err(failed(name))?);
        }
        let mut parts = 0;
        for part in Parts::from_pins(&self.pins)?.iter() {
            parts += memory_of(part?.map()).map_err(failed(FLOWS))?;
        }
        *maps.entry(FLOWS).or_default() += parts;
        self.maps.own_tables.for_each(|name, table| {
            *maps.entry(name).or_default() += memory_of(table).map_err(failed(name))?;
            Ok(())
        })?;
        Ok(Memory { maps, flows: self.maps.control()?.flow_room })
    }
}

/// `memlock` in the file descriptor's information is what the map takes (`bpf_map_show_fdinfo` in `kernel/bpf/syscall.c`).
fn memory_of(map: &MapData) -> io::Result<u64> {
    let descriptor = map.fd().as_fd().as_raw_fd();
    let information = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let value = information.lines().find_map(|line| line.strip_prefix("memlock:"));
    value
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the kernel doesn't tell it"))
}
