//! Central logs: whose a message is, and whether it is kept.

mod senders;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use lb_userspace::net::Netns;
use sluice_logic::spec::TenantSpec;
use sluice_northbound::api::LogStatus;
use sluice_southbound::management::Management;
use sluice_southbound::provider::InstanceSpec;
use sluice_southbound::syslog::{Intake, IntakeLimits, Listener, Received, Room};
use sluice_store::logs::{LogBook, LogLine, LogOwner};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::senders::{Sender, Senders};

/// Messages are gathered for so long: a batch is a frame of its file, and larger ones compress better. A crash loses no
/// more than this.
const GATHER: Duration = Duration::from_secs(1);
/// A batch of so many messages is complete.
const BATCH: usize = 16_384;
/// So is one of so many bytes: its senders may be waiting for their room.
const BATCH_BYTES: usize = 4 << 20;
/// An address that can't be had is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// What is too old is looked for so often.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Who may send, and what is kept of them.
#[derive(Debug)]
pub(crate) struct Logs {
    /// What is kept.
    pub(crate) book: Arc<LogBook>,
    listen: Option<SocketAddr>,
    management: Option<Arc<Management>>,
    senders: RwLock<Senders>,
    intake: Intake,
    /// Messages of tenants whose files say that nothing is kept.
    declined: AtomicU64,
}

impl Logs {
    /// Logs that are kept in that book; `hosts` may send beside the instances.
    pub(crate) fn new(
        book: LogBook,
        listen: Option<SocketAddr>,
        hosts: Vec<IpNet>,
        management: Option<Arc<Management>>,
    ) -> Self {
        Self {
            book: Arc::new(book),
            listen,
            management,
            senders: RwLock::new(Senders::new(hosts)),
            intake: Intake::new(IntakeLimits::default()),
            declined: AtomicU64::new(0),
        }
    }

    /// Says which tenants there are, before anything of a new one can send.
    pub(crate) fn set_tenants<'a>(&self, specs: impl Iterator<Item = &'a TenantSpec> + Clone) {
        self.senders.write().unwrap_or_else(PoisonError::into_inner).set_tenants(specs);
    }

    /// Says of an instance which addresses it has, before it can send.
    pub(crate) fn set_instance(&self, spec: &InstanceSpec) {
        let mut senders = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        spec.tenant_nics().for_each(|nic| senders.set_instance(nic.address, &spec.tenant, &spec.id));
    }

    /// What came so far, where anything is listened to.
    pub(crate) fn status(&self) -> Option<LogStatus> {
        let (counts, refused) = (self.book.counts(), self.intake.counts());
        Some(LogStatus {
            listen: self.listen?,
            kept: counts.kept,
            malformed: counts.malformed,
            declined: self.declined.load(Ordering::Relaxed),
            lost: counts.lost + refused.lost,
            unknown: refused.unknown,
            refused: refused.refused,
        })
    }

    /// Whose an address is now.
    fn sender(&self, from: IpAddr) -> Option<Sender> {
        let held = match (from.to_canonical(), &self.management) {
            (IpAddr::V4(address), Some(management)) => management.holder(address),
            _ => None,
        };
        self.senders.read().unwrap_or_else(PoisonError::into_inner).of(from, held)
    }

    /// Where syslog is taken: in the transit namespace, and on the management network.
    fn places(&self, transit: &Netns) -> Vec<(Netns, SocketAddr)> {
        let Some(listen) = self.listen else { return Vec::new() };
        let managed = self.management.iter().map(|management| {
            let address = SocketAddr::new(IpAddr::V4(management.address()), listen.port());
            (management.netns().clone(), address)
        });
        std::iter::once((transit.clone(), listen)).chain(managed).collect()
    }

    /// What of these is to be kept, and for whom; and the room that all of it takes.
    fn sort(&self, received: Vec<Received<Sender>>) -> (Vec<(LogOwner, LogLine)>, Vec<Room>) {
        let (mut lines, mut rooms) = (Vec::with_capacity(received.len()), Vec::with_capacity(received.len()));
        for Received { at, from, sender, message, room } in received {
            if sender.keeps() {
                let line = LogLine { at, from: from.to_canonical(), instance: sender.instance, message };
                lines.push((sender.owner, line));
                rooms.push(room);
            } else {
                self.declined.fetch_add(1, Ordering::Relaxed);
            }
        }
        (lines, rooms)
    }
}

/// The tasks that keep what comes, one for each listener.
pub(crate) struct Keeping {
    end: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Keeping {
    /// Begins to listen, where the host file says so.
    pub(crate) fn begin(logs: &Arc<Logs>, transit: &Netns) -> Self {
        let end = CancellationToken::new();
        let places = logs.places(transit).into_iter();
        let task = |(netns, address)| tokio::spawn(keep(logs.clone(), netns, address, end.clone()));
        let tasks = places.map(task).collect();
        Self { end, tasks }
    }

    /// Listens no more, and returns when what came is kept.
    pub(crate) async fn end(self) {
        self.end.cancel();
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn keep(logs: Arc<Logs>, netns: Netns, address: SocketAddr, end: CancellationToken) {
    let Some(mut listener) = end.run_until_cancelled(listen(&logs, &netns, address)).await else { return };
    let mut pruned: Option<Instant> = None;
    while let Some(batch) = gather(&mut listener.messages, &end).await {
        let (lines, rooms) = logs.sort(batch);
        let prune = pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY);
        if prune {
            pruned = Some(Instant::now());
        }
        let book = logs.book.clone();
        let written = tokio::task::spawn_blocking(move || {
            book.append(lines);
            drop(rooms);
            if prune && let Err(error) = book.prune(Timestamp::now()) {
                tracing::warn!(%error, "old logs can't be removed; it is tried again");
            }
        });
        let _ = written.await;
    }
}

/// The next batch; after the `end` what is left, then `None`.
async fn gather(
    messages: &mut UnboundedReceiver<Received<Sender>>,
    end: &CancellationToken,
) -> Option<Vec<Received<Sender>>> {
    let mut batch = Vec::new();
    tokio::select! {
        biased;
        count = messages.recv_many(&mut batch, BATCH) => if count == 0 {
            return None;
        },
        () = end.cancelled() => messages.close(),
    }
    let until = Instant::now() + GATHER;
    let bytes = |some: &[Received<Sender>]| some.iter().map(|received| received.room.bytes()).sum::<usize>();
    let mut gathered = bytes(&batch);
    while batch.len() < BATCH && gathered < BATCH_BYTES && !end.is_cancelled() {
        let (before, room) = (batch.len(), BATCH - batch.len());
        let more = timeout_at(until, messages.recv_many(&mut batch, room));
        if !matches!(end.run_until_cancelled(more).await, Some(Ok(count)) if count > 0) {
            break;
        }
        gathered += bytes(batch.get(before..).unwrap_or_default());
    }
    Some(batch)
}

async fn listen(logs: &Arc<Logs>, netns: &Netns, address: SocketAddr) -> Listener<Sender> {
    loop {
        let knowing = logs.clone();
        match Listener::open(netns, address, &logs.intake, move |from| knowing.sender(from)) {
            Ok(listener) => return listener,
            Err(error) => tracing::error!(%address, %error, "syslog can't be taken; it is tried again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
