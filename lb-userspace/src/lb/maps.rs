//! The pinned maps, with their types.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, Queue};
use lb_common::abi::{
    Address, AnswerValue, BackendValue, Control, Counters, DropReason, EXCEPTION_WORDS, Endpoint,
    EndpointKey, Exceptions, FlowUse, Hint, LiveFlows, NO_BACKEND, ServiceValue, Suspect, Table, TenantKey,
    TenantValue, owner,
};

use lb_common::attempt::AttemptSet;
use lb_common::recent::Set;

use super::Error;
use super::counters::FlowCounters;
use super::own_tables::{ANSWER_FRAGMENTS, FRAGMENTS, OUTBOUND_FLOWS, OwnTables};

/// Every map of the object, by the name under which it is pinned.
pub(super) const NAMES: &[&str] = &[
    "control",
    "vips",
    "services",
    "service_hints",
    "endpoints",
    "generations",
    "tables",
    "backends",
    "answers",
    "tenants",
    "local_addresses",
    "open_ports",
    FRAGMENTS,
    ANSWER_FRAGMENTS,
    OUTBOUND_FLOWS,
    "answer_budgets",
    "flows",
    "flow_sweeps",
    "flow_use",
    "flow_common",
    "attempts",
    "recent_flows",
    "suspects",
    "handshakes",
    "exceptions",
    "backend_counters",
    "service_counters",
    "backend_live_flows",
    "service_live_flows",
    "drops",
];

