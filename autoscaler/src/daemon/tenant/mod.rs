//! One tenant's reconciler: a task that compares what should be with what is, after everything that happens.
//!
//! Whatever wakes it (a poll, an edit, a command, a job that has ended) changes only what is known or wanted;
//! [`Tenant::reconcile`] then derives what has to be done from that alone. So nothing depends on a step being
//! remembered, and what a crash cut short is done by the next daemon.

mod commands;
mod drift;
mod explain;
mod forecast_state;
mod handle;
mod holds;
mod instances;
mod jobs;
mod keeping;
mod leaving;
mod limits;
mod measure;
mod problems;
mod push;
mod saving;
mod services;
mod shutdown;
mod sources;
mod view;
mod vips;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use lb_userspace::lb::FlowCounters;
use lb_userspace::service::{Service, ServiceKey};
use serde_json::json;
use sluice_logic::decision::{Decision, Group};
use sluice_logic::group::{GroupState, Instance, InstanceId};
use sluice_logic::samples::{Samples, longest_window};
use sluice_logic::spec::{Metric, MetricName, TenantName, TenantSpec};
use sluice_northbound::api::{EventKind, FailedLaunch, TenantStatus};
use sluice_southbound::metrics::Quota;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::forecast_state::ForecastState;
use self::handle::MAILBOX;
pub(crate) use self::handle::{Beginning, Handle, Message, Poll};
use self::holds::Holds;
use self::jobs::Done;
use self::leaving::Leaving;
use self::problems::Work;
use self::saving::Saving;
use self::sources::SourceState;
use self::vips::Vips;
use super::backoff::Backoff;
use super::events::NewEvent;
use super::flow_table::Refusals;
use super::host::Host;
use super::network::Attached;
use super::orphans::Orphans;
use super::roster::{Member, adopt};
use super::services::keys;

/// A member that is there has a place in its cloud, even where there is more than there may be.
fn settled_in(host: &Host, member: Member) -> Member {
    host.networks.hold(member.spec.tenant_nics());
    host.management.iter().for_each(|management| management.hold(&member.spec));
    let cloud = member.spec.cloud.clone();
    member.in_cloud(host.clouds.rank(&cloud), host.clouds.occupy(&cloud))
}

/// Whether there are networks that the tenant's file has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OldNetworks {
    /// The host has to be looked at.
    Perhaps,
    None,
}

/// A tenant's reconciler.
#[derive(Debug)]
pub(crate) struct Tenant {
    host: Arc<Host>,
    file: PathBuf,
    spec: TenantSpec,
    group: GroupState,
    members: BTreeMap<InstanceId, Member>,
    /// When instances were gone: an older poll of the host may still show them.
    gone: BTreeMap<InstanceId, Instant>,
    /// Instances of the tenant that it knows nothing of.
    orphans: Orphans,
    samples: Samples,
    /// Its policies' forecasts.
    forecasts: ForecastState,
    /// The metrics of its own that it has pushed.
    pushed: BTreeSet<Metric>,
    /// The sources of metrics that are read.
    sources: BTreeMap<MetricName, SourceState>,
    /// How much they may take at once.
    source_quota: Quota,
    decision: Option<Decision>,
    holds: Holds,
    attached: Option<Attached>,
    old_networks: OldNetworks,
    /// Instances whose ports were seen, and since when one of them is absent.
    ports: BTreeMap<InstanceId, Option<Instant>>,
    /// Its public addresses.
    vips: Vips,
    /// The tenant's services as the load balancer has them, as far as is known.
    services: Vec<Service>,
    /// Whether the load balancer gives new flows to draining instances, or may, as none is in service.
    draining_serve: bool,
    /// What the load balancer has counted for them, at the last poll.
    counters: BTreeMap<ServiceKey, FlowCounters>,
    /// Their flows that weren't recorded.
    refusals: Refusals,
    /// The keys of its services.
    keys: BTreeSet<ServiceKey>,
    /// Launches that failed before a cloud was asked.
    launches: Backoff,
    /// The last instance that has failed before it had worked, until one has worked after it.
    failed_launch: Option<FailedLaunch>,
    jobs: JoinSet<Done>,
    measuring: bool,
    /// Its file is gone, and it is being removed.
    leaving: Option<Leaving>,
    /// What could not be done, by what it was.
    problems: BTreeMap<Work, String>,
    saving: Saving,
    status: watch::Sender<TenantStatus>,
}

impl Tenant {
    /// A tenant's task, which starts from what is there of it, and how to talk to it. The task ends when nothing of
    /// the tenant is left, or, leaving everything as it is, when the last handle is gone.
    pub(crate) fn task(
        host: Arc<Host>,
        beginning: Beginning,
    ) -> (Handle, impl Future<Output = TenantName> + Send + 'static) {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let tenant = Self::begin(host, beginning);
        let status = tenant.status.subscribe();
        (Handle { mailbox, status }, tenant.run(messages))
    }

