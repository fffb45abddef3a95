//! The pinned maps. Names, keys and values are the ABI of `lb_common::abi`; sizes are those of a small host, and the
//! loader sets the configured ones.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    Address, AnswerBudget, AnswerValue, BackendValue, Control, Counters, DropReason, Endpoint, EndpointKey,
    Exceptions, FLOWS_A_PART, FlowKey, FlowUse, HINTS, Handle, Hint, LiveFlows, ServiceValue, Slot, Table,
    TenantKey, TenantValue, address_hint_place, open_key, port_hint_place,
};
use lb_common::handshake;
use lb_common::recent::{Mark, Set};

pub(crate) const SERVICES: usize = 512;
const BACKENDS: usize = 4_096;
pub(crate) const TENANTS: usize = 1_024;
/// Room for 1,048,576 flows, with what the largest part has more than the mean.
const FLOW_PARTS: usize = 586;
/// Tenants' subnets of both families, VIPs, and some hundreds of the uplink's addresses.
const LOCAL: usize = 4_096;
const OPEN: usize = 256;
const RECENT_SETS: usize = 262_144;

/// A part of the flow table.
///
/// A [`FlowValue`](lb_common::abi::FlowValue) as words: before Linux 6.2 a map whose values are known to be structures
/// isn't like the daemon's, which are made without types, and the kernel takes only like ones into the array.
pub(crate) type FlowPart = HashMap<FlowKey, FlowWords, { FLOWS_A_PART as usize }>;

/// The words of a [`FlowValue`](lb_common::abi::FlowValue).
pub(crate) type FlowWords = [u32; 4];

#[btf_map(name = "control")]
static CONTROL: Array<Control, 1> = Array::new();
#[btf_map(name = "vips")]
static VIPS: HashMap<Address, u32, SERVICES> = HashMap::new();
#[btf_map(name = "services")]
static SERVICES_MAP: HashMap<EndpointKey, ServiceValue, SERVICES> = HashMap::new();
#[btf_map(name = "service_hints")]
static SERVICE_HINTS: Array<Hint, HINTS> = Array::new();
#[btf_map(name = "endpoints")]
static ENDPOINTS: Array<Endpoint, SERVICES> = Array::new();
#[btf_map(name = "generations")]
static GENERATIONS: Array<u32, SERVICES> = Array::new();
#[btf_map(name = "tables")]
static TABLES: Array<Table, { 2 * SERVICES }> = Array::new();
#[btf_map(name = "backends")]
static BACKENDS_MAP: Array<BackendValue, BACKENDS> = Array::new();
#[btf_map(name = "answers")]
static ANSWERS: HashMap<EndpointKey, AnswerValue, { 4 * BACKENDS }> = HashMap::new();
#[btf_map(name = "tenants")]
static TENANTS_MAP: HashMap<TenantKey, TenantValue, TENANTS> = HashMap::new();
/// Addresses that no client has, each with whose it is: tenants' subnets, VIPs, and the uplink's own. The trie is the only
/// map that takes memory as it fills.
#[btf_map(name = "local_addresses")]
static LOCAL_ADDRESSES: LpmTrie<[u8; 16], u32, LOCAL> = LpmTrie::new();
/// Ports that are open though no service takes them, each with for whom.
#[btf_map(name = "open_ports")]
static OPEN_PORTS: HashMap<u32, u32, OPEN> = HashMap::new();
#[btf_map(name = "answer_budgets")]
static ANSWER_BUDGETS: PerCpuArray<AnswerBudget, { AnswerBudget::BUDGETS }> = PerCpuArray::new();
/// In parts, by the flow's hash: each is swept on its own, so that no sweep holds up packets for long.
#[btf_map(name = "flows")]
static FLOWS_MAP: ArrayOfMaps<FlowPart, FLOW_PARTS> = ArrayOfMaps::new();
/// When each part was swept last, in seconds since the host was started.
#[btf_map(name = "flow_sweeps")]
static FLOW_SWEEPS: Array<u64, FLOW_PARTS> = Array::new();
/// What each service has of the flow table.
#[btf_map(name = "flow_use")]
static FLOW_USE: Array<FlowUse, SERVICES> = Array::new();
/// What all services together have beyond their shares of it.
#[btf_map(name = "flow_common")]
static FLOW_COMMON: Array<u64, 1> = Array::new();
#[btf_map(name = "recent_flows")]
static RECENT_FLOWS: Array<Set, RECENT_SETS> = Array::new();
#[btf_map(name = "handshakes")]
static HANDSHAKES: Array<[u8; handshake::CELLS], 1> = Array::new();
#[btf_map(name = "exceptions")]
static EXCEPTIONS: Array<Exceptions, SERVICES> = Array::new();
#[btf_map(name = "backend_counters")]
static BACKEND_COUNTERS: PerCpuArray<Counters, BACKENDS> = PerCpuArray::new();
#[btf_map(name = "service_counters")]
pub(crate) static SERVICE_COUNTERS: PerCpuArray<Counters, SERVICES> = PerCpuArray::new();
#[btf_map(name = "backend_live_flows")]
static BACKEND_LIVE_FLOWS: Array<LiveFlows, BACKENDS> = Array::new();
#[btf_map(name = "service_live_flows")]
static SERVICE_LIVE_FLOWS: Array<LiveFlows, SERVICES> = Array::new();
#[btf_map(name = "drops")]
pub(crate) static DROPS: PerCpuArray<u64, { DropReason::ALL.len() }> = PerCpuArray::new();

