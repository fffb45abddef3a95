//! The flow table: its parts, and what there is room for.

mod bed;
#[path = "bed/flow.rs"]
mod flow;
#[path = "bed/packets.rs"]
mod packets;

use aya::programs::{Program, TestRun as _, TestRunOptions};
use bed::{Bed, TCP_80};
use flow::{Flow, owner};
use lb_userspace::lb::Limits;
use lb_userspace::service::BackendState::Active;

const LIMITS: Limits = Limits { flows: 16_384, nascent_flows: 1_024, services: 8, backends: 64 };
/// So many parts has a table for so many flows.
const PARTS: u32 = 10;

/// Opens connections, until both ends have spoken.
fn establish(bed: &Bed, flows: &[Flow]) {
    let segments = |flags: &str| flows.iter().map(|flow| flow.segment(flags)).collect::<Vec<_>>();
    let owners: Vec<u8> = bed.uplink_all(&segments("S")).iter().map(owner).collect();
    let answers = |flags: &str| {
        let pairs = flows.iter().zip(&owners);
        pairs.map(|(flow, owner)| flow.answer(*owner, flags)).collect::<Vec<_>>()
    };
    bed.answer_all(&answers("SA"));
    bed.uplink_all(&segments("A"));
    bed.answer_all(&answers("A"));
}

/// Sweeps one part, and tells how many entries it had. As the daemon does, part after part.
fn sweep_part(bed: &Bed, part: u32) -> u32 {
    let mut frame = [0; 14];
    frame[..4].copy_from_slice(&part.to_ne_bytes());
    let Some(Program::Xdp(program)) = bed.lb.program("sweep") else { panic!("no such program") };
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
    program.test_run(options).expect("the program runs").return_value
}

/// While a sweep's program runs, this CPU serves no packet: so a run visits no more than one part, whatever the table's size.
#[test]
fn a_run_of_the_sweep_visits_one_part() {
    const FLOWS: u16 = 10_000;
    let mut bed = Bed::with_limits(LIMITS);
    bed.with(TCP_80, &[(2, Active), (3, Active)]);
    establish(&bed, &(0..FLOWS).map(Flow::numbered).collect::<Vec<_>>());
    bed.lb.sweep().expect("a sweep");
    let live = bed.live_flows(2) + bed.live_flows(3);
    // One in some thousands shares its mark with another.
    assert!((9_980..=10_000).contains(&live), "{live}");
    let visited: Vec<u32> = (0..PARTS).map(|part| sweep_part(&bed, part)).collect();
    assert_eq!(visited.iter().map(|&part| u64::from(part)).sum::<u64>(), live);
    let mean = u32::from(FLOWS) / PARTS;
    assert!(visited.iter().all(|&part| part < 2 * mean), "{visited:?}");
}
