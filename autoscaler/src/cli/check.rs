//! `sluice check`.

use std::io;
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use lb_userspace::net::{Links, Netns};
use sluice_northbound::check::check_files_on;
use sluice_northbound::diagnostic::Diagnostic;
use sluice_northbound::host::HostConfig;
use sluice_southbound::networks::host_addresses;

use super::args::CheckArgs;
use super::{Failure, output};

/// Netlink answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks files and prints all their faults.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let report = check_files_on(&args.files, Timestamp::now(), addresses);
    if args.json {
        output::json(&report)?;
    } else {
        output::say_lines(&report);
    }
    if report.has_errors() { Err(Failure::Faults) } else { Ok(()) }
}

/// The addresses of this host, where the host file is this host's and its transit namespace can be entered. Without them
/// the daemon still refuses a VIP that is among them.
fn addresses(config: &HostConfig) -> Vec<(String, Ipv4Net)> {
    let transit = match &config.transit.namespace {
        Some(name) => Netns::open(name),
        None => Netns::current(),
    };
    let listed = transit.and_then(|transit| addresses_in(&transit, &config.transit.uplink));
    listed.unwrap_or_default()
}

/// The IPv4 addresses of a namespace's interfaces that are no VIPs; none where the namespace has no such uplink.
fn addresses_in(transit: &Netns, uplink: &str) -> io::Result<Vec<(String, Ipv4Net)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let list = async {
        let links = Links::open(transit)?;
        match links.find(uplink).await? {
            Some(_) => host_addresses(&links).await,
            None => Ok(Vec::new()),
        }
    };
    let listed = runtime.block_on(async { tokio::time::timeout(PATIENCE, list).await });
    listed.map_err(io::Error::other)?.map_err(io::Error::other)
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