/// Where a watcher puts its program. Pinned nowhere, and no daemon has it open: the kernel empties an array of programs when
/// no process has it open any more, so what a watcher puts here ends with the watcher.
#[btf_map(name = "watchers")]
static WATCHERS: ProgramArray<1> = ProgramArray::new();

/// Hands the packet to a watcher's program, if there is one; then this doesn't return. Where there is none it is a jump: the
/// kernel compiles a tail call to a constant place without looking there, and changes the code when a program comes.
#[inline(always)]
pub(crate) fn watched(ctx: &XdpContext) {
    // SAFETY: the watcher's program is of this one's type, or the kernel wouldn't take it into the array.
    unsafe { WATCHERS.tail_call(ctx, 0) };
}

/// What the daemon tells the programs.
#[inline(always)]
pub(crate) fn control() -> Result<&'static Control, DropReason> {
    CONTROL.get(0).ok_or(DropReason::Inconsistent)
}

/// The same, to change it.
#[inline(always)]
pub(crate) fn control_mut() -> Option<*mut Control> {
    CONTROL.get_ptr_mut(0)
}

/// Whether an address is some service's VIP.
#[inline(always)]
#[allow(dead_code, reason = "the watcher asks")]
pub(crate) fn is_vip(address: Address) -> bool {
    VIPS.get_ptr(address).is_some()
}

/// The service at an address: that of the port, else that of every port.
#[inline(always)]
pub(crate) fn service(key: &EndpointKey) -> Option<ServiceValue> {
    let mut hint = hint(address_hint_place(key))?;
    let is_only_one = hint != Hint::MANY;
    if !is_only_one {
        hint = match self::hint(port_hint_place(key)) {
            None => self::hint(port_hint_place(&key.of_every_port()))?,
            Some(hint) => hint,
        };
    }
    match ENDPOINTS.get(hint.endpoint()) {
        // Its place is the one in its value; so what is looked up next needn't wait for that to be read.
        Some(endpoint) if endpoint.key.takes(key) => Some(endpoint.value.at(hint.endpoint() as u16)),
        _ if is_only_one => None,
        _ => match SERVICES_MAP.get_ptr(key) {
            None => value_of(SERVICES_MAP.get_ptr(key.of_every_port())),
            found => value_of(found),
        },
    }
}

/// The hint in a place; `None` where it says that there is no service.
#[inline(always)]
fn hint(place: u32) -> Option<Hint> {
    let hint = SERVICE_HINTS.get_ptr(place)?;
    // SAFETY: a live array value; volatile, since the daemon may change it while we run.
    let hint = unsafe { hint.read_volatile() };
    (hint != Hint::NONE).then_some(hint)
}

/// What a packet from a backend's address and port becomes.
#[inline(always)]
pub(crate) fn answer(key: &EndpointKey) -> Option<AnswerValue> {
    match ANSWERS.get_ptr(key) {
        None if key.port != 0 => value_of(ANSWERS.get_ptr(key.of_every_port())),
        found => value_of(found),
    }
}

#[inline(always)]
fn value_of<V: Copy>(found: Option<*const V>) -> Option<V> {
    // SAFETY: the pointer is a live map value's; the daemon waits for an RCU grace period between removing an entry
    // and adding another, so that the element isn't given to another key while this program runs.
    found.map(|value| unsafe { *value })
}

/// A slot of the service's table in force.
#[inline(always)]
pub(crate) fn slot(service: Handle, slot: u32) -> Result<Slot, DropReason> {
    let index = u32::from(service.index);
    let generation = GENERATIONS.get_ptr(index).ok_or(DropReason::Inconsistent)?;
    // SAFETY: a live array value; volatile, since the daemon changes it while we run and both reads of a packet must
    // not become two loads.
    let generation = unsafe { generation.read_volatile() };
    let table = TABLES.get(2 * index + (generation & 1)).ok_or(DropReason::Inconsistent)?;
    table.get(slot as usize).copied().ok_or(DropReason::Inconsistent)
}

