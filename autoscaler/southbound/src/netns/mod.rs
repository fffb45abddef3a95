//! The `netns` provider: an instance is a network namespace on its tenant's bridge, a cgroup and a process.
//!
//! It needs nothing but the kernel. It separates instances by network and CPU share, not by files or users: the
//! command runs as root on the host's files, so it is for programs that the operator trusts.
//!
//! What exists of an instance is found by its label in `/run`, written before anything else and removed after
//! everything else, and by the names of its namespace, cgroup and bridge port (see [`Scope`]). A reboot takes all
//! of it. A process does not end with the daemon: its parent is a supervisor, see [`supervise`].

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lb_userspace::net::Netns;
use nix::unistd::setsid;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{ProviderKind, TemplateSpec};
use tokio::time::Instant;

use crate::cgroup::{Cgroup, Hierarchies};
use crate::instance_locks::InstanceLocks;
use crate::ports::Ports;
use crate::provider::{
    Ending, InstanceMetrics, InstanceSpec, Observed, Output, Presence, Provider, ProviderError,
};
use crate::scope::{SUPERVISORS, Scope, instance_id};

mod label;
mod output;
mod process;
mod removal;
mod supervisor;

use label::{Label, Labels};
pub use supervisor::supervise;

/// The kind of cloud.
const KIND: ProviderKind = ProviderKind::Netns;

/// The kernel takes a moment to let go of a cgroup whose last process has ended.
const CGROUP_PATIENCE: Duration = Duration::from_secs(5);

/// A supervisor has taken all that a dead instance has written within this.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(2);

/// Of what an instance has said before it ended, so many lines are told.
const LAST_LINES: usize = 20;

/// Makes instances of namespaces and processes. Cheap to clone; clones are one provider.
#[derive(Debug, Clone)]
pub struct NetnsProvider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scope: Scope,
    labels: Labels,
    hierarchies: Hierarchies,
    ports: Ports,
    responder: Vec<OsString>,
    /// The program that is an instance's supervisor, with its first arguments.
    supervisor: Vec<OsString>,
    locks: InstanceLocks,
}

impl NetnsProvider {
    /// The provider of a scope. Instances without a command run this program with the argument `responder`, and every
    /// instance has a parent that runs it with the argument `supervise`. To be called on a tokio runtime.
    pub fn open(scope: Scope) -> Result<Self, ProviderError> {
        let program = std::env::current_exe().map_err(unavailable("this program's own path is unknown"))?;
        let responder = vec![program.clone().into(), "responder".into()];
        Self::with_responder(scope, program, responder)
    }

    /// As [`open`](Self::open), with another command in the place of the built-in responder, and another program that
    /// knows the argument `supervise`.
    pub fn with_responder(
        scope: Scope,
        program: PathBuf,
        responder: Vec<OsString>,
    ) -> Result<Self, ProviderError> {
        let host = Netns::current().map_err(unavailable("the namespace of this process can't be opened"))?;
        Ok(Self(Arc::new(Inner {
            labels: Labels::of(&scope),
            hierarchies: Hierarchies::of_host().map_err(unavailable("cgroups can't be used"))?,
            ports: Ports::open(scope.clone(), KIND, &host).map_err(unavailable("netlink can't be used"))?,
            locks: InstanceLocks::default(),
            scope,
            responder,
            supervisor: vec![program.into(), "supervise".into()],
        })))
    }

    /// Where an instance's output is found.
    #[must_use]
    pub fn log_of(&self, id: &InstanceId) -> std::path::PathBuf {
        self.0.labels.output(id).current
    }
}

#[async_trait]
impl Provider for NetnsProvider {
    fn kind(&self) -> ProviderKind {
        KIND
    }

    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        check(&spec.id)?;
        let (inner, spec, id) = (Arc::clone(&self.0), spec.clone(), spec.id.clone());
        self.0.locks.to_the_end(&id, async move { inner.create(&spec).await }).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError> {
        check(id)?;
        let (inner, own) = (Arc::clone(&self.0), id.clone());
        self.0.locks.to_the_end(id, async move { inner.start(own).await }).await
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        check(id)?;
        let deadline = Instant::now() + grace;
        let _lock = self.0.locks.take(id).await;
        let group = self.0.group(id);
        if !group.exists() && matches!(self.0.label(id)?, Label::None) {
            return Err(ProviderError::Unknown(id.clone()));
        }
        process::end(&group, deadline).await.map_err(step(id, "stopping"))
    }

    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError> {
        check(id)?;
        let (inner, own) = (Arc::clone(&self.0), id.clone());
        self.0.locks.to_the_end(id, async move { inner.delete(&own).await }).await
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let ids = self.0.ids().await?;
        ids.into_iter().map(|id| self.0.observe(id)).collect()
    }

