//! `sluice check FILE…`: host and tenant files together, all of their faults at once.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::spec::ProviderKind;

use crate::diagnostic::{self, Diagnostic, Place, Severity, Source};
use crate::host::HostConfig;
use crate::tenant::{
    self, Conflict, Tenant, check_clouds, check_dates, check_host_addresses, check_reserved, check_windows,
    cross_check,
};
use crate::yaml::{self, Node, SyntaxFault};
use crate::{file, host, watch};

/// What a file is, told by its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A host file.
    Host,
    /// A tenant file.
    Tenant,
    /// It could not be read, or has the keys of neither.
    Unknown,
}

/// A file that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedFile {
    /// As it was named.
    pub file: String,
    /// What it is.
    pub kind: FileKind,
}

/// What was found in a number of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The files, in the order given; a directory's by name.
    pub files: Vec<CheckedFile>,
    /// Their faults, sorted by file and place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Whether a daemon would refuse any of the files.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        diagnostic::has_errors(&self.diagnostics)
    }
}

/// The faults, then one line with their number.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}\n")?;
        }
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        let warnings = self.diagnostics.len() - errors;
        let of = |count, thing| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
        let (files, errors) = (of(self.files.len(), "file"), of(errors, "error"));
        write!(f, "{files}, {errors}, {}", of(warnings, "warning"))
    }
}

/// Reads and compares files. A directory stands for the tenant files in it. Nothing but files is looked at, and
/// nothing is changed. Dates are judged as of `now`.
#[must_use]
pub fn check_files<P: AsRef<Path>>(paths: &[P], now: Timestamp) -> Report {
    check_files_on(paths, now, |_| Vec::new())
}

/// As [`check_files`], with what is known of the hosts whose host files are among the files: the addresses of their
/// interfaces that are no VIPs, as far as they can be had here.
#[must_use]
pub fn check_files_on<P: AsRef<Path>>(
    paths: &[P],
    now: Timestamp,
    addresses: impl Fn(&HostConfig) -> Vec<(String, Ipv4Net)>,
) -> Report {
    let mut report = Report::default();
    let mut seen = Seen::default();
    for path in paths {
        let path = path.as_ref();
        match files(path) {
            Ok(files) => {
                report.diagnostics.extend(files.is_empty().then(|| nothing_in(path)));
                for file in files {
                    check_file(&file, &mut report, &mut seen);
                }
            }
            Err(error) => {
                let file = path.display().to_string();
                report.diagnostics.push(Diagnostic::unreadable(&file, &error));
                report.files.push(CheckedFile { file, kind: FileKind::Unknown });
            }
        }
    }
    let tenants: Vec<&Tenant> = seen.tenants.iter().collect();
    let reserved = seen.reserved.iter().flat_map(|reserved| check_reserved(&tenants, *reserved));
    let mut conflicts: Vec<Conflict> = cross_check(&tenants).into_iter().chain(reserved).collect();
    for host in &seen.hosts {
        conflicts.extend(check_host_addresses(&tenants, &addresses(host)));
    }
    conflicts.extend(windows(&tenants, &seen.sample_intervals));
    conflicts.extend(check_dates(&tenants, now));
    let clouds = seen.hosts.iter().flat_map(|host| &host.clouds);
    let kinds: Vec<ProviderKind> = clouds.map(|cloud| cloud.provider.kind()).collect();
    conflicts.extend(check_clouds(&tenants, &kinds));
    report.diagnostics.extend(conflicts.into_iter().map(|conflict| conflict.diagnostic));
    diagnostic::sort(&mut report.diagnostics);
    report
}

/// What good files have said that others must not contradict.
#[derive(Default)]
struct Seen {
    tenants: Vec<Tenant>,
    /// Addresses that no tenant may have.
    reserved: Vec<Ipv4Net>,
    /// Of the host files.
    sample_intervals: Vec<Duration>,
    /// The host files.
    hosts: Vec<HostConfig>,
    /// The files, so that one that is named twice is no conflict with itself.
    files: BTreeSet<PathBuf>,
}

