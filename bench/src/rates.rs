//! Packets per second through namespaces.
//!
//! The kernel sends frames of a test run into the client's veth (`BPF_F_TEST_XDP_LIVE_FRAMES`); an XDP program at the
//! backend's end counts and drops them. Sender, veths, transit and receiver run on one processor, so a rate is that of
//! one core doing all of it, and none is lost to a full ring.
//!
//! Three lanes through the same namespaces: Sluice, an XDP program that only redirects, and iptables DNAT over the same
//! number of backends by `-m statistic --mode nth`, which needs connection tracking.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_common::abi::Handle;
use lb_common::bench::{Job, order};
use lb_userspace::lb::{Limits, LoadBalancer, Receiver, attach_receiver};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::bed::{BACKENDS, Bed, Lane, tcp};
use crate::conntrack;
use crate::flows;
use crate::frames::{PORT, Packet};
use crate::host;
use crate::interrupt;
use crate::programs::{Programs, on_one_cpu};
use crate::spread::Spread;

/// Flows that exist before the first packet of a run.
const FLOWS: u32 = 1 << 16;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sluice,
    Redirect,
    Iptables,
}

impl Way {
    const ALL: [Self; 3] = [Self::Sluice, Self::Redirect, Self::Iptables];

    fn lane(self) -> Lane {
        Lane(self as u8)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Redirect => "XDP that only redirects",
            Self::Iptables => "iptables DNAT",
        }
    }
}

/// Packets per second of each way.
#[derive(Debug, Serialize)]
pub(crate) struct Rates {
    /// How Sluice's program ran: `native` or `generic`.
    pub(crate) mode: String,
    /// Runs of each way.
    pub(crate) rounds: usize,
    /// Flows that exist, where they do.
    pub(crate) flows: u32,
    pub(crate) rows: Vec<Row>,
}

/// One way on one kind of packet.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) way: &'static str,
    pub(crate) packet: &'static str,
    /// Packets that arrived, per second.
    pub(crate) rate: Spread,
    /// The share of packets that didn't arrive, over all runs.
    pub(crate) lost: f64,
    /// The median rate as a multiple of that of iptables.
    pub(crate) to_iptables: f64,
    /// The median rate as a share of that of the program that only redirects.
    pub(crate) to_redirect: f64,
}

/// Measures both kinds of packet.
pub(crate) fn measure(runtime: &Runtime, object: &[u8], quick: bool) -> Result<Rates> {
    let rounds = if quick { 2 } else { 7 };
    let packets = if quick { 100_000 } else { 1_000_000 };
    let mut track = Track::new(runtime, object)?;
    let rows = on_one_cpu(|| {
        let mut rows = Vec::new();
        for packet in [Packet::Known, Packet::Syn] {
            eprintln!("packets per second: {}", packet.name());
            rows.extend(track.compare(packet, packets, rounds)?);
        }
        Ok(rows)
    })?;
    let mode = format!("{:?}", track.balancer.mode()).to_lowercase();
    Ok(Rates { mode, rounds, flows: FLOWS, rows })
}

/// The lanes, ready.
struct Track {
    programs: Programs,
    balancer: LoadBalancer,
    _receiver: Receiver,
    bed: Bed,
}

impl Track {
    fn new(runtime: &Runtime, object: &[u8]) -> Result<Self> {
        if conntrack::limit()? < 2 * FLOWS {
            bail!(
                "iptables can't hold {FLOWS} flows twice over: raise net.netfilter.nf_conntrack_max to {} or leave \
                 this measurement out (`--only ns --only bulk`)",
                2 * FLOWS
            );
        }
        let bed = Bed::new(runtime, 3)?;
        let sluice = Way::Sluice.lane();
        let mut balancer = bed.load_balancer(sluice, Limits::default())?;
        bed.serve(&mut balancer, sluice, tcp(sluice.vip(), Some(PORT)))?;
        let mut programs = Programs::load(object, &bed.pins(sluice))?;
        for way in Way::ALL {
            programs.attach("count", &bed.backend, &way.lane().backend())?;
        }
        programs.attach("redirect", &bed.transit, &Way::Redirect.lane().uplink())?;
        // Frames come in through XDP, so a program that passes them must be there.
        let receiver = attach_receiver(&bed.transit, &Way::Iptables.lane().uplink())?;
        add_rules(&bed, Way::Iptables.lane())?;
        let service = programs.service(&flows::endpoint(sluice, Packet::Known))?;
        let mut track = Self { programs, balancer, _receiver: receiver, bed };
        let job = Job { service, ..track.job(Way::Sluice, Packet::Known)? };
        flows::begin(&mut track.programs, Packet::Known, &job, 0..FLOWS)?;
        // Their handshakes are some seconds ago.
        track.balancer.sweep_after(Duration::from_secs(4))?;
        Ok(track)
    }

