//! What takes time: making, removing and measuring instances, beside the tenant's task.

use std::mem;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures_util::FutureExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_logic::forecast::Forecasts;
use sluice_logic::group::{Event, InstanceId, InstanceState};
use sluice_logic::spec::{MetricName, ProviderKind};
use sluice_northbound::api::EventKind;
use sluice_southbound::networks::Claim;
use sluice_southbound::provider::{Ending, InstanceMetrics, InstanceSpec};
use sluice_store::Sample;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::sources::Readings;
use super::{Poll, Tenant, shutdown};
use crate::daemon::host::Host;
use crate::daemon::network;
use crate::daemon::roster::Due;
use crate::daemon::state::SavedTenant;

/// How an instance has ended is known within this, or not told.
pub(super) const ENDING_TIMEOUT: Duration = Duration::from_secs(5);
/// A source of metrics that takes longer has failed.
pub(super) const MEASURE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a job has come to.
#[derive(Debug)]
pub(super) enum Done {
    /// An instance was made and is ready, after so long; or it was not.
    Made(InstanceId, Result<Duration>),
    /// An instance has stopped, or was made to; or its cloud can't be asked.
    Stopped(InstanceId, Result<()>),
    /// Nothing is left of an instance; or something is.
    Removed(InstanceId, Result<()>),
    /// An instance has ended by itself, or was stopped; and how, where that is known.
    Ended(InstanceId, Option<Ending>),
    /// A VIP is on the uplink, or is not.
    Claimed(Ipv4Addr, Result<Claim>),
    /// The state file was written, or was not.
    Saved(Box<SavedTenant>, Result<()>),
    /// What a source of metrics has said.
    Sourced(MetricName, Readings),
    /// The samples of before the daemon began, or why there are none.
    Restored(Result<Vec<Sample>>),
    /// The forecasts of this generation, which were told of what was kept or has passed; or why not.
    Forecast(u64, Result<Forecasts>),
    /// What the providers say, for one poll of the host.
    Measured(Arc<Poll>, Vec<(InstanceId, Option<InstanceMetrics>)>),
}

impl Tenant {
    /// Begins what has to be done for each instance.
    pub(super) fn work(&mut self) {
        self.watch();
        let (now, clock) = (tokio::time::Instant::now(), Timestamp::now());
        let has_network = self.attached.is_some();
        for member in self.members.values_mut() {
            let Some(due) = member.due(now, clock) else { continue };
            let (host, spec, cancel) = (self.host.clone(), member.spec.clone(), CancellationToken::new());
            let id = spec.id.clone();
            match due {
                Due::Make if !has_network => continue,
                Due::Make => {
                    let stop = cancel.clone();
                    self.jobs.spawn(async move { Done::Made(id, caught(make(host, spec, stop)).await) });
                }
                Due::Stop { passed } => {
                    let stopping = async move {
                        shutdown::stop(&**host.clouds.provider(&spec.cloud)?, &spec, passed).await
                    };
                    self.jobs.spawn(async move { Done::Stopped(id, caught(stopping).await) });
                }
                Due::Remove => {
                    self.jobs
                        .spawn(async move { Done::Removed(id, caught(shutdown::remove(host, spec)).await) });
                }
            }
            member.job = Some(cancel);
        }
    }

