//! Reads the host file key by key.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clouds::clouds;
use super::history::history;
use super::logs::logs;
use super::management::management;
use super::open_ports::open_ports;
use super::{
    ApiConfig, DEFAULT_NAME, DEFAULT_SAMPLE_INTERVAL, HostConfig, LoadBalancerConfig, TimeoutConfig,
    TransitConfig,
};
use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint, LONGEST_WAIT};
use crate::yaml::Node;

/// Every key of the first level, to tell host files from tenant files.
pub(super) const KEYS: &[&str] = &[
    "name",
    "transit",
    "tenants",
    "confirm_removal",
    "state",
    "run",
    "api",
    "pins",
    "sample_interval",
    "clouds",
    "load_balancer",
    "history",
    "syslog",
    "management",
];

/// The kernel takes 107 bytes and a NUL (`unix(7)`).
const LONGEST_SOCKET_PATH: usize = 107;

pub(super) fn host(faults: &mut Faults<'_>, node: &Node) -> Option<HostConfig> {
    let mut fields = Fields::open(faults, "the host", node)?;
    let name = fields.defaulted(faults, &["name"], DEFAULT_NAME.to_owned(), daemon_name);
    let transit = transit(faults, &mut fields);
    // Where the name itself is at fault, the paths that follow from it are of no interest.
    let scope = name.as_deref().unwrap_or(DEFAULT_NAME);
    let below = |directory: &str| Path::new(directory).join(scope);
    let mut directory =
        |faults: &mut Faults<'_>, key, default| fields.defaulted(faults, &[key], default, value::path);
    let tenants = directory(faults, "tenants", PathBuf::from("/etc/sluice/tenants"));
    let state = directory(faults, "state", below("/var/lib"));
    let run = directory(faults, "run", below("/run"));
    let pins = directory(faults, "pins", below("/sys/fs/bpf"));
    let confirm_removal = fields.defaulted(faults, &["confirm_removal"], true, value::boolean);
    let api = api(faults, &mut fields, run.as_deref().unwrap_or(&below("/run")));
    let sample_interval = fields.defaulted(faults, &["sample_interval"], DEFAULT_SAMPLE_INTERVAL, |node| {
        value::duration(Duration::from_millis(50)..=Duration::from_mins(1), node)
    });
    let clouds = clouds(faults, &mut fields);
    let load_balancer = load_balancer(faults, &mut fields);
    let history = history(faults, &mut fields);
    let logs = logs(faults, &mut fields);
    let management = management(faults, &mut fields);
    fields.finish(faults);
    Some(HostConfig {
        name: name?,
        transit: transit?,
        tenants: tenants?,
        confirm_removal: confirm_removal?,
        state: state?,
        run: run?,
        api: api?,
        pins: pins?,
        sample_interval: sample_interval?,
        clouds: clouds?,
        load_balancer: load_balancer?,
        history: history?,
        logs: logs?,
        management: management?,
    })
}

fn transit(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<TransitConfig> {
    let mut fields = match fields.section(faults, "transit") {
        Section::Open(fields) => fields,
        Section::Refused => return None,
        Section::Absent => {
            fields.report_missing(faults, "transit");
            return None;
        }
    };
    let namespace = fields.optional(faults, &["namespace"], namespace);
    let uplink = fields.required(faults, &["uplink"], interface);
    let open_to_clients = open_ports(faults, &mut fields, "open_to_clients");
    let open_to_instances = open_ports(faults, &mut fields, "open_to_instances");
    fields.finish(faults);
    Some(TransitConfig {
        namespace: namespace?.map(|name| name.value),
        uplink: uplink?.value,
        open_to_clients: open_to_clients?,
        open_to_instances: open_to_instances?,
    })
}

/// What southbound's `Scope` takes, so that no other name gets past a check and fails at the daemon's start.
fn daemon_name(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
    if starts_well && text.len() <= 16 && text.chars().all(allowed) {
        return Ok(text);
    }
    let message = format!("{} is not the name of a daemon", quote(&text));
    Err(Complaint::with_help(message, "give 1 to 16 of a-z, 0-9 and `_`, the first a letter"))
}

/// A file name below `/run/netns`.
fn namespace(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let fits = (1..=255).contains(&text.len()) && text != "." && text != "..";
    if fits && !text.contains(['/', '\0']) {
        return Ok(text);
    }
    let message = format!("{} is not the name of a namespace", quote(&text));
    Err(Complaint::with_help(message, "give the name that `ip netns list` shows, not a path"))
}

/// What the kernel takes as an interface name (`dev_valid_name`).
fn interface(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    if fits && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        return Ok(text);
    }
    let message = format!("{} is not the name of an interface", quote(&text));
    Err(Complaint::with_help(message, "give a name of 1 to 15 bytes that `ip link` shows"))
}

