//! Flows whose client is said to have reset them: the daemon asks their backends.

use aya_ebpf::btf_maps::Queue;
use aya_ebpf::macros::btf_map;
use lb_common::abi::{Doubt, FlowKey, FlowValue, SUSPECTS, Suspect, flow_end};
use lb_common::hash;

use crate::flow::mark;
use crate::maps;

#[btf_map(name = "suspects")]
static SUSPECTS_MAP: Queue<Suspect, { SUSPECTS as usize }> = Queue::new();

/// Has a flow's backend asked, where that is due, or ends the flow, where it has answered nothing.
#[inline(always)]
pub(crate) fn look(key: &FlowKey, flow: &mut FlowValue) {
    let Ok(control) = maps::control() else { return };
    match flow.doubt(control.clock) {
        Doubt::None => {}
        Doubt::Probe => {
            let suspect = Suspect { flow: *key, backend: flow.backend, reserved: 0 };
            // Where there is no room it is asked later, and lives until then.
            if SUSPECTS_MAP.push(suspect, 0).is_ok() {
                flow.claimed += flow_end::PROBE;
            }
        }
        Doubt::Silent => {
            flow.ended |= flow_end::RESET | flow_end::SILENT;
            flow.claimed = 0;
            flow.last_seen = control.clock;
            maps::not_seen(mark(control, hash::of_flow(key, control.seed)));
        }
    }
}
