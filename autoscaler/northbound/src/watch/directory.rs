//! Which tenants are in force, and what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use sluice_logic::spec::{TenantName, TenantSpec};

use super::change::Change;
use super::claims::{Claim, HostRules, Ruling, rule};
use super::listing::{Listing, Reading};
use super::memory::Memory;
use super::removal::{Fate, Removals};
use super::tenant_file::TenantFile;
use crate::diagnostic::Diagnostic;
use crate::file;
use crate::tenant::{self, Tenant};

/// The tenants' directory.
///
/// - Whatever a file says, its tenant stays in force as it last was until the file says something good again, or the
///   tenant has left.
/// - A text is taken whole or not at all: when nobody has the file open for writing and it has been alike for
///   [`SETTLE`](super::SETTLE).
/// - An edit that is good by itself but claims what another tenant has waits, and is taken when the claim has become free.
///   Tenants in force never conflict.
/// - A directory that can't be read, or is not the one that had the tenants' files, tells of no removal.
/// - A tenant whose file is gone stays in force, and keeps its claims, until the caller says that it has
///   [left](Self::has_left).
#[derive(Debug)]
pub struct TenantDirectory {
    path: PathBuf,
    files: BTreeMap<PathBuf, TenantFile>,
    force: BTreeMap<TenantName, Standing>,
    removals: Removals,
    memory: Memory,
    rules: HostRules,
    doubt: Option<Doubt>,
    /// The directory as it was last known: device and inode.
    identity: Option<(u64, u64)>,
    was_marked: bool,
}

/// A tenant in force.
#[derive(Debug)]
struct Standing {
    path: PathBuf,
    tenant: Tenant,
}

/// Why the directory says nothing of tenants whose files are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It can't be read.
    Unreadable(String),
    /// It has neither the daemon's marker nor the file of any tenant in force.
    Unfamiliar,
}

