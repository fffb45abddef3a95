//! Ageing of the flow table, in the kernel: a million flows take a system call for each part instead of two million.
//!
//! The kernel serves no packets on this CPU while a program is run on request, so a run visits one part only.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::helpers::bpf_for_each_map_elem;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    Control, FlowKey, FlowValue, PROTOCOL_TCP, PROTOCOL_UDP, SweepOrder, backend_state, flow_end, sweep_order,
};
use lb_common::packet::Frame as _;
use lb_common::{clock as time, hash};

use crate::frame::Window;
use crate::{clock, maps, suspect, table};

/// Does what the frame says. Returns how many entries it has visited.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let Some(order) = Window::of_xdp(ctx).read(0) else { return 0 };
    let SweepOrder { what, with, by } = SweepOrder::from_bytes(order);
    match what {
        sweep_order::CLOCK if with == sweep_order::TIME_PASSED => {
            clock::tick(clock::now());
            0
        }
        sweep_order::CLOCK => {
            clock::advance(with);
            0
        }
        sweep_order::ADJUST => {
            table::adjust(with, by);
            0
        }
        sweep_order::CLEAR_REFUSED => {
            table::clear_refused(with);
            0
        }
        part => sweep_part(part),
    }
}

#[inline(always)]
fn sweep_part(number: u32) -> u32 {
    let Some(part) = maps::flow_part(number) else { return 0 };
    table::note_sweep(number);
    visit_all(ptr::from_ref(part).cast())
}

#[inline(always)]
fn visit_all(table: *const c_void) -> u32 {
    // SAFETY: the table's keys and values are those that the callback takes, and it doesn't use the context.
    let visited =
        unsafe { bpf_for_each_map_elem(table.cast_mut(), visit as *mut c_void, ptr::null_mut(), 0) };
    u32::try_from(visited).unwrap_or_default()
}

/// Ends a flow, or counts it.
extern "C" fn visit(
    _table: *mut c_void,
    key: *const FlowKey,
    value: *mut FlowValue,
    _context: *mut c_void,
) -> i64 {
    // SAFETY: the kernel calls this with a live element of the table.
    let key = unsafe { *key };
    // SAFETY: as above. Another CPU may write the same fields: each is one word, and every value it can be seen with is one that
    // was written.
    let value = unsafe { &mut *value };
    if is_over(value) {
        table::delete(&key);
    } else {
        suspect::look(&key, value);
        count(&key, value);
        maps::count_entry(key.service.index);
    }
    0
}

/// Whether a flow has ended for longer than it is kept, was idle for too long, or has lost its backend.
#[inline(always)]
pub(crate) fn is_over(flow: &FlowValue) -> bool {
    let Ok(control) = maps::control() else { return false };
    let Some(backend) = maps::backend(flow.backend.index) else { return true };
    let is_gone = backend.incarnation != flow.backend.incarnation
        || backend.state == backend_state::FREE
        || backend.state == backend_state::DOWN;
    is_gone || time::idle(control.clock, flow.last_seen) > timeout(control, flow)
}

#[inline(always)]
fn timeout(control: &Control, flow: &FlowValue) -> u32 {
    if flow_end::is_closed(flow.ended) {
        control.closed_timeout
    } else if flow.protocol == PROTOCOL_TCP {
        control.tcp_timeout
    } else if flow.protocol == PROTOCOL_UDP {
        control.udp_timeout
    } else {
        control.icmp_timeout
    }
}

/// Counts a flow, if it is live, and marks its slot if its backend isn't the slot's owner.
///
/// A closed flow isn't live: it is kept for late segments only, and holds up no drain.
#[inline(always)]
fn count(key: &FlowKey, flow: &FlowValue) {
    if !flow_end::is_closed(flow.ended) {
        maps::count_live(flow.backend.index, key.service.index);
    }
    let Ok(control) = maps::control() else { return };
    let slot = hash::slot(hash::of_flow(key, control.seed));
    if maps::slot(key.service, slot).is_ok_and(|slot| slot.new_flows != flow.backend.index) {
        maps::except(key.service.index, slot);
    }
}