    fn begin(host: Arc<Host>, beginning: Beginning) -> Self {
        let Beginning { file, spec, group, leaving, observed, services } = beginning;
        let now = Timestamp::now();
        // Its backends are its own by their addresses, whatever services another form of its file gave them.
        let adopted =
            observed.iter().filter_map(|found| adopt(found, &services, &group, leaving.is_some(), now));
        let settle = |member: Member| {
            host.logs.set_instance(&member.spec);
            (member.spec.id.clone(), settled_in(&host, member))
        };
        let members = adopted.map(settle).collect();
        let keys = keys(&spec);
        let draining_serve = services.iter().any(|s| keys.contains(&s.key) && s.draining_serve());
        let status = watch::Sender::new(view::unstarted(&spec));
        let samples = Samples::new(longest_window(&spec.policies)).sampled_every(host.sample_interval);
        let forecasts = ForecastState::new(&spec, &group.starts);
        let leaving = leaving.map(Leaving::new);
        let mut tenant = Self {
            host,
            file,
            spec,
            group,
            members,
            gone: BTreeMap::new(),
            orphans: Orphans::default(),
            samples,
            forecasts,
            pushed: BTreeSet::new(),
            sources: BTreeMap::new(),
            source_quota: Quota::default(),
            decision: None,
            holds: Holds::default(),
            attached: None,
            old_networks: OldNetworks::Perhaps,
            ports: BTreeMap::new(),
            vips: Vips::default(),
            // What an earlier daemon has left is settled in the first round, also where nothing differs.
            services: Vec::new(),
            draining_serve,
            counters: BTreeMap::new(),
            refusals: Refusals::default(),
            keys,
            launches: Backoff::default(),
            failed_launch: None,
            jobs: JoinSet::new(),
            measuring: false,
            leaving,
            problems: BTreeMap::new(),
            saving: Saving::default(),
            status,
        };
        tenant.group.desired = Some(tenant.group.desired_or_found(&tenant.spec.group, &tenant.instances()));
        tenant.report_adopted();
        tenant.declare_metrics(&[]);
        tenant.restore();
        tenant.recall();
        tenant
    }

    async fn run(mut self, mut messages: mpsc::Receiver<Message>) -> TenantName {
        loop {
            self.reconcile().await;
            if self.is_leaving() && self.members.is_empty() && self.vanish().await {
                break;
            }
            let next_try = self.next_try();
            tokio::select! {
                message = messages.recv() => {
                    let Some(message) = message else {
                        // The daemon ends: everything stays as it is.
                        self.flush().await;
                        break;
                    };
                    self.take(message).await;
                }
                Some(done) = self.jobs.join_next() => self.finish(done),
                () = next_try => {}
            }
        }
        self.spec.name
    }

    /// Until a step of an instance's end that has failed is to be tried again.
    fn next_try(&self) -> impl Future<Output = ()> + use<> {
        let now = Instant::now();
        let next = self.members.values().filter_map(|member| member.next_try(now)).min();
        async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Poll(poll) => self.take_in(&poll),
            Message::Compare(view) => self.find_drift(&view),
            Message::Changed(spec) => self.change(*spec),
            Message::Scale(count, reply) => {
                let answer = self.scale(count);
                self.settle().await;
                let _ = reply.send(self.saved_or(answer));
            }
            Message::Drain(id, decrement, reply) => {
                let answer = self.drain_by_hand(&id, decrement);
                self.settle().await;
                let _ = reply.send(self.saved_or(answer));
            }
            Message::Explain(reply) => {
                let _ = reply.send(Ok(self.explain()));
            }
            Message::Push(request, reply) => {
                let _ = reply.send(self.push(request));
            }
            Message::Leave(departure) => self.leave(departure).await,
            Message::Stay => self.stay(),
        }
    }

    /// A person who is told that it is so can rely on it: it is done, or being done, and on disk.
    async fn settle(&mut self) {
        self.reconcile().await;
        self.flush().await;
    }

    /// Makes what is closer to what should be; whatever can't be done now is done in a later round.
    async fn reconcile(&mut self) {
        self.withdraw().await;
        self.attach().await;
        self.plan();
        self.balance().await;
        self.retire_networks().await;
        // Before jobs begin: who cleans up after tenants looks there for whose an instance is.
        self.publish();
        self.work();
        self.save();
    }

    fn instances(&self) -> Vec<Instance> {
        self.members.values().map(|member| member.instance.clone()).collect()
    }

    fn desired(&self) -> u32 {
        self.group.desired.unwrap_or(self.spec.group.min)
    }

    fn event(&self, kind: EventKind, message: impl Into<String>) -> NewEvent {
        NewEvent::new(kind, message).of(&self.spec.name)
    }

    /// Runs the policies.
    fn decide(&mut self, now: Timestamp) {
        if self.is_leaving() {
            return;
        }
        let limits = self.ease(now);
        let instances = self.instances();
        self.forecast(&instances, now);
        let decision = self.decide_within(&limits, &instances, now);
        if decision.from != decision.to {
            let kind = if decision.to > decision.from { EventKind::ScaleOut } else { EventKind::ScaleIn };
            self.host.events.record(self.event(kind, &decision.reason).with(json!(decision)));
        } else if self.holds.is_news(&decision, Instant::now()) {
            self.host.events.record(self.event(EventKind::Hold, &decision.reason).with(json!(decision)));
        }
        self.accept(decision);
    }

    /// Takes a decision as the one in force.
    fn accept(&mut self, decision: Decision) {
        self.keep_decision(&decision);
        self.group.record(&decision);
        self.decision = Some(decision);
    }

    fn as_group<'a>(&'a self, instances: &'a [Instance]) -> Group<'a> {
        Group {
            spec: &self.spec.group,
            policies: &self.spec.policies,
            instances,
            desired: self.desired(),
            last_action: self.group.last_action,
            history: &self.group.history,
            outlooks: self.forecasts.outlooks(),
        }
    }
}