    async fn remove_all(&self) -> Result<Vec<InstanceId>, ProviderError> {
        let mut removed = Vec::new();
        for observed in self.list().await? {
            self.delete(&observed.id).await?;
            removed.push(observed.id);
        }
        self.0.remove_rest().await?;
        Ok(removed)
    }

    async fn ended(&self, id: &InstanceId) {
        if let Err(error) = process::ended(&self.0.group(id)).await {
            tracing::warn!(%id, %error, "its processes can't be watched; they are looked at every now and then");
            std::future::pending::<()>().await;
        }
    }

    async fn ending(&self, id: &InstanceId) -> Result<Option<Ending>, ProviderError> {
        check(id)?;
        if self.0.is_running(id)? || !self.0.labels.was_started(id) {
            return Ok(None);
        }
        self.0.supervisor_ended(id).await?;
        self.0.ending(id).map(Some)
    }

    async fn output(&self, id: Option<&InstanceId>) -> Result<Vec<Output>, ProviderError> {
        let ids = match id {
            Some(id) => BTreeSet::from([id.clone()]),
            None => self.0.labels.ids().map_err(unavailable("labels can't be listed"))?,
        };
        let inner = Arc::clone(&self.0);
        let read = move || ids.iter().filter_map(|id| inner.fresh(id)).collect();
        tokio::task::spawn_blocking(read).await.map_err(unavailable("output can't be read"))
    }

    fn keeps_output(&self) -> bool {
        true
    }

    async fn output_kept(&self, output: &Output) -> Result<(), ProviderError> {
        let id = &output.spec.id;
        let _lock = self.0.locks.take(id).await;
        // One that was deleted meanwhile has no files, and gets none.
        if !self.0.labels.was_started(id) {
            return Ok(());
        }
        let files = self.0.labels.output(id);
        let kept = output.mark.parse::<output::Mark>().and_then(|mark| mark.write(&files));
        kept.map_err(step(id, "noting what is kept of its output"))
    }

    async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError> {
        let id = &spec.id;
        check(id)?;
        let group = self.0.group(id);
        let at = Timestamp::now();
        let cpu = match group.cpu_time() {
            Err(_) if !group.exists() => return Err(ProviderError::Unknown(id.clone())),
            cpu => cpu.map_err(step(id, "reading the CPU time"))?,
        };
        let traffic = self.0.ports.traffic(spec).await.ok();
        Ok(InstanceMetrics { at, cpu, memory: group.memory(), traffic })
    }
}

/// The steps of an instance's life. Each can be done again, also after a crash in its middle.
impl Inner {
    async fn create(self: &Arc<Self>, spec: &InstanceSpec) -> Result<(), ProviderError> {
        self.write_label(spec)?;
        let netns = self.make_namespace(spec).await?;
        self.make_cgroup(spec)?;
        self.ports.plug(spec, &netns, 0).await.map_err(step(&spec.id, "joining the network"))
    }

    /// First of all: whatever is made from here on, the label says whose it is.
    fn write_label(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        self.labels.write(spec).map_err(step(&spec.id, "writing the label"))
    }

    async fn make_namespace(&self, spec: &InstanceSpec) -> Result<Netns, ProviderError> {
        let name = self.scope.netns(&spec.id);
        let made = tokio::task::spawn_blocking(move || Netns::create(&name)).await;
        made.map_err(step(&spec.id, "making the namespace"))?.map_err(step(&spec.id, "making the namespace"))
    }

    fn make_cgroup(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        let group = self.group(&spec.id);
        let made = group.ensure(spec.template.cpus).and_then(|()| group.limit_memory(spec.template.memory));
        made.map_err(step(&spec.id, "making the cgroup"))
    }

    async fn start(self: Arc<Self>, id: InstanceId) -> Result<(), ProviderError> {
        let Label::Read(spec) = self.label(&id)? else { return Err(ProviderError::Unknown(id)) };
        if self.is_running(&id)? {
            return Ok(());
        }
        let failed = id.clone();
        let done = tokio::task::spawn_blocking(move || self.launch(&spec)).await;
        done.map_err(step(&failed, "starting"))?
    }

