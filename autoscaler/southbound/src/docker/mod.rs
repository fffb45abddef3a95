//! The `docker` provider: an instance is a container on its tenant's bridges.
//!
//! The container has Docker's network `none` (or the one that the template asks for), and our own veths in its
//! namespace, with the address that the load balancer sends to. They come a few milliseconds after its process has
//! begun, as there is no namespace before. dockerd must run on this host for that, be it asked by socket or TCP.
//!
//! What is ours is told by the label `sluice.scope`; a container without it is never touched, whatever its name.
//! A container does not end with the daemon; whether it does with dockerd is for dockerd's `live-restore` to say.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{DockerAddress, DockerTemplate, ProviderKind};
use tokio::time::Instant;

use crate::instance_locks::InstanceLocks;
use crate::ports::Ports;
use crate::provider::{Ending, InstanceMetrics, InstanceSpec, Observed, Presence, Provider, ProviderError};
use crate::scope::Scope;

mod connection;
mod container;
mod image;
mod private;
mod process;
mod pull;
mod statistics;

use connection::{Dockerd, is_missing, is_unchanged};
use private::Private;
use pull::Pulls;
use statistics::{Latest, Statistics};

const KIND: ProviderKind = ProviderKind::Docker;

/// Of what a container has said before it ended, so many lines stand in the error.
const LAST_LINES: &str = "20";

/// A line that is longer is cut, bytes.
const LONGEST_LINE: usize = 8 << 10;

/// dockerd answers within so long after the time that it was given for a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// dockerd has seen the end of a process within this.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at a container.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes instances of containers. Cheap to clone; clones are one provider.
#[derive(Debug, Clone)]
pub struct DockerProvider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scope: Scope,
    dockerd: Dockerd,
    ports: Arc<Ports>,
    statistics: Statistics,
    pulls: Pulls,
    /// Instances whose images have been made sure of, up to their creation.
    prepared: Mutex<HashSet<InstanceId>>,
    private: Private,
    locks: InstanceLocks,
}

/// A container that was found, and its instance.
struct Found {
    container: String,
    spec: InstanceSpec,
    presence: Presence,
}

impl DockerProvider {
    /// The provider of a scope, by the dockerd at an address, which need not run yet. To be called on a tokio
    /// runtime.
    pub fn open(scope: Scope, address: DockerAddress) -> Result<Self, ProviderError> {
        let unusable = |reason| ProviderError::Unavailable { provider: KIND, reason };
        let host = Netns::current()
            .map_err(|error| unusable(format!("the namespace of this process can't be opened: {error}")))?;
        let ports = Ports::open(scope.clone(), KIND, &host)
            .map_err(|error| unusable(format!("netlink can't be used: {error}")))?;
        let dockerd = Dockerd::at(address);
        Ok(Self(Arc::new(Inner {
            private: Private::of(&scope),
            scope,
            dockerd,
            ports: Arc::new(ports),
            statistics: Statistics::default(),
            pulls: Pulls::default(),
            prepared: Mutex::default(),
            locks: InstanceLocks::default(),
        })))
    }
}

#[async_trait]
impl Provider for DockerProvider {
    fn kind(&self) -> ProviderKind {
        KIND
    }

    async fn prepare(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        image::ensure(&self.0.dockerd, &self.0.pulls, &spec.id, template_of(spec)?).await?;
        self.0.prepared().insert(spec.id.clone());
        Ok(())
    }

    fn progress(&self, id: &InstanceId) -> Option<String> {
        self.0.pulls.progress(id)
    }

