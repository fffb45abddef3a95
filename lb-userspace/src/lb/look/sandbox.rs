//! The uplink's program on copies of all that it writes.
//!
//! The code is the very object that the daemon loads; what the program only reads is the pinned map that packets meet, and
//! what it writes are maps of its own, which hold what the pinned ones have of one flow. So the answer is the program's,
//! and asking changes nothing.

use std::path::Path;

use aya::maps::{Map, MapData};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{Control, DropReason, FlowKey, FlowValue, Handle};
use lb_common::attempt;
use lb_common::recent::Mark;

use super::uplink_program;
use crate::lb::Error;
use crate::lb::counters::FlowCounters;
use crate::lb::maps::{Maps, NAMES, absent_is_fine};
use crate::lb::parts::{FLOWS, Flows, Parts};
use crate::net::Netns;
use crate::object::object;

/// What the program reads and never writes.
const SHARED: [&str; 11] = [
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
];

/// What the program says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing more becomes of it.
    Drop,
    /// The kernel's.
    Pass,
    /// Back to where it came from.
    Transmit,
    /// To a backend.
    Redirect,
}

impl Verdict {
    /// Of `enum xdp_action` of `linux/bpf.h`; the kernel takes any other for an abort, and drops the packet.
    pub(super) fn of(action: u32) -> Self {
        match action {
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            _ => Self::Drop,
        }
    }
}

/// A run of the program.
pub(super) struct Trace {
    pub(super) verdict: Verdict,
    /// The packet, as it leaves.
    pub(super) frame: Vec<u8>,
    /// Why it was dropped, or answered.
    pub(super) reason: Option<DropReason>,
}

/// The program with maps of its own.
pub(super) struct Sandbox {
    ebpf: Ebpf,
    maps: Maps,
    flows: Flows,
}

impl Sandbox {
    /// Loads it. Takes as long as the verifier: some ten milliseconds.
    pub(super) fn open(pins: &Path) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        for &name in NAMES {
            let pin = pins.join(name);
            if SHARED.contains(&name) {
                loader.map_pin_path(name, pin);
            } else {
                // The copy of the table of flows has one part, and one flow.
                let size = if name == FLOWS { 1 } else { size_of_pinned(&pin, name)? };
                loader.map_max_entries(name, size);
            }
        }
        let mut ebpf = loader.load(object().ok_or(Error::NoObject)?)?;
        let program: &mut Xdp = program(&mut ebpf)?;
        program.load().map_err(Error::program("uplink"))?;
        let flows = the_only_part(ebpf.take_map(FLOWS).ok_or(Error::MissingPart(FLOWS))?)?;
        let maps = Maps::take(&mut ebpf)?;
        Ok(Self { ebpf, maps, flows })
    }

    /// Tells it what the daemon tells the programs, but for the parts of the flow table.
    pub(super) fn set_control(&mut self, control: &Control) -> Result<(), Error> {
        self.maps.set_control(&Control { flow_parts: 1, ..*control })
    }

    /// Tells it what the pinned maps have of the flow, and nothing of one that was asked about before.
    pub(super) fn know(
        &mut self,
        pinned: &Maps,
        control: &Control,
        hash: u64,
        key: &FlowKey,
        entry: Option<FlowValue>,
    ) -> Result<(), Error> {
        self.maps.clear_service_counters(key.service.index)?;
        absent_is_fine(self.flows.remove(key)).map_err(Error::map(FLOWS))?;
        let mark = Mark::of(hash, control.epoch, control.recent_mask);
        self.maps.set_recent(mark.set, pinned.recent(mark.set)?)?;
        let set = attempt::set(key.service.index, hash, control.attempt_mask);
        self.maps.set_attempts(set, pinned.attempts(set)?)?;
        let Some(value) = entry else { return Ok(()) };
        self.flows.insert(key, value, 0).map_err(Error::map(FLOWS))
    }

    /// Runs the program on a frame.
    pub(super) fn run(&mut self, frame: &[u8], transit: &Netns) -> Result<Trace, Error> {
        /// Room for what the program adds: an answer is longer than a short question.
        const ROOM: usize = 2_048;
        let mut out = vec![0; frame.len() + ROOM];
        let before = self.drops()?;
        let program: &mut Xdp = program(&mut self.ebpf)?;
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = transit
            .run(|| program.test_run(options))
            .map_err(Error::file("entering the namespace of the uplink,", transit.to_string()))?
            .map_err(Error::program("uplink"))?;
        out.truncate(result.data_size_out as usize);
        let verdict = Verdict::of(result.return_value);
        let after = self.drops()?;
        let reason =
            DropReason::ALL.into_iter().zip(before.iter().zip(&after)).find(|(_, (old, new))| old != new);
        Ok(Trace { verdict, frame: out, reason: reason.map(|(reason, _)| reason) })
    }

    fn drops(&self) -> Result<Vec<u64>, Error> {
        DropReason::ALL.into_iter().map(|reason| self.maps.drops(reason)).collect()
    }

    /// What the program has counted for a service.
    pub(super) fn counted(&self, service: Handle) -> Result<FlowCounters, Error> {
        self.maps.service_counters(service.index)
    }

    /// Whether the program on the uplink has the same code: the kernel's tag is a hash of the instructions, whatever maps
    /// they use.
    pub(super) fn is_on_uplink(&self, pins: &Path) -> Option<bool> {
        let program: &Xdp = self.ebpf.program("uplink")?.try_into().ok()?;
        let mine = program.info().ok()?.tag();
        let id = uplink_program(pins)?;
        let attached = loaded_programs().flatten().find(|info| info.id() == id)?;
        Some(attached.tag() == mine)
    }
}

/// Makes the part of a table that has one.
fn the_only_part(table: Map) -> Result<Flows, Error> {
    let Map::ArrayOfMaps(data) = table else { return Err(Error::MissingPart(FLOWS)) };
    let mut parts = Parts::new(data)?;
    parts.complete(1)?;
    parts.get(0)?.ok_or(Error::MissingPart(FLOWS))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut("uplink").ok_or(Error::MissingPart("uplink"))?;
    program.try_into().map_err(|error: ProgramError| Error::program("uplink")(error))
}

fn size_of_pinned(pin: &Path, name: &'static str) -> Result<u32, Error> {
    let info = MapData::from_pin(pin).and_then(|map| map.info()).map_err(Error::map(name))?;
    Ok(info.max_entries())
}
