//! The daemon: a reconciler. It compares what should be (the tenants' files, the decisions) with what is (the
//! providers, the load balancer's maps), and does what is missing. Packets flow without it.
//!
//! ```text
//! directory ─► supervisor ─► one task a tenant ─► provider, networks
//!     poll ───────┘               └─► balancer's thread ─► XDP maps
//! ```

mod api;
mod backoff;
mod balancer;
mod change;
pub(crate) mod clouds;
mod drift;
mod events;
mod export;
#[cfg(test)]
mod faults;
mod flow_table;
mod found;
mod host;
pub(crate) mod lock;
mod logs;
mod neighbours;
mod network;
pub(crate) mod open;
mod orphans;
mod poll;
mod preflight;
mod problems;
mod rates;
mod refusal;
mod registry;
mod restart;
mod roster;
mod services;
mod state;
mod supervisor;
mod tenant;
#[cfg(test)]
mod testing;
mod uplink;
mod weights;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use lb_userspace::lb;
use sd_notify::NotifyState;
use sluice_northbound::api::{DaemonStatus, EventKind, StopAnswer};
use sluice_northbound::host::HostConfig;
use sluice_northbound::watch::{FALLBACK, TenantDirectory, Watcher};
use sluice_southbound::scope::Scope;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use self::clouds::Clouds;
use self::events::NewEvent;
use self::host::Host;
use self::lock::{Holder, Lock};
use self::logs::Keeping;
use self::open::Opened;
use self::registry::{Registry, Request};
use self::state::Departure;
use self::supervisor::{Ended, Supervisor};

pub(crate) use self::events::name_of;

/// Runs the daemon until it is told to end. What exists then stays: instances, networks, the data plane.
pub(crate) async fn run(config: HostConfig, scope: Scope) -> Result<()> {
    let begun = Instant::now();
    preflight::wait_for_uplink(config.transit.namespace.as_deref(), &config.transit.uplink).await;
    let transit =
        preflight::check(config.transit.namespace.as_deref(), &config.transit.uplink, &config.pins)?;
    let lock = match Lock::take(&scope.run_dir()).await? {
        Ok(lock) => lock,
        Err(Holder(pid)) => bail!(
            "the daemon `{}` runs already, as process {pid}: stop it first, or give this one another `name` in its \
             host file",
            config.name
        ),
    };
    let clouds = Clouds::open(&scope, &config.clouds)?;
    serve(&config, open::open(&config, scope, transit, clouds).await?, begun).await?;
    drop(lock);
    Ok(())
}

/// Does what the daemon is for, until it is told to end.
async fn serve(config: &HostConfig, opened: Opened, begun: Instant) -> Result<()> {
    let Opened { host, found, mode } = opened;
    let mut directory = TenantDirectory::new(&config.tenants)
        .reserving(config.management.reserved())
        .sampled_every(config.sample_interval)
        .remembering(config.state.join(open::ACCEPTED))
        .with_context(|| format!("cannot use the state directory {}", config.state.display()))?
        .recalling(found.saved.values().map(|saved| (saved.file.as_path(), &saved.spec)))
        .removing_all_at_once(!config.confirm_removal);
    for saved in found.saved.values() {
        if let Some(Departure { since, is_confirmed }) = saved.leaving {
            let passed = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
            let since = Instant::now().checked_sub(passed).unwrap_or_else(Instant::now);
            directory = directory.resuming(saved.spec.name.clone(), since, is_confirmed);
        }
    }

    let (registry, requests) = Registry::new(host.clone(), daemon_status(config, mode));
    let mut supervisor = Supervisor::new(registry.clone(), directory);
    supervisor.begin(&found).await;
    let keeping = Keeping::begin(&host);
    // Who sees that it runs sees what is wrong too.
    uplink::poll(&host, &config.transit).await;
    let kept = keep_running(&host, &registry, config);
    // Before anybody can see that it runs: whoever does may end it.
    let signals = Signals::listen()?;
    let listener = api::listen(&config.api.socket)?;
    let api = tokio::spawn(api::serve(listener, registry.clone()));
    let message = format!("serving after {} ms", begun.elapsed().as_millis());
    host.events.record(NewEvent::new(EventKind::DaemonStarted, message));
    tell_service_manager(NotifyState::Ready);

    let reason = Loop { config, host: host.clone(), supervisor, requests, signals }.run().await;
    tell_service_manager(NotifyState::Stopping);
    host.events.record(NewEvent::new(EventKind::DaemonStopped, format!("{reason}; packets flow without it")));
    drop(kept);
    keeping.end().await;
    let stored = host.clone();
    let _ = tokio::task::spawn_blocking(move || stored.store.flush()).await;
    // A client that asked for the end gets its answer.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    api.abort();
    let _ = std::fs::remove_file(&config.api.socket);
    Ok(())
}

