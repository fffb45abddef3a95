//! Reads the template: what all kinds of cloud share, and a section for each kind.

mod libvirt;
mod user_data;

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_logic::spec::{DockerTemplate, NetnsTemplate, PullPolicy, RegistryLogin, TemplateSpec};

use super::{DEFAULT_CPUS, DEFAULT_PORT, DEFAULT_REQUEST_COST, DEFAULT_START_TIMEOUT, draft};
use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::Node;

/// What Docker takes for a container's memory.
const LEAST_MEMORY: u64 = 6 << 20;
/// More than any host has.
const MOST_MEMORY: u64 = 64 << 40;

/// Names that begin so are ours, as variables.
const OUR_VARIABLES: &str = "SLUICE_";
/// Names that begin so are ours, as labels.
const OUR_LABELS: &str = "sluice.";

/// Where no template is written.
fn default() -> TemplateSpec {
    TemplateSpec {
        cpus: DEFAULT_CPUS,
        memory: None,
        request_cost: DEFAULT_REQUEST_COST,
        port: DEFAULT_PORT,
        start_timeout: DEFAULT_START_TIMEOUT,
        stop_timeout: TemplateSpec::default_stop_timeout(),
        netns: Some(NetnsTemplate::default()),
        docker: None,
        libvirt: None,
    }
}

/// The keys of the flat form, which stand among the others.
pub(super) fn flat(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<TemplateSpec> {
    let command = fields.optional(faults, &["command"], value::command);
    let cpus = fields.defaulted(faults, &["cpus"], DEFAULT_CPUS, draft::cpus);
    let request_cost = fields.defaulted(faults, &["request_cost"], DEFAULT_REQUEST_COST, draft::request_cost);
    let port = fields.defaulted(faults, &["port"], DEFAULT_PORT, value::port);
    let command = command?.map(|command| command.value);
    Some(TemplateSpec {
        cpus: cpus?,
        request_cost: request_cost?,
        port: port?,
        netns: Some(NetnsTemplate { command }),
        ..default()
    })
}

/// The section of the structured form. `encrypt` is `should_encrypt_pwd`.
pub(super) fn structured(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    encrypt: bool,
) -> Option<TemplateSpec> {
    let mut fields = match fields.section(faults, "template") {
        Section::Open(fields) => fields,
        Section::Refused => return None,
        Section::Absent => return Some(default()),
    };
    let cpus = fields.defaulted(faults, &["cpus"], DEFAULT_CPUS, draft::cpus);
    let memory = fields.optional(faults, &["memory"], |node| value::size(LEAST_MEMORY..=MOST_MEMORY, node));
    let request_cost = fields.defaulted(faults, &["request_cost"], DEFAULT_REQUEST_COST, draft::request_cost);
    let port = fields.defaulted(faults, &["port"], DEFAULT_PORT, value::port);
    let start_timeout =
        fields.defaulted(faults, &["start_timeout"], DEFAULT_START_TIMEOUT, draft::start_timeout);
    let stop_timeout =
        fields.defaulted(faults, &["stop_timeout"], TemplateSpec::default_stop_timeout(), |node| {
            value::duration(Duration::ZERO..=Duration::from_hours(1), node)
        });
    let command = fields.optional(faults, &["command"], builtin_or_command);
    let netns = section(faults, &mut fields, "netns", netns);
    let docker = section(faults, &mut fields, "docker", docker);
    let libvirt =
        section(faults, &mut fields, "libvirt", |faults, fields| libvirt::read(faults, fields, encrypt));
    fields.finish(faults);

    let (command, netns, docker, libvirt) = (command?, netns?, docker?, libvirt?);
    let netns = match (command, netns) {
        (Some(command), Some(_)) => {
            let help = "the command of a namespace stands in one of them";
            faults.error_with_help(command.span, "`command` says what `netns` says too", help);
            return None;
        }
        (Some(command), None) => Some(NetnsTemplate { command: command.value }),
        // Who names other kinds and not this one wants none of it.
        (None, None) if docker.is_none() && libvirt.is_none() => Some(NetnsTemplate::default()),
        (None, netns) => netns,
    };
    Some(TemplateSpec {
        cpus: cpus?,
        memory: memory?.map(|memory| memory.value),
        request_cost: request_cost?,
        port: port?,
        start_timeout: start_timeout?,
        stop_timeout: stop_timeout?,
        netns,
        docker,
        libvirt,
    })
}

/// A section that may be left out. `None` has been reported; `Some(None)` is left out.
#[expect(clippy::option_option, reason = "a section that was reported is not one that was left out")]
fn section<T>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Faults<'_>, Fields<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match fields.section(faults, name) {
        Section::Absent => Some(None),
        Section::Refused => None,
        Section::Open(fields) => read(faults, fields).map(Some),
    }
}

