//! Flows whose client is said to have reset them: the daemon asks their backends.

use aya_ebpf::btf_maps::{Array, Queue};
use aya_ebpf::macros::btf_map;
use lb_common::abi::{
    Asked, Control, Doubt, FlowKey, FlowValue, Handle, SUSPECTS, Suspect, flow_end, may_ask,
};
use lb_common::hash;

use crate::flow::mark;
use crate::maps::{self, SERVICES};

#[btf_map(name = "suspects")]
static SUSPECTS_MAP: Queue<Suspect, { SUSPECTS as usize }> = Queue::new();
/// How many flows of each service were asked about. This and the next are pinned nowhere: they count for a second.
#[btf_map(name = "asked")]
static ASKED: Array<Asked, SERVICES> = Array::new();
/// How many of all services.
#[btf_map(name = "asked_of_all")]
static ASKED_OF_ALL: Array<Asked, 1> = Array::new();

/// Has a flow's backend asked, where that is due, or ends the flow, where it has answered nothing.
#[inline(always)]
pub(crate) fn look(key: &FlowKey, flow: &mut FlowValue) {
    let Ok(control) = maps::control() else { return };
    match flow.doubt(control.clock) {
        Doubt::None => {}
        Doubt::Probe => {
            // Where there is no room it is asked later, and lives until then.
            if ask(control, key, flow.backend).is_some() {
                flow.claimed += flow_end::PROBE;
            }
        }
        Doubt::Silent => {
            flow.ended |= flow_end::RESET | flow_end::SILENT;
            flow.forget_claim();
            flow.last_seen = control.clock;
            maps::not_seen(mark(control, hash::of_flow(key, control.seed)));
        }
    }
}

#[inline(always)]
fn ask(control: &Control, key: &FlowKey, backend: Handle) -> Option<()> {
    let (of_service, of_all) =
        (ASKED.get_ptr_mut(u32::from(key.service.index))?, ASKED_OF_ALL.get_ptr_mut(0)?);
    // SAFETY: a live array value that only the sweep reads and writes, and the daemon runs one sweep at a time.
    let of_service = unsafe { &mut *of_service };
    // SAFETY: as above.
    let of_all = unsafe { &mut *of_all };
    let second = control.clock;
    if !may_ask(of_service.count(second), of_all.count(second), &control.quota, control.flow_room) {
        return None;
    }
    SUSPECTS_MAP.push(Suspect { flow: *key, backend, reserved: 0 }, 0).ok()?;
    (*of_service, *of_all) = (of_service.more(second), of_all.more(second));
    Some(())
}
