//! What the tenants' files say, and what follows from it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_northbound as northbound;
use sluice_northbound::api::{ConfirmAnswer, EventKind, HeldRemoval, RefusedFile};
use sluice_northbound::watch::{Change, Doubt, Listing, MARKER};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Effect, Supervisor};
use crate::daemon::change;
use crate::daemon::events::NewEvent;
use crate::daemon::found::Found;
use crate::daemon::problems::Finding;
use crate::daemon::refusal::Refusal;
use crate::daemon::state::Departure;
use crate::daemon::tenant::Message;

/// A directory that takes longer to read, as on a network filesystem that is away, can't be read.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// A file that is open for writing for longer is a problem: perhaps its writer hangs.
const LONG_WRITE: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Reads the directory and takes what changed; nothing where it can't be read.
    pub(super) async fn changes(&mut self) -> Vec<Change> {
        let listing = self.listing().await;
        let changes = self.directory.take(listing, std::time::Instant::now()).unwrap_or_else(|error| {
            tracing::debug!(%error, "the tenants' directory can't be read; everything stays in force");
            Vec::new()
        });
        self.has_read = true;
        changes
    }

    /// A reading that hangs is waited for again the next time: there is one at most.
    async fn listing(&mut self) -> io::Result<Listing> {
        let mut reading = self.reading.take().unwrap_or_else(|| {
            let (path, mark) = (self.directory.path().to_owned(), self.directory.wants_mark());
            spawn_blocking(move || Listing::read(&path, mark))
        });
        if let Ok(read) = timeout(READ_WITHIN, &mut reading).await {
            return read.map_err(io::Error::other)?;
        }
        self.reading = Some(reading);
        let message = format!("no answer within {} s", READ_WITHIN.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    }

    /// Whether the directory tells of all tenants there are: otherwise nothing is removed for being of none.
    pub(super) fn knows_all(&self) -> bool {
        self.has_read && self.directory.doubt().is_none()
    }

    /// Takes a change into what the tenants are told; the effects follow once all changes are taken.
    pub(super) fn enact(&mut self, change: Change, found: &Found, effects: &mut Vec<Effect>) {
        match change {
            Change::Added { path, tenant } => {
                warn(&tenant);
                self.add(path, tenant.spec, found, effects);
            }
            Change::Changed { path, tenant, .. } => {
                warn(&tenant);
                self.change(&path, tenant.spec, effects);
            }
            Change::Removed { path, before, is_confirmed } => {
                self.immutable.remove(&path);
                self.leave(&before.name, Departure { since: Timestamp::now(), is_confirmed }, effects);
            }
            Change::Held { path, before } => {
                let message = format!(
                    "{} is gone, and too many others with it: it stays in force until its file is back, or `sluice \
                     confirm-removal {}`",
                    path.display(),
                    before.name
                );
                self.host.events.record(NewEvent::new(EventKind::RemovalHeld, message).of(&before.name));
                self.stay(&before.name, effects);
            }
            Change::Back { path, tenant } => {
                if !self.stay(&tenant, effects) {
                    let message = format!("{} is back", path.display());
                    self.host.events.record(NewEvent::new(EventKind::RemovalCleared, message).of(&tenant));
                }
            }
            Change::Refused { path, in_force, waits, diagnostics } => {
                let faults: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                let first = faults.first().and_then(|fault| fault.lines().next()).unwrap_or_default();
                let what = if waits { "waits" } else { "is refused" };
                let message = format!("{} {what}: {first}", path.display());
                self.refuse(in_force.as_ref(), &message, &faults);
            }
        }
    }

    /// Adds a tenant that is new, or that was there before the daemon.
    pub(super) fn add(&mut self, file: PathBuf, spec: TenantSpec, found: &Found, effects: &mut Vec<Effect>) {
        // An edit made while no daemon ran is an edit all the same.
        let Some(saved) = found.saved.get(&spec.name).map(|saved| saved.spec.clone()) else {
            let added = NewEvent::new(EventKind::TenantAdded, format!("from {}", file.display()));
            self.host.events.record(added.of(&spec.name));
            self.start(file, spec, effects);
            return;
        };
        self.start(file.clone(), saved, effects);
        self.change(&file, spec, effects);
    }

    pub(super) fn start(&mut self, file: PathBuf, spec: TenantSpec, effects: &mut Vec<Effect>) {
        self.told.insert(spec.name.clone(), (file.clone(), spec.clone()));
        self.show_logs();
        effects.push(Effect::Start(file, Box::new(spec)));
    }

    /// Lets central logs know which tenants there are.
    pub(super) fn show_logs(&self) {
        self.host.logs.set_tenants(self.told.values().map(|(_, spec)| spec));
    }

    fn change(&mut self, file: &Path, spec: TenantSpec, effects: &mut Vec<Effect>) {
        let name = spec.name.clone();
        let Some((_, told)) = self.told.get_mut(&name) else { return };
        let addresses = self.registry.tenant(&name).map(|handle| handle.addresses()).unwrap_or_default();
        if let Some(reason) = change::refused(told, &spec, &addresses) {
            let fault = format!("{}: error: {reason}", file.display());
            let faults = vec![fault.clone()];
            let refused =
                RefusedFile { file: file.to_owned(), tenant: Some(name.clone()), waits: false, faults };
            self.immutable.insert(file.to_owned(), refused);
            self.refuse(Some(&name), &fault, std::slice::from_ref(&fault));
            return;
        }
        self.immutable.remove(file);
        *told = spec.clone();
        self.show_logs();
        effects.push(Effect::Tell(name, Message::Changed(Box::new(spec))));
    }

    pub(super) fn leave(&mut self, name: &TenantName, departure: Departure, effects: &mut Vec<Effect>) {
        self.leaving.insert(name.clone());
        effects.push(Effect::Tell(name.clone(), Message::Leave(departure)));
    }

    /// A tenant that leaves stays. Whether it was leaving.
    fn stay(&mut self, name: &TenantName, effects: &mut Vec<Effect>) -> bool {
        let was_leaving = self.leaving.remove(name);
        if was_leaving {
            effects.push(Effect::Tell(name.clone(), Message::Stay));
        }
        was_leaving
    }

    fn refuse(&self, tenant: Option<&TenantName>, message: &str, faults: &[String]) {
        let event =
            NewEvent::new(EventKind::TenantRefused, message).with(serde_json::json!({ "faults": faults }));
        self.host.events.record(match tenant {
            Some(tenant) => event.of(tenant),
            None => event,
        });
    }

    /// Lets tenants go whose removal is held; without names all of them.
    pub(crate) async fn confirm(&mut self, tenants: &[TenantName]) -> Result<ConfirmAnswer, Refusal> {
        let held: Vec<TenantName> = self.directory.held().map(|(name, _)| name.clone()).collect();
        if matches!(self.directory.doubt(), Some(Doubt::Unreadable(_))) {
            return Err(Refusal::NotNow(
                "the tenants' directory can't be read: what its files say now is not known".to_owned(),
            ));
        }
        if let Some(other) =
            tenants.iter().find(|tenant| !held.contains(tenant) && !self.leaving.contains(tenant))
        {
            return Err(Refusal::Wrong(format!(
                "no removal of {other} is held: delete its file to remove it; see `sluice status`"
            )));
        }
        let confirmed = if tenants.is_empty() { held } else { tenants.to_vec() };
        if confirmed.is_empty() {
            return Err(Refusal::NotNow("no removal is held: see `sluice status`".to_owned()));
        }
        let mut effects = Vec::new();
        for tenant in &confirmed {
            self.directory.confirm(tenant);
            if self.leaving.contains(tenant) {
                let departure = Departure { since: Timestamp::now(), is_confirmed: true };
                self.leave(tenant, departure, &mut effects);
            }
        }
        self.carry_out(effects, &Found::default()).await;
        self.rescan().await;
        Ok(ConfirmAnswer { tenants: confirmed })
    }

    /// Shows which files are not in force as they stand, which removals are held, and what keeps the files from being read.
    pub(super) fn show_files(&self) {
        let faulty = self.directory.refused().map(|(file, tenant, waits, diagnostics)| RefusedFile {
            file: file.to_owned(),
            tenant: tenant.cloned(),
            waits,
            faults: diagnostics.iter().map(ToString::to_string).collect(),
        });
        self.registry.set_refused(faulty.chain(self.immutable.values().cloned()));
        let held = self.directory.held();
        let held: Vec<HeldRemoval> = held
            .map(|(tenant, file)| HeldRemoval { tenant: tenant.clone(), file: file.to_owned() })
            .collect();
        self.host.problems.set(&self.host.events, "tenants", self.findings(&held));
        self.registry.set_held(held);
    }

    fn findings(&self, held: &[HeldRemoval]) -> Vec<Finding> {
        let directory = self.directory.path().display();
        let about = format!("the tenants' directory {directory}");
        let mut findings = Vec::new();
        match self.directory.doubt() {
            Some(Doubt::Unreadable(reason)) => findings.push(Finding {
                about,
                what: format!("it can't be read: {reason}; every tenant stays in force as it was"),
                way_out: format!("make it readable: `ls -la {directory}` says what is there"),
            }),
            Some(Doubt::Unfamiliar) => findings.push(Finding {
                about,
                what: format!(
                    "it has neither the marker `{MARKER}` nor the file of any tenant in force, as if it was not mounted; every \
                     tenant stays in force"
                ),
                way_out: "mount it or write the files again; `sluice confirm-removal` removes the tenants".to_owned(),
            }),
            None if !held.is_empty() => {
                let names: Vec<&str> = held.iter().map(|held| held.tenant.as_str()).collect();
                findings.push(Finding {
                    about: format!("the files of {}", names.join(", ")),
                    what: "they are gone, too many at once to be a person's will; these tenants stay in force".to_owned(),
                    way_out: "write them again, or `sluice confirm-removal` to remove these tenants".to_owned(),
                });
            }
            None => {}
        }
        let written = self.directory.written_for(LONG_WRITE, std::time::Instant::now());
        findings.extend(written.map(|file| {
            Finding {
                about: format!("the file {}", file.display()),
                what:
                    "a program has had it open for writing for long; what it says is taken when it is closed"
                        .to_owned(),
                way_out: format!("`fuser -v {}` names the program", file.display()),
            }
        }));
        findings
    }
}

/// What a file says may not do what its author wants.
fn warn(tenant: &northbound::tenant::Tenant) {
    for warning in &tenant.warnings {
        tracing::warn!(tenant = %tenant.spec.name, "{warning}");
    }
}
