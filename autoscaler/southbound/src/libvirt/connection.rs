//! Calls to a libvirt, each on a thread of its own: the library blocks, and a libvirt that hangs must hold up nothing
//! else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use virt::connect::Connect;
use virt::error::{self, ErrorNumber};
use virt::event;

/// Calls that may wait for an answer at once. When all of them hang, later ones fail without another thread.
const CALLS: usize = 32;

/// An attempt to connect that takes longer is given up: the calls that wait for it fail, and the next one makes another.
const HANDSHAKE: Duration = Duration::from_secs(8);
/// Attempts that may go on at once, also those that were given up. The library can't end one: its peer does, or TCP.
const ATTEMPTS: usize = 8;

/// A libvirt that leaves this many questions unanswered, one every [`KEEPALIVE_SECONDS`], is given up: pending calls
/// fail.
const KEEPALIVE_COUNT: u32 = 3;
/// From one question whether it is alive to the next.
const KEEPALIVE_SECONDS: i32 = 5;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// There is no connection.
    #[error("{uri} can't be reached: {reason}. Is the address right, and does libvirt run there?")]
    Unreachable {
        /// What was tried.
        uri: String,
        /// Why.
        reason: String,
    },
    /// No answer came in time.
    #[error("{uri} has not answered within {patience:?}")]
    Silent {
        /// Who.
        uri: String,
        /// How long was waited.
        patience: Duration,
    },
    /// libvirt refused.
    #[error("{}", .0.message())]
    Refused(#[from] error::Error),
    /// Somebody else has a domain of that name.
    #[error(
        "libvirt has a domain `{0}` that is not ours: it is left alone. Rename it, or give the daemon another `name`"
    )]
    Foreign(String),
    /// Something else is not as it should be.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// Whether it is libvirt as a whole, not what was asked for, that is at fault.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. })
    }

    /// Whether libvirt refused for that reason.
    pub(super) fn is(&self, reason: ErrorNumber) -> bool {
        matches!(self, Self::Refused(error) if error.code() == reason)
    }
}

/// A libvirt. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    uri: String,
    line: Mutex<Line>,
    /// An attempt to connect has come to its end.
    changed: Condvar,
    /// The connection has not answered, or has ended: the next call opens another.
    stale: AtomicBool,
    calls: Arc<Semaphore>,
}

/// What there is of a connection. The lock on it is never held while libvirt is waited for.
#[derive(Debug, Default)]
struct Line {
    open: Option<Arc<Open>>,
    /// The newest attempt to open it, while it goes on.
    attempt: Option<Attempt>,
    /// How many attempts go on.
    pending: usize,
    /// How many there have been.
    begun: u64,
    /// The newest attempt that has failed, and why.
    failed: Option<(u64, String)>,
}

/// An open connection. It is closed when the last call that uses it has ended, which the library does not do by itself.
#[derive(Debug)]
struct Open(Connect);