    /// Starts its supervisor, and waits until that has started the command.
    fn launch(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        const STEP: &str = "starting";
        let id = &spec.id;
        let arguments = [OsString::from(self.scope.name()), OsString::from(id.as_str())];
        let arguments = arguments.into_iter().chain(self.command(&spec.template));
        let no_program = || step(id, STEP)("there is no program to supervise it");
        let mut command = supervisor::command(&self.supervisor, arguments).ok_or_else(no_program)?;
        // SAFETY: between fork and exec this only makes system calls (setsid, close_range); it neither allocates nor
        // locks, and its errors are plain numbers.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                process::close_on_exec()
            });
        }
        let mut child = command.spawn().map_err(step(id, STEP))?;
        let said = child.stdout.take().map(supervisor::answer).transpose().map_err(step(id, STEP));
        // It is no child of a daemon that comes later, and this one has no use for how it ends.
        std::thread::spawn(move || child.wait());
        match said?.as_deref() {
            Some(supervisor::STARTED) => Ok(()),
            answer => Err(step(id, STEP)(answer.unwrap_or("its supervisor has said nothing"))),
        }
    }

    fn supervisors(&self, id: &InstanceId) -> Cgroup<'_> {
        self.hierarchies.group(self.scope.supervisor_cgroup(id))
    }

    /// Waits until all that the instance has written is in its files, and how it ended; a supervisor that something of the
    /// instance keeps busy is not waited for.
    async fn supervisor_ended(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let group = self.supervisors(id);
        match tokio::time::timeout(SUPERVISOR_PATIENCE, process::ended(&group)).await {
            Ok(ended) => ended.map_err(step(id, "watching its supervisor")),
            Err(_) => Ok(()),
        }
    }

    fn ending(&self, id: &InstanceId) -> Result<Ending, ProviderError> {
        let status = self.labels.status(id).map_err(step(id, "reading how it ended"))?;
        let last_lines = output::last_lines(&self.labels.output(id), LAST_LINES);
        Ok(Ending {
            code: status.and_then(|status| status.code),
            signal: status.and_then(|status| status.signal),
            out_of_memory: self.group(id).was_out_of_memory(),
            error: None,
            last_lines: last_lines.map_err(step(id, "reading its output"))?,
        })
    }

    /// What an instance has written since it was last kept. What can't be read is told in the log, and tried again.
    fn fresh(&self, id: &InstanceId) -> Option<Output> {
        let Ok(Label::Read(spec)) = self.labels.read(id) else { return None };
        let ended = self.supervisors(id).processes().is_ok_and(|processes| processes.is_empty());
        match output::fresh(&self.labels.output(id), ended) {
            Ok(fresh) => {
                fresh.map(|fresh| Output { spec: *spec, lines: fresh.lines, mark: fresh.mark.to_string() })
            }
            Err(error) => {
                tracing::warn!(%id, %error, "its output can't be read");
                None
            }
        }
    }
}

/// What is there.
impl Inner {
    fn group(&self, id: &InstanceId) -> Cgroup<'_> {
        self.hierarchies.group(self.scope.cgroup().join(id.as_str()))
    }

    fn label(&self, id: &InstanceId) -> Result<Label, ProviderError> {
        self.labels.read(id).map_err(step(id, "reading the label"))
    }

    /// A process number may pass to another process; a cgroup's list never names a foreign one.
    fn is_running(&self, id: &InstanceId) -> Result<bool, ProviderError> {
        let processes = self.group(id).processes().map_err(step(id, "listing the processes"))?;
        Ok(!processes.is_empty())
    }

    fn command(&self, template: &TemplateSpec) -> Vec<OsString> {
        match template.netns.as_ref().and_then(|netns| netns.command.as_ref()) {
            Some(command) => command.iter().map(OsString::from).collect(),
            None => self.responder.clone(),
        }
    }

    /// The instances of which anything exists.
    async fn ids(&self) -> Result<BTreeSet<InstanceId>, ProviderError> {
        let mut ids = BTreeSet::new();
        ids.extend(self.labels.ids().map_err(unavailable("labels can't be listed"))?);
        let namespaces = Netns::names().map_err(unavailable("namespaces can't be listed"))?;
        ids.extend(namespaces.iter().filter_map(|name| self.scope.instance_of_netns(name)));
        let groups = self.hierarchies.children(&self.scope.cgroup());
        let groups = groups.map_err(unavailable("cgroups can't be listed"))?;
        ids.extend(
            groups.iter().filter_map(|name| instance_id(name.strip_suffix(SUPERVISORS).unwrap_or(name))),
        );
        ids.extend(self.ports.ids().await.map_err(unavailable("links can't be listed"))?);
        Ok(ids)
    }

    fn observe(&self, id: InstanceId) -> Result<Observed, ProviderError> {
        let Label::Read(spec) = self.label(&id)? else {
            return Ok(Observed { id, presence: Presence::Broken, spec: None });
        };
        let presence = if self.is_running(&id)? {
            Presence::Running
        } else if self.labels.was_started(&id) {
            Presence::Exited
        } else {
            Presence::Created
        };
        Ok(Observed { id, presence, spec: Some(*spec) })
    }
}

/// An id that has not the form of one must not become part of a path.
fn check(id: &InstanceId) -> Result<(), ProviderError> {
    instance_id(id.as_str()).map(|_| ()).ok_or_else(|| ProviderError::Unknown(id.clone()))
}

fn step<E: Display>(id: &InstanceId, step: &'static str) -> impl FnOnce(E) -> ProviderError {
    let id = id.clone();
    move |error| ProviderError::Step { id, step, reason: error.to_string() }
}

fn unavailable<E: Display>(what: &'static str) -> impl FnOnce(E) -> ProviderError {
    move |error| ProviderError::Unavailable { provider: KIND, reason: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests;
