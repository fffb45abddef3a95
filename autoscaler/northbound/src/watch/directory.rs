//! Which tenants are in force, and what changed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use sluice_logic::spec::{TenantName, TenantSpec};

use super::memory::Memory;
use super::tenant_files;
use crate::diagnostic::Diagnostic;
use crate::file;
use crate::tenant::{self, Tenant, check_reserved, check_windows, cross_check};

/// A file must be gone for so long before its tenant is: some editors move a file away before they write it anew.
pub const REMOVAL_GRACE: Duration = Duration::from_millis(250);

/// What changed in the tenants' directory.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A tenant is in force that was not.
    Added {
        /// Its file.
        path: PathBuf,
        /// The tenant. Its warnings are new.
        tenant: Box<Tenant>,
    },
    /// A tenant asks for something else than before.
    Changed {
        /// Its file.
        path: PathBuf,
        /// What was in force.
        before: TenantSpec,
        /// What is in force now. Its warnings are new.
        tenant: Box<Tenant>,
    },
    /// A tenant is no longer in force: its file was deleted, or has another tenant in it now.
    Removed {
        /// Its file.
        path: PathBuf,
        /// What was in force.
        before: TenantSpec,
    },
    /// What a file says was refused. Said once for each edit.
    Refused {
        /// The file.
        path: PathBuf,
        /// The tenant of that file that stays in force as it was.
        in_force: Option<TenantName>,
        /// Why.
        diagnostics: Vec<Diagnostic>,
    },
}

impl Change {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Added { path, .. }
            | Self::Changed { path, .. }
            | Self::Removed { path, .. }
            | Self::Refused { path, .. } => path,
        }
    }

    /// What is freed comes before what is taken, so that a VIP can go from one tenant to another.
    fn order(&self) -> u8 {
        match self {
            Self::Removed { .. } => 0,
            Self::Changed { .. } => 1,
            Self::Added { .. } => 2,
            Self::Refused { .. } => 3,
        }
    }
}

/// The tenants' directory.
///
/// Whatever a file says, its tenant stays in force as it last was until the file says something good again or is
/// deleted. An edit that is good by itself but claims what another tenant has is refused like a bad one, and
/// taken later when the claim has become free. Tenants in force never conflict.
#[derive(Debug)]
pub struct TenantDirectory {
    path: PathBuf,
    files: BTreeMap<PathBuf, TenantFile>,
    memory: Option<Memory>,
    reserved: Option<Ipv4Net>,
    sample_interval: Option<Duration>,
}

/// What is known of a file.
#[derive(Debug, Default)]
struct TenantFile {
    /// What was last read, and what it says.
    content: Option<Vec<u8>>,
    says: Option<Result<Tenant, Vec<Diagnostic>>>,
    /// What the caller has been told.
    in_force: Option<Tenant>,
    /// What was in force before the last restart, and its text.
    remembered: Option<Tenant>,
    kept: Option<Vec<u8>>,
    /// The text in force could not be kept, and the log says so.
    unkept: bool,
    /// The refusal that has been reported for `content`.
    reported: Vec<Diagnostic>,
    missing_since: Option<Instant>,
}

impl TenantFile {
    /// What holds as long as the file says nothing better.
    fn established(&self) -> Option<&Tenant> {
        self.in_force.as_ref().or(self.remembered.as_ref())
    }

    /// Takes what was read; an unchanged text keeps its verdict.
    fn reads(&mut self, label: &str, read: io::Result<Vec<u8>>) {
        self.missing_since = None;
        match read {
            Ok(content) if self.content.as_ref() == Some(&content) => {}
            Ok(content) => {
                self.says = Some(file::decode(label, &content).and_then(|text| tenant::parse(label, text)));
                self.content = Some(content);
                self.reported.clear();
            }
            // The same failure again is the same refusal; whatever is read next is read anew.
            Err(error) => {
                self.says = Some(Err(vec![Diagnostic::unreadable(label, &error)]));
                self.content = None;
            }
        }
    }
}