impl Drop for Open {
    fn drop(&mut self) {
        if let Err(error) = self.0.close() {
            tracing::debug!(%error, "a connection to libvirt was not closed");
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    number: u64,
    since: Instant,
}

impl Line {
    /// Why an attempt, or one that was made after it, has failed.
    fn failure(&self, number: u64) -> Option<&str> {
        self.failed.as_ref().filter(|(failed, _)| *failed >= number).map(|(_, reason)| reason.as_str())
    }
}

impl Connection {
    /// The libvirt at `uri`. Nothing is connected yet.
    pub(super) fn to(uri: &str) -> Self {
        run_events();
        Self(Arc::new(Inner {
            uri: uri.to_owned(),
            line: Mutex::default(),
            changed: Condvar::new(),
            stale: AtomicBool::new(false),
            calls: Arc::new(Semaphore::new(CALLS)),
        }))
    }

    /// Does `work`, and waits for it at most for `patience`. Work that takes longer goes on to its end on its own.
    pub(super) async fn call<T, F>(&self, patience: Duration, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connect) -> Result<T, Fault> + Send + 'static,
    {
        let deadline = Instant::now() + patience;
        let silent = || Fault::Silent { uri: self.0.uri.clone(), patience };
        let permit = timeout_at(deadline, Arc::clone(&self.0.calls).acquire_owned()).await;
        let permit = permit.map_err(|_| silent())?.map_err(|error| Fault::Other(error.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("libvirt".to_owned()).spawn(move || {
            let _permit = permit;
            // Nobody may be waiting any more.
            let _ = reply.send(inner.run(work));
        });
        thread.map_err(|error| Fault::Other(format!("no thread for a call: {error}")))?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Fault::Other(
                "the call has panicked, which is a bug; its reason is in the log".to_owned(),
            )),
            Err(_) => {
                self.0.stale.store(true, Ordering::Relaxed);
                Err(silent())
            }
        }
    }
}

impl Inner {
    fn run<T>(self: &Arc<Self>, work: impl FnOnce(&Connect) -> Result<T, Fault>) -> Result<T, Fault> {
        let open = self.connect()?;
        let done = work(&open.0);
        match done {
            Err(Fault::Refused(error)) if !open.0.is_alive().unwrap_or(false) => {
                self.stale.store(true, Ordering::Relaxed);
                Err(self.unreachable(error.message()))
            }
            done => done,
        }
    }

    /// The connection, opened if need be. Calls that come meanwhile wait for the same attempt.
    fn connect(self: &Arc<Self>) -> Result<Arc<Open>, Fault> {
        // Closing one may wait for libvirt, so it goes after the lock.
        let mut old = None;
        let mut line = self.line();
        let usable = |open: &Arc<Open>| open.0.is_alive().unwrap_or(false);
        if self.stale.swap(false, Ordering::Relaxed) || !line.open.as_ref().is_some_and(usable) {
            old = line.open.take();
        }
        if let Some(open) = &line.open {
            return Ok(Arc::clone(open));
        }
        let attempt = match line.attempt {
            Some(attempt) if attempt.since.elapsed() < HANDSHAKE => attempt,
            _ => self.begin(&mut line, &mut old)?,
        };
        let rest = HANDSHAKE.saturating_sub(attempt.since.elapsed());
        let undecided = |line: &mut Line| line.open.is_none() && line.failure(attempt.number).is_none();
        let waited = self.changed.wait_timeout_while(line, rest, undecided);
        let (line, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (&line.open, line.failure(attempt.number)) {
            (Some(open), _) => Ok(Arc::clone(open)),
            (None, Some(reason)) => Err(self.unreachable(reason)),
            (None, None) => Err(self.unreachable(&format!("it has not answered within {HANDSHAKE:?}"))),
        }
    }

    /// Begins to connect, on a thread of its own, which closes the old connection too.
    fn begin(self: &Arc<Self>, line: &mut Line, old: &mut Option<Arc<Open>>) -> Result<Attempt, Fault> {
        if line.pending >= ATTEMPTS {
            return Err(self.unreachable(&format!("{ATTEMPTS} attempts to connect have no answer yet")));
        }
        line.begun += 1;
        let attempt = Attempt { number: line.begun, since: Instant::now() };
        let (inner, old) = (Arc::clone(self), old.take());
        let thread = thread::Builder::new().name("libvirt-open".to_owned()).spawn(move || {
            inner.open(attempt.number);
            drop(old);
        });
        thread.map_err(|error| Fault::Other(format!("no thread to connect: {error}")))?;
        line.pending += 1;
        line.attempt = Some(attempt);
        Ok(attempt)
    }

    /// Connects. The first attempt that succeeds is used, also one that was given up.
    fn open(&self, number: u64) {
        let opened = Connect::open(Some(&self.uri)).map(Open);
        if let Ok(open) = &opened
            && let Err(error) = open.0.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        {
            tracing::debug!(uri = self.uri, %error, "no keepalive");
        }
        let mut line = self.line();
        line.pending -= 1;
        if line.attempt.is_some_and(|attempt| attempt.number == number) {
            line.attempt = None;
        }
        let mut spare = None;
        match opened {
            Ok(open) if line.open.is_none() => {
                self.stale.store(false, Ordering::Relaxed);
                line.open = Some(Arc::new(open));
            }
            Ok(open) => spare = Some(open),
            Err(error) if line.failure(number).is_none() => {
                line.failed = Some((number, error.message().to_owned()));
            }
            Err(_) => {}
        }
        drop(line);
        self.changed.notify_all();
        drop(spare);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self, reason: &str) -> Fault {
        Fault::Unreachable { uri: self.uri.clone(), reason: reason.to_owned() }
    }
}

/// Serves the library's timers, which is how it notices that a libvirt is gone, for as long as the process lives.
/// To be called before anything is connected.
fn run_events() {
    static RUNNING: OnceLock<()> = OnceLock::new();
    RUNNING.get_or_init(|| {
        // By default the library prints each error.
        error::clear_error_callback();
        if let Err(error) = event::event_register_default_impl() {
            tracing::warn!(%error, "libvirt's events can't be served: one that hangs is noticed late");
            return;
        }
        let serve = || {
            while let Ok(()) = event::event_run_default_impl() {}
            tracing::warn!("libvirt's events are no longer served: one that hangs is noticed late");
        };
        if let Err(error) = thread::Builder::new().name("libvirt-events".to_owned()).spawn(serve) {
            tracing::warn!(%error, "no thread for libvirt's events: one that hangs is noticed late");
        }
    });
}

#[cfg(test)]
impl Connection {
    /// The next call opens another connection.
    pub(super) fn give_up(&self) {
        self.0.stale.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_hang_do_not_grow_in_number() {
        let connection = Connection::to("qemu+unix:///system?socket=/no/such/socket");
        connection.0.line().pending = ATTEMPTS;
        let fault = connection.0.connect().expect_err("no further attempt");
        assert!(fault.is_outage() && fault.to_string().contains("no answer yet"), "{fault}");
        connection.0.line().pending = 0;
        let fault = connection.0.connect().expect_err("nobody is there");
        assert!(fault.is_outage() && fault.to_string().contains("/no/such/socket"), "{fault}");
        assert_eq!(connection.0.line().pending, 0, "it has come to its end");
    }
}