    async fn create(&self, spec: &InstanceSpec) -> Result<(), ProviderError> {
        let template = template_of(spec)?.clone();
        if !self.0.prepared().remove(&spec.id) {
            // A pull may take minutes, and no other call on the instance has to wait for it.
            image::ensure(&self.0.dockerd, &self.0.pulls, &spec.id, &template).await?;
        }
        let (inner, spec) = (Arc::clone(&self.0), spec.clone());
        let id = spec.id.clone();
        self.0.locks.to_the_end(&id, async move { inner.create(&spec, &template).await }).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let (inner, own) = (Arc::clone(&self.0), id.clone());
        self.0.locks.to_the_end(id, async move { inner.start(&own).await }).await
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        let _lock = self.0.locks.take(id).await;
        let found = self.0.find(id).await?.ok_or_else(|| ProviderError::Unknown(id.clone()))?;
        if !found.presence.is_up() {
            return Ok(());
        }
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        // A request has a limit of its own, and this one takes as long as the instance is given.
        let docker = self.0.docker().await?.clone().with_timeout(grace + STOP_PATIENCE);
        match docker.stop_container(&found.container, Some(options)).await {
            Err(error) if !is_missing(&error) && !is_unchanged(&error) => {
                Err(self.0.dockerd.step(id, "stopping")(error))
            }
            _ => Ok(()),
        }
    }

    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let (inner, own) = (Arc::clone(&self.0), id.clone());
        self.0.locks.to_the_end(id, async move { inner.delete(&own).await }).await
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        // Ports first: an instance that has one has a container before and after.
        let ports = self.0.port_owners().await?;
        let mut observed: Vec<Observed> =
            self.0.containers(None).await?.iter().filter_map(|found| self.0.observed(found)).collect();
        let is_remains = |id: &InstanceId| !observed.iter().any(|found| found.id == *id);
        let mut remains: Vec<InstanceId> = ports.into_iter().filter(is_remains).collect();
        if !remains.is_empty() {
            // One that was deleted between the two looks has left nothing.
            let still = self.0.port_owners().await?;
            remains.retain(|id| still.contains(id));
        }
        let broken = |id| Observed { id, presence: Presence::Broken, spec: None };
        observed.extend(remains.into_iter().map(broken));
        Ok(observed)
    }

    async fn ended(&self, id: &InstanceId) {
        let over = async {
            let Some(found) = self.0.find(id).await? else { return Ok(()) };
            let Some(pid) = self.0.pid(id, &found.container).await? else { return Ok(()) };
            process::ended(pid, &found.container).await.map_err(|error| failed(id, "watching", &error))
        };
        if let Err(error) = over.await {
            tracing::warn!(%id, %error, "it can't be watched; it is looked at every now and then");
            std::future::pending::<()>().await;
        }
    }

    async fn ending(&self, id: &InstanceId) -> Result<Option<Ending>, ProviderError> {
        let Some(found) = self.0.find(id).await? else { return Ok(None) };
        // dockerd takes a moment to see that a process has ended.
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            match self.0.ending(&found).await? {
                None if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                ending => return Ok(ending),
            }
        }
    }

    async fn metrics(&self, spec: &InstanceSpec) -> Result<InstanceMetrics, ProviderError> {
        let latest = self.0.latest(spec).await?;
        let read = statistics::last(latest).await;
        read.map_err(|reason| failed(&spec.id, "reading the metrics", &reason))
    }
}

/// The steps of an instance's life. Each can be done again, also after a crash in its middle.
impl Inner {
    async fn create(&self, spec: &InstanceSpec, template: &DockerTemplate) -> Result<(), ProviderError> {
        const STEP: &str = "making the container";
        if self.find(&spec.id).await?.is_some() {
            return Ok(());
        }
        let body =
            container::body(&self.scope, spec, template).map_err(|error| failed(&spec.id, STEP, &error))?;
        self.private.write(spec).map_err(|error| failed(&spec.id, STEP, &error))?;
        let name = self.scope.container(&spec.id);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let made = self.docker().await?.create_container(Some(options), body).await;
        made.map(|_| ()).map_err(self.dockerd.step(&spec.id, STEP))
    }

