//! Central logs: whose a message is, and whether it is kept.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{TenantName, TenantSpec};
use sluice_northbound::api::{LogStatus, TenantStatus};
use sluice_southbound::management::Management;
use sluice_southbound::syslog::{Listener, Lost, Received};
use sluice_store::logs::{LogBook, LogLine, LogOwner};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Messages are gathered for so long: a batch is a frame of its file, and larger ones compress better. A crash loses no
/// more than this.
const GATHER: Duration = Duration::from_secs(1);
/// Most messages of a batch.
const BATCH: usize = 16_384;
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
    /// Of each listener.
    lost: RwLock<Vec<Lost>>,
    /// Messages of tenants whose files say that nothing is kept.
    declined: AtomicU64,
}

/// Who has which address.
#[derive(Debug, Default)]
struct Senders {
    /// The tenants' networks, and whether their logs are kept.
    networks: Vec<(Ipv4Net, TenantName, bool)>,
    instances: HashMap<IpAddr, InstanceId>,
    /// Of hosts.
    hosts: Vec<IpNet>,
}

/// Whose a message is.
#[derive(Debug, PartialEq, Eq)]
struct Sender {
    owner: LogOwner,
    /// `None`: a host, or an instance that is not known yet or not any more.
    instance: Option<InstanceId>,
    /// Its tenant wants its logs kept.
    keep: bool,
}

impl Senders {
    /// Whose an address is; `held` is the instance that has it on the management network.
    fn of(&self, from: IpAddr, held: Option<InstanceId>) -> Option<Sender> {
        if let Some(id) = held {
            let owner = id.as_str().rsplit_once('-').map(|(tenant, _)| tenant);
            let (_, tenant, keep) =
                self.networks.iter().find(|(_, tenant, _)| owner == Some(tenant.as_str()))?;
            let owner = LogOwner::Tenant(tenant.clone());
            return Some(Sender { owner, instance: Some(id), keep: *keep });
        }
        let from = from.to_canonical();
        let of_tenant = |(net, ..): &&(Ipv4Net, TenantName, bool)| match from {
            IpAddr::V4(address) => net.contains(&address),
            IpAddr::V6(_) => false,
        };
        if let Some((_, tenant, keep)) = self.networks.iter().find(of_tenant) {
            let instance = self.instances.get(&from).cloned();
            return Some(Sender { owner: LogOwner::Tenant(tenant.clone()), instance, keep: *keep });
        }
        let is_host = self.hosts.iter().any(|net| net.contains(&from));
        is_host.then_some(Sender { owner: LogOwner::Host, instance: None, keep: true })
    }
}

impl Logs {
    /// Logs that are kept in that book; `hosts` may send beside the instances.
    pub(crate) fn new(
        book: LogBook,
        listen: Option<SocketAddr>,
        hosts: Vec<IpNet>,
        management: Option<Arc<Management>>,
    ) -> Self {
        let senders = Senders { hosts, ..Senders::default() };
        Self {
            book: Arc::new(book),
            listen,
            management,
            senders: RwLock::new(senders),
            lost: RwLock::default(),
            declined: AtomicU64::new(0),
        }
    }

