//! TCP through namespaces: bytes per second over one connection both ways, and short connections per second.
//!
//! Sluice beside plain forwarding through the same transit namespace, with all as it is by itself. The way up needs two
//! more neighbours to be read: a client behind a veth isn't a client behind a network card.
//!
//! - A locally made segment has only a partial checksum, and an XDP frame has no room for that note, so such a client's
//!   checksum and segmentation offloads must be off for Sluice. The second neighbour forwards plainly without them.
//! - A veth that runs an XDP program copies each socket buffer into a page first. The third neighbour does that too,
//!   for programs that only pass.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use lb_userspace::lb::{Limits, LoadBalancer, Receiver, attach_receiver};
use lb_userspace::service::Protocol;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::bed::{Bed, Lane};
use crate::connections::{self, Connections};
use crate::interrupt;
use crate::iperf::{self, Direction};
use crate::spread::Spread;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sluice,
    Plain,
    WithoutOffloads,
    Passing,
}

impl Way {
    const ALL: [Self; 4] = [Self::Sluice, Self::Plain, Self::WithoutOffloads, Self::Passing];

    fn lane(self) -> Lane {
        Lane(self as u8)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Plain => "plain forwarding",
            Self::WithoutOffloads => "plain, client's offloads off",
            Self::Passing => "the same, XDP that only passes",
        }
    }

    /// What the client connects to.
    fn address(self) -> Ipv4Addr {
        let lane = self.lane();
        match self {
            Self::Sluice => lane.vip(),
            Self::Plain | Self::WithoutOffloads | Self::Passing => lane.first_backend(),
        }
    }
}

/// Bytes and connections per second of each way.
#[derive(Debug, Serialize)]
pub(crate) struct Bulk {
    /// How Sluice's program on the uplink ran: `native` or `generic`.
    pub(crate) mode: String,
    /// Runs of each way.
    pub(crate) rounds: usize,
    /// Length of a run, seconds.
    pub(crate) seconds: u32,
    pub(crate) streams: Vec<Stream>,
    pub(crate) connections: Vec<Short>,
}

/// One connection's data, one way.
#[derive(Debug, Serialize)]
pub(crate) struct Stream {
    pub(crate) way: &'static str,
    pub(crate) direction: Direction,
    /// Received, bits per second.
    pub(crate) rate: Spread,
    /// The median as a share of that of plain forwarding.
    pub(crate) to_plain: f64,
    /// The median as a share of that of forwarding without the client's offloads by XDP that only passes.
    pub(crate) to_passing: f64,
}

/// Short connections.
#[derive(Debug, Serialize)]
pub(crate) struct Short {
    pub(crate) way: &'static str,
    /// Connections per second.
    pub(crate) rate: Spread,
    /// Connections that failed, over all runs.
    pub(crate) failed: u64,
    /// The median as a share of that of plain forwarding.
    pub(crate) to_plain: f64,
    /// The median as a share of that of forwarding without the client's offloads by XDP that only passes.
    pub(crate) to_passing: f64,
}

/// Measures streams both ways, then short connections.
pub(crate) fn measure(runtime: &Runtime, quick: bool) -> Result<Bulk> {
    let (rounds, seconds) = if quick { (1, 1) } else { (5, 2) };
    let bed = Bed::new(runtime, 4)?;
    let (balancer, _receivers) = prepare(&bed)?;
    let mut streams = Vec::new();
    for direction in [Direction::Up, Direction::Down] {
        eprintln!("bulk TCP: {direction:?}");
        streams.extend(compare_streams(&bed, direction, rounds, seconds)?);
    }
    eprintln!("short TCP connections");
    let connections = compare_connections(&bed, rounds, Duration::from_secs(u64::from(seconds)))?;
    let mode = format!("{:?}", balancer.mode()).to_lowercase();
    Ok(Bulk { mode, rounds, seconds, streams, connections })
}

fn prepare(bed: &Bed) -> Result<(LoadBalancer, [Receiver; 2])> {
    // First: once the veth's other end has an XDP program, the kernel no longer lets segmentation be switched.
    for way in [Way::Sluice, Way::WithoutOffloads, Way::Passing] {
        bed.client.disable_offloads(&way.lane().client())?;
    }
    let lane = Way::Sluice.lane();
    let mut balancer = bed.load_balancer(lane, Limits::default())?;
    bed.attach_tenant(&mut balancer, lane)?;
    bed.serve(&mut balancer, lane, (Protocol::Tcp, None))?;
    let passing = Way::Passing.lane();
    let receivers = [
        attach_receiver(&bed.transit, &passing.uplink())?,
        attach_receiver(&bed.backend, &passing.backend())?,
    ];
    Ok((balancer, receivers))
}

/// Runs all ways in turn, so many times; the runs of each.
fn in_turn<T>(rounds: usize, mut run: impl FnMut(Way) -> Result<T>) -> Result<[Vec<T>; 4]> {
    let mut runs = Way::ALL.map(|_| Vec::new());
    for _ in 0..rounds {
        for way in Way::ALL {
            interrupt::check()?;
            runs[way as usize].push(run(way)?);
        }
    }
    Ok(runs)
}

fn compare_streams(bed: &Bed, direction: Direction, rounds: usize, seconds: u32) -> Result<Vec<Stream>> {
    let runs =
        in_turn(rounds, |way| iperf::run(&bed.client, &bed.backend, way.address(), direction, seconds))?;
    let rates = runs.map(|runs| Spread::of(&runs));
    let stream = |way: Way| {
        let rate = rates[way as usize];
        Stream {
            way: way.name(),
            direction,
            rate,
            to_plain: rate.median / rates[Way::Plain as usize].median,
            to_passing: rate.median / rates[Way::Passing as usize].median,
        }
    };
    Ok(Way::ALL.map(stream).into())
}

fn compare_connections(bed: &Bed, rounds: usize, time: Duration) -> Result<Vec<Short>> {
    let _server = connections::Server::start(&bed.backend)?;
    let runs = in_turn(rounds, |way| connections::run(&bed.client, way.address(), time))?;
    let rate = |way: Way| {
        let rates: Vec<f64> = runs[way as usize].iter().map(|run: &Connections| run.rate).collect();
        Spread::of(&rates)
    };
    let short = |way: Way| Short {
        way: way.name(),
        rate: rate(way),
        failed: runs[way as usize].iter().map(|run| run.failed).sum(),
        to_plain: rate(way).median / rate(Way::Plain).median,
        to_passing: rate(way).median / rate(Way::Passing).median,
    };
    Ok(Way::ALL.map(short).into())
}
