//! `sluice check FILE…`: host and tenant files together, all of their faults at once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostic::{self, Diagnostic, Source};
use crate::tenant::{self, Tenant, cross_check};
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
        write!(f, "{} files, {errors} errors, {warnings} warnings", self.files.len())
    }
}

/// Reads and compares files. A directory stands for the tenant files in it. Nothing but files is looked at, and
/// nothing is changed.
#[must_use]
pub fn check_files<P: AsRef<Path>>(paths: &[P]) -> Report {
    let mut report = Report::default();
    let mut tenants = Vec::new();
    for path in paths {
        let path = path.as_ref();
        match files(path) {
            Ok(files) => files.iter().for_each(|file| check_file(file, &mut report, &mut tenants)),
            Err(error) => {
                let file = path.display().to_string();
                report.diagnostics.push(Diagnostic::unreadable(&file, &error));
                report.files.push(CheckedFile { file, kind: FileKind::Unknown });
            }
        }
    }
    let conflicts = cross_check(&tenants.iter().collect::<Vec<_>>());
    report.diagnostics.extend(conflicts.into_iter().map(|conflict| conflict.diagnostic));
    diagnostic::sort(&mut report.diagnostics);
    report
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_dir() { watch::tenant_files(path) } else { Ok(vec![path.to_owned()]) }
}

fn check_file(path: &Path, report: &mut Report, tenants: &mut Vec<Tenant>) {
    let label = path.display().to_string();
    let (kind, found) = match file::read(path) {
        Ok(bytes) => check_bytes(&label, &bytes, tenants),
        Err(error) => (FileKind::Unknown, vec![Diagnostic::unreadable(&label, &error)]),
    };
    report.files.push(CheckedFile { file: label, kind });
    report.diagnostics.extend(found);
}

fn check_bytes(label: &str, bytes: &[u8], tenants: &mut Vec<Tenant>) -> (FileKind, Vec<Diagnostic>) {
    let text = match file::decode(label, bytes) {
        Ok(text) => text,
        Err(faults) => return (FileKind::Unknown, faults),
    };
    let source = Source { label, text };
    let node = match yaml::parse(text) {
        Ok(node) => node,
        Err(fault) => return (FileKind::Unknown, vec![source.syntax_fault(fault)]),
    };
    match kind(&node) {
        FileKind::Host => match host::read(source, &node) {
            Ok(host) => (FileKind::Host, host.warnings),
            Err(faults) => (FileKind::Host, faults),
        },
        FileKind::Tenant => match tenant::read(source, &node) {
            Ok(tenant) => {
                let warnings = tenant.warnings.clone();
                tenants.push(tenant);
                (FileKind::Tenant, warnings)
            }
            Err(faults) => (FileKind::Tenant, faults),
        },
        FileKind::Unknown => {
            let fault = SyntaxFault {
                span: node.span,
                message: "this is neither a tenant file nor a host file".to_owned(),
                help: Some("a tenant file has a key `tenant` or `t_name`, a host file has a key `transit`"),
            };
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
