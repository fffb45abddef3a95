//! Central logs: whose a message is, and whether it is kept.

mod notices;
pub(super) mod output;
mod senders;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use lb_userspace::net::Netns;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_northbound::api::LogStatus;
use sluice_southbound::management::Management;
use sluice_southbound::provider::InstanceSpec;
use sluice_southbound::syslog::{Intake, IntakeLimits, Listener, Received, Room};
use sluice_store::PruneClock;
use sluice_store::logs::{LogBook, LogLine, LogOwner};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use self::notices::Notices;
use self::senders::{Sender, Senders};
use super::events::EventLog;
use super::host::Host;
use super::problems::{Finding, Problems};

/// Messages are gathered for so long: a batch is a frame of its file, and larger ones compress better. A crash loses no
/// more than this.
const GATHER: Duration = Duration::from_secs(1);
/// A batch of so many messages is complete.
const BATCH: usize = 16_384;
/// So is one of so many bytes: as lines of JSON they can be six times as many, and their senders may be waiting for room.
const BATCH_BYTES: usize = 4 << 20;
/// An address that can't be had is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// What is too old is looked for so often, and what there is to say is said.
const TURN: Duration = Duration::from_mins(1);

/// Who may send, and what is kept of them.
#[derive(Debug)]
pub(crate) struct Logs {
    /// What is kept.
    pub(crate) book: Arc<LogBook>,
    listen: Option<SocketAddr>,
    management: Option<Arc<Management>>,
    senders: RwLock<Senders>,
    intake: Intake,
    notices: Mutex<Notices>,
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
            notices: Mutex::default(),
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

