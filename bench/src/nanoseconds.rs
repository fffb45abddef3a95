//! Nanoseconds per packet, by `BPF_PROG_TEST_RUN`.
//!
//! A test run that repeats gives a program the frame as the run before has left it, and one without repetition adds
//! about 60 ns of call. So what runs here first makes the frame anew, with the client of another flow, then does its
//! work in the same program, many times in a call; a program that only makes the frame anew runs beside it in each
//! round, and its time is taken off. A redirect is decided but not carried out: a test run ends with the verdict.
//!
//! Known flows are visited in an order that no prefetcher guesses; each SYN is of a flow that never was. Sluice looks
//! a TCP flow up only where its slot of the Maglev table has moved to another backend, so there are two services: one
//! at rest, and one all of whose slots have just moved. There a SYN meets a table of first packets that is full, as in
//! a flood. Each kind of known flows has a load balancer of its own, with the flow table of the default size.
//!
//! What a program takes in all is its `net` and what calling a program takes, which `empty` measures: ratios are of
//! that. Programs that leave the frame as it is are measured so too.

use std::time::Duration;

use anyhow::{Result, bail};
use lb_common::abi::Handle;
use lb_common::bench::{Job, order};
use lb_userspace::lb::{Limits, LoadBalancer};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::bed::{Bed, Lane, icmp, tcp};
use crate::flows;
use crate::frames::{MOVED_PORT, PORT, Packet};
use crate::interrupt;
use crate::programs::{Programs, on_one_cpu};
use crate::spread::Spread;

/// How many flows are known of each kind; the table holds those of all kinds. Powers of two.
const FLOWS: [u32; 3] = [1, 1 << 16, 1 << 20];

/// Verdicts (`linux/bpf.h`).
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// Returns.
    Empty,
    /// Parses the frame as it is.
    ParseAsItIs,
    /// Does all that the load balancer does, with the frame as it is.
    BalanceAsItIs,
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
            Self::Empty => "empty",
            Self::ParseAsItIs => "parse_as_it_is",
            Self::BalanceAsItIs => "balance_as_it_is",
            Self::Restore => "restore",
            Self::Parse => "parse",
            Self::Lookups => "lookups",
            Self::Balance => "balance",
        }
    }

    /// In the report.
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::ParseAsItIs => "parse only, frame as it is",
            Self::BalanceAsItIs => "sluice, frame as it is",
            Self::Restore => "making the frame anew",
            Self::Parse => "parse only",
            Self::Lookups => "parse, one hash and one array lookup",
            Self::Balance => "sluice",
        }
    }

    /// What is in its time and no part of its work: making the frame anew, or being called.
    fn baseline(self) -> Self {
        match self {
            Self::Empty | Self::ParseAsItIs | Self::BalanceAsItIs => Self::Empty,
            _ => Self::Restore,
        }
    }
}

const PACKETS: [Packet; 7] = [
    Packet::Known,
    Packet::KnownInFlood,
    Packet::Syn,
    Packet::MovedKnown,
    Packet::MovedSyn,
    Packet::Echo,
    Packet::NotOurs,
];

/// The kinds whose flows are known.
const KNOWN: [Packet; 3] = [Packet::Known, Packet::MovedKnown, Packet::Echo];

/// One for each kind of known flows.
const LANES: u8 = 3;

/// What is reported, in this order: the baselines first.
const ROWS: [(Program, Packet); 12] = [
    (Program::Empty, Packet::Known),
    (Program::ParseAsItIs, Packet::Known),
    (Program::BalanceAsItIs, Packet::NotOurs),
    (Program::Parse, Packet::Known),
    (Program::Lookups, Packet::Known),
    (Program::Balance, Packet::Known),
    (Program::Balance, Packet::KnownInFlood),
    (Program::Balance, Packet::Syn),
    (Program::Balance, Packet::MovedKnown),
    (Program::Balance, Packet::MovedSyn),
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
    /// What making the frame anew took in the same rounds, or where it stays as it is, calling a program.
    pub(crate) baseline: Spread,
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
    let bed = Bed::new(runtime, LANES)?;
    let stands = KNOWN.into_iter().map(|packet| Stand::new(&bed, object, lane(packet)));
    let mut stands = stands.collect::<Result<Vec<_>>>()?;
    let mut known = 0;
    let rows = on_one_cpu(|| {
        let mut rows = Vec::new();
        for flows in FLOWS {
            eprintln!("nanoseconds per packet: {flows} flows");
            for (packet, stand) in KNOWN.into_iter().zip(&mut stands) {
                let job = job(&mut stand.programs, packet, flows)?;
                flows::begin(&mut stand.programs, packet, &job, known..flows)?;
                // As the daemon does each second: the cache of recent flows is as large as their number asks.
                stand.balancer.sweep()?;
            }
            known = flows;
            rows.extend(measure_size(&mut stands, flows, &effort)?);
        }
        Ok(rows)
    })?;
    stands.iter().try_for_each(|stand| check_counters(&stand.balancer))?;
    let repeat = "the frame is made anew in the program before each packet; `net` is without what that takes";
    Ok(Nanoseconds { repeat, rounds: effort.rounds, rows })
}

