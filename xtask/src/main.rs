//! Sluice's tasks: everything a person or a CI does with this repository, as `cargo xtask TASK` or `./x TASK`.

mod bench;
mod build;
mod check;
mod demo;
mod fuzz;
mod guest;
mod host;
mod images;
mod plan;
mod report;
mod setup;
mod test;
mod tools;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::tools::Purpose;

/// Builds, shows, tests and measures Sluice.
///
/// On a bare Debian or Ubuntu host, as root: `./x demo` installs what is missing (it asks first), builds
/// everything and shows the balancer and the autoscaler on real packets. `./x test` runs every test. `./x` only
/// finds or installs a cargo; all else is here, so `cargo xtask TASK` is the same.
#[derive(Debug, Parser)]
#[command(name = "x", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    /// Change the system without asking, as with CI=true in the environment.
    #[arg(short, long, global = true)]
    yes: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Finds or installs what the tasks need.
    ///
    /// Prints what is missing and each command that will run, asks, runs them. Does nothing where nothing is
    /// missing, so it can be run at any time. Only packages and bpf-linker are installed; nothing is removed.
    ///
    /// The BPF toolchain is a compiler with the source of its library (Debian's rustc-web, cargo-web and
    /// rust-web-src, or a rustup nightly with rust-src) and bpf-linker, built with the same LLVM as the compiler.
    Setup {
        /// What to make ready for.
        #[arg(long = "for", value_enum, default_value = "test", value_name = "TASK")]
        purpose: Purpose,
    },
    /// Builds the BPF object and prints its path.
    ///
    /// A plain `cargo build` does this too and embeds the object; this shows the compiler's messages directly and
    /// gives a file for `llvm-objdump` and `bpftool`.
    BuildEbpf,
    /// Shows the main job on real packets: ends by itself, exit code 1 if anything was lost.
    ///
    /// Runs setup if something is missing, builds `sluice` (release) and runs `sluice demo`. Needs root. It
    /// makes namespaces of its own and removes them.
    #[command(
        after_help = "Examples:\n  ./x demo --json\n  ./x demo --provider docker --brief\n  ./x demo --provider libvirt"
    )]
    Demo {
        /// Arguments for `sluice demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Makes what the demo and the tests run: a container image, and a small virtual machine. Prints how to use them.
    ///
    /// Runs setup if something is missing. The container is `docker load`ed from a file: the responder with a busybox. For
    /// the machine Debian's kernel for guests is fetched (it is not installed) and packed with the same. A template of
    /// the kind `libvirt` boots it by its `kernel`, `initrd` and `command_line`.
    Images,
    /// Runs everything: `check`, unit and property tests, the end-to-end tests, and the load balancer's tests on the
    /// oldest supported kernel.
    ///
    /// Runs setup if something is missing. Needs root, for XDP test runs and namespaces; without, it says so and
    /// fails. With a filter only tests whose name contains it run, and neither `check` nor another kernel.
    #[command(after_help = "Example: ./x test maglev

Some tests take longer, or more, when they are told to, here with what a release is tried with:
  SLUICE_KILLS=100         the daemon is killed so many times while it scales
  SLUICE_MACHINES=10       so many virtual machines serve
  SLUICE_AWAY_SECONDS=60   a cloud answers nothing for so long
  SLUICE_LOG_SECONDS=60    10,000 lines of syslog a second come for so long")]
    Test {
        /// Runs only tests whose name contains one of these.
        filter: Vec<String>,
    },
    /// Runs the tests that need a kernel on the oldest supported one, Debian 12's, in a guest.
    ///
    /// Runs setup if something is missing. Fetches Debian's kernel (it is not installed), boots it in QEMU with a
    /// small initramfs, and runs there the tests of the load balancer and of the providers, and some of the whole
    /// program. Needs no root and no virtualisation: the guest is emulated. Takes a few minutes.
    #[command(after_help = "Example: ./x test-kernel drain")]
    TestKernel {
        /// A package of another kernel, as from `apt-get download linux-image-…`; this release's without.
        #[arg(long, value_name = "DEB")]
        package: Option<PathBuf>,
        /// How much is run.
        #[arg(long, value_enum, default_value = "all")]
        extent: guest::Extent,
        /// Runs only tests whose name contains one of these.
        filter: Vec<String>,
    },
    /// Measures: nanoseconds per packet, packets per second, bulk TCP, each beside a plain alternative.
    ///
    /// Runs setup if something is missing, builds the benchmarks (release) and runs them. Needs root.
    #[command(after_help = "Example: ./x bench --json")]
    Bench {
        /// Arguments for the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Sends random and mutated packets through the real program and a model of it, and compares.
    ///
    /// Runs setup if something is missing. Needs root: it makes a namespace. Tells how far it is, and at a difference
    /// the packet, what came out and the seed with which it comes again. `./x test` does this with 200,000 packets.
    #[command(after_help = "Example: ./x fuzz --packets 20000000")]
    Fuzz {
        /// How many packets; some 10,000 to 50,000 take a second.
        #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
        packets: u64,
        /// Which packets: the same seed makes the same ones.
        #[arg(long, value_name = "NUMBER")]
        seed: Option<u64>,
    },
    /// Format, width of lines, lints, docs and dependencies, without tests; needs no root.
    ///
    /// Dependencies are checked against deny.toml: licences, sources and duplicates on every host, advisories where
    /// cargo-deny and a copy of its database are.
    Check,
}

fn main() -> ExitCode {
    let Arguments { mut yes, task } = Arguments::parse();
    let result = match task {
        Task::Setup { purpose } => setup::explicit(purpose, yes),
        Task::BuildEbpf => build::object(bpf_toolchain::OBJECT).map(|path| println!("{}", path.display())),
        Task::Demo { arguments } => demo::run(&others(arguments, &mut yes), yes),
        Task::Images => images::run(yes),
        Task::Test { filter } => test::run(&filter, yes),
        Task::TestKernel { package, extent, filter } => guest::run(package.as_deref(), extent, &filter, yes),
        Task::Bench { arguments } => bench::run(&others(arguments, &mut yes), yes),
        Task::Fuzz { packets, seed } => fuzz::run(packets, seed, yes),
        Task::Check => check::run(yes),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A program's arguments, without the `--yes` that is meant for setup: it may stand anywhere.
fn others(mut arguments: Vec<OsString>, yes: &mut bool) -> Vec<OsString> {
    let all = arguments.len();
    arguments.retain(|argument| argument != "--yes");
    *yes |= arguments.len() < all;
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_may_stand_anywhere() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (text, said) in [("--provider docker --yes --json", true), ("--provider docker --json", false)] {
            let mut yes = false;
            assert_eq!(others(words(text), &mut yes), words("--provider docker --json"));
            assert_eq!(yes, said);
        }
    }
}