/// Starts the tasks that run beside the supervisor, until they are dropped.
fn keep_running(
    host: &Arc<Host>,
    registry: &Arc<Registry>,
    config: &HostConfig,
) -> [AbortOnDropHandle<()>; 3] {
    let (shared, transit) = (host.clone(), config.transit.clone());
    let uplink = move || uplink::watch(shared.clone(), transit.clone());
    let shared = host.clone();
    let neighbours = move || neighbours::watch(shared.clone());
    let shown = registry.clone();
    let drift = move || drift::watch(shown.clone());
    [
        restart::keep(host.clone(), "the watch of the uplink", uplink),
        restart::keep(host.clone(), "the watch of neighbours", neighbours),
        restart::keep(host.clone(), "the search for drift", drift),
    ]
}

/// Tells systemd, where it has started the daemon (`sd_notify(3)`): units that come after it wait for the first word.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager can't be told of the daemon's state: {error}");
    }
}

fn daemon_status(config: &HostConfig, mode: lb::XdpMode) -> DaemonStatus {
    DaemonStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        since: Timestamp::now(),
        name: config.name.clone(),
        transit: config.transit.namespace.clone().unwrap_or_default(),
        uplink: config.transit.uplink.clone(),
        xdp_mode: registry::shown(mode),
    }
}

/// What the daemon waits for.
struct Loop<'a> {
    config: &'a HostConfig,
    host: Arc<Host>,
    supervisor: Supervisor,
    requests: mpsc::Receiver<Request>,
    signals: Signals,
}

/// What the daemon is told by signals.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they have no other effect.
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl Loop<'_> {
    /// Returns why it ended.
    async fn run(mut self) -> &'static str {
        let reason = self.wait().await;
        self.supervisor.end().await;
        reason
    }

    async fn wait(&mut self) -> &'static str {
        let mut watcher = Watcher::start(&self.config.tenants, FALLBACK);
        let mut ticks = tokio::time::interval(self.config.sample_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sweeping = pin!(poll::sweep_between(&self.host.balancer, self.config.sample_interval));
        // One poll at a time: a slow host gets fewer, not overlapping ones.
        let mut polls = JoinSet::new();
        loop {
            let next_restart = self.supervisor.next_restart();
            let (restarts, next_restart) =
                (next_restart.is_some(), next_restart.unwrap_or_else(tokio::time::Instant::now));
            let next_look = self.supervisor.next_look();
            let (waits, next_look) = (next_look.is_some(), next_look.unwrap_or_else(Instant::now));
            tokio::select! {
                _ = ticks.tick() => if polls.is_empty() {
                    polls.spawn(poll::poll(self.host.clone()));
                },
                () = &mut sweeping => {}
                Some(poll) = polls.join_next() => match poll {
                    Ok(poll) => self.supervisor.show(poll).await,
                    // The next tick polls again.
                    Err(error) => {
                        let event = restart::panicked("a poll of the host", error, self.config.sample_interval);
                        self.host.events.record(event);
                    }
                },
                () = watcher.changed() => { self.supervisor.rescan().await; }
                () = sleep_until(next_look.into()), if waits => { self.supervisor.rescan().await; }
                _ = self.signals.hangup.recv() => { self.supervisor.rescan().await; }
                ended = self.supervisor.ended() => match ended {
                    Ended::Gone(name) => self.supervisor.forget(&name).await,
                    Ended::Panicked(name, error) => self.supervisor.note_panic(&name, error),
                },
                () = sleep_until(next_restart), if restarts => self.supervisor.restart().await,
                Some(request) = self.requests.recv() => match request {
                    Request::Rescan(reply) => {
                        let _ = reply.send(self.supervisor.rescan().await);
                    }
                    Request::Confirm(tenants, reply) => {
                        let _ = reply.send(self.supervisor.confirm(&tenants).await);
                    }
                    Request::Stop(reply) => {
                        let _ = reply.send(StopAnswer { pid: std::process::id() });
                        return "stopped by request";
                    }
                },
                _ = self.signals.terminate.recv() => return "stopped by SIGTERM",
                _ = self.signals.interrupt.recv() => return "stopped by SIGINT",
            }
        }
    }
}