    /// Says who has which address now.
    pub(crate) fn set_senders<'a>(
        &self,
        specs: impl Iterator<Item = &'a TenantSpec>,
        tenants: impl Iterator<Item = TenantStatus>,
    ) {
        let networks = specs.flat_map(|spec| {
            spec.networks.iter().map(|network| (network.subnet, spec.name.clone(), spec.keep_logs))
        });
        let networks = networks.collect();
        let instances = tenants.flat_map(|tenant| tenant.instances);
        let instances = instances.flat_map(|instance| {
            let addresses: Vec<_> = instance.addresses().map(IpAddr::V4).collect();
            addresses.into_iter().map(move |address| (address, instance.id.clone()))
        });
        let instances = instances.collect();
        let mut senders = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        (senders.networks, senders.instances) = (networks, instances);
    }

    /// What came so far, where anything is listened to.
    pub(crate) fn status(&self) -> Option<LogStatus> {
        let counts = self.book.counts();
        Some(LogStatus {
            listen: self.listen?,
            kept: counts.kept,
            malformed: counts.malformed,
            declined: self.declined.load(Ordering::Relaxed),
            lost: counts.lost + self.lost_on_the_way(),
        })
    }

    fn lost_on_the_way(&self) -> u64 {
        self.lost.read().unwrap_or_else(PoisonError::into_inner).iter().map(Lost::count).sum()
    }

    fn admits(&self, from: IpAddr) -> bool {
        let held = self.held(from);
        self.senders.read().unwrap_or_else(PoisonError::into_inner).of(from, held).is_some()
    }

    fn held(&self, from: IpAddr) -> Option<InstanceId> {
        match from.to_canonical() {
            IpAddr::V4(address) => self.management.as_ref()?.holder(address),
            IpAddr::V6(_) => None,
        }
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

    /// What of these is to be kept, and for whom.
    fn sort(&self, received: Vec<Received>) -> Vec<(LogOwner, LogLine)> {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::with_capacity(received.len());
        for Received { at, from, message } in received {
            match senders.of(from, self.held(from)) {
                Some(Sender { owner, instance, keep: true }) => {
                    lines.push((owner, LogLine { at, from: from.to_canonical(), instance, message }));
                }
                Some(_) => {
                    self.declined.fetch_add(1, Ordering::Relaxed);
                }
                // Its tenant has left since it was taken.
                None => {}
            }
        }
        lines
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
    logs.lost.write().unwrap_or_else(PoisonError::into_inner).push(listener.lost.clone());
    let mut pruned: Option<Instant> = None;
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = listener.messages.recv_many(&mut batch, BATCH) => if count == 0 {
                return;
            },
            () = end.cancelled() => listener.messages.close(),
        }
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH && !end.is_cancelled() {
            let room = BATCH - batch.len();
            let more = timeout_at(until, listener.messages.recv_many(&mut batch, room));
            if !matches!(end.run_until_cancelled(more).await, Some(Ok(count)) if count > 0) {
                break;
            }
        }
        let lines = logs.sort(batch);
        let prune = pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY);
        if prune {
            pruned = Some(Instant::now());
        }
        let book = logs.book.clone();
        let written = tokio::task::spawn_blocking(move || {
            book.append(lines);
            if prune && let Err(error) = book.prune(Timestamp::now()) {
                tracing::warn!(%error, "old logs can't be removed; it is tried again");
            }
        });
        let _ = written.await;
    }
}

async fn listen(logs: &Arc<Logs>, netns: &Netns, address: SocketAddr) -> Listener {
    loop {
        let admitting = logs.clone();
        match Listener::open(netns, address, move |from| admitting.admits(from)) {
            Ok(listener) => return listener,
            Err(error) => tracing::error!(%address, %error, "syslog can't be taken; it is tried again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::name;

    #[test]
    fn a_sender_is_known_by_its_address() {
        let quiet = ("19.0.2.0/24".parse().unwrap(), name("quiet"), false);
        let senders = Senders {
            networks: vec![("19.0.1.0/24".parse().unwrap(), name("shop"), true), quiet],
            instances: HashMap::from([([19, 0, 1, 5].into(), InstanceId::new(&name("shop"), 5))]),
            hosts: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let of = |text: &str| senders.of(text.parse().unwrap(), None);
        let shop = |instance| Sender { owner: LogOwner::Tenant(name("shop")), instance, keep: true };
        assert_eq!(of("19.0.1.5"), Some(shop(Some(InstanceId::new(&name("shop"), 5)))));
        assert_eq!(of("::ffff:19.0.1.5"), of("19.0.1.5"));
        assert_eq!(of("19.0.1.6"), Some(shop(None)), "one that is just being made");
        assert!(!of("19.0.2.9").unwrap().keep);
        assert_eq!(of("192.0.2.1").unwrap().owner, LogOwner::Host);
        assert_eq!(of("203.0.113.1"), None);
        let managed =
            |owner| senders.of("198.19.0.2".parse().unwrap(), Some(InstanceId::new(&name(owner), 7)));
        assert_eq!(managed("shop"), Some(shop(Some(InstanceId::new(&name("shop"), 7)))));
        assert_eq!(managed("shop-2"), None, "a tenant that has left");
    }
}
