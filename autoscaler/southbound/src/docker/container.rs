//! Containers: what one is made with, and how ours are known again.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, HostConfig};
use bollard::query_parameters::{ListContainersOptions, ListContainersOptionsBuilder};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::DockerTemplate;

use crate::provider::{Halt, InstanceSpec, Observed, Presence};
use crate::scope::{Scope, instance_id};

/// Whose container it is: the daemon's name. Only what has this label is ours.
const SCOPE: &str = "sluice.scope";
/// The instance's id.
const INSTANCE: &str = "sluice.instance";
/// The tenant, for people.
const TENANT: &str = "sluice.tenant";
/// The instance's spec, as JSON.
const SPEC: &str = "sluice.spec";

/// The network of a container that has only our links.
const NO_NETWORK: &str = "none";

/// What an instance's container is made with.
pub(super) fn body(
    scope: &Scope,
    spec: &InstanceSpec,
    template: &DockerTemplate,
) -> Result<ContainerCreateBody, serde_json::Error> {
    let ours = spec.environment().into_iter().map(|(name, value)| (name.to_owned(), value));
    let environment = template.environment.clone().into_iter().chain(ours);
    Ok(ContainerCreateBody {
        image: Some(template.image.clone()),
        cmd: template.command.clone(),
        env: Some(environment.map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels(scope, spec, template)?),
        hostname: Some(spec.id.to_string()),
        host_config: Some(host_config(spec, template)),
        ..ContainerCreateBody::default()
    })
}

fn labels(
    scope: &Scope,
    spec: &InstanceSpec,
    template: &DockerTemplate,
) -> Result<HashMap<String, String>, serde_json::Error> {
    let ours = [
        (SCOPE, scope.name().to_owned()),
        (INSTANCE, spec.id.to_string()),
        (TENANT, spec.tenant.to_string()),
        (SPEC, serde_json::to_string(spec)?),
    ];
    let ours = ours.map(|(name, value)| (name.to_owned(), value));
    Ok(template.labels.clone().into_iter().chain(ours).collect())
}

fn host_config(spec: &InstanceSpec, template: &DockerTemplate) -> HostConfig {
    #[expect(clippy::cast_possible_truncation, reason = "at most 1024 cores")]
    let nano_cpus = (spec.template.cpus * 1e9).round() as i64;
    let memory = spec.template.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    HostConfig {
        network_mode: Some(template.network.clone().unwrap_or_else(|| NO_NETWORK.to_owned())),
        nano_cpus: Some(nano_cpus),
        memory,
        // As much again of swap is Docker's default; a limit is meant as one.
        memory_swap: memory,
        ..HostConfig::default()
    }
}

/// Finds the containers of a scope, or those of one instance: one, unless a hand has copied it.
pub(super) fn of(scope: &Scope, id: Option<&InstanceId>) -> ListContainersOptions {
    let mut labels = vec![format!("{SCOPE}={}", scope.name())];
    labels.extend(id.map(|id| format!("{INSTANCE}={id}")));
    let filters = HashMap::from([("label".to_owned(), labels)]);
    ListContainersOptionsBuilder::default().all(true).filters(&filters).build()
}

/// What a container of ours says about its instance; `None` where it names none.
pub(super) fn observed(container: &ContainerSummary) -> Option<Observed> {
    let labels = container.labels.as_ref()?;
    let id = instance_id(labels.get(INSTANCE)?)?;
    let spec = labels.get(SPEC).and_then(|text| serde_json::from_str::<InstanceSpec>(text).ok());
    let spec = spec.filter(|spec| spec.id == id);
    let presence = if spec.is_none() { Presence::Broken } else { presence(container.state) };
    Some(Observed { id, presence, spec })
}

fn presence(state: Option<ContainerSummaryStateEnum>) -> Presence {
    use ContainerSummaryStateEnum as State;
    match state {
        Some(State::RUNNING | State::RESTARTING) => Presence::Running,
        Some(State::PAUSED) => Presence::Halted(Halt::Paused),
        Some(State::CREATED) => Presence::Created,
        _ => Presence::Exited,
    }
}