    /// Takes in what a job has come to.
    pub(super) fn finish(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Made(id, result)) => self.made(&id, result),
            Ok(Done::Stopped(id, result)) => self.stopped(&id, result),
            Ok(Done::Removed(id, result)) => self.removed(&id, result),
            Ok(Done::Ended(id, ending)) => self.ended(&id, ending.as_ref()),
            Ok(Done::Sourced(name, readings)) => self.sourced(&name, readings),
            Ok(Done::Restored(samples)) => self.restored(samples),
            Ok(Done::Forecast(generation, forecasts)) => self.take_forecasts(generation, forecasts),
            Ok(Done::Measured(poll, metrics)) => self.measured(&poll, metrics),
            Ok(Done::Claimed(vip, result)) => self.claimed(vip, result),
            Ok(Done::Saved(saved, result)) => self.saved(*saved, result),
            // A VIP that is not wanted any more is not claimed.
            Err(error) if error.is_cancelled() => {}
            // Jobs catch what panics inside of them; a bug is left.
            Err(error) => tracing::error!(%error, "a job ended without a result"),
        }
    }

    /// Waits for the end of each instance that carries flows: clients of one that is gone meet another at once.
    fn watch(&mut self) {
        for member in self.members.values_mut().filter(|member| !member.watched) {
            if matches!(member.instance.state, InstanceState::InService | InstanceState::Draining) {
                member.watched = true;
                let (host, spec) = (self.host.clone(), member.spec.clone());
                self.jobs.spawn(async move {
                    match host.clouds.provider(&spec.cloud) {
                        Ok(provider) => provider.ended(&spec.id).await,
                        Err(_) => std::future::pending().await,
                    }
                    let ending = ending(&host, &spec).await;
                    Done::Ended(spec.id, ending)
                });
            }
        }
    }

    /// Asks how an instance has ended that was seen to have, once.
    pub(super) fn ask_ending(&mut self, id: &InstanceId) {
        let Some(member) = self.members.get_mut(id) else { return };
        if mem::replace(&mut member.ending_asked, true) {
            return;
        }
        let (host, spec) = (self.host.clone(), member.spec.clone());
        self.jobs.spawn(async move {
            let ending = ending(&host, &spec).await;
            Done::Ended(spec.id, ending)
        });
    }

    fn ended(&mut self, id: &InstanceId, ending: Option<&Ending>) {
        let state = self.members.get(id).map(|member| member.instance.state);
        if matches!(state, None | Some(InstanceState::Terminating | InstanceState::Terminated)) {
            return;
        }
        let unknown = || "its process has ended".to_owned();
        let reason = ending.map_or_else(unknown, ToString::to_string);
        self.fail_with(id, &reason, ending.map_or(Value::Null, |ending| json!(ending)));
    }

    fn made(&mut self, id: &InstanceId, result: Result<Duration>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.job = None;
        if member.instance.state != InstanceState::Pending {
            // It is on its way out already; the removal begins now that nobody makes it any more.
            return;
        }
        match result {
            Ok(took) => {
                self.group.starts.record(took);
                self.advance(id, Event::Ready);
                let message = format!("in service, ready after {} ms", took.as_millis());
                self.host.events.record(self.event(EventKind::InService, message).about(id));
            }
            Err(error) => {
                self.fail(id, &format!("{error:#}"));
            }
        }
    }
}

/// Makes an instance and waits until it is ready. What a cancelled or failed attempt leaves is removed by the
/// job that follows when the instance terminates.
async fn make(host: Arc<Host>, spec: InstanceSpec, cancel: CancellationToken) -> Result<Duration> {
    let limit = spec.template.start_timeout;
    let making = async {
        // An image may take longer to come than a start may; that has a deadline of its own, and is no part of the start.
        host.clouds.provider(&spec.cloud)?.prepare(&spec).await?;
        let begun = Instant::now();
        let started = async {
            let provider = host.clouds.provider(&spec.cloud)?;
            host.networks.admit(spec.tenant_nics()).await?;
            if let Some(management) = &host.management {
                management.admit(&spec).await?;
            }
            provider.create(&spec).await?;
            provider.start(&spec.id).await?;
            if let Some(management) = &host.management
                && provider.kind() == ProviderKind::Libvirt
            {
                management.seal(&spec).await?;
            }
            anyhow::Ok(())
        };
        let started = tokio::time::timeout(limit, started).await;
        started.with_context(|| format!("not started after {} s", limit.as_secs_f64()))??;
        network::ready(&host, &spec, limit.saturating_sub(begun.elapsed())).await?;
        Ok(begun.elapsed())
    };
    tokio::select! {
        () = cancel.cancelled() => Err(anyhow!("no longer wanted")),
        made = making => made,
    }
}

/// How an instance has ended; `None` where that can't be told.
pub(super) async fn ending(host: &Host, spec: &InstanceSpec) -> Option<Ending> {
    let provider = host.clouds.provider(&spec.cloud).ok()?;
    let asked = tokio::time::timeout(ENDING_TIMEOUT, provider.ending(&spec.id)).await;
    match asked {
        Ok(Ok(ending)) => ending,
        Ok(Err(error)) => {
            tracing::debug!(id = %spec.id, %error, "how it ended is not known");
            None
        }
        Err(_) => None,
    }
}

/// Turns a panic into an error of the instance, so that it does not end the tenant's task.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(anyhow!("a bug: see the daemon's log")))
}
