//! Containers: what one is made with, and how ours are known again.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, HostConfig};
use bollard::query_parameters::{ListContainersOptions, ListContainersOptionsBuilder};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::DockerTemplate;

use super::private::{Private, without_secrets};
use crate::provider::{Halt, InstanceSpec, Observed, Presence};
use crate::scope::{Scope, instance_id};

/// Whose container it is: the daemon's name. Only what has this label is ours.
const SCOPE: &str = "sluice.scope";
/// The instance's id.
const INSTANCE: &str = "sluice.instance";
/// The tenant, for people.
const TENANT: &str = "sluice.tenant";
/// The instance's spec as JSON, without what may be secret: see [`Private`].
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
        (SPEC, serde_json::to_string(&without_secrets(spec))?),
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
pub(super) fn observed(container: &ContainerSummary, private: &Private) -> Option<Observed> {
    let labels = container.labels.as_ref()?;
    let id = instance_id(labels.get(INSTANCE)?)?;
    let spec = labels.get(SPEC).and_then(|text| serde_json::from_str::<InstanceSpec>(text).ok());
    let spec = spec.filter(|spec| spec.id == id).map(|spec| private.complete(spec));
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use sluice_logic::spec::RegistryLogin;

    use super::*;

    const STORED: &str = r#"{
        "id": "demo-000000ab", "tenant": "demo", "created": "2026-01-01T00:00:00Z",
        "template": {
            "cpus": 0.5, "request_cost": {"secs": 0, "nanos": 0}, "port": 80,
            "start_timeout": {"secs": 60, "nanos": 0}, "netns": {"command": ["/bin/x", "hunter2"]},
            "docker": {"image": "app:1", "command": ["--token", "hunter2"], "environment": {"PASSWORD": "hunter2"}}
        },
        "nic": {
            "bridge": "slb-0ba6964f", "address": "19.0.0.2", "prefix": 24, "gateway": "19.0.0.1",
            "mac": "02:00:13:00:00:02"
        }
    }"#;

    fn spec() -> InstanceSpec {
        let mut spec: InstanceSpec = serde_json::from_str(STORED).unwrap();
        let login = RegistryLogin { username: "hunter2".to_owned(), password_file: "/p".into() };
        spec.template.docker.as_mut().unwrap().registry = Some(login);
        spec
    }

    fn summary(scope: &Scope, spec: &InstanceSpec) -> ContainerSummary {
        let labels = labels(scope, spec, spec.template.docker.as_ref().unwrap()).unwrap();
        ContainerSummary { labels: Some(labels), ..ContainerSummary::default() }
    }

    #[test]
    fn labels_have_no_secret_and_a_restarted_daemon_knows_all() {
        let name = format!("slt{}", std::process::id());
        let (scope, spec) = (Scope::new(&name).unwrap(), spec());
        let summary = summary(&scope, &spec);
        assert!(!format!("{summary:?}").contains("hunter2"), "{summary:?}");
        let private = Private::of(&scope);
        private.write(&spec).expect("written: this test needs root");
        let files = scope.containers_dir().read_dir().unwrap();
        let modes: Vec<u32> = files.map(|file| file.unwrap().metadata().unwrap().mode() & 0o777).collect();
        assert_eq!(modes, [0o600]);
        assert_eq!(scope.containers_dir().metadata().unwrap().mode() & 0o777, 0o700);
        let found = observed(&summary, &Private::of(&scope)).unwrap().spec;
        private.remove(&spec.id).unwrap();
        assert_eq!(found, Some(spec.clone()));
        assert!(!scope.run_dir().exists(), "nothing is left");
        // A boot has taken the rest.
        let found = observed(&summary, &private).unwrap();
        assert_eq!(found.spec, Some(without_secrets(&spec)));
    }

    #[test]
    fn labels_of_an_older_daemon_are_read() {
        let (scope, spec) = (Scope::new("older").unwrap(), spec());
        let mut summary = summary(&scope, &spec);
        let labels = summary.labels.as_mut().unwrap();
        labels.insert(SPEC.to_owned(), serde_json::to_string(&spec).unwrap());
        assert_eq!(observed(&summary, &Private::of(&scope)).unwrap().spec, Some(spec));
    }
}
