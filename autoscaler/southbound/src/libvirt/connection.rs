//! Calls to a libvirt, each on a thread of its own: the library blocks, and a libvirt that hangs must hold up nothing
//! else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use virt::connect::Connect;
use virt::error::{self, ErrorNumber};
use virt::event;

/// Calls that may wait for an answer at once. When all of them hang, later ones fail without another thread.
const CALLS: usize = 32;

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
    open: Mutex<Option<Connect>>,
    /// The connection has not answered, or has ended: the next call opens another.
    stale: AtomicBool,
    calls: Arc<Semaphore>,
}

impl Connection {
    /// The libvirt at `uri`. Nothing is connected yet.
    pub(super) fn to(uri: &str) -> Self {
        run_events();
        Self(Arc::new(Inner {
            uri: uri.to_owned(),
            open: Mutex::new(None),
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
            Ok(Err(_)) => {
                Err(Fault::Other("the call has ended by a bug; its reason is in the log".to_owned()))
            }
            Err(_) => {
                self.0.stale.store(true, Ordering::Relaxed);
                Err(silent())
            }
        }
    }
}

impl Inner {
    fn run<T>(&self, work: impl FnOnce(&Connect) -> Result<T, Fault>) -> Result<T, Fault> {
        let connect = self.connect()?;
        let done = work(&connect);
        match done {
            Err(Fault::Refused(error)) if !connect.is_alive().unwrap_or(false) => {
                self.stale.store(true, Ordering::Relaxed);
                Err(self.unreachable(&error))
            }
            done => done,
        }
    }

    fn connect(&self) -> Result<Connect, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stale.swap(false, Ordering::Relaxed) {
            *open = None;
        }
        if let Some(connect) = open.as_ref().filter(|connect| connect.is_alive().unwrap_or(false)) {
            return Ok(connect.clone());
        }
        let connect = Connect::open(Some(&self.uri)).map_err(|error| self.unreachable(&error))?;
        if let Err(error) = connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT) {
            tracing::debug!(uri = self.uri, %error, "no keepalive");
        }
        *open = Some(connect.clone());
        Ok(connect)
    }

    fn unreachable(&self, error: &error::Error) -> Fault {
        Fault::Unreachable { uri: self.uri.clone(), reason: error.message().to_owned() }
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
