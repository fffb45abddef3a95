//! `test-kernel`: the tests that need a kernel, on the oldest one that is supported, in a guest.

mod console;
mod qemu;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::Value;
use sluice_machines::initramfs::Initramfs;
use sluice_machines::kernel::{self, Kernel};

use crate::build::{self, cargo_command, target_dir};
use crate::tools::Purpose;
use crate::{host, setup};
use console::Console;

/// How much is run in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extent {
    /// The load balancer's main tests: does the kernel's verifier take the object, and do the programs there what they
    /// should.
    LoadBalancer,
    /// The providers and the whole program too.
    All,
}

impl Extent {
    /// The tests that have to do with the kernel, as `cargo test` selects them.
    fn suites(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::LoadBalancer => &[&[
                "--package",
                "lb-userspace",
                "--test",
                "packets",
                "--test",
                "fixtures",
                "--test",
                "reasons",
                "--test",
                "services",
            ]],
            Self::All => &[
                &["--package", "lb-userspace", "--package", "sluice-southbound"],
                // The whole program, with as few packets as an emulated computer has time for.
                &["--package", "sluice-tests", "--test", "files"],
            ],
        }
    }
}

/// The program under test in the guest; its `init` names it in `SLUICE_BIN`.
const SLUICE: &str = "bin/sluice";

/// Tests that say nothing about the kernel, by a part of their names.
const SKIPPED: [&str; 4] = [
    // Pure arithmetic, which takes a minute under emulation.
    "maglev",
    // A guest in the guest.
    "libvirt::",
    // Limits of time, which no emulated computer keeps.
    "one_instance_is_ready_soon",
    "requests_are_real_load",
];

/// What Sluice needs that Debian builds as modules. They are only provided: the kernel loads them when they are first
/// used, as on a host.
const MODULES: [&str; 4] = ["veth", "bridge", "sch_ingress", "cls_bpf"];

/// What tests run beside the code under test. busybox has applets of these names too, which behave in other ways.
const TOOLS: [&str; 5] = ["sh", "ls", "ip", "tc", "bpftool"];

/// A program that the guest runs.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    name: String,
    command: String,
}

/// Boots Debian's kernel, or that of another package of Debian's, and runs the tests there.
pub(crate) fn run(package: Option<&Path>, extent: Extent, filter: &[String], yes: bool) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the guest is a PC: `test-kernel` runs on x86-64 only");
    }
    setup::ensure(Purpose::Kernel, yes)?;
    let folder = target_dir().join("test-kernel");
    let kernel = match package {
        Some(package) => kernel::unpack(package, &folder)?,
        None => kernel::of_this_release(&folder)?,
    };
    let sluice = build::sluice("dev")?;
    let mut programs = Vec::new();
    for suite in extent.suites() {
        programs.extend(built_programs(suite)?);
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    let jobs = jobs(&programs, filter);
    let image = folder.join("initramfs");
    write_image(&image, &kernel, &sluice, &programs, &jobs)?;
    eprintln!("==> {} test programs on Linux {}", jobs.len(), kernel.release);
    let mut console = Console::default();
    let ended = qemu::boot(&kernel.image, &image, |line| console.take(line));
    console.verdict(jobs.iter().map(|job| job.name.as_str()), ended)
}

fn write_image(
    path: &Path,
    kernel: &Kernel,
    sluice: &Path,
    programs: &[Program],
    jobs: &[Job],
) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut image = Initramfs::new(file);
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        image.folder(Path::new(folder))?;
    }
    image.text(Path::new("init"), include_str!("init"))?;
    let lines: Vec<_> = jobs.iter().map(|job| format!("{} {}\n", job.name, job.command)).collect();
    image.text(Path::new("jobs"), &lines.concat())?;
    image.program(Path::new("bin/busybox"), &tool("busybox")?)?;
    for name in TOOLS {
        image.program(&Path::new("usr/sbin").join(name), &tool(name)?)?;
    }
    for file in kernel.module_files(&MODULES)? {
        let place = file.strip_prefix(&kernel.root).unwrap_or(&file);
        image.file(place, &file)?;
    }
    image.program(Path::new(SLUICE), sluice)?;
    for program in programs {
        image.program(&program.place, &program.path)?;
    }
    image.finish()
}

fn tool(name: &str) -> Result<PathBuf> {
    host::program(name).with_context(|| format!("this host has no program {name}"))
}

/// An executable that cargo built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Its file's, which carries cargo's hash: two crates may have a test of one name.
    name: String,
    path: PathBuf,
    /// Where it is in the guest: tests look for examples beside themselves, as cargo lays them.
    place: PathBuf,
    is_test: bool,
}

impl Program {
    /// From a message of cargo's.
    fn parse(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        let path = PathBuf::from(message["executable"].as_str()?);
        let mut parts = path.iter().rev();
        let (file, folder) = (parts.next()?, parts.next()?);
        Some(Self {
            name: file.to_str()?.to_owned(),
            place: Path::new("tests").join(folder).join(file),
            is_test: message["profile"]["test"].as_bool()?,
            path,
        })
    }
}

/// The tests and examples of a suite.
fn built_programs(suite: &[&str]) -> Result<Vec<Program>> {
    let mut command = cargo_command(&["test", "--no-run", "--message-format=json-render-diagnostics"]);
    let output = command.args(suite).stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("building the tests failed; the compiler's errors are above");
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(Program::parse).collect())
}

fn jobs(programs: &[Program], filter: &[String]) -> Vec<Job> {
    let skipped = SKIPPED.iter().flat_map(|name| [" --skip ", name]);
    let wanted = filter.iter().flat_map(|name| [" ", name]);
    let arguments: String = skipped.chain(wanted).collect();
    let job = |program: &Program| Job {
        name: program.name.clone(),
        command: format!("/{}{arguments}", program.place.display()),
    };
    programs.iter().filter(|program| program.is_test).map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_become_jobs_and_examples_come_along() {
        let message = |folder: &str, test: bool| {
            let file = format!("/work/target/debug/{folder}/flows-1f");
            format!(r#"{{"reason":"compiler-artifact","profile":{{"test":{test}}},"executable":"{file}"}}"#)
        };
        let programs = [
            Program::parse(&message("deps", true)).expect("a program"),
            Program::parse(&message("examples", false)).expect("a program"),
        ];
        assert_eq!(programs[1].place, Path::new("tests/examples/flows-1f"));
        let job = Job {
            name: "flows-1f".to_owned(),
            command: format!("/tests/deps/flows-1f --skip {} drain", SKIPPED.join(" --skip ")),
        };
        assert_eq!(jobs(&programs, &["drain".to_owned()]), [job]);
        assert_eq!(Program::parse(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