fn api(faults: &mut Faults<'_>, fields: &mut Fields<'_>, run: &Path) -> Option<ApiConfig> {
    let default = run.join("sluice.sock");
    let socket = match fields.section(faults, "api") {
        Section::Absent => Some(default),
        Section::Refused => None,
        Section::Open(mut fields) => {
            let socket = fields.defaulted(faults, &["socket"], default, socket_path);
            fields.finish(faults);
            socket
        }
    };
    Some(ApiConfig { socket: socket? })
}

fn socket_path(node: &Node) -> Result<PathBuf, Complaint> {
    let path = value::path(node)?;
    match path.as_os_str().len() {
        0..=LONGEST_SOCKET_PATH => Ok(path),
        length => {
            let message =
                format!("the path has {length} bytes; a socket's has at most {LONGEST_SOCKET_PATH}");
            Err(Complaint::new(message))
        }
    }
}

fn load_balancer(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<LoadBalancerConfig> {
    let default = LoadBalancerConfig::default();
    let mut fields = match fields.section(faults, "load_balancer") {
        Section::Open(fields) => fields,
        Section::Absent => return Some(default),
        Section::Refused => return None,
    };
    let mut entries = |faults: &mut Faults<'_>, key, default, range: RangeInclusive<u32>| {
        fields.defaulted(faults, &[key], default, |node| value::whole(range.clone(), node))
    };
    let max_flows = entries(faults, "max_flows", default.max_flows, 1_024..=67_108_864);
    let max_nascent_flows =
        entries(faults, "max_nascent_flows", default.max_nascent_flows, 1_024..=16_777_216);
    let max_services = entries(faults, "max_services", default.max_services, 1..=4_096);
    let max_backends = entries(faults, "max_backends", default.max_backends, 1..=32_767);
    let timeouts = timeouts(faults, &mut fields);
    fields.finish(faults);
    Some(LoadBalancerConfig {
        max_flows: max_flows?,
        max_nascent_flows: max_nascent_flows?,
        max_services: max_services?,
        max_backends: max_backends?,
        timeouts: timeouts?,
    })
}

fn timeouts(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<TimeoutConfig> {
    let default = TimeoutConfig::default();
    let mut fields = match fields.section(faults, "timeouts") {
        Section::Open(fields) => fields,
        Section::Absent => return Some(default),
        Section::Refused => return None,
    };
    // The flows' clock has steps of a second.
    let mut timeout = |faults: &mut Faults<'_>, key, default| {
        fields.defaulted(faults, &[key], default, |node| {
            value::duration(Duration::from_secs(1)..=LONGEST_WAIT, node)
        })
    };
    let tcp = timeout(faults, "tcp", default.tcp);
    let icmp = timeout(faults, "icmp", default.icmp);
    let udp = timeout(faults, "udp", default.udp);
    let nascent = timeout(faults, "nascent", default.nascent);
    let closed = timeout(faults, "closed", default.closed);
    fields.finish(faults);
    Some(TimeoutConfig { tcp: tcp?, icmp: icmp?, udp: udp?, nascent: nascent?, closed: closed? })
}
