//! `sluice check`, and the host file of the commands that need one.

use std::fs;
use std::path::Path;

use anyhow::Context;
use sluice_northbound::check::check_files;
use sluice_northbound::diagnostic::Diagnostic;
use sluice_northbound::host::{self, HostConfig};

use super::args::CheckArgs;
use super::{Failure, output};

/// Checks files and prints all their faults.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let report = check_files(&args.files);
    if args.json {
        output::json(&report)?;
    } else {
        anstream::println!("{report}");
    }
    if report.has_errors() { Err(Failure::Faults) } else { Ok(()) }
}

/// Reads a host file; its faults are printed.
pub(super) fn host_config(path: &Path) -> Result<HostConfig, Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the host file {}; name it with `--config`", path.display()))
        .map_err(|error| Failure::Wrong(format!("{error:#}")))?;
    match host::parse(&path.display().to_string(), &text) {
        Ok(host) => {
            print(&host.warnings);
            Ok(host.config)
        }
        Err(faults) => {
            print(&faults);
            Err(Failure::Faults)
        }
    }
}

fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        anstream::eprintln!("{diagnostic}");
    }
}
