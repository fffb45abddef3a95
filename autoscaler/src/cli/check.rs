//! `sluice check`, and the host file of the commands that need one.

use std::fs;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use sluice_northbound::check::check_files;
use sluice_northbound::diagnostic::Diagnostic;
use sluice_northbound::host::{self, HostConfig};
use sluice_southbound::scope::Scope;

use super::args::CheckArgs;
use super::{Failure, output};

/// Checks files and prints all their faults.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let report = check_files(&args.files, Timestamp::now());
    if args.json {
        output::json(&report)?;
    } else {
        anstream::println!("{report}");
    }
    if report.has_errors() { Err(Failure::Faults) } else { Ok(()) }
}

/// Reads a host file; its faults are printed. With it comes the scope of all that its daemon makes.
pub(super) fn host_config(path: &Path) -> Result<(HostConfig, Scope), Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the host file {}; name it with `--config`", path.display()))
        .map_err(|error| Failure::Wrong(format!("{error:#}")))?;
    match host::parse(&path.display().to_string(), &text) {
        Ok(host) => {
            print(&host.warnings);
            let scope = Scope::new(&host.config.name).map_err(|error| Failure::Wrong(error.to_string()))?;
            Ok((host.config, scope))
        }
        Err(faults) => {
            print(&faults);
            Err(Failure::Faults)
        }
    }
}

/// Prints faults and warnings as they stand in a file.
pub(super) fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        anstream::eprintln!("{diagnostic}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_file_is_good_exactly_where_the_daemon_takes_its_name() {
        let chars = (' '..='~').chain(['ä']);
        let mut names: Vec<String> =
            chars.flat_map(|c| [c.to_string(), format!("a{c}"), format!("a{c}b")]).collect();
        names.extend([0, 15, 16, 17].map(|length| "a".repeat(length)));
        for name in names {
            let quoted = name.replace('\'', "''");
            let checked = host::parse("sluice.yml", &format!("name: '{quoted}'\ntransit: {{uplink: eth0}}"));
            assert_eq!(checked.is_ok(), Scope::new(&name).is_ok(), "`{name}`: {checked:#?}");
        }
    }
}
