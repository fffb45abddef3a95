//! Flows that are known before the first packet is measured.

use std::ops::Range;

use anyhow::{Result, bail};
use lb_common::abi::{Address, EndpointKey, FlowKey, PROTOCOL_ICMP, PROTOCOL_TCP};
use lb_common::bench::{self, FRAME, Job, order};
use lb_common::checksum;
use lb_common::packet::{ETHERNET, IPV4, tcp_flag};

use crate::bed::Lane;
use crate::frames::Packet;
use crate::programs::Programs;

/// The service that a packet is for, as the maps name it.
pub(crate) fn endpoint(lane: Lane, packet: Packet) -> EndpointKey {
    let protocol = if packet == Packet::Echo { PROTOCOL_ICMP } else { PROTOCOL_TCP };
    EndpointKey::new(Address::v4(packet.to(lane).octets()), packet.port(), protocol)
}

/// Makes the flows of a job's packets known as any flow becomes known: by two packets of each, the first of which is a
/// SYN where there are such.
pub(crate) fn begin(programs: &mut Programs, packet: Packet, job: &Job, numbers: Range<u32>) -> Result<()> {
    /// A part of the table of first packets, so that each flow is still there for its second.
    const CHUNK: u32 = 1 << 14;
    let mut from = numbers.start;
    while from < numbers.end {
        let count = CHUNK.min(numbers.end - from);
        let job = Job { order: order::NEW, next: u64::from(from), ..*job };
        let first = if packet == Packet::Echo { job } else { Job { frame: beginning(job.frame), ..job } };
        for job in [first, job] {
            programs.run("balance", &job, false, count)?;
        }
        from += count;
    }
    check(programs, packet, job, numbers)
}

/// The segment as one that begins its flow.
fn beginning(mut frame: [u8; FRAME]) -> [u8; FRAME] {
    // The data offset, and the flags after it, are one word of the sum.
    const FLAGS: usize = ETHERNET + IPV4 + 12;
    const SUM: usize = ETHERNET + IPV4 + 16;
    let word = |frame: &[u8; FRAME], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (old, sum) = (word(&frame, FLAGS), word(&frame, SUM));
    let new = old & 0xff00 | u16::from(tcp_flag::SYN);
    frame[FLAGS..FLAGS + 2].copy_from_slice(&new.to_be_bytes());
    frame[SUM..SUM + 2].copy_from_slice(&checksum::update_u16(sum, old, new).to_be_bytes());
    frame
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
