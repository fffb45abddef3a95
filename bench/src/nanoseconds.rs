//! Nanoseconds per packet, by `BPF_PROG_TEST_RUN`.
//!
//! A test run that repeats gives a program the frame as the run before has left it, and one without repetition adds
//! about 60 ns of call. So what runs here first makes the frame anew, with the client of another flow, then does its
//! work in the same program, many times in a call; a program that only makes the frame anew runs beside it in each
//! round, and its time is taken off. A redirect is decided but not carried out: a test run ends with the verdict.
//!
//! Known flows are visited in an order that no prefetcher guesses; each SYN is of a flow that never was, in a table
//! of first packets that is full, as in a flood.

use std::time::Duration;

use anyhow::{Result, bail};
use lb_common::abi::Handle;
use lb_common::bench::{Job, order};
use lb_userspace::lb::{Limits, LoadBalancer};
use lb_userspace::service::Protocol;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::bed::{Bed, Lane};
use crate::flows;
use crate::frames::{PORT, Packet};
use crate::interrupt;
use crate::programs::{Programs, on_one_cpu};
use crate::spread::Spread;

/// How many flows are known: of TCP, and as many again of ICMP echo. Powers of two.
const FLOWS: [u32; 3] = [1, 1 << 16, 1 << 20];
const LANE: Lane = Lane(0);

/// Verdicts (`linux/bpf.h`).
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// Makes the frame anew.
    Restore,
    /// And parses it.
    Parse,
    /// And looks up flow and backend.
    Lookups,
    /// And does all that the load balancer does.
    Balance,
}

impl Program {
    /// In the object.
    fn symbol(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Parse => "parse",
            Self::Lookups => "lookups",
            Self::Balance => "balance",
        }
    }
}

const PACKETS: [Packet; 4] = [Packet::Known, Packet::Syn, Packet::Echo, Packet::NotOurs];

/// What is reported, in this order: the baselines first.
const ROWS: [(Program, Packet); 6] = [
    (Program::Parse, Packet::Known),
    (Program::Lookups, Packet::Known),
    (Program::Balance, Packet::Known),
    (Program::Balance, Packet::Syn),
    (Program::Balance, Packet::Echo),
    (Program::Balance, Packet::NotOurs),
];

/// All rows of all sizes.
#[derive(Debug, Serialize)]
pub(crate) struct Nanoseconds {
    /// How the frame of the run before is dealt with.
    pub(crate) repeat: &'static str,
    /// Runs of each program.
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
}

/// One program on one kind of packet.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) program: &'static str,
    pub(crate) packet: &'static str,
    /// Flows of the packet's kind that are known.
    pub(crate) flows: u32,
    /// What it took, nanoseconds.
    pub(crate) raw: Spread,
    /// What making the frame anew took, in the same rounds.
    pub(crate) restore: Spread,
    /// The difference of the two.
    pub(crate) net: Net,
}

/// What a program took beyond making the frame anew, nanoseconds. Below a few it is noise, and may be negative.
#[derive(Debug, Serialize)]
pub(crate) struct Net {
    /// The difference of the minima.
    pub(crate) minimum: f64,
    /// The difference of the medians.
    pub(crate) median: f64,
}

/// How long and how often.
struct Effort {
    rounds: usize,
    /// A run of one program in one round.
    run: Duration,
}

/// Measures all programs at all sizes.
pub(crate) fn measure(runtime: &Runtime, object: &[u8], quick: bool) -> Result<Nanoseconds> {
    let effort = if quick {
        Effort { rounds: 3, run: Duration::from_millis(5) }
    } else {
        Effort { rounds: 15, run: Duration::from_millis(20) }
    };
    let bed = Bed::new(runtime, 1)?;
    let limits = Limits { flows: 2 * FLOWS[FLOWS.len() - 1], ..Limits::default() };
    let mut balancer = bed.load_balancer(LANE, limits)?;
    bed.serve(&mut balancer, LANE, (Protocol::Tcp, Some(PORT)))?;
    bed.serve(&mut balancer, LANE, (Protocol::Icmp, None))?;
    let mut programs = Programs::load(object, &bed.pins())?;
    let rows = on_one_cpu(|| {
        let mut rows = Vec::new();
        let mut known = 0;
        for flows in FLOWS {
            eprintln!("nanoseconds per packet: {flows} flows");
            for packet in [Packet::Known, Packet::Echo] {
                flows::insert(&mut programs, LANE.vip(), packet, known..flows)?;
            }
            known = flows;
            rows.extend(measure_size(&mut programs, flows, &effort)?);
        }
        Ok(rows)
    })?;
    check_counters(&balancer)?;
    let repeat = "the frame is made anew in the program before each packet; `net` is without what that takes";
    Ok(Nanoseconds { repeat, rounds: effort.rounds, rows })
}