    /// Runs the ways in turn.
    fn compare(&mut self, packet: Packet, packets: u32, rounds: usize) -> Result<Vec<Row>> {
        // Each new flow is a connection to track, and a full table would drop the rest.
        let room = conntrack::limit()? / 2;
        let of = |way| if way == Way::Iptables && packet.is_new() { packets.min(room) } else { packets };
        let mut runs = Way::ALL.map(|way| (way, Vec::new(), 0));
        for _ in 0..rounds {
            for (way, rates, arrived) in &mut runs {
                interrupt::check()?;
                let (rate, count) = self.run(*way, packet, of(*way))?;
                rates.push(rate);
                *arrived += count;
            }
        }
        let median = |way: Way| Spread::of(&runs[way as usize].1).median;
        let (redirect, iptables) = (median(Way::Redirect), median(Way::Iptables));
        let row = |(way, rates, arrived): &(Way, Vec<f64>, u64)| {
            let rate = Spread::of(rates);
            let sent = f64::from(of(*way)) * rounds as f64;
            Row {
                way: way.name(),
                packet: packet.name(),
                rate,
                lost: 1.0 - *arrived as f64 / sent,
                to_iptables: rate.median / iptables,
                to_redirect: rate.median / redirect,
            }
        };
        Ok(runs.iter().map(row).collect())
    }

    /// The packets per second that arrived, and their number.
    fn run(&mut self, way: Way, packet: Packet, packets: u32) -> Result<(f64, u64)> {
        let job = self.job(way, packet)?;
        let is_new = packet.is_new();
        if way == Way::Iptables {
            conntrack::flush(&self.bed.transit)?;
            if !is_new {
                // One packet of each flow makes it known.
                self.programs.generate(&self.bed.client, &job, is_new, FLOWS)?;
            }
        }
        let (elapsed, arrived) = self.programs.generate(&self.bed.client, &job, is_new, packets)?;
        if arrived == 0 {
            bail!("no packet arrived by way of {}", way.name());
        }
        Ok((arrived as f64 / elapsed.as_secs_f64(), arrived))
    }

    fn job(&self, way: Way, packet: Packet) -> Result<Job> {
        let lane = way.lane();
        Ok(Job {
            frame: packet.frame(lane)?,
            next: 0,
            flows: FLOWS,
            order: if packet.is_new() { order::NEW } else { order::KNOWN },
            icmp: 0,
            client_interface: Bed::index(&self.bed.client, &lane.client())?,
            tenant_interface: Bed::index(&self.bed.transit, &lane.tenant())?,
            service: Handle::default(),
        })
    }
}

/// DNAT to each backend in turn: the first takes one of n new connections, the second one of the n − 1 left, …
fn add_rules(bed: &Bed, lane: Lane) -> Result<()> {
    let iptables = host::program("iptables").context("there is no iptables: `apt-get install iptables`")?;
    for (place, backend) in lane.backend_addresses().enumerate() {
        let every = (usize::from(BACKENDS) - place).to_string();
        let mut command = Command::new(&iptables);
        command.args(["-w", "-t", "nat", "-A", "PREROUTING"]).args(matching(lane.vip()));
        command.args(["-m", "statistic", "--mode", "nth", "--every", &every, "--packet", "0"]);
        command.args(["-j", "DNAT", "--to-destination", &backend.to_string()]);
        let output = bed.transit.run(|| command.output())?.context("cannot run iptables")?;
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

fn matching(vip: Ipv4Addr) -> [String; 6] {
    ["-d", &vip.to_string(), "-p", "tcp", "--dport", &PORT.to_string()].map(str::to_owned)
}