    /// Whether a tenant wants its logs kept.
    fn keeps(&self, tenant: &TenantName) -> bool {
        self.senders.read().unwrap_or_else(PoisonError::into_inner).keeps(tenant)
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

    /// Whose an address is now, on a network.
    fn sender(&self, side: Side, from: IpAddr) -> Option<Sender> {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        match (side, from.to_canonical(), &self.management) {
            (Side::Transit, from, _) => senders.of(from),
            (Side::Management, IpAddr::V4(address), Some(management)) => {
                senders.of_instance(&management.holder(address)?)
            }
            (Side::Management, ..) => None,
        }
    }

    /// Where syslog is taken: in the transit namespace, and on the management network.
    fn places(&self, transit: &Netns) -> Vec<Place> {
        let Some(listen) = self.listen else { return Vec::new() };
        let managed = self.management.iter().map(|management| {
            let address = SocketAddr::new(IpAddr::V4(management.address()), listen.port());
            Place { side: Side::Management, netns: management.netns().clone(), address }
        });
        let open = Place { side: Side::Transit, netns: transit.clone(), address: listen };
        std::iter::once(open).chain(managed).collect()
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

    /// Keeps lines, and says what is wrong with them. Blocks.
    fn write(&self, lines: Vec<(LogOwner, LogLine)>, events: &EventLog) {
        for (owner, line) in lines.iter().filter(|(_, line)| line.message.malformed) {
            self.notices().malformed(owner, line);
        }
        for loss in self.book.append(lines) {
            self.notices().lost(loss);
        }
        self.tell(events);
    }

    fn tell(&self, events: &EventLog) {
        let due = self.notices().due(Instant::now());
        for event in due {
            events.record(event);
        }
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A network that syslog comes by. An address says who has sent something only on the network that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The tenants' own, and the uplink.
    Transit,
    /// The management network.
    Management,
}

/// Where syslog is taken.
#[derive(Debug, Clone)]
struct Place {
    side: Side,
    netns: Netns,
    address: SocketAddr,
}

/// The tasks that keep what comes, one for each listener, and one that looks after what is kept.
pub(crate) struct Keeping {
    end: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Keeping {
    /// Begins to listen, where the host file says so. What is kept is looked after in any case.
    pub(crate) fn begin(host: &Arc<Host>) -> Self {
        let end = CancellationToken::new();
        let places = host.logs.places(&host.transit).into_iter();
        let task = |place| tokio::spawn(keep(host.clone(), place, end.clone()));
        let mut tasks: Vec<_> = places.map(task).collect();
        let (minded, until) = (host.clone(), end.clone());
        let (writing, ended) = (host.clone(), end.clone());
        tasks.push(tokio::spawn(async move {
            ended.run_until_cancelled(output::collect(&writing)).await;
        }));
        tasks.push(tokio::spawn(async move {
            let mut clock = clock(&minded.logs.book);
            let now = || Some(Timestamp::now()).filter(|now| clock.believes(*now, std::time::Instant::now()));
            until.run_until_cancelled(mind(&minded.logs, &minded.events, TURN, now)).await;
        }));
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

async fn keep(host: Arc<Host>, place: Place, end: CancellationToken) {
    let listening = listen(&host.logs, &host.problems, &host.events, &place);
    let Some(mut listener) = end.run_until_cancelled(listening).await else { return };
    while let Some(batch) = gather(&mut listener.messages, &end).await {
        let (lines, rooms) = host.logs.sort(batch);
        let host = host.clone();
        let written = tokio::task::spawn_blocking(move || {
            host.logs.write(lines, &host.events);
            drop(rooms);
        });
        let _ = written.await;
    }
}

/// Says whether logs are old.
fn clock(book: &LogBook) -> PruneClock {
    let newest = book.newest().unwrap_or_else(|error| {
        tracing::warn!(%error, "the logs can't be listed");
        None
    });
    PruneClock::new(newest, std::time::Instant::now())
}

/// Removes what is too old, and says what there is to say, also while nothing comes. Nothing is too old while `now` is
/// not known. Never returns.
async fn mind(logs: &Logs, events: &EventLog, every: Duration, mut now: impl FnMut() -> Option<Timestamp>) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        logs.tell(events);
        let (book, now) = (logs.book.clone(), now().unwrap_or(Timestamp::MIN));
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || book.prune(now)).await {
            tracing::warn!(%error, "old logs can't be removed; it is tried again");
        }
    }
}

/// The next batch; after the `end` what is left, then `None`.
async fn gather(
    messages: &mut UnboundedReceiver<Received<Sender>>,
    end: &CancellationToken,
) -> Option<Vec<Received<Sender>>> {
    let (mut batch, mut bytes, mut until) = (Vec::new(), 0, Instant::now());
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        if end.is_cancelled() {
            messages.close();
        }
        let next = tokio::select! {
            biased;
            next = messages.recv() => next,
            () = end.cancelled(), if !messages.is_closed() => continue,
            () = sleep_until(until), if !batch.is_empty() => break,
        };
        let Some(next) = next else { break };
        if batch.is_empty() {
            until = Instant::now() + GATHER;
        }
        bytes += next.room.bytes();
        batch.push(next);
    }
    (!batch.is_empty()).then_some(batch)
}

/// Listens once the address can be had; until then that is a problem of the host.
async fn listen(logs: &Arc<Logs>, problems: &Problems, events: &EventLog, place: &Place) -> Listener<Sender> {
    let &Place { side, ref netns, address } = place;
    let finder = format!("syslog at {address}");
    loop {
        let knowing = logs.clone();
        match Listener::open(netns, address, &logs.intake, move |from| knowing.sender(side, from)) {
            Ok(listener) => {
                problems.set(events, &finder, Vec::new());
                return listener;
            }
            Err(error) => problems.set(events, &finder, vec![not_taken(address, &error)]),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn not_taken(address: SocketAddr, error: &std::io::Error) -> Finding {
    let way_out = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "another program has the port, which `ss -lntup 'sport = :{}'` names there: end it, or give another address \
             as `syslog.listen`; it is tried again every {} s",
            address.port(),
            RETRY.as_secs()
        ),
        _ => {
            format!("give another address as `syslog.listen`; it is tried again every {} s", RETRY.as_secs())
        }
    };
    Finding {
        about: format!("syslog at {address}"),
        what: format!("nothing is taken there, so what instances log is lost: {error}"),
        way_out,
    }
}

#[cfg(test)]
mod tests;