/// One size: every round runs every program once, so that what disturbs the host disturbs all.
fn measure_size(programs: &mut Programs, flows: u32, effort: &Effort) -> Result<Vec<Row>> {
    let mut restores: Vec<Point> = Vec::new();
    for packet in PACKETS {
        restores.push(Point::new(programs, Program::Restore, packet, flows, effort.run)?);
    }
    let mut points: Vec<Point> = Vec::new();
    for (program, packet) in ROWS {
        points.push(Point::new(programs, program, packet, flows, effort.run)?);
    }
    for _ in 0..effort.rounds {
        interrupt::check()?;
        for point in restores.iter_mut().chain(&mut points) {
            point.run(programs)?;
        }
    }
    Ok(points.iter().map(|point| point.row(&restores)).collect())
}

/// A program on a kind of packet, and what its runs took.
struct Point {
    program: Program,
    packet: Packet,
    job: Job,
    repeat: u32,
    runs: Vec<f64>,
}

impl Point {
    /// Finds how many packets make a run of the wanted length.
    fn new(
        programs: &mut Programs,
        program: Program,
        packet: Packet,
        flows: u32,
        wanted: Duration,
    ) -> Result<Self> {
        /// Enough to fill the table of first packets, so that every run meets it full.
        const FIRST: u32 = 1 << 17;
        let job = job(programs, packet, flows)?;
        let mut point = Self { program, packet, job, repeat: FIRST, runs: Vec::new() };
        let one = point.run_once(programs)?.max(Duration::from_nanos(1));
        point.repeat = u32::try_from(wanted.as_nanos() / one.as_nanos()).unwrap_or(u32::MAX).max(1);
        Ok(point)
    }

    fn run(&mut self, programs: &mut Programs) -> Result<()> {
        let one = self.run_once(programs)?;
        self.runs.push(one.as_secs_f64() * 1e9);
        Ok(())
    }

    fn run_once(&self, programs: &mut Programs) -> Result<Duration> {
        let symbol = self.program.symbol();
        let (one, verdict) = programs.run(symbol, &self.job, self.packet.is_new(), self.repeat)?;
        let ours = self.program == Program::Balance && self.packet != Packet::NotOurs;
        let expected = if ours { XDP_REDIRECT } else { XDP_PASS };
        if verdict != expected {
            bail!(
                "{symbol} returned {verdict} for `{}`, not {expected}: it didn't do its work",
                self.packet.name()
            );
        }
        Ok(one)
    }

    fn row(&self, restores: &[Self]) -> Row {
        let raw = Spread::of(&self.runs);
        let restore = restores.iter().find(|point| point.packet == self.packet);
        let restore = Spread::of(restore.map_or(&[], |point| &point.runs));
        Row {
            program: match self.program {
                Program::Restore => "making the frame anew",
                Program::Parse => "parse only",
                Program::Lookups => "parse, one hash and one array lookup",
                Program::Balance => "sluice",
            },
            packet: self.packet.name(),
            flows: self.job.flows,
            raw,
            restore,
            net: Net { minimum: raw.minimum - restore.minimum, median: raw.median - restore.median },
        }
    }
}

fn job(programs: &mut Programs, packet: Packet, flows: u32) -> Result<Job> {
    let service: Handle = programs.service(&flows::endpoint(LANE.vip(), packet))?;
    Ok(Job {
        frame: packet.frame(LANE.vip(), LANE.uplink_mac())?,
        next: 0,
        flows,
        order: if packet.is_new() { order::NEW } else { order::KNOWN },
        icmp: u32::from(packet == Packet::Echo),
        client_interface: 0,
        tenant_interface: 0,
        service,
    })
}

/// Nothing was dropped: else times of drops were taken for times of packets.
fn check_counters(balancer: &LoadBalancer) -> Result<()> {
    let drops = balancer.counters()?.drops;
    match drops.iter().find(|(_, count)| **count > 0) {
        Some((reason, count)) => bail!("{count} packets were dropped as {reason}"),
        None => Ok(()),
    }
}
