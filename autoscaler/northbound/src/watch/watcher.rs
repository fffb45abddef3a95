//! Says when to look at the directory again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};

use super::SETTLE;

/// A look is taken so often even without an event: some filesystems have none, and a directory can be replaced.
pub const FALLBACK: Duration = Duration::from_secs(3);

/// A file is looked at when nothing has been written for so long.
const QUIET: Duration = Duration::from_millis(50);

/// It is looked at after so long even while somebody keeps writing.
const LONGEST_NOISE: Duration = Duration::from_millis(500);

/// Another poll so long after the last event finds what has settled since: see [`SETTLE`].
const SETTLED: Duration = SETTLE.saturating_add(QUIET);

/// Watches a directory.
///
/// Ends with its value. What can't be watched (no such directory yet, no watches left) is logged, tried again and
/// looked at every now and then.
#[derive(Debug)]
pub struct Watcher {
    changes: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts to watch. `fallback` is how often there is a look without an event.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(directory: impl Into<PathBuf>, fallback: Duration) -> Self {
        // One place: a look finds all that changed before it, however often it was announced.
        let (announce, changes) = mpsc::channel(1);
        let task = tokio::spawn(watch(directory.into(), fallback, announce));
        Self { changes, task }
    }

    /// Waits until something may have changed. Cancel safe.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // The task ends only with us, or by a panic; then nothing will ever change.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(directory: PathBuf, fallback: Duration, announce: mpsc::Sender<()>) {
    let (notice, mut noticed) = mpsc::channel(1);
    let mut events = start(notice);
    let mut watched = add(events.as_mut(), &directory, true);
    let mut ticks = interval_at(Instant::now() + fallback, fallback);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut settled: Option<Instant> = None;
    loop {
        tokio::select! {
            Some(()) = noticed.recv() => {
                wait_for_quiet(&mut noticed).await;
                settled = Some(Instant::now() + SETTLED);
            }
            () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => settled = None,
            // The directory may be another one by now, or there at last.
            _ = ticks.tick() => watched = add(events.as_mut(), &directory, watched),
        }
        // Full is fine: it has been announced and not yet been looked at.
        if let Err(mpsc::error::TrySendError::Closed(())) = announce.try_send(()) {
            return;
        }
    }
}

async fn wait_for_quiet(noticed: &mut mpsc::Receiver<()>) {
    let latest = Instant::now() + LONGEST_NOISE;
    loop {
        let quiet = (Instant::now() + QUIET).min(latest);
        match timeout_at(quiet, noticed.recv()).await {
            Ok(Some(())) if Instant::now() < latest => {}
            _ => return,
        }
    }
}

fn start(notice: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<Event>| {
        // Errors too: an overflow of the kernel's queue means that something was missed.
        if event.map_or(true, |event| is_a_change(event.kind)) {
            let _ = notice.try_send(());
        }
    };
    notify::recommended_watcher(on_event)
        .inspect_err(
            |error| tracing::warn!(%error, "no file events; tenant files are looked at every few seconds"),
        )
        .ok()
}

/// Reading the files makes events too, which must not lead to another look.
fn is_a_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Watches the directory that has this path now, and says whether it could. Logs when it no longer can.
fn add(events: Option<&mut RecommendedWatcher>, directory: &Path, watched: bool) -> bool {
    let Some(events) = events else { return false };
    match events.watch(directory, RecursiveMode::NonRecursive) {
        Ok(()) => true,
        Err(error) => {
            if watched {
                tracing::warn!(%error, directory = %directory.display(), "the tenants' directory can't be watched");
            }
            false
        }
    }
}