    async fn start(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let found = self.find(id).await?.ok_or_else(|| ProviderError::Unknown(id.clone()))?;
        if !found.presence.is_up() {
            match self.docker().await?.start_container(&found.container, None).await {
                Err(error) if !is_unchanged(&error) => return Err(self.dockerd.step(id, "starting")(error)),
                _ => {}
            }
        }
        let Err(error) = self.plug(&found).await else { return Ok(()) };
        // Most likely it has ended; dockerd takes a moment to see that.
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            match self.why_ended(&found).await? {
                Some(reason) => return Err(failed(id, "starting", &reason)),
                None if Instant::now() >= deadline => return Err(error),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Joins the container's namespace to the tenant's networks. A Docker network has taken `eth0` already.
    async fn plug(&self, found: &Found) -> Result<(), ProviderError> {
        const STEP: &str = "joining the network";
        let id = &found.spec.id;
        let Some(pid) = self.pid(id, &found.container).await? else {
            return Err(failed(id, STEP, &"its process has ended"));
        };
        let netns = process::namespace(pid, &found.container).map_err(|error| failed(id, STEP, &error))?;
        let has_network = found.spec.template.docker.as_ref().is_some_and(|docker| docker.network.is_some());
        let plugged = self.ports.plug(&found.spec, &netns, usize::from(has_network)).await;
        plugged.map_err(|error| failed(id, STEP, &error))
    }

    /// Why a container that was started does not run; `None` where it does.
    async fn why_ended(&self, found: &Found) -> Result<Option<String>, ProviderError> {
        let Some(ending) = self.ending(found).await? else { return Ok(None) };
        let code = ending.code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
        let cause = ending.error.unwrap_or_else(|| ending.last_lines.join("\n"));
        Ok(Some(format!("its process has ended with exit code {code}: {}", cause.trim())))
    }

    /// How a container has ended that was started; `None` while it runs.
    async fn ending(&self, found: &Found) -> Result<Option<Ending>, ProviderError> {
        let docker = self.docker().await?;
        let state = docker.inspect_container(&found.container, None).await;
        let state =
            state.map_err(self.dockerd.step(&found.spec.id, "looking at it"))?.state.unwrap_or_default();
        if state.running == Some(true) {
            return Ok(None);
        }
        Ok(Some(Ending {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
            // Docker tells it by the code: 128 and the signal's number.
            signal: None,
            out_of_memory: state.oom_killed == Some(true),
            error: state.error.filter(|error| !error.is_empty()),
            last_lines: last_lines(docker, &found.container).await.unwrap_or_default(),
        }))
    }

    /// Its processes end first, so that what the kernel tells their clients leaves by its ports; then the ports go: while
    /// there is a container, what is left is found by it.
    async fn delete(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.statistics.forget(id);
        let containers = self.containers(Some(id)).await?;
        self.end_at_once(&containers).await?;
        self.ports.unplug(id).await.map_err(|error| failed(id, "leaving the network", &error))?;
        let docker = self.docker().await?;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        for container in containers.into_iter().filter_map(|container| container.id) {
            match docker.remove_container(&container, Some(options.clone())).await {
                Err(error) if !is_missing(&error) => {
                    return Err(self.dockerd.step(id, "removing the container")(error));
                }
                _ => {}
            }
        }
        self.prepared().remove(id);
        self.private.remove(id).map_err(|error| failed(id, "forgetting it", &error))
    }

    /// Kills what runs. What can't be killed so is killed by its removal.
    async fn end_at_once(&self, containers: &[ContainerSummary]) -> Result<(), ProviderError> {
        let is_up = |container: &&ContainerSummary| {
            self.observed(container).is_some_and(|observed| observed.presence.is_up())
        };
        let now = StopContainerOptionsBuilder::default().t(0).build();
        for container in containers.iter().filter(is_up).filter_map(|container| container.id.as_deref()) {
            if let Err(error) = self.docker().await?.stop_container(container, Some(now.clone())).await {
                tracing::debug!(container, %error, "not stopped");
            }
        }
        Ok(())
    }
}

/// What is there.
impl Inner {
    async fn docker(&self) -> Result<&Docker, ProviderError> {
        self.dockerd.client().await
    }

    async fn containers(&self, id: Option<&InstanceId>) -> Result<Vec<ContainerSummary>, ProviderError> {
        let listed = self.docker().await?.list_containers(Some(container::of(&self.scope, id))).await;
        listed.map_err(self.dockerd.listing())
    }

    fn observed(&self, container: &ContainerSummary) -> Option<Observed> {
        container::observed(container, &self.private)
    }

    fn prepared(&self) -> MutexGuard<'_, HashSet<InstanceId>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn port_owners(&self) -> Result<std::collections::BTreeSet<InstanceId>, ProviderError> {
        self.ports.ids().await.map_err(|error| ProviderError::Unavailable {
            provider: KIND,
            reason: format!("links can't be listed: {error}"),
        })
    }

    /// The instance's container, if it has one that says what it is.
    async fn find(&self, id: &InstanceId) -> Result<Option<Found>, ProviderError> {
        let containers = self.containers(Some(id)).await?;
        Ok(containers.iter().find_map(|container| {
            let Observed { presence, spec, .. } = self.observed(container)?;
            Some(Found { container: container.id.clone()?, spec: spec?, presence })
        }))
    }

    /// Where the instance's statistics come in; they are asked for where nobody has.
    async fn latest(&self, spec: &InstanceSpec) -> Result<Latest, ProviderError> {
        if let Some(latest) = self.statistics.of(&spec.id) {
            return Ok(latest);
        }
        let found = self.find(&spec.id).await?.ok_or_else(|| ProviderError::Unknown(spec.id.clone()))?;
        let (docker, ports) = (self.docker().await?.clone(), Arc::clone(&self.ports));
        Ok(self.statistics.follow(docker, ports, spec.clone(), found.container))
    }

    /// The number of a container's first process, while it runs.
    async fn pid(&self, id: &InstanceId, container: &str) -> Result<Option<i32>, ProviderError> {
        match self.docker().await?.inspect_container(container, None).await {
            Ok(found) => Ok(process::number(found.state)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.dockerd.step(id, "looking at it")(error)),
        }
    }
}

/// The last lines that a container has written.
async fn last_lines(docker: &Docker, container: &str) -> Result<Vec<String>, Error> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LAST_LINES).build();
    let parts: Vec<LogOutput> = docker.logs(container, Some(options)).try_collect().await?;
    let text: String = parts.iter().map(ToString::to_string).collect();
    Ok(text.lines().map(|line| line[..line.floor_char_boundary(LONGEST_LINE)].to_owned()).collect())
}

fn template_of(spec: &InstanceSpec) -> Result<&DockerTemplate, ProviderError> {
    let missing = || failed(&spec.id, "reading the template", &"it has no section `docker`");
    spec.template.docker.as_ref().ok_or_else(missing)
}

fn failed(id: &InstanceId, step: &'static str, reason: &impl ToString) -> ProviderError {
    ProviderError::Step { id: id.clone(), step, reason: reason.to_string() }
}
