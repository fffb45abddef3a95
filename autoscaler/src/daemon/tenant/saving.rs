//! Keeps the state file as the tenant is, beside its task: a slow disk must hold up no instance and no packet.
//!
//! A crash may lose the last change. It is made again: the next daemon finds instances and services on the host,
//! and decides anew.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::Tenant;
use super::jobs::Done;
use super::leaving::Leaving;
use super::problems::Work;
use crate::daemon::state::SavedTenant;

/// After a failure the next try waits so long.
const RETRY: Duration = Duration::from_secs(2);

/// What is on disk, and what is on its way there.
#[derive(Debug, Default)]
pub(super) struct Saving {
    saved: Option<SavedTenant>,
    running: bool,
    not_before: Option<Instant>,
}

impl Saving {
    /// Whether a write is on its way.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }
}

impl Tenant {
    /// Begins to write the state file where it is not as it should be. One write at a time, so that no older one
    /// comes last.
    pub(super) fn save(&mut self) {
        let wait = self.saving.not_before.is_some_and(|at| Instant::now() < at);
        if self.saving.running || wait {
            return;
        }
        let current = self.current_state();
        if self.saving.saved.as_ref() == Some(&current) {
            return;
        }
        self.saving.running = true;
        let state = self.host.state.clone();
        self.jobs.spawn(async move {
            let copy = current.clone();
            let done = tokio::task::spawn_blocking(move || state.save(&copy)).await;
            Done::Saved(Box::new(current), done.map_err(Into::into).and_then(|done| Ok(done?)))
        });
    }

    /// Takes in how a write went.
    pub(super) fn saved(&mut self, saved: SavedTenant, result: Result<()>) {
        self.saving.running = false;
        self.saving.not_before = result.is_err().then(|| Instant::now() + RETRY);
        if self.outcome(Work::State, result).is_some() {
            self.saving.saved = Some(saved);
        }
    }

    /// Returns when the state file is as it should be, or could not be written.
    pub(super) async fn flush(&mut self) {
        self.saving.not_before = None;
        self.save();
        while self.saving.running {
            let Some(done) = self.jobs.join_next().await else { return };
            self.finish(done);
            self.save();
        }
    }

    fn current_state(&mut self) -> SavedTenant {
        self.group.remember(&self.instances());
        let carrying = self.members.values().filter(|member| member.settled().is_some());
        SavedTenant {
            file: self.file.clone(),
            spec: self.spec.clone(),
            group: self.group.clone(),
            leaving: self.leaving.as_ref().map(Leaving::departure),
            instances: carrying.map(|member| member.spec.clone()).collect(),
        }
    }
}