/// The maps that userspace reads or writes; flows are the programs' own.
pub(super) struct Maps {
    control: Array<MapData, Control>,
    vips: HashMap<MapData, Address, u32>,
    pub(super) services: HashMap<MapData, EndpointKey, ServiceValue>,
    pub(super) service_hints: Array<MapData, Hint>,
    pub(super) endpoints: Array<MapData, Endpoint>,
    generations: Array<MapData, u32>,
    tables: Array<MapData, Table>,
    backends: Array<MapData, BackendValue>,
    answers: HashMap<MapData, EndpointKey, AnswerValue>,
    pub(super) tenants: HashMap<MapData, TenantKey, TenantValue>,
    pub(super) local_addresses: LpmTrie<MapData, [u8; 16], u32>,
    pub(super) open_ports: HashMap<MapData, u32, u32>,
    pub(super) own_tables: OwnTables,
    flow_use: Array<MapData, FlowUse>,
    flow_common: Array<MapData, u64>,
    attempts: Array<MapData, AttemptSet>,
    recent_flows: Array<MapData, Set>,
    pub(super) suspects: Queue<MapData, Suspect>,
    exceptions: Array<MapData, Exceptions>,
    backend_counters: PerCpuArray<MapData, Counters>,
    service_counters: PerCpuArray<MapData, Counters>,
    backend_live_flows: Array<MapData, LiveFlows>,
    service_live_flows: Array<MapData, LiveFlows>,
    drops: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Self::from_source(&mut |name| ebpf.take_map(name).ok_or(Error::MissingPart(name)))
    }

    /// Opens the maps that are pinned.
    pub(super) fn from_pins(pins: &Path) -> Result<Self, Error> {
        Self::from_source(&mut |name| {
            let data = MapData::from_pin(pins.join(name)).map_err(Error::map(name))?;
            aya::maps::Map::from_map_data(data).map_err(Error::map(name))
        })
    }

    fn from_source(source: &mut Source<'_>) -> Result<Self, Error> {
        Ok(Self {
            control: take(source, "control")?,
            vips: take(source, "vips")?,
            services: take(source, "services")?,
            service_hints: take(source, "service_hints")?,
            endpoints: take(source, "endpoints")?,
            generations: take(source, "generations")?,
            tables: take(source, "tables")?,
            backends: take(source, "backends")?,
            answers: take(source, "answers")?,
            tenants: take(source, "tenants")?,
            local_addresses: take(source, "local_addresses")?,
            open_ports: take(source, "open_ports")?,
            own_tables: OwnTables::from_source(source)?,
            flow_use: take(source, "flow_use")?,
            flow_common: take(source, "flow_common")?,
            attempts: take(source, "attempts")?,
            recent_flows: take(source, "recent_flows")?,
            suspects: take(source, "suspects")?,
            exceptions: take(source, "exceptions")?,
            backend_counters: take(source, "backend_counters")?,
            service_counters: take(source, "service_counters")?,
            backend_live_flows: take(source, "backend_live_flows")?,
            service_live_flows: take(source, "service_live_flows")?,
            drops: take(source, "drops")?,
        })
    }

    pub(super) fn control(&self) -> Result<Control, Error> {
        self.control.get(&0, 0).map_err(Error::map("control"))
    }

    pub(super) fn set_control(&mut self, control: &Control) -> Result<(), Error> {
        self.control.set(0, control, 0).map_err(Error::map("control"))
    }

    /// How many services there is room for.
    pub(super) fn service_places(&self) -> u32 {
        self.generations.len()
    }

    /// How many backends there is room for.
    pub(super) fn backend_places(&self) -> u32 {
        self.backends.len().min(u32::from(NO_BACKEND))
    }

    /// What the service in a place has of the flow table.
    pub(super) fn flow_use(&self, service: u16) -> Result<FlowUse, Error> {
        self.flow_use.get(&u32::from(service), 0).map_err(Error::map("flow_use"))
    }

    /// What each place of a service has of the flow table, whether there is a service now or was one.
    pub(super) fn flow_uses(&self) -> Result<Vec<FlowUse>, Error> {
        self.flow_use.iter().collect::<Result<_, _>>().map_err(Error::map("flow_use"))
    }

    /// What all services together have beyond their shares of the flow table.
    pub(super) fn flow_common(&self) -> Result<u64, Error> {
        self.flow_common.get(&0, 0).map_err(Error::map("flow_common"))
    }

    /// The sets of attempts that each service has; a power of two.
    pub(super) fn attempt_sets(&self) -> u32 {
        let sets = (self.attempts.len() / self.service_places().max(1)).max(1);
        1 << sets.ilog2()
    }

    /// A set of attempts.
    pub(super) fn attempts(&self, set: u32) -> Result<AttemptSet, Error> {
        self.attempts.get(&set, 0).map_err(Error::map("attempts"))
    }

    pub(super) fn set_attempts(&mut self, set: u32, attempts: AttemptSet) -> Result<(), Error> {
        self.attempts.set(set, attempts, 0).map_err(Error::map("attempts"))
    }

    /// The sets for which the cache of recent flows has room; a power of two.
    pub(super) fn recent_sets(&self) -> u32 {
        self.recent_flows.len()
    }

    /// A set of the cache of recent flows.
    pub(super) fn recent(&self, set: u32) -> Result<Set, Error> {
        self.recent_flows.get(&set, 0).map_err(Error::map("recent_flows"))
    }

    pub(super) fn set_recent(&mut self, set: u32, tags: Set) -> Result<(), Error> {
        self.recent_flows.set(set, tags, 0).map_err(Error::map("recent_flows"))
    }

    /// A crash at any line leaves no table without its VIP.
    pub(super) fn set_vip(&mut self, vip: &Address, services: u32) -> Result<(), Error> {
        self.set_owner(vip, (services > 0).then_some(owner::VIP))?;
        if services > 0 {
            self.vips.insert(vip, services, 0).map_err(Error::map("vips"))?;
            return self.own_tables.set_vip(*vip, true);
        }
        self.own_tables.set_vip(*vip, false)?;
        absent_is_fine(self.vips.remove(vip)).map_err(Error::map("vips"))
    }

    pub(super) fn vips(&self) -> Result<BTreeSet<Address>, Error> {
        self.vips.keys().collect::<Result<_, _>>().map_err(Error::map("vips"))
    }

    pub(super) fn generation(&self, service: u16) -> Result<u32, Error> {
        self.generations.get(&u32::from(service), 0).map_err(Error::map("generations"))
    }

    /// The word differs from the one before in its lowest byte only, or belongs to a service that packets don't know
    /// yet: no packet can see it half written.
    pub(super) fn set_generation(&mut self, service: u16, word: u32) -> Result<(), Error> {
        self.generations.set(u32::from(service), word, 0).map_err(Error::map("generations"))
    }

    /// A table as it is, in a place of `tables`.
    pub(super) fn table(&self, place: u32) -> Result<Box<Table>, Error> {
        // aya hands values over by value, a quarter of a MiB here, several times in a debug build: more than threads have.
        let read = || self.tables.get(&place, 0).map(Box::new).map_err(Error::map("tables"));
        thread::scope(|scope| {
            let reader = thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, read);
            let reader = reader.map_err(Error::file("starting a thread to read", "tables"))?;
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(super) fn set_table(&mut self, place: u32, table: &Table) -> Result<(), Error> {
        self.tables.set(place, table, 0).map_err(Error::map("tables"))
    }

    pub(super) fn backend(&self, index: u16) -> Result<BackendValue, Error> {
        self.backends.get(&u32::from(index), 0).map_err(Error::map("backends"))
    }

    pub(super) fn set_backend(&mut self, index: u16, value: &BackendValue) -> Result<(), Error> {
        self.backends.set(u32::from(index), value, 0).map_err(Error::map("backends"))
    }

    pub(super) fn answers(&self) -> Result<Vec<(EndpointKey, AnswerValue)>, Error> {
        self.answers.iter().collect::<Result<_, _>>().map_err(Error::map("answers"))
    }

    pub(super) fn insert_answer(&mut self, key: &EndpointKey, value: &AnswerValue) -> Result<(), Error> {
        self.answers.insert(key, value, 0).map_err(Error::map("answers"))
    }

    pub(super) fn remove_answer(&mut self, key: &EndpointKey) -> Result<(), Error> {
        absent_is_fine(self.answers.remove(key)).map_err(Error::map("answers"))
    }

    pub(super) fn backend_counters(&self, index: u16) -> Result<FlowCounters, Error> {
        let live =
            self.backend_live_flows.get(&u32::from(index), 0).map_err(Error::map("backend_live_flows"))?;
        let counters =
            self.backend_counters.get(&u32::from(index), 0).map_err(Error::map("backend_counters"))?;
        Ok(FlowCounters::sum(&counters, live))
    }

    pub(super) fn service_counters(&self, index: u16) -> Result<FlowCounters, Error> {
        let live =
            self.service_live_flows.get(&u32::from(index), 0).map_err(Error::map("service_live_flows"))?;
        let counters =
            self.service_counters.get(&u32::from(index), 0).map_err(Error::map("service_counters"))?;
        Ok(FlowCounters::sum(&counters, live))
    }

    /// Sets a place's counters to zero for its next owner.
    pub(super) fn clear_backend_counters(&mut self, index: u16) -> Result<(), Error> {
        clear(&mut self.backend_counters, index).map_err(Error::map("backend_counters"))?;
        let place = u32::from(index);
        self.backend_live_flows.set(place, LiveFlows::default(), 0).map_err(Error::map("backend_live_flows"))
    }

    /// Sets a place's counters to zero for its next owner.
    pub(super) fn clear_service_counters(&mut self, index: u16) -> Result<(), Error> {
        clear(&mut self.service_counters, index).map_err(Error::map("service_counters"))?;
        let place = u32::from(index);
        self.service_live_flows.set(place, LiveFlows::default(), 0).map_err(Error::map("service_live_flows"))
    }

    /// Makes the backend's count that a sweep has reached the one that is shown, and returns it.
    pub(super) fn publish_backend_live_flows(&mut self, index: u16) -> Result<u32, Error> {
        let counted =
            publish(&mut self.backend_live_flows, index).map_err(Error::map("backend_live_flows"))?;
        Ok(counted.live)
    }

    /// Makes the service's counts that a sweep has reached those that are shown, and returns them.
    pub(super) fn publish_service_live_flows(&mut self, index: u16) -> Result<LiveFlows, Error> {
        publish(&mut self.service_live_flows, index).map_err(Error::map("service_live_flows"))
    }

    /// What the last sweep has found.
    pub(super) fn exceptions(&self, service: u16) -> Result<Exceptions, Error> {
        self.exceptions.get(&u32::from(service), 0).map_err(Error::map("exceptions"))
    }

    /// Makes room for what the next sweep finds.
    pub(super) fn clear_exceptions(&mut self, service: u16) -> Result<(), Error> {
        let none = Exceptions { words: [0; EXCEPTION_WORDS] };
        self.exceptions.set(u32::from(service), none, 0).map_err(Error::map("exceptions"))
    }

    pub(super) fn drops(&self, reason: DropReason) -> Result<u64, Error> {
        let counts = self.drops.get(&(reason as u32), 0).map_err(Error::map("drops"))?;
        Ok(counts.iter().sum())
    }
}

/// Where maps come from, by name.
pub(super) type Source<'a> = dyn FnMut(&'static str) -> Result<aya::maps::Map, Error> + 'a;

pub(super) fn take<M>(source: &mut Source<'_>, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    M::try_from(source(name)?).map_err(Error::map(name))
}

fn publish(map: &mut Array<MapData, LiveFlows>, index: u16) -> Result<LiveFlows, MapError> {
    let LiveFlows { counting, counting_entries, .. } = map.get(&u32::from(index), 0)?;
    let counted = LiveFlows { live: counting, counting: 0, entries: counting_entries, counting_entries: 0 };
    map.set(u32::from(index), counted, 0)?;
    Ok(counted)
}

fn clear(map: &mut PerCpuArray<MapData, Counters>, index: u16) -> Result<(), MapError> {
    let per_cpu = map.get(&u32::from(index), 0)?;
    let zeroes = vec![Counters::default(); per_cpu.len()];
    map.set(u32::from(index), zeroes.try_into().map_err(MapError::from)?, 0)
}

pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