/// A load balancer, and the measured programs on its maps.
struct Stand {
    balancer: LoadBalancer,
    programs: Programs,
}

impl Stand {
    fn new(bed: &Bed, object: &[u8], lane: Lane) -> Result<Self> {
        let limits = Limits { flows: FLOWS[FLOWS.len() - 1], ..Limits::default() };
        let mut balancer = bed.load_balancer(lane, limits)?;
        // First: the others make all its backends active again.
        bed.serve_moved(&mut balancer, lane, tcp(lane.vip(), Some(MOVED_PORT)))?;
        bed.serve(&mut balancer, lane, tcp(lane.vip(), Some(PORT)))?;
        bed.serve(&mut balancer, lane, icmp(lane.vip()))?;
        let programs = Programs::load(object, &bed.pins(lane))?;
        programs.lift_quota()?;
        Ok(Self { balancer, programs })
    }
}

/// The lane on which a kind of packets is measured: each kind of known flows has one, for its flow table.
fn lane(packet: Packet) -> Lane {
    match packet {
        Packet::Known | Packet::KnownInFlood | Packet::Syn | Packet::NotOurs => Lane(0),
        Packet::MovedKnown | Packet::MovedSyn => Lane(1),
        Packet::Echo => Lane(2),
    }
}

/// One size: every round runs every program once, so that what disturbs the host disturbs all.
fn measure_size(stands: &mut [Stand], flows: u32, effort: &Effort) -> Result<Vec<Row>> {
    let baselines = PACKETS.map(|packet| (Program::Restore, packet));
    let mut points: Vec<Point> = Vec::new();
    for (program, packet) in baselines.into_iter().chain(ROWS) {
        points.push(Point::new(&mut stand(stands, packet).programs, program, packet, flows, effort.run)?);
    }
    for _ in 0..effort.rounds {
        interrupt::check()?;
        for point in &mut points {
            let stand = stand(stands, point.packet);
            point.prepare(stand)?;
            point.run(&mut stand.programs)?;
        }
    }
    Ok(points[baselines.len()..].iter().map(|point| point.row(&points)).collect())
}

fn stand(stands: &mut [Stand], packet: Packet) -> &mut Stand {
    &mut stands[usize::from(lane(packet).0)]
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

    /// Brings about what the packet's name says of the time before it.
    fn prepare(&self, stand: &mut Stand) -> Result<()> {
        /// So many that hardly a cell is left out.
        const SYNS: u32 = 1 << 20;
        match (self.program, self.packet) {
            // No flow has begun lately.
            (Program::Balance, Packet::Known) => {
                stand.balancer.sweep_after(Duration::from_secs(4))?;
                flows::answer(&mut stand.programs, &self.job)
            }
            (Program::Balance, Packet::KnownInFlood) => {
                let syns = job(&mut stand.programs, Packet::Syn, self.job.flows)?;
                stand.programs.run(self.program.symbol(), &syns, true, SYNS)?;
                flows::answer(&mut stand.programs, &self.job)
            }
            _ => Ok(()),
        }
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

    fn row(&self, points: &[Self]) -> Row {
        let raw = Spread::of(&self.runs);
        let baseline = points.iter().find(|point| {
            let same_packet = point.packet == self.packet || point.program == Program::Empty;
            point.program == self.program.baseline() && same_packet
        });
        let baseline = Spread::of(baseline.map_or(&[], |point| &point.runs));
        Row {
            program: self.program.name(),
            packet: self.packet.name(),
            flows: self.job.flows,
            raw,
            baseline,
            net: Net { minimum: raw.minimum - baseline.minimum, median: raw.median - baseline.median },
        }
    }
}

fn job(programs: &mut Programs, packet: Packet, flows: u32) -> Result<Job> {
    // Nobody looks at the service of a packet that has none.
    let service = match packet {
        Packet::NotOurs => Handle::default(),
        _ => programs.service(&flows::endpoint(lane(packet), packet))?,
    };
    Ok(Job {
        frame: packet.frame(lane(packet))?,
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
