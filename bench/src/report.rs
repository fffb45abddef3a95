//! What a run has found, for people and for programs.

use std::fmt;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::bulk::Bulk;
use crate::host::Host;
use crate::nanoseconds::Nanoseconds;
use crate::rates::Rates;
use crate::swap::Swap;

/// All of a run. Displayed as tables; serialised, rates are per second and times nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    /// Whether the runs were few and short.
    pub(crate) quick: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nanoseconds: Option<Nanoseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rates: Option<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bulk: Option<Bulk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) swap: Option<Swap>,
}

impl Report {
    /// Of nothing yet.
    pub(crate) fn new(quick: bool) -> Result<Self> {
        Ok(Self { host: Host::read()?, quick, nanoseconds: None, rates: None, bulk: None, swap: None })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { date, kernel, cpu, cores, jit, spectre_v2, load } = &self.host;
        let jit = if *jit { "JIT" } else { "no JIT" };
        writeln!(f, "{date}, Linux {kernel}, {cores} × {cpu}, {jit}, load {load} before the run")?;
        writeln!(f, "Spectre v2: {spectre_v2}")?;
        if self.quick {
            writeln!(f, "A quick run: the numbers are rough.")?;
        }
        if let Some(part) = &self.nanoseconds {
            nanoseconds(part, f)?;
        }
        if let Some(part) = &self.rates {
            rates(part, f)?;
        }
        if let Some(part) = &self.bulk {
            bulk(part, f)?;
        }
        if let Some(part) = &self.swap {
            swap(part, f)?;
        }
        Ok(())
    }
}

/// A table whose first columns are text and whose others are numbers.
fn table(header: &[&str], texts: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn nanoseconds(part: &Nanoseconds, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nNanoseconds per packet (BPF_PROG_TEST_RUN, {} rounds; {})", part.rounds, part.repeat)?;
    let mut table = table(
        &[
            "flows",
            "program",
            "packet",
            "net min",
            "net median",
            "raw min",
            "raw median",
            "of which baseline",
        ],
        3,
    );
    for row in &part.rows {
        table.add_row([
            row.flows.to_string(),
            row.program.to_owned(),
            row.packet.to_owned(),
            format!("{:.0}", row.net.minimum),
            format!("{:.0}", row.net.median),
            format!("{:.0}", row.raw.minimum),
            format!("{:.0}", row.raw.median),
            format!("{:.0}", row.baseline.median),
        ]);
    }
    writeln!(f, "{table}")
}

fn rates(part: &Rates, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "\nThousand packets per second through namespaces, one core for all, 64-byte frames ({} rounds, XDP {}, {} flows \
         exist)",
        part.rounds, part.mode, part.flows
    )?;
    let mut table = table(&["packet", "way", "min", "median", "max", "lost", "× iptables", "× redirect"], 2);
    for row in &part.rows {
        let rate = |rate: f64| format!("{:.0}", rate / 1e3);
        table.add_row([
            row.packet.to_owned(),
            row.way.to_owned(),
            rate(row.rate.minimum),
            rate(row.rate.median),
            rate(row.rate.maximum),
            format!("{:.2} %", 100.0 * row.lost),
            format!("{:.2}", row.to_iptables),
            format!("{:.2}", row.to_redirect),
        ]);
    }
    writeln!(f, "{table}")
}

fn bulk(part: &Bulk, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "\nTCP over one connection, Gb/s ({} rounds of {} s, XDP {})",
        part.rounds, part.seconds, part.mode
    )?;
    let mut streams = table(&["direction", "way", "min", "median", "max", "× plain", "× passing"], 2);
    for stream in &part.streams {
        let rate = |rate: f64| format!("{:.2}", rate / 1e9);
        streams.add_row([
            format!("{:?}", stream.direction).to_lowercase(),
            stream.way.to_owned(),
            rate(stream.rate.minimum),
            rate(stream.rate.median),
            rate(stream.rate.maximum),
            format!("{:.2}", stream.to_plain),
            format!("{:.2}", stream.to_passing),
        ]);
    }
    writeln!(f, "{streams}")?;
    writeln!(f, "\nShort TCP connections per second: connect, one request, one answer, close")?;
    let mut connections = table(&["way", "min", "median", "max", "failed", "× plain", "× passing"], 1);
    for short in &part.connections {
        let rate = |rate: f64| format!("{rate:.0}");
        connections.add_row([
            short.way.to_owned(),
            rate(short.rate.minimum),
            rate(short.rate.median),
            rate(short.rate.maximum),
            short.failed.to_string(),
            format!("{:.2}", short.to_plain),
            format!("{:.2}", short.to_passing),
        ]);
    }
    writeln!(f, "{connections}")
}

fn swap(part: &Swap, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "\nOne of a service's {} backends begins or ends to drain, ms from the call ({} rounds)",
        part.backends, part.rounds
    )?;
    let mut table = table(&["until", "min", "median", "max"], 1);
    for (until, time) in [("packets meet the new table", part.effect), ("the call returns", part.call)] {
        let shown = [time.minimum, time.median, time.maximum].map(|time| format!("{time:.2}"));
        table.add_row(std::iter::once(until.to_owned()).chain(shown));
    }
    writeln!(f, "{table}")
}
