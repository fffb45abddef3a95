//! What an instance is made of: what all kinds of cloud share, and a section for each kind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LibvirtTemplate, ProviderKind};

/// What an instance is made of.
///
/// A group may have instances on clouds of several kinds at once, so each kind has a section of its own. On a cloud
/// whose section is `None` the tenant has no instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredTemplate")]
pub struct TemplateSpec {
    /// The CPU an instance may use, in cores; its utilisation is measured against it.
    pub cpus: f64,
    /// The memory an instance may use, in bytes; `None` leaves it to the provider: a virtual machine gets its
    /// default, everything else has no limit.
    pub memory: Option<u64>,
    /// CPU time the responder spends on a request.
    pub request_cost: Duration,
    /// The TCP port an instance answers on when it is ready.
    pub port: u16,
    /// How long an instance may take from its start to ready before it is replaced.
    pub start_timeout: Duration,
    /// How long an instance may take to end after it was asked to, before it is killed; a virtual machine has its own.
    pub stop_timeout: Duration,
    /// On a `netns` cloud.
    pub netns: Option<NetnsTemplate>,
    /// On a `docker` cloud.
    pub docker: Option<DockerTemplate>,
    /// On a `libvirt` cloud.
    pub libvirt: Option<LibvirtTemplate>,
}

impl TemplateSpec {
    /// How long an instance may take to end where nothing else is said: what Kubernetes and ECS give.
    #[must_use]
    pub fn default_stop_timeout() -> Duration {
        Duration::from_secs(30)
    }

    /// Whether the template says what an instance is on a cloud of that kind.
    #[must_use]
    pub fn is_for(&self, kind: ProviderKind) -> bool {
        match kind {
            ProviderKind::Netns => self.netns.is_some(),
            ProviderKind::Docker => self.docker.is_some(),
            ProviderKind::Libvirt => self.libvirt.is_some(),
        }
    }
}

/// An instance as a namespace with a process in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsTemplate {
    /// The command; `None` is the built-in responder.
    pub command: Option<Vec<String>>,
}

/// An instance as a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerTemplate {
    /// The image's reference, as `docker pull` takes it.
    pub image: String,
    /// What the container runs; `None` is what the image says.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Variables besides those of the image and `SLUICE_…`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Labels besides our own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When the image is pulled.
    #[serde(default)]
    pub pull: PullPolicy,
    /// A pull of which nothing has come for so long has failed.
    #[serde(default = "DockerTemplate::default_pull_timeout")]
    pub pull_timeout: Duration,
    /// Who pulls it; `None` is nobody in particular.
    #[serde(default)]
    pub registry: Option<RegistryLogin>,
    /// A Docker network that the container joins besides the tenant's; `None` is none.
    #[serde(default)]
    pub network: Option<String>,
}

impl DockerTemplate {
    /// How long a pull may stand still where nothing else is said.
    #[must_use]
    pub fn default_pull_timeout() -> Duration {
        Duration::from_mins(15)
    }
}

/// When an image is pulled from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Before each container is made.
    Always,
    /// Where the daemon doesn't have it.
    #[default]
    IfMissing,
    /// Never: it was loaded by hand.
    Never,
}

/// How to log in to a registry.
///
/// The password itself is in a file that only root can read, so that it comes into no label, state file, log or
/// answer of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The user's name, or that of a token.
    pub username: String,
    /// The file whose first line is the password or token.
    pub password_file: PathBuf,
}

/// A template as it is stored: also as it was before there were kinds of cloud, when the command stood by itself.
#[derive(Debug, Deserialize)]
struct StoredTemplate {
    cpus: f64,
    #[serde(default)]
    memory: Option<u64>,
    request_cost: Duration,
    port: u16,
    start_timeout: Duration,
    #[serde(default = "TemplateSpec::default_stop_timeout")]
    stop_timeout: Duration,
    #[serde(default)]
    command: Option<Vec<String>>,
    netns: Option<NetnsTemplate>,
    docker: Option<DockerTemplate>,
    libvirt: Option<LibvirtTemplate>,
}

impl From<StoredTemplate> for TemplateSpec {
    fn from(stored: StoredTemplate) -> Self {
        let StoredTemplate { cpus, memory, request_cost, port, start_timeout, stop_timeout, command, .. } =
            stored;
        let of_old = stored.netns.is_none() && stored.docker.is_none() && stored.libvirt.is_none();
        Self {
            cpus,
            memory,
            request_cost,
            port,
            start_timeout,
            stop_timeout,
            netns: stored.netns.or_else(|| of_old.then_some(NetnsTemplate { command })),
            docker: stored.docker,
            libvirt: stored.libvirt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instances of an older daemon run on; their labels must stay readable.
    #[test]
    fn a_template_from_before_there_were_kinds_is_one_of_a_namespace() {
        let stored = r#"{
            "command": ["/bin/server"], "cpus": 0.5, "request_cost": {"secs": 0, "nanos": 2000000},
            "port": 80, "start_timeout": {"secs": 60, "nanos": 0}
        }"#;
        let template: TemplateSpec = serde_json::from_str(stored).expect("readable");
        let command = Some(vec!["/bin/server".to_owned()]);
        assert_eq!(template.netns, Some(NetnsTemplate { command }));
        assert!(template.is_for(ProviderKind::Netns) && !template.is_for(ProviderKind::Docker));
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let stored = r#"{
            "cpus": 1.0, "memory": 1048576, "request_cost": {"secs": 0, "nanos": 0}, "port": 80,
            "start_timeout": {"secs": 60, "nanos": 0}, "netns": null, "docker": {"image": "app:1"},
            "libvirt": {"boot": {"kernel": {"kernel": "/k", "initrd": "/i"}}}
        }"#;
        let template: TemplateSpec = serde_json::from_str(stored).expect("readable");
        assert_eq!(template.netns, None, "the tenant has no instances there");
        let again = serde_json::to_string(&template).expect("writable");
        assert_eq!(serde_json::from_str::<TemplateSpec>(&again).expect("readable"), template);
    }
}
