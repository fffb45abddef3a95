//! HTTP requests at a rate, each on a connection of its own.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arrivals::Arrivals;
use super::failure::{Failure, FailureKind};
use super::sources::Sources;
use super::{ClientThread, tcp};

/// Linux sends a SYN again after a second (`TCP_TIMEOUT_INIT`): what takes longer has lost a packet, or nearly.
const SLOW: Duration = Duration::from_secs(1);
/// Failures kept with their details; beyond, they are only counted.
const DETAILS: usize = 200;

/// What [`HttpLoad`] does.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The service.
    pub target: SocketAddrV4,
    /// Requests a second at the beginning; 0 sends none until the rate is changed.
    pub rate: f64,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// The addresses the connections come from.
    pub sources: Sources,
    /// Where the instances' new connections are written down.
    pub arrivals: Arrivals,
}

/// How the requests have fared so far. `sent` = `answered` + `failed` + those under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCounts {
    /// Requests begun.
    pub sent: u64,
    /// Requests answered with status 200 and an instance's name.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests answered after more than a second: a packet was sent twice.
    pub slow: u64,
    /// The answered ones by instance.
    pub by_instance: BTreeMap<InstanceId, u64>,
    /// The failed ones by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Latency of the answered ones, from connect to the last byte: median, microseconds.
    pub p50_us: u64,
    /// The same, 99th percentile.
    pub p99_us: u64,
    /// The same, the longest.
    pub max_us: u64,
}

impl HttpCounts {
    /// The failed requests that had no answer in time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.failures.get(&FailureKind::Timeout).copied().unwrap_or_default()
    }
}

/// `GET /` at a rate that can be changed, whatever the answers do (open loop), each on a connection of its own.
#[derive(Debug)]
pub struct HttpLoad {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    rate: watch::Sender<f64>,
}

#[derive(Debug)]
struct Shared {
    settings: HttpSettings,
    tally: Mutex<Tally>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Tally {
    counts: HttpCounts,
    latency: Histogram<u64>,
    details: Vec<Failure>,
}

impl HttpLoad {
    /// Starts to send.
    pub fn start(thread: &ClientThread, settings: HttpSettings) -> anyhow::Result<Self> {
        let (rate, rates) = watch::channel(settings.rate);
        let tally = Tally {
            counts: HttpCounts::default(),
            // Microseconds up to a minute, to three digits.
            latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            details: Vec::new(),
        };
        let shared = Arc::new(Shared { settings, tally: Mutex::new(tally), stop: CancellationToken::new() });
        let tasks = TaskTracker::new();
        tasks.spawn_on(Arc::clone(&shared).send_at(rates, tasks.clone()), thread.handle());
        Ok(Self { shared, tasks, rate })
    }

    /// Changes the rate, requests a second; 0 pauses.
    pub fn set_rate(&self, rate: f64) {
        self.rate.send_replace(rate);
    }

    /// The rate now.
    #[must_use]
    pub fn rate(&self) -> f64 {
        *self.rate.borrow()
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> HttpCounts {
        self.shared.lock().counts()
    }

    /// What went wrong, oldest first, at most 200.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.shared.lock().details.clone()
    }

    /// Sends no more requests, and returns when the last one has its answer or has failed.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Shared {
    async fn send_at(self: Arc<Self>, mut rates: watch::Receiver<f64>, tasks: TaskTracker) {
        let mut due = Instant::now();
        for nth in 0_u64.. {
            let Some(next) = self.next_due(&mut rates, due).await else { return };
            due = next;
            tasks.spawn(Arc::clone(&self).request(nth));
        }
    }

    /// Waits for the moment of the next request; `None` when stopped.
    async fn next_due(&self, rates: &mut watch::Receiver<f64>, last: Instant) -> Option<Instant> {
        loop {
            let interval = interval_of(*rates.borrow_and_update());
            // What a busy machine has delayed is made up for, by a quarter of a second at most.
            let oldest = Instant::now().checked_sub(Duration::from_millis(250)).unwrap_or(last);
            let due = interval.map(|interval| (last + interval).max(oldest));
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = rates.changed() => changed.ok()?,
                () = wait => return due,
            }
        }
    }

    async fn request(self: Arc<Self>, nth: u64) {
        self.lock().counts.sent += 1;
        let (start, begun) = (Instant::now(), Timestamp::now());
        let limit = self.settings.timeout;
        let outcome = timeout(limit, self.get(nth)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::timeout("a request", limit)));
        if let Ok(instance) = &outcome {
            self.settings.arrivals.add(instance, begun);
        }
        self.lock().add(outcome, start.elapsed());
    }

    async fn get(&self, nth: u64) -> Result<InstanceId, Failure> {
        let target = self.settings.target;
        let stream = tcp::connect(self.settings.sources.of(nth), target, self.settings.timeout).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| of_hyper(&error))?;
        let exchange = async move {
            let request = Request::get("/").header(HOST, target.to_string()).header(CONNECTION, "close");
            let request = request
                .body(Empty::<Bytes>::new())
                .map_err(|error| Failure::bad_answer(&error.to_string()))?;
            let response = sender.send_request(request).await.map_err(|error| of_hyper(&error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| of_hyper(&error))?.to_bytes();
            named_in(status, &String::from_utf8_lossy(&body))
        };
        // The connection does the work; both end together.
        let (answer, ended) = tokio::join!(exchange, connection);
        let instance = answer?;
        ended.map_err(|error| of_hyper(&error))?;
        Ok(instance)
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn add(&mut self, outcome: Result<InstanceId, Failure>, took: Duration) {
        match outcome {
            Ok(instance) => {
                self.counts.answered += 1;
                self.counts.slow += u64::from(took > SLOW);
                *self.counts.by_instance.entry(instance).or_default() += 1;
                self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            Err(failure) => {
                self.counts.failed += 1;
                *self.counts.failures.entry(failure.kind).or_default() += 1;
                if self.details.len() < DETAILS {
                    self.details.push(failure);
                }
            }
        }
    }

    fn counts(&self) -> HttpCounts {
        HttpCounts {
            p50_us: self.latency.value_at_quantile(0.5),
            p99_us: self.latency.value_at_quantile(0.99),
            max_us: self.latency.max(),
            ..self.counts.clone()
        }
    }
}

/// The time between two requests at `rate` a second; `None` at a rate of 0 or less.
fn interval_of(rate: f64) -> Option<Duration> {
    (rate > 0.0).then(|| Duration::try_from_secs_f64(1.0 / rate).ok()).flatten()
}

/// The instance that an answer's first word names.
fn named_in(status: StatusCode, body: &str) -> Result<InstanceId, Failure> {
    match body.split_whitespace().next() {
        Some(name) if status == StatusCode::OK => Ok(InstanceId::from_label(name)),
        _ => Err(Failure::bad_answer(&format!("{status} {body}"))),
    }
}

/// What hyper says about a connection, as what the socket below it said where that is known.
fn of_hyper(error: &hyper::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Failure::socket("a request", io);
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Failure::closed_by_peer("a request");
    }
    Failure { kind: FailureKind::BadAnswer, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_needs_status_200_and_a_name() {
        assert_eq!(named_in(StatusCode::OK, "demo-1 /\n"), Ok(InstanceId::from_label("demo-1")));
        assert!(named_in(StatusCode::OK, "\n").is_err());
        assert!(named_in(StatusCode::SERVICE_UNAVAILABLE, "demo-1").is_err());
    }
}