impl TenantDirectory {
    /// A directory of which nothing is known yet; the first [`rescan`](Self::rescan) reads it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            files: BTreeMap::new(),
            force: BTreeMap::new(),
            removals: Removals::default(),
            memory: Memory::default(),
            rules: HostRules::default(),
            doubt: None,
            identity: None,
            was_marked: false,
        }
    }

    /// Refuses tenants with addresses of the management network.
    #[must_use]
    pub fn reserving(mut self, reserved: Option<Ipv4Net>) -> Self {
        self.rules.reserved = reserved;
        self
    }

    /// Refuses tenants with windows that a host which takes a sample so often can't look back over.
    #[must_use]
    pub fn sampled_every(mut self, interval: Duration) -> Self {
        self.rules.sample_interval = Some(interval);
        self
    }

    /// Lets any number of tenants go at once without a person's word.
    #[must_use]
    pub fn removing_all_at_once(mut self, is_allowed: bool) -> Self {
        self.removals.all_allowed = is_allowed;
        self
    }

    /// Keeps a copy of what is in force in a directory of its own, so that neither a bad edit nor a tenants' directory that
    /// can't be read does harm over a restart. What was kept is in force again. The directory is made when it is missing.
    ///
    /// # Errors
    /// The directory can't be made or read.
    pub fn remembering(mut self, directory: impl AsRef<Path>) -> io::Result<Self> {
        self.memory = Memory::open(directory.as_ref(), &self.path)?;
        for (path, text) in self.memory.texts() {
            let label = path.display().to_string();
            let known = file::decode(&label, text).and_then(|text| tenant::parse(&label, text));
            if let Ok(tenant) = known {
                self.force.insert(tenant.spec.name.clone(), Standing { path: path.to_owned(), tenant });
            }
        }
        Ok(self)
    }

    /// Says what was in force before, for tenants whose kept copy is no longer a good one: a build may refuse what an older
    /// one took, and what runs goes on. After [`remembering`](Self::remembering).
    #[must_use]
    pub fn recalling<'a>(mut self, specs: impl Iterator<Item = (&'a Path, &'a TenantSpec)>) -> Self {
        for (path, spec) in specs {
            let recalled = || Standing {
                path: path.to_owned(),
                tenant: Tenant::recalled(path.display().to_string(), spec.clone()),
            };
            self.force.entry(spec.name.clone()).or_insert_with(recalled);
        }
        self
    }

    /// Says that a tenant was leaving before the last restart, since when, and whether a person had confirmed it.
    #[must_use]
    pub fn resuming(mut self, tenant: TenantName, since: Instant, is_confirmed: bool) -> Self {
        if self.force.contains_key(&tenant) {
            self.removals.resume(tenant, since, is_confirmed);
        }
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tenants in force, by name: also those whose files are gone, until they have left.
    pub fn in_force(&self) -> impl Iterator<Item = (&Path, &Tenant)> {
        self.force.values().map(|standing| (standing.path.as_path(), &standing.tenant))
    }

    /// The files that are refused as they stand, with the tenant that stays in force in their place, whether they only
    /// wait for what another tenant has, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&Path, Option<&TenantName>, bool, &[Diagnostic])> {
        self.files.iter().filter(|(_, file)| !file.reported.is_empty()).map(|(path, file)| {
            (path.as_path(), self.tenant_at(path), file.tenant().is_some(), file.reported.as_slice())
        })
    }

    /// The tenants that stay in force until a person confirms their removal, with their files.
    pub fn held(&self) -> impl Iterator<Item = (&TenantName, &Path)> {
        let held = self.removals.iter().filter(|(_, absence)| absence.fate == Fate::Held);
        held.filter_map(|(name, _)| Some((name, self.force.get(name)?.path.as_path())))
    }

    /// Why the directory says nothing of tenants whose files are missing, while it doesn't.
    #[must_use]
    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// The files that somebody has had open for writing for so long.
    pub fn written_for(&self, least: Duration, now: Instant) -> impl Iterator<Item = &Path> {
        let is_long = move |since: Instant| now.saturating_duration_since(since) >= least;
        let written = self.files.iter().filter(move |(_, file)| file.written_since.is_some_and(is_long));
        written.map(|(path, _)| path.as_path())
    }

    /// When there is something to find without anything that happens: a text, or an absence, that has settled.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        self.files.values().filter_map(TenantFile::settles_at).chain(self.removals.next()).min()
    }

    /// Whether the next listing is to mark the directory: not before it is known to be the one.
    #[must_use]
    pub fn wants_mark(&self) -> bool {
        self.identity.is_some() && self.doubt.is_none() && !self.was_marked
    }

    /// A person says that a tenant whose file is gone may go: the next look lets it. Whether its file is gone.
    pub fn confirm(&mut self, tenant: &TenantName) -> bool {
        self.removals.confirm(tenant)
    }

    /// Nothing is left of a tenant whose file is gone: what it claimed is free.
    pub fn has_left(&mut self, tenant: &TenantName) {
        self.removals.has_left(tenant);
        if let Some(standing) = self.force.remove(tenant) {
            self.memory.forget(&standing.path);
        }
    }

    /// Reads the directory and says what changed since the last time, in an order in which it can be carried out.
    ///
    /// # Errors
    /// The directory can't be read. Everything stays in force.
    pub fn rescan(&mut self) -> io::Result<Vec<Change>> {
        let listing = Listing::read(&self.path, self.wants_mark());
        self.take(listing, Instant::now())
    }

    /// The same of a listing that was read before, at a time that is passed in.
    ///
    /// # Errors
    /// The directory could not be read. Everything stays in force.
    pub fn take(&mut self, listing: io::Result<Listing>, now: Instant) -> io::Result<Vec<Change>> {
        let listing = listing.inspect_err(|error| self.doubt = Some(Doubt::Unreadable(error.to_string())))?;
        let (is_marked, identity) = (listing.is_marked, listing.identity);
        let names: BTreeSet<PathBuf> = listing.files.keys().cloned().collect();
        self.read(listing.files, now);
        let speakers = self.speakers();
        let mut changes = Vec::new();
        let here = self.find_absent(&names, &speakers, now, &mut changes);
        self.judge(is_marked, identity, here);
        for ruling in self.rule(&speakers) {
            self.enact(ruling, &mut changes);
        }
        self.remove(now, &mut changes);
        changes.sort_by(|a, b| (a.order(), a.path()).cmp(&(b.order(), b.path())));
        Ok(changes)
    }

    /// Takes in what the files were read to be.
    fn read(&mut self, readings: BTreeMap<PathBuf, Reading>, now: Instant) {
        self.files.retain(|path, _| readings.contains_key(path));
        for (path, reading) in readings {
            let is_known = self.files.contains_key(&path) || self.tenant_at(&path).is_some();
            // What is no file and never was one has nothing to say.
            if matches!(reading, Reading::Unreadable(_)) && !is_known {
                continue;
            }
            let file = self.files.entry(path.clone()).or_default();
            let label = path.display().to_string();
            file.reads(&label, reading, |text| self.memory.has(&path, text), now);
        }
    }

    /// Which file speaks for each tenant in force: its own, or another one where that does not: the file was renamed.
    fn speakers(&self) -> BTreeMap<TenantName, PathBuf> {
        let says = |path: &Path, name: &TenantName| {
            self.files.get(path).and_then(TenantFile::tenant).is_some_and(|tenant| tenant.spec.name == *name)
        };
        let mut speakers = BTreeMap::new();
        for (name, standing) in &self.force {
            let other = || self.files.keys().find(|path| says(path, name)).cloned();
            let own = says(&standing.path, name).then(|| standing.path.clone());
            if let Some(path) = own.or_else(other) {
                speakers.insert(name.clone(), path);
            }
        }
        speakers
    }

    /// Finds whose files are gone, and whose are back. A file that has no good text is there all the same; one that has
    /// another tenant in it is not there for the first. How many are there.
    fn find_absent(
        &mut self,
        names: &BTreeSet<PathBuf>,
        speakers: &BTreeMap<TenantName, PathBuf>,
        now: Instant,
        changes: &mut Vec<Change>,
    ) -> usize {
        let mut here = 0;
        let mut moved = Vec::new();
        for (name, standing) in &mut self.force {
            let has_other_tenant = self.files.get(&standing.path).is_some_and(|file| file.tenant().is_some());
            let speaker = speakers.get(name);
            if speaker.is_none() && (has_other_tenant || !names.contains(&standing.path)) {
                self.removals.is_gone(name, now);
                continue;
            }
            here += 1;
            if let Some(path) = speaker.filter(|path| **path != standing.path) {
                moved.push(std::mem::replace(&mut standing.path, path.clone()));
            }
            if matches!(self.removals.is_back(name), Some(Fate::Held | Fate::Leaving)) {
                changes.push(Change::Back { path: standing.path.clone(), tenant: name.clone() });
            }
        }
        for path in moved {
            self.memory.forget(&path);
        }
        here
    }

    /// Whether this is the directory that has the tenants' files: by its marker, by one of their files, or, where it can't
    /// be marked, by being the same as before.
    fn judge(&mut self, is_marked: bool, identity: (u64, u64), here: usize) {
        let is_same = !self.was_marked && self.identity == Some(identity);
        let is_known = is_marked || here > 0 || self.force.is_empty() || is_same;
        self.doubt = (!is_known).then_some(Doubt::Unfamiliar);
        if is_known {
            self.identity = Some(identity);
            self.was_marked = is_marked;
        }
    }

    fn rule(&self, speakers: &BTreeMap<TenantName, PathBuf>) -> Vec<Ruling> {
        let mut claims = Vec::new();
        let mut heard = BTreeSet::new();
        for (name, standing) in &self.force {
            let file = self
                .files
                .get(&standing.path)
                .filter(|file| speakers.contains_key(name) || file.tenant().is_none());
            heard.extend(file.map(|_| standing.path.as_path()));
            claims.push(Claim::new(&standing.path, Some(&standing.tenant), file));
        }
        for (path, file) in self.files.iter().filter(|(path, _)| !heard.contains(path.as_path())) {
            claims.push(Claim::new(path, None, Some(file)));
        }
        rule(claims, &self.rules)
    }

    /// Makes a ruling the state, and reports what is new in it.
    fn enact(&mut self, ruling: Ruling, changes: &mut Vec<Change>) {
        let Ruling { path, tenant, refusal, is_of_file } = ruling;
        if let Some(tenant) = tenant {
            let name = tenant.spec.name.clone();
            let standing = Standing { path: path.clone(), tenant: tenant.clone() };
            let before = self.force.insert(name, standing).map(|before| before.tenant.spec);
            let (path, tenant) = (path.clone(), Box::new(tenant));
            match before {
                Some(before) if before == tenant.spec => {}
                Some(before) => changes.push(Change::Changed { path, before, tenant }),
                None => changes.push(Change::Added { path, tenant }),
            }
        }
        let in_force = self.tenant_at(&path).cloned();
        let Some(file) = self.files.get_mut(&path).filter(|_| is_of_file) else { return };
        if refusal.is_empty() {
            file.reported.clear();
            if let Some(text) = file.content() {
                self.memory.keep(&path, text);
            }
        } else if file.reported != refusal {
            file.reported.clone_from(&refusal);
            let waits = file.tenant().is_some();
            changes.push(Change::Refused { path, in_force, waits, diagnostics: refusal });
        }
    }

    /// Decides what becomes of the tenants whose files are gone.
    fn remove(&mut self, now: Instant, changes: &mut Vec<Change>) {
        for (name, fate) in self.removals.decide(self.force.len(), self.doubt.is_none(), now) {
            let Some(Standing { path, tenant }) = self.force.get(&name) else { continue };
            let (path, before) = (path.clone(), tenant.spec.clone());
            match fate {
                Fate::Settling => {}
                Fate::Held => changes.push(Change::Held { path, before }),
                Fate::Leaving => {
                    let is_confirmed = self.removals.get(&name).is_some_and(|absence| absence.is_confirmed);
                    changes.push(Change::Removed { path, before, is_confirmed });
                }
            }
        }
    }

    fn tenant_at(&self, path: &Path) -> Option<&TenantName> {
        self.force.iter().find(|(_, standing)| standing.path == path).map(|(name, _)| name)
    }
}
