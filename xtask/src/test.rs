//! `test`: everything that can be checked on one host.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::build::{cargo_command, sluice_path, target_dir};
use crate::report::Report;
use crate::tools::Purpose;
use crate::{check, host, setup};

/// Runs all steps and fails if one did. With a filter, only tests with one of the names.
pub(crate) fn run(filter: &[String], yes: bool) -> Result<()> {
    host::require_root("test")?;
    setup::ensure(Purpose::Test, yes)?;
    let mut report = Report::default();
    if filter.is_empty() {
        check::steps(&mut report)?;
    }
    report.step("unit and property tests", &mut unit_tests(filter));
    report.step("build of sluice", &mut cargo_command(&["build", "--package", "sluice"]));
    report.step("end-to-end tests", &mut end_to_end_tests(filter));
    if filter.is_empty() {
        let name = "load balancer on the oldest supported kernel";
        if cfg!(target_arch = "x86_64") {
            report.step(name, &mut oldest_kernel(yes)?);
        } else {
            report.leave_out(name, "its guest is an x86_64 computer");
        }
    }
    report.finish()
}

fn unit_tests(filter: &[String]) -> Command {
    let mut command = cargo_command(&["test", "--no-fail-fast", "--workspace"]);
    command.args(["--exclude", "lb-ebpf", "--exclude", "sluice-tests", "--"]).args(filter);
    command
}

/// This program again, for what is written of its steps goes where the others' output goes.
fn oldest_kernel(yes: bool) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program's own file is gone")?);
    command.args(["test-kernel", "--extent", "load-balancer"]).args(yes.then_some("--yes"));
    Ok(command)
}

/// One at a time: they measure time, and a host has two cores at least, not one per test. `SLUICE_BIN` names the
/// program they start, `SLUICE_RESPONDER` that of their guests, which the unit tests' step has built.
fn end_to_end_tests(filter: &[String]) -> Command {
    let mut command = cargo_command(&["test", "--no-fail-fast", "--package", "sluice-tests"]);
    command.args(["--", "--test-threads=1"]).args(filter).env("SLUICE_BIN", sluice_path("dev"));
    command.env("SLUICE_RESPONDER", target_dir().join("debug/examples/responder"));
    command
}