fn netns(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<NetnsTemplate> {
    let command = fields.defaulted(faults, &["command"], None, builtin_or_command);
    fields.finish(faults);
    Some(NetnsTemplate { command: command? })
}

/// The word `responder` names what is built in, so that a file can say so.
fn builtin_or_command(node: &Node) -> Result<Option<Vec<String>>, Complaint> {
    match value::text(node).as_deref() {
        Ok("responder") => Ok(None),
        _ => value::command(node).map(Some),
    }
}

fn docker(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<DockerTemplate> {
    let image = fields.required(faults, &["image"], image);
    let command = fields.optional(faults, &["command"], value::command);
    let environment = fields.defaulted(faults, &["environment"], BTreeMap::new(), environment);
    let labels = fields.defaulted(faults, &["labels"], BTreeMap::new(), labels);
    let pull = fields.defaulted(faults, &["pull"], PullPolicy::IfMissing, |node| {
        let choices = [
            ("always", PullPolicy::Always),
            ("if_missing", PullPolicy::IfMissing),
            ("never", PullPolicy::Never),
        ];
        value::choice(&choices, &[], node)
    });
    let pull_timeout =
        fields.defaulted(faults, &["pull_timeout"], DockerTemplate::default_pull_timeout(), |node| {
            value::duration(Duration::from_secs(10)..=Duration::from_hours(24), node)
        });
    let registry = section(faults, &mut fields, "registry", registry);
    let network = fields.optional(faults, &["network"], docker_network);
    fields.finish(faults);
    Some(DockerTemplate {
        image: image?.value,
        command: command?.map(|command| command.value),
        environment: environment?,
        labels: labels?,
        pull: pull?,
        pull_timeout: pull_timeout?,
        registry: registry?,
        network: network?.map(|network| network.value),
    })
}

/// What it means is for dockerd to say; these are never part of a reference.
fn image(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let message = format!("{} is not an image", quote(&text));
        return Err(Complaint::with_help(message, "write it as `docker pull` takes it: `registry/name:tag`"));
    }
    Ok(text)
}

fn environment(node: &Node) -> Result<BTreeMap<String, String>, Complaint> {
    let variables = value::words(node)?;
    for (name, value) in &variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Complaint::new(format!("{} can't be a variable", quote(name))));
        }
        if name.starts_with(OUR_VARIABLES) {
            return Err(Complaint::new(format!("{}: names with `{OUR_VARIABLES}` are ours", quote(name))));
        }
    }
    Ok(variables)
}

fn labels(node: &Node) -> Result<BTreeMap<String, String>, Complaint> {
    let labels = value::words(node)?;
    match labels.keys().find(|name| name.is_empty() || name.starts_with(OUR_LABELS)) {
        Some(name) => Err(Complaint::new(format!("{}: names with `{OUR_LABELS}` are ours", quote(name)))),
        None => Ok(labels),
    }
}

fn registry(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<RegistryLogin> {
    let username = fields.required(faults, &["username"], value::text);
    let password_file = fields.required(faults, &["password_file"], value::path);
    fields.finish_with(faults, |key| {
        (key == "password").then(|| {
            "a password does not stand here: write it into a file that only root can read, and name that as \
             `password_file`"
                .to_owned()
        })
    });
    Some(RegistryLogin { username: username?.value, password_file: password_file?.value })
}

/// A network of its own: in the host's, or in another container's, our links would be somebody else's.
fn docker_network(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    if text.is_empty() || text == "host" || text == "none" || text.contains(':') {
        let message = format!("{} is not a network that a container can join", quote(&text));
        return Err(Complaint::with_help(message, "give a name that `docker network ls` shows, as `bridge`"));
    }
    Ok(text)
}
