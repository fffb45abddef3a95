//! Tables that each VIP, or each tenant, has of its own: small LRU maps in a hash map of maps.
//!
//! What fills one pushes nothing out of another.

use aya::Pod;
use aya::maps::{HashMap, HashOfMaps, IterableMap as _, Map, MapData, MapError};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_LRU_HASH;
use lb_common::abi::{Address, AnswerFragmentKey, AnswerFragmentWords, FragmentKey, OutboundKey};

use super::Error;
use super::maps::{Source, absent_is_fine, take};
use super::tenants::present;

type Fragments = HashMap<MapData, FragmentKey, u64>;
type AnswerFragments = HashMap<MapData, AnswerFragmentKey, AnswerFragmentWords>;
type OutboundFlows = HashMap<MapData, OutboundKey, u32>;

/// The tables of fragments of clients' packets, by VIP.
pub(super) const FRAGMENTS: &str = "fragments";
/// The tables of fragments of backends' packets, by the tenant's interface.
pub(super) const ANSWER_FRAGMENTS: &str = "answer_fragments";
/// The tables of connections to the outside, by the tenant's interface.
pub(super) const OUTBOUND_FLOWS: &str = "outbound_flows";

/// Packets that a table of fragments remembers. The fragments of one packet follow each other closely.
const FRAGMENTED: u32 = 1_024;
/// Connections that a table of a tenant's remembers.
const OPENED: u32 = 16_384;
/// What each CPU may hold back of an LRU map's room before it forgets anything (`LOCAL_FREE_TARGET` in
/// `kernel/bpf/bpf_lru_list.c`).
const HELD_BACK: u32 = 128;

/// The pinned maps of such tables.
pub(super) struct OwnTables {
    fragments: HashOfMaps<MapData, Address, Fragments>,
    answer_fragments: HashOfMaps<MapData, u32, AnswerFragments>,
    outbound_flows: HashOfMaps<MapData, u32, OutboundFlows>,
}

impl OwnTables {
    pub(super) fn from_source(source: &mut Source<'_>) -> Result<Self, Error> {
        Ok(Self {
            fragments: take(source, FRAGMENTS)?,
            answer_fragments: take(source, ANSWER_FRAGMENTS)?,
            outbound_flows: take(source, OUTBOUND_FLOWS)?,
        })
    }

    /// Gives a VIP its table, or takes it away.
    pub(super) fn set_vip(&mut self, vip: Address, is_there: bool) -> Result<(), Error> {
        set(&mut self.fragments, vip, is_there.then_some(FRAGMENTED), FRAGMENTS)
    }

    /// Gives the tenant behind an interface its tables, or takes them away.
    pub(super) fn set_tenant(
        &mut self,
        interface: u32,
        is_there: bool,
        may_go_out: bool,
    ) -> Result<(), Error> {
        set(&mut self.answer_fragments, interface, is_there.then_some(FRAGMENTED), ANSWER_FRAGMENTS)?;
        let opened = (is_there && may_go_out).then_some(OPENED);
        set(&mut self.outbound_flows, interface, opened, OUTBOUND_FLOWS)
    }

    /// Shows each table to `visit`, with the name of the map it is in.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(&'static str, &MapData) -> Result<(), Error>,
    ) -> Result<(), Error> {
        show(&self.fragments, FRAGMENTS, &mut visit)?;
        show(&self.answer_fragments, ANSWER_FRAGMENTS, &mut visit)?;
        show(&self.outbound_flows, OUTBOUND_FLOWS, &mut visit)
    }
}

fn show<K: Pod, A: Pod, V: Pod>(
    tables: &HashOfMaps<MapData, K, HashMap<MapData, A, V>>,
    name: &'static str,
    visit: &mut impl FnMut(&'static str, &MapData) -> Result<(), Error>,
) -> Result<(), Error> {
    for key in tables.keys() {
        let key = key.map_err(Error::map(name))?;
        if let Some(table) = present(tables.get(&key, 0)).map_err(Error::map(name))? {
            visit(name, table.map())?;
        }
    }
    Ok(())
}

/// Makes a table of so many entries where there is none, or removes it.
fn set<K: Pod, A: Pod, V: Pod>(
    tables: &mut HashOfMaps<MapData, K, HashMap<MapData, A, V>>,
    key: K,
    entries: Option<u32>,
    name: &'static str,
) -> Result<(), Error> {
    let failed = Error::map(name);
    let before = present(tables.get(&key, 0)).map_err(&failed)?;
    match (entries, before) {
        (Some(entries), None) => {
            let table: HashMap<MapData, A, V> = create(entries).map_err(&failed)?;
            tables.insert(key, &table, 0).map_err(failed)
        }
        // The table stays open until the kernel has waited for programs that use it: some kernels would free it before.
        (None, Some(_in_use)) => absent_is_fine(tables.remove(&key)).map_err(failed),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

/// A map like the one in the object: without types, as `FlowPart` in the object tells.
#[expect(clippy::cast_possible_truncation, reason = "sizes of small structures")]
fn create<A: Pod, V: Pod>(entries: u32) -> Result<HashMap<MapData, A, V>, MapError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
    let held_back = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(HELD_BACK);
    let shape = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_LRU_HASH as u32,
        size_of::<A>() as u32,
        size_of::<V>() as u32,
        entries.saturating_add(held_back),
        0,
    );
    Map::LruHashMap(MapData::create(shape, "own_table", None)?).try_into()
}