/// Notes that a client has sent a SYN.
#[inline(always)]
pub(crate) fn note_syn(hash: u64, clock: u32) {
    set_handshake_cell(hash, handshake::stamp_of_syn(clock));
}

/// Has the client's next packet looked up. A SYN of this second stays noted, since it may be another flow's.
#[inline(always)]
pub(crate) fn await_client(hash: u64, clock: u32) {
    let Some(cell) = handshake_cell(hash) else { return };
    // SAFETY: as in `set_handshake_cell`.
    if unsafe { cell.read_volatile() } != handshake::stamp_of_syn(clock) {
        set_handshake_cell(hash, handshake::stamp_of_answer(clock));
    }
}

#[inline(always)]
fn set_handshake_cell(hash: u64, stamp: u8) {
    if let Some(cell) = handshake_cell(hash) {
        // SAFETY: a byte of a live array value, within it; every value it can be seen with is one that was written.
        unsafe { cell.write_volatile(stamp) };
    }
}

/// Whether a flow's handshake may be under way, or its client is waited for.
#[inline(always)]
pub(crate) fn is_awaited(hash: u64, clock: u32) -> bool {
    // SAFETY: as above.
    handshake_cell(hash).is_none_or(|cell| handshake::is_fresh(unsafe { cell.read_volatile() }, clock))
}

/// Whether a client may have sent a SYN lately.
#[inline(always)]
pub(crate) fn has_syn(hash: u64, clock: u32) -> bool {
    // SAFETY: as above.
    handshake_cell(hash).is_some_and(|cell| handshake::has_syn(unsafe { cell.read_volatile() }, clock))
}

#[inline(always)]
fn handshake_cell(hash: u64) -> Option<*mut u8> {
    let cells = HANDSHAKES.get_ptr_mut(0)?.cast::<u8>();
    Some(cells.wrapping_add(handshake::cell(hash)))
}

/// Whether a flow was seen lately.
#[inline(always)]
pub(crate) fn seen_lately(mark: Mark) -> bool {
    // SAFETY: a live array value; any tags it can be seen with are ones that were written.
    RECENT_FLOWS.get_ptr(mark.set).is_some_and(|set| mark.is_in(unsafe { set.read_volatile() }))
}

/// The flow is seen lately until the epoch ends.
#[inline(always)]
pub(crate) fn seen(mark: Mark) {
    let Some(set) = RECENT_FLOWS.get_ptr_mut(mark.set) else { return };
    // SAFETY: a live array value; what another CPU writes between reading and writing is lost, which costs a look-up.
    let tags = unsafe { set.read_volatile() };
    if !mark.is_in(tags) {
        // SAFETY: as above.
        unsafe { set.write_volatile(mark.put_in(tags)) };
    }
}

/// The flow's next packet is as if it were the first in this epoch.
#[inline(always)]
pub(crate) fn not_seen(mark: Mark) {
    let Some(set) = RECENT_FLOWS.get_ptr_mut(mark.set) else { return };
    // SAFETY: a live array value; what another CPU writes between reading and writing is lost, which costs a look-up.
    let tags = unsafe { set.read_volatile() };
    // SAFETY: as above.
    unsafe { set.write_volatile(mark.taken_from(tags)) };
}

/// Takes down that a slot still has a flow of another backend than its owner.
#[inline(always)]
pub(crate) fn except(service: u16, slot: u32) {
    let Some(exceptions) = EXCEPTIONS.get_ptr_mut(u32::from(service)) else { return };
    // SAFETY: a live array value that only the sweep writes while it runs.
    let exceptions = unsafe { &mut *exceptions };
    if let Some(word) = exceptions.words.get_mut((slot / 64) as usize) {
        *word |= 1 << (slot % 64);
    }
}

/// A place of `backends`, whoever owns it.
#[inline(always)]
pub(crate) fn backend(index: u16) -> Option<&'static BackendValue> {
    BACKENDS_MAP.get(u32::from(index))
}

/// The tenant behind an interface of the transit namespace.
#[inline(always)]
pub(crate) fn tenant(key: &TenantKey) -> Option<&'static TenantValue> {
    // SAFETY: entries change only while the daemon sets a tenant up, before its interface carries packets.
    unsafe { TENANTS_MAP.get(key) }
}

/// Whose an address is that no client has: one of [`owner`], or a tenant's interface.
#[inline(always)]
pub(crate) fn owner_of(address: &Address) -> Option<u32> {
    let lookup = Lookup { _before: 0, key: Key::new(u128::BITS, address.bytes) };
    LOCAL_ADDRESSES.get(&lookup.key).copied()
}

