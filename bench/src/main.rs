//! `cargo xtask bench`: what a packet costs, beside programs that do less and iptables that does the same.
//!
//! Four measurements, none of which is a test; a number is only worth something beside its neighbours of the same
//! run, on the same host.
//!
//! - [`nanoseconds`]: time per packet of the XDP program, by `BPF_PROG_TEST_RUN`.
//! - [`rates`]: packets per second through namespaces, beside iptables and a program that only redirects.
//! - [`bulk`]: TCP through namespaces, beside plain forwarding.
//! - [`swap`]: how soon a change of a service with many backends takes effect.
//!
//! All that is made is in network namespaces, and below one directory of the BPF file system, named after this process;
//! the end of the process removes them, and where it was killed the next start does.
#![expect(clippy::cast_precision_loss, reason = "counts of packets and connections, far below 2⁵²")]

mod bed;
mod bulk;
mod connections;
mod conntrack;
mod flows;
mod frames;
mod host;
mod interrupt;
mod iperf;
mod nanoseconds;
mod programs;
mod rates;
mod report;
mod spread;
mod swap;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use crate::report::Report;

/// Measures Sluice's data plane: nanoseconds per packet, packets per second, bulk TCP, each beside a plain
/// alternative. Takes about 3 minutes; needs root.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", bin_name = "cargo xtask bench", max_term_width = 100)]
struct Arguments {
    /// The BPF object with the measured programs; `cargo xtask bench` builds it and names it.
    #[arg(long, value_name = "FILE", hide = true)]
    object: PathBuf,
    /// Measures only this; may be repeated.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Few and short runs, to see that all of it works; the numbers are rough.
    #[arg(long)]
    quick: bool,
    /// Writes JSON to this file; without a name to standard output, and the table to standard error.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds per packet.
    Ns,
    /// Packets per second.
    Pps,
    /// TCP: bytes and connections per second.
    Bulk,
    /// How soon a change of a service takes effect.
    Swap,
}

impl Part {
    /// The programs it runs, each with its Debian package.
    fn tools(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Ns | Self::Swap => &[],
            Self::Pps => &[("iptables", "iptables")],
            Self::Bulk => &[("iperf3", "iperf3")],
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let parts = if arguments.only.is_empty() { Part::value_variants() } else { &arguments.only };
    check(parts)?;
    let object = fs::read(&arguments.object)
        .with_context(|| format!("cannot read the object {}", arguments.object.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    interrupt::listen(&runtime)?;
    bed::remove_leftovers()?;

    let mut report = Report::new(arguments.quick)?;
    for part in parts {
        match part {
            Part::Ns => report.nanoseconds = Some(nanoseconds::measure(&runtime, &object, arguments.quick)?),
            Part::Pps => report.rates = Some(rates::measure(&runtime, &object, arguments.quick)?),
            Part::Swap => report.swap = Some(swap::measure(&runtime, arguments.quick)?),
            Part::Bulk => report.bulk = Some(bulk::measure(&runtime, arguments.quick)?),
        }
    }
    print(&report, arguments.json.as_deref())
}

/// Names all that is missing before anything is measured.
fn check(parts: &[Part]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the benchmarks load BPF programs and make network namespaces, so they need root: `sudo ./x bench`"
        );
    }
    let missing: Vec<String> = parts
        .iter()
        .flat_map(|part| part.tools())
        .filter(|(program, _)| host::program(program).is_none())
        .map(|(program, package)| format!("there is no {program}: `apt-get install {package}`"))
        .collect();
    if missing.is_empty() { Ok(()) } else { bail!("{}", missing.join("; ")) }
}

fn print(report: &Report, json: Option<&Path>) -> Result<()> {
    let Some(path) = json else {
        println!("{report}");
        return Ok(());
    };
    let text = serde_json::to_string_pretty(report)? + "\n";
    if path == Path::new("-") {
        eprintln!("{report}");
        print!("{text}");
        return Ok(());
    }
    println!("{report}");
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
