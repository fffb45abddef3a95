//! `check`: format, width of lines, lints, docs and dependencies.

mod dependencies;
mod width;

use anyhow::Result;

use crate::build::{cargo_command, lint_object, workspace};
use crate::report::Report;
use crate::setup;
use crate::tools::Purpose;

/// Everything but the programs for the kernel.
const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "lb-ebpf"];

/// `cargo xtask check`.
pub(crate) fn run(yes: bool) -> Result<()> {
    setup::ensure(Purpose::Check, yes)?;
    let mut report = Report::default();
    steps(&mut report)?;
    report.finish()
}

/// The steps, for `test` too.
pub(crate) fn steps(report: &mut Report) -> Result<()> {
    report.step("format", &mut cargo_command(&["fmt", "--all", "--check"]));
    report.check("width of lines", || width::check(workspace()));
    report.step(
        "lints",
        cargo_command(&["clippy", "--quiet", "--keep-going", "--all-targets"])
            .args(HOST_PACKAGES)
            .args(["--", "--deny", "warnings"]),
    );
    report.step("lints of the BPF programs", &mut lint_object(bpf_toolchain::OBJECT)?);
    report.step("lints of the watcher's BPF programs", &mut lint_object(bpf_toolchain::WATCH_OBJECT)?);
    report.step("lints of the bridges' BPF program", &mut lint_object(bpf_toolchain::BRIDGE_OBJECT)?);
    report.step("lints of the benchmark's BPF programs", &mut lint_object(bpf_toolchain::BENCH_OBJECT)?);
    report.step(
        "docs",
        cargo_command(&["doc", "--quiet", "--keep-going", "--no-deps", "--document-private-items"])
            .args(HOST_PACKAGES)
            .env("RUSTDOCFLAGS", "--deny warnings"),
    );
    dependencies::steps(report);
    Ok(())
}
