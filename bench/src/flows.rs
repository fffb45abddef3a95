//! Flows that are known before the first packet is measured.

use std::ops::Range;

use anyhow::{Result, bail};
use lb_common::abi::{Address, EndpointKey, FlowKey, PROTOCOL_ICMP, PROTOCOL_TCP};
use lb_common::bench::{self, Job, order};
use lb_common::packet::ETHERNET;

use crate::bed::Lane;
use crate::frames::Packet;
use crate::programs::Programs;

/// The service that a packet is for, as the maps name it.
pub(crate) fn endpoint(lane: Lane, packet: Packet) -> EndpointKey {
    let protocol = if packet == Packet::Echo { PROTOCOL_ICMP } else { PROTOCOL_TCP };
    EndpointKey::new(Address::v4(packet.to(lane).octets()), packet.port(), protocol)
}

/// Makes the flows of a job's packets known, as if their backends had answered.
pub(crate) fn begin(programs: &mut Programs, packet: Packet, job: &Job, numbers: Range<u32>) -> Result<()> {
    let first = Job { order: order::NEW, next: u64::from(numbers.start), ..*job };
    programs.run("record", &first, false, numbers.end - numbers.start)?;
    check(programs, packet, job, numbers)
}

/// Has the backends of all flows of a job's packets answer, so that these are known to be in use until the epoch ends.
pub(crate) fn answer(programs: &mut Programs, job: &Job) -> Result<()> {
    let all = Job { order: order::NEW, next: 0, ..*job };
    programs.run("record", &all, false, job.flows).map(drop)
}

/// Looks for some of them in the table. A few in a million may be missing: those whose tags in the cache of recent
/// flows are another's.
fn check(programs: &Programs, packet: Packet, job: &Job, numbers: Range<u32>) -> Result<()> {
    const SAMPLE: u32 = 1_000;
    let sample = numbers.start..numbers.end.min(numbers.start.saturating_add(SAMPLE));
    let template = &job.frame[ETHERNET + 12..];
    let first = [template[0], template[1], template[2], template[3]];
    let keys = sample.clone().map(|number| {
        let (client, client_port) = bench::client(first, u64::from(number));
        let client = Address::v4(client);
        FlowKey { client, service: job.service, client_port, vip_port: packet.port() }
    });
    let (known, asked) = (programs.known(keys)?, sample.len());
    if known * 100 < asked * 99 {
        bail!("of {asked} flows that were begun, the flow table knows {known} only");
    }
    Ok(())
}
