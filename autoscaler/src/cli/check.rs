//! `sluice check`.

use jiff::Timestamp;
use sluice_northbound::check::check_files;
use sluice_northbound::diagnostic::Diagnostic;

use super::args::CheckArgs;
use super::{Failure, output};

/// Checks files and prints all their faults.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let report = check_files(&args.files, Timestamp::now());
    if args.json {
        output::json(&report)?;
    } else {
        output::say_lines(&report);
    }
    if report.has_errors() { Err(Failure::Faults) } else { Ok(()) }
}

/// Prints faults and warnings as they stand in a file.
pub(super) fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        output::remark_lines(diagnostic);
    }
}

#[cfg(test)]
mod tests {
    use sluice_northbound::host;
    use sluice_southbound::scope::Scope;

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
