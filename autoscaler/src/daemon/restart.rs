//! What panics is restarted, after a time that grows with each panic in a row, and said as an event.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use sluice_northbound::api::EventKind;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::events::{EventLog, NewEvent};
use super::host::Host;

/// Before the first restart; each panic in a row doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest time before a restart.
const LONGEST: Duration = Duration::from_mins(1);
/// What has run for so long since its last panic begins with the first time again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// The panics in a row of one task.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Panics {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Panics {
    /// One more, at that time. How long the restart waits.
    pub(super) fn count(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) >= FORGOTTEN_AFTER) {
            self.in_a_row = 0;
        }
        self.last = Some(now);
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.in_a_row)).min(LONGEST);
        self.in_a_row = self.in_a_row.saturating_add(1);
        wait
    }
}

/// What is said of a task that has ended without being asked to.
pub(super) fn panicked(what: &str, error: JoinError, wait: Duration) -> NewEvent {
    let reason = match error.try_into_panic() {
        Ok(payload) => words(payload.as_ref()).unwrap_or("for no reason that it said").to_owned(),
        Err(error) => error.to_string(),
    };
    let wait = wait.as_secs();
    let message = format!("{what} has panicked, which is a bug: {reason}; it is restarted in {wait} s");
    NewEvent::new(EventKind::Panicked, message)
}

fn words(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Runs a task until the handle is dropped, and begins it again when it ends.
pub(super) fn keep<F>(
    host: Arc<Host>,
    what: &'static str,
    begin: impl Fn() -> F + Send + 'static,
) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move { rerun(&host.events, what, begin).await }))
}

async fn rerun<F>(events: &EventLog, what: &str, begin: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut panics = Panics::default();
    loop {
        // It ends with this one.
        let Err(error) = AbortOnDropHandle::new(tokio::spawn(begin())).await else { return };
        let wait = panics.count(Instant::now());
        events.record(panicked(what, error, wait));
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sluice_northbound::api::EventQuery;

    use super::*;

    #[test]
    fn the_time_before_a_restart_grows_and_is_forgotten() {
        let (mut panics, start) = (Panics::default(), Instant::now());
        let mut at = |second| panics.count(start + Duration::from_secs(second)).as_secs();
        assert_eq!([0, 2, 5, 10, 20, 40, 80, 150].map(&mut at), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(at(750), 1, "after ten minutes without one");
    }

    #[tokio::test]
    async fn a_task_that_panics_is_restarted_and_says_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = EventLog::open(directory.path()).expect("a log");
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let begin = move || {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run >= 2, "run {run}") }
        };
        rerun(&events, "a task", begin).await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        let said: Vec<_> =
            events.query(&EventQuery::default()).await.events.into_iter().map(|it| it.message).collect();
        assert_eq!(
            said,
            [1, 2].map(|wait| format!(
                "a task has panicked, which is a bug: run {}; it is restarted in {wait} s",
                wait - 1
            ))
        );
    }
}