/// Windows that are too long for the hosts; without a host file for one that has the default, as a warning.
fn windows(tenants: &[&Tenant], intervals: &[Duration]) -> Vec<Conflict> {
    if !intervals.is_empty() {
        return intervals.iter().flat_map(|interval| check_windows(tenants, *interval)).collect();
    }
    let mut found = check_windows(tenants, host::DEFAULT_SAMPLE_INTERVAL);
    for conflict in &mut found {
        conflict.diagnostic.severity = Severity::Warning;
        conflict.diagnostic.help = Some(
            "this is with the default `sample_interval`: check it together with the host file".to_owned(),
        );
    }
    found
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_dir() { watch::tenant_files(path) } else { Ok(vec![path.to_owned()]) }
}

/// Says that a directory has no tenant in it: its daemon would have none, and a person would hardly ask for that.
fn nothing_in(directory: &Path) -> Diagnostic {
    let others = fs::read_dir(directory).map_or(0, Iterator::count);
    let message = "no tenant file is in this directory".to_owned();
    let help = match others {
        0 => "it is empty".to_owned(),
        _ => format!(
            "the name of a tenant file ends with `.yml` or `.yaml`, and none of the {others} entries does"
        ),
    };
    let file = directory.display().to_string();
    Diagnostic::at(&file, &Place::default(), Severity::Warning, message, Some(help))
}

fn check_file(path: &Path, report: &mut Report, seen: &mut Seen) {
    if fs::canonicalize(path).is_ok_and(|path| !seen.files.insert(path)) {
        return;
    }
    let label = path.display().to_string();
    let (kind, found) = match file::read(path) {
        Ok(bytes) => check_bytes(&label, &bytes, seen),
        Err(error) => (FileKind::Unknown, vec![Diagnostic::unreadable(&label, &error)]),
    };
    report.files.push(CheckedFile { file: label, kind });
    report.diagnostics.extend(found);
}

fn check_bytes(label: &str, bytes: &[u8], seen: &mut Seen) -> (FileKind, Vec<Diagnostic>) {
    let text = match file::decode(label, bytes) {
        Ok(text) => text,
        Err(faults) => return (FileKind::Unknown, faults),
    };
    let source = Source { label, text };
    let mut found_kind = FileKind::Unknown;
    let read = source.read(yaml::parse(text), |source, node| {
        let (kind, found) = check_node(source, node, seen);
        found_kind = kind;
        if diagnostic::has_errors(&found) { Err(found) } else { Ok(found) }
    });
    (found_kind, read.unwrap_or_else(|found| found))
}

fn check_node(source: Source<'_>, node: &Node, seen: &mut Seen) -> (FileKind, Vec<Diagnostic>) {
    match kind(node) {
        FileKind::Host => match host::read(source, node) {
            Ok(host) => {
                seen.reserved.extend(host.config.management.reserved());
                seen.sample_intervals.push(host.config.sample_interval);
                seen.hosts.push(host.config);
                (FileKind::Host, host.warnings)
            }
            Err(faults) => (FileKind::Host, faults),
        },
        FileKind::Tenant => match tenant::read(source, node) {
            Ok(tenant) => {
                let warnings = tenant.warnings.clone();
                seen.tenants.push(tenant);
                (FileKind::Tenant, warnings)
            }
            Err(faults) => (FileKind::Tenant, faults),
        },
        FileKind::Unknown => {
            let fault = SyntaxFault::new(
                node.span,
                "this is neither a tenant file nor a host file",
                "a tenant file has a key `tenant` or `t_name`, a host file has a key `transit`",
            );
            (FileKind::Unknown, vec![source.syntax_fault(fault)])
        }
    }
}

/// A file is what most of its keys on the first level are.
fn kind(node: &Node) -> FileKind {
    match (tenant::familiar_keys(node), host::familiar_keys(node)) {
        (0, 0) => FileKind::Unknown,
        (tenant, host) if host > tenant => FileKind::Host,
        _ => FileKind::Tenant,
    }
}

#[cfg(test)]
mod tests;