impl TenantDirectory {
    /// A directory of which nothing is known yet; the first [`rescan`](Self::rescan) reads it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            files: BTreeMap::new(),
            memory: None,
            reserved: None,
            sample_interval: None,
        }
    }

    /// Refuses tenants with addresses of the management network.
    #[must_use]
    pub fn reserving(self, reserved: Option<Ipv4Net>) -> Self {
        Self { reserved, ..self }
    }

    /// Refuses tenants with windows that a host which takes a sample so often can't look back over.
    #[must_use]
    pub fn sampled_every(self, interval: Duration) -> Self {
        Self { sample_interval: Some(interval), ..self }
    }

    /// Keeps a copy of what is in force in a directory of its own, so that a bad edit does no harm over a restart
    /// either. The directory is made when it is missing.
    ///
    /// # Errors
    /// The directory can't be made or read.
    pub fn remembering(mut self, directory: impl AsRef<Path>) -> io::Result<Self> {
        let memory = Memory::open(directory.as_ref())?;
        for (name, text) in memory.recall()? {
            let path = self.path.join(name);
            let label = path.display().to_string();
            let known = file::decode(&label, &text).and_then(|text| tenant::parse(&label, text)).ok();
            let file = TenantFile { remembered: known, kept: Some(text), ..TenantFile::default() };
            self.files.insert(path, file);
        }
        self.memory = Some(memory);
        Ok(self)
    }

    /// Says what was in force before, for files whose kept copy is no longer a good one: a build may refuse what an older
    /// one took, and what runs goes on. After [`remembering`](Self::remembering).
    #[must_use]
    pub fn recalling<'a>(mut self, specs: impl Iterator<Item = (&'a Path, &'a TenantSpec)>) -> Self {
        for (path, spec) in specs {
            let file = self.files.entry(path.to_owned()).or_default();
            let recalled = || Tenant::recalled(path.display().to_string(), spec.clone());
            file.remembered.get_or_insert_with(recalled);
        }
        self
    }

    /// The tenants in force, by file.
    pub fn in_force(&self) -> impl Iterator<Item = (&Path, &Tenant)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_path(), file.in_force.as_ref()?)))
    }

    /// The files that are refused as they stand, with the tenant that stays in force in their place, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&Path, Option<&TenantName>, &[Diagnostic])> {
        self.files.iter().filter(|(_, file)| !file.reported.is_empty()).map(|(path, file)| {
            let in_force = file.in_force.as_ref().map(|tenant| &tenant.spec.name);
            (path.as_path(), in_force, file.reported.as_slice())
        })
    }

    /// Reads the directory and says what changed since the last time, in an order in which it can be carried out.
    ///
    /// A deleted file shows up only when it is still gone [`REMOVAL_GRACE`] after a scan that missed it.
    ///
    /// # Errors
    /// The directory can't be read. Everything stays in force.
    pub fn rescan(&mut self) -> io::Result<Vec<Change>> {
        self.rescan_at(Instant::now())
    }

    pub(super) fn rescan_at(&mut self, now: Instant) -> io::Result<Vec<Change>> {
        let present = self.read_files()?;
        self.follow_moves(&present);
        let mut changes = self.remove_missing(&present, now);
        for (path, choice, refusal) in self.settle() {
            self.enact(path, choice, refusal, &mut changes);
        }
        changes.sort_by(|a, b| (a.order(), a.path()).cmp(&(b.order(), b.path())));
        Ok(changes)
    }

    /// Reads every file, and returns those that are there.
    fn read_files(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut present = tenant_files(&self.path)?;
        present.retain(|path| {
            let read = file::read(path);
            // Deleted since the directory was read, or a link to nowhere.
            if matches!(&read, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                return false;
            }
            self.files.entry(path.clone()).or_default().reads(&path.display().to_string(), read);
            true
        });
        Ok(present)
    }

    /// A tenant whose file has another name now is still the same tenant.
    fn follow_moves(&mut self, present: &[PathBuf]) {
        for path in present {
            let name = match self.files.get(path) {
                Some(TenantFile { says: Some(Ok(tenant)), in_force: None, remembered: None, .. }) => {
                    tenant.spec.name.clone()
                }
                _ => continue,
            };
            let moved = self.files.iter().find_map(|(old, file)| {
                let same = file.established().is_some_and(|tenant| tenant.spec.name == name);
                (same && !present.contains(old)).then(|| old.clone())
            });
            if let Some(old) = moved
                && let Some(before) = self.files.remove(&old)
                && let Some(file) = self.files.get_mut(path)
            {
                file.in_force = before.in_force;
                file.remembered = before.remembered;
                self.forget(&old);
            }
        }
    }

    fn remove_missing(&mut self, present: &[PathBuf], now: Instant) -> Vec<Change> {
        let mut gone = Vec::new();
        for (path, file) in self.files.iter_mut().filter(|(path, _)| !present.contains(path)) {
            let since = *file.missing_since.get_or_insert(now);
            // Without a tenant in force there is nothing to be careful about; nor was an editor at work while the
            // daemon was down.
            if file.in_force.is_none() || now.duration_since(since) >= REMOVAL_GRACE {
                gone.push(path.clone());
            }
        }
        let mut changes = Vec::new();
        for path in gone {
            self.forget(&path);
            if let Some(before) = self.files.remove(&path).and_then(|file| file.in_force) {
                changes.push(Change::Removed { path, before: before.spec });
            }
        }
        changes
    }

    /// Decides for each file what is in force from now on, and why what it says is not.
    fn settle(&self) -> Vec<(PathBuf, Option<Tenant>, Vec<Diagnostic>)> {
        let mut claims: Vec<Claim<'_>> =
            self.files.iter().map(|(path, file)| Claim::new(path, file)).collect();
        loop {
            claims.sort_by_key(Claim::seniority);
            let standing: Vec<usize> = (0..claims.len()).filter(|&i| claims[i].tenant().is_some()).collect();
            let tenants: Vec<&Tenant> = standing.iter().filter_map(|&i| claims[i].tenant()).collect();
            let mut conflicts = cross_check(&tenants);
            conflicts.extend(self.reserved.iter().flat_map(|reserved| check_reserved(&tenants, *reserved)));
            let interval = self.sample_interval;
            conflicts.extend(interval.iter().flat_map(|interval| check_windows(&tenants, *interval)));
            // One at a time: who conflicts with a claim that falls may stand after all.
            let Some(offender) = conflicts.iter().map(|conflict| conflict.offender).min() else { break };
            let reasons = conflicts.into_iter().filter(|conflict| conflict.offender == offender);
            let claim = &mut claims[standing[offender]];
            claim.refusal.extend(reasons.map(|conflict| conflict.diagnostic));
            claim.candidates.pop();
        }
        claims
            .into_iter()
            .map(|claim| (claim.path.to_owned(), claim.tenant().cloned(), claim.refusal))
            .collect()
    }

    /// Makes a decision the state, and reports what is new in it.
    fn enact(
        &mut self,
        path: PathBuf,
        choice: Option<Tenant>,
        refusal: Vec<Diagnostic>,
        changes: &mut Vec<Change>,
    ) {
        let Some(file) = self.files.get_mut(&path) else { return };
        file.remembered = None;
        if let Some(tenant) = choice {
            let before = file.in_force.replace(tenant.clone()).map(|before| before.spec);
            let (path, tenant) = (path.clone(), Box::new(tenant));
            match before {
                Some(before) if before == tenant.spec => {}
                Some(before) if before.name == tenant.spec.name => {
                    changes.push(Change::Changed { path, before, tenant });
                }
                Some(before) => {
                    changes.push(Change::Removed { path: path.clone(), before });
                    changes.push(Change::Added { path, tenant });
                }
                None => changes.push(Change::Added { path, tenant }),
            }
        }
        if refusal.is_empty() {
            file.reported.clear();
            self.keep(&path);
        } else if file.reported != refusal {
            file.reported.clone_from(&refusal);
            let in_force = file.in_force.as_ref().map(|tenant| tenant.spec.name.clone());
            changes.push(Change::Refused { path, in_force, diagnostics: refusal });
        }
    }

    /// What can't be kept is in force all the same; it would only not outlive a bad edit and a restart.
    fn keep(&mut self, path: &Path) {
        let (Some(memory), Some(file), Some(name)) =
            (&self.memory, self.files.get_mut(path), path.file_name())
        else {
            return;
        };
        let Some(content) = file.content.as_ref().filter(|content| file.kept.as_ref() != Some(content))
        else {
            return;
        };
        match memory.keep(name, content) {
            Ok(()) => {
                file.kept = Some(content.clone());
                file.unkept = false;
            }
            // Tried again at each scan, and said once.
            Err(error) => {
                if !std::mem::replace(&mut file.unkept, true) {
                    tracing::warn!(path = %path.display(), %error, "the tenant file can't be remembered");
                }
            }
        }
    }

    fn forget(&self, path: &Path) {
        if let (Some(memory), Some(name)) = (&self.memory, path.file_name())
            && let Err(error) = memory.forget(name)
        {
            tracing::warn!(path = %path.display(), %error, "the tenant file can't be forgotten");
        }
    }
}

/// What a file wants to be in force.
struct Claim<'a> {
    path: &'a Path,
    established: Option<&'a Tenant>,
    /// What the file says is last, what was in force before it.
    candidates: Vec<&'a Tenant>,
    refusal: Vec<Diagnostic>,
}

impl<'a> Claim<'a> {
    fn new(path: &'a Path, file: &'a TenantFile) -> Self {
        let established = file.established();
        let mut candidates: Vec<&Tenant> = established.into_iter().collect();
        let mut refusal = Vec::new();
        match &file.says {
            Some(Ok(tenant)) => candidates.push(tenant),
            Some(Err(faults)) => refusal.clone_from(faults),
            None => {}
        }
        Self { path, established, candidates, refusal }
    }

    fn tenant(&self) -> Option<&'a Tenant> {
        self.candidates.last().copied()
    }

    /// Who comes first has the older claim: what is in force, then edits of it, then what is new.
    fn seniority(&self) -> (u8, &'a Path) {
        let rank = match (self.established, self.tenant()) {
            (Some(established), Some(tenant)) if established.spec == tenant.spec => 0,
            (Some(_), _) => 1,
            (None, _) => 2,
        };
        (rank, self.path)
    }
}
