//! Clients that keep a number of flows going, each for a lifetime and then another in its place.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure::Failure;
use super::flows::{BrokenFlow, FlowLog, OpenFlow};
use super::{ClientThread, spread, spread_over};

/// What breaks stays broken for a while; it is not hammered.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// What a kind of client does with a flow.
pub trait Client: fmt::Debug + Send + Sync + 'static {
    /// Flows at the same time.
    fn count(&self) -> u32;

    /// The time between two exchanges of a flow.
    fn interval(&self) -> Duration;

    /// How long a flow is kept.
    fn lifetime(&self) -> &RangeInclusive<Duration>;

    /// Begins a flow, keeps it until its life is over, and ends it.
    fn keep(&self, life: &Life<'_>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The life of one flow.
#[derive(Debug)]
pub struct Life<'a> {
    /// The flow's number, counted from 0 over all flows of its kind.
    pub nth: u64,
    /// Its record.
    pub flow: &'a OpenFlow,
    end: Instant,
    stop: &'a CancellationToken,
}

impl Life<'_> {
    /// Whether the flow is to be ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop.is_cancelled() || Instant::now() >= self.end
    }

    /// Waits until that moment, or until the life is over.
    pub async fn pause_until(&self, moment: Instant) {
        pause_until(self.stop, moment.min(self.end)).await;
    }
}

/// A number of flows of one kind, and the record of them.
#[derive(Debug)]
pub struct Held<C> {
    pub(super) shared: Arc<Shared<C>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
pub(super) struct Shared<C> {
    pub(super) client: C,
    pub(super) log: FlowLog,
    next: AtomicU64,
    stop: CancellationToken,
}

impl<C: Client> Held<C> {
    /// Begins the flows, evenly over one interval.
    pub(super) fn begin(thread: &ClientThread, client: C) -> Self {
        let tasks = TaskTracker::new();
        let count = client.count();
        let shared = Arc::new(Shared {
            client,
            log: FlowLog::default(),
            next: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        for place in 0..count {
            tasks.spawn_on(Arc::clone(&shared).keep_going(u64::from(place)), thread.handle());
        }
        tasks.close();
        Self { shared, tasks }
    }

    /// How many flows were answered both before and after that moment.
    #[must_use]
    pub fn held_across(&self, moment: Timestamp) -> u64 {
        self.shared.log.held_across(moment)
    }

    /// The flows that broke, oldest first, at most 200.
    #[must_use]
    pub fn broken(&self) -> Vec<BrokenFlow> {
        self.shared.log.broken()
    }

    /// Ends all flows as their kind does, and returns when the last one has ended.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.tasks.wait().await;
    }
}

impl<C: Client> Shared<C> {
    /// One place: flow after flow until stopped.
    async fn keep_going(self: Arc<Self>, place: u64) {
        let interval = self.client.interval();
        pause_until(&self.stop, Instant::now() + interval.mul_f64(spread(place))).await;
        while !self.stop.is_cancelled() {
            let flow = self.log.open();
            let nth = self.next.fetch_add(1, Ordering::Relaxed);
            let end = Instant::now() + spread_over(self.client.lifetime(), nth);
            let outcome = self.client.keep(&Life { nth, flow: &flow, end, stop: &self.stop }).await;
            let failed = outcome.is_err();
            flow.end(outcome);
            if failed {
                pause_until(&self.stop, Instant::now() + interval.max(LEAST_PAUSE)).await;
            }
        }
    }
}

async fn pause_until(stop: &CancellationToken, moment: Instant) {
    tokio::select! {
        () = sleep_until(moment) => {}
        () = stop.cancelled() => {}
    }
}