/// Refuses a client that would begin a flow from an address that no client has.
#[inline(always)]
pub(crate) fn refuse_local(client: &Address) -> Result<(), DropReason> {
    if owner_of(client).is_some() { Err(DropReason::ImpossibleSource) } else { Ok(()) }
}

/// Whether a port is open: `for_whom` is one of [`is_open`](lb_common::abi::is_open).
#[inline(always)]
pub(crate) fn is_open(protocol: u8, port: u16, for_whom: u32) -> bool {
    // SAFETY: a word of a live map value; the daemon may take the port off the list meanwhile.
    let open = OPEN_PORTS.get_ptr(open_key(protocol, port)).map_or(0, |open| unsafe { *open });
    open & for_whom != 0
}

/// A key of the trie, whose address is so aligned that it can be written word by word: the verifier refuses words at any
/// other place, and the key alone may be at one.
#[repr(C, align(8))]
struct Lookup {
    _before: u32,
    key: Key<[u8; 16]>,
}

/// Whether this CPU may send another ICMP error in a VIP's name: as many as Linux sends by default (`icmp_msgs_per_sec`,
/// `icmp_msgs_burst`).
#[inline(always)]
pub(crate) fn may_answer(vip: &Address) -> bool {
    let Some(budget) = ANSWER_BUDGETS.get_ptr_mut(AnswerBudget::number(vip)) else { return false };
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: this CPU's own value.
    unsafe { &mut *budget }.take(now)
}

/// Counts one packet from a client, for the backend and the service.
#[inline(always)]
pub(crate) fn count_packet(backend: u16, service: Handle, bytes: u64, new_flow: bool) {
    count(backend, service, |counters| {
        counters.packets += 1;
        counters.bytes += bytes;
        if new_flow {
            counters.new_flows += 1;
        }
    });
}

/// Counts packets to a client; a large buffer that the kernel will cut into segments counts as these.
#[inline(always)]
pub(crate) fn count_reply(backend: u16, service: Handle, packets: u64, bytes: u64) {
    count(backend, service, |counters| {
        counters.reply_packets += packets;
        counters.reply_bytes += bytes;
    });
}

#[inline(always)]
fn count(backend: u16, service: Handle, add: impl Fn(&mut Counters)) {
    // One after the other: the compiler would join two checks for null into one, which the verifier refuses.
    if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(u32::from(backend)) {
        // SAFETY: this CPU's own value, and programs in softirq don't interrupt one another.
        add(unsafe { &mut *counters });
    }
    if let Some(counters) = SERVICE_COUNTERS.get_ptr_mut(u32::from(service.index)) {
        // SAFETY: as above.
        add(unsafe { &mut *counters });
    }
}

/// Counts a dropped packet.
#[inline(always)]
pub(crate) fn count_drop(reason: DropReason) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own value.
        unsafe { *count += 1 };
    }
}

/// Counts a live flow in the sweep under way.
#[inline(always)]
pub(crate) fn count_live(backend: u16, service: u16) {
    if let Some(flows) = BACKEND_LIVE_FLOWS.get_ptr_mut(u32::from(backend)) {
        // SAFETY: a live array value that only the sweep writes, and the daemon runs one sweep at a time.
        unsafe { (*flows).counting += 1 };
    }
    if let Some(flows) = SERVICE_LIVE_FLOWS.get_ptr_mut(u32::from(service)) {
        // SAFETY: as above.
        unsafe { (*flows).counting += 1 };
    }
}

/// Counts an entry of a service in the sweep under way.
#[inline(always)]
pub(crate) fn count_entry(service: u16) {
    if let Some(flows) = SERVICE_LIVE_FLOWS.get_ptr_mut(u32::from(service)) {
        // SAFETY: as above.
        unsafe { (*flows).counting_entries += 1 };
    }
}

/// A part of the flow table.
#[inline(always)]
pub(crate) fn flow_part(number: u32) -> Option<&'static FlowPart> {
    FLOWS_MAP.get(number)
}

/// When a part of the flow table was swept last.
#[inline(always)]
pub(crate) fn flow_sweep(number: u32) -> Option<*mut u64> {
    FLOW_SWEEPS.get_ptr_mut(number)
}

/// What a service has of the flow table.
#[inline(always)]
pub(crate) fn flow_use(service: u16) -> Option<*mut FlowUse> {
    FLOW_USE.get_ptr_mut(u32::from(service))
}

/// What all services together have beyond their shares.
#[inline(always)]
pub(crate) fn flow_common() -> Option<*mut u64> {
    FLOW_COMMON.get_ptr_mut(0)
}
