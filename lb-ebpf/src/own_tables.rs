//! Tables that each VIP, or each tenant, has of its own: what fills one pushes nothing out of another.
//!
//! All make room by forgetting what was used least recently. The daemon makes a VIP's or a tenant's as it comes.

use aya_ebpf::btf_maps::{HashOfMaps, LruHashMap};
use aya_ebpf::macros::btf_map;
use lb_common::abi::{
    Address, AnswerFragmentKey, AnswerFragmentValue, AnswerFragmentWords, FragmentKey, FragmentTarget,
    OutboundKey,
};

use crate::maps::{SERVICES, TENANTS};

/// The daemon decides.
const ENTRIES: usize = 1;

/// Values of words and no structures, as in [`FlowPart`](crate::maps::FlowPart).
type Fragments = LruHashMap<FragmentKey, u64, ENTRIES>;
type AnswerFragments = LruHashMap<AnswerFragmentKey, AnswerFragmentWords, ENTRIES>;
type OutboundFlows = LruHashMap<OutboundKey, u32, ENTRIES>;

/// By VIP.
#[btf_map(name = "fragments")]
static FRAGMENTS: HashOfMaps<Address, Fragments, SERVICES> = HashOfMaps::new();
/// By the tenant's interface.
#[btf_map(name = "answer_fragments")]
static ANSWER_FRAGMENTS: HashOfMaps<u32, AnswerFragments, TENANTS> = HashOfMaps::new();
/// By the tenant's interface, of tenants that may go to the outside. Each flow with when it was opened, in the clock of
/// `control`.
#[btf_map(name = "outbound_flows")]
static OUTBOUND_FLOWS: HashOfMaps<u32, OutboundFlows, TENANTS> = HashOfMaps::new();

/// Where the first fragment of a client's packet to a VIP went.
#[inline(always)]
pub(crate) fn fragment(vip: &Address, key: &FragmentKey) -> Option<FragmentTarget> {
    // SAFETY: the daemon keeps a table until no program can use it any more.
    let fragments = unsafe { FRAGMENTS.get(vip) }?;
    // SAFETY: what may be given to another key meanwhile is one of that table's values.
    fragments.get_ptr(key).map(|word| FragmentTarget::of_word(unsafe { *word }))
}

/// Remembers that.
#[inline(always)]
pub(crate) fn remember_fragment(vip: &Address, key: &FragmentKey, target: FragmentTarget) {
    // SAFETY: as in `fragment`.
    if let Some(fragments) = unsafe { FRAGMENTS.get(vip) } {
        // A failure costs the packet's other fragments.
        let _ = fragments.insert(key, target.word(), 0);
    }
}

/// What the first fragment of a backend's packet became.
#[inline(always)]
pub(crate) fn answer_fragment(interface: u32, key: &AnswerFragmentKey) -> Option<AnswerFragmentValue> {
    // SAFETY: as in `fragment`.
    let fragments = unsafe { ANSWER_FRAGMENTS.get(&interface) }?;
    // SAFETY: as in `fragment`.
    fragments.get_ptr(key).map(|words| AnswerFragmentValue::of_words(unsafe { *words }))
}

/// Remembers that.
#[inline(always)]
pub(crate) fn remember_answer_fragment(interface: u32, key: &AnswerFragmentKey, words: &AnswerFragmentWords) {
    // SAFETY: as in `fragment`.
    if let Some(fragments) = unsafe { ANSWER_FRAGMENTS.get(&interface) } {
        // As in `remember_fragment`.
        let _ = fragments.insert(key, words, 0);
    }
}

/// Whether an instance has opened this connection.
#[inline(always)]
pub(crate) fn is_outbound(interface: u32, key: &OutboundKey) -> bool {
    // SAFETY: as in `fragment`.
    unsafe { OUTBOUND_FLOWS.get(&interface) }.is_some_and(|flows| flows.get_ptr(key).is_some())
}

/// Remembers that it has.
#[inline(always)]
pub(crate) fn remember_outbound(interface: u32, key: &OutboundKey, now: u32) {
    // SAFETY: as in `fragment`.
    if let Some(flows) = unsafe { OUTBOUND_FLOWS.get(&interface) } {
        // A failure costs the connection, if a service has its port.
        let _ = flows.insert(key, now, 0);
    }
}
