//! The structured form: everything a tenant can say.

use sluice_logic::spec::{Metric, PolicySpec, Protocol, Reactive, Signal};

use super::draft::{self, Draft, GroupDraft, NetworkDraft, ServiceDraft};
use super::{DEFAULT_BUFFER_TIME, DEFAULT_COOL_DOWN, DEFAULT_WINDOW, flat, template};
use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::Node;

/// Every key of the first level, to tell the forms apart.
pub(super) const KEYS: &[&str] =
    &["tenant", "networks", "services", "template", "group", "policies", "logs", "passwords"];

pub(super) fn read(faults: &mut Faults<'_>, node: &Node) -> Option<Draft> {
    let mut fields = Fields::open(faults, "the tenant", node)?;
    let name = fields.required(faults, &["tenant"], draft::tenant_name);
    let networks = some_of(faults, &mut fields, "networks", network);
    let services = some_of(faults, &mut fields, "services", service);
    let template = template::structured(faults, &mut fields);
    let group = group(faults, &mut fields);
    let policies = policies(faults, &mut fields);
    let keep_logs = switch(faults, &mut fields, "logs", "keep");
    let encrypt_passwords = switch(faults, &mut fields, "passwords", "encrypt");
    fields.finish_with(faults, |key| {
        let of_the_other = flat::KEYS.contains(&key);
        of_the_other.then(|| format!("`{key}` is of the flat form, and this file has the structured one"))
    });
    Some(Draft { name, networks, services, template, group: group?, policies, keep_logs, encrypt_passwords })
}

/// A list that must have an item.
fn some_of<T>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: fn(&mut Faults<'_>, &Node) -> Option<T>,
) -> Vec<T> {
    let Some(items) = fields.required_list(faults, name) else { return Vec::new() };
    if items.value.is_empty() {
        faults.error_with_help(items.span, format!("`{name}` is empty"), "a tenant needs at least one");
    }
    items.value.iter().filter_map(|item| read(faults, item)).collect()
}

fn network(faults: &mut Faults<'_>, node: &Node) -> Option<NetworkDraft> {
    let mut fields = Fields::open(faults, "network", node)?;
    let name = fields.required(faults, &["name"], draft::network_name);
    let subnet = fields.required(faults, &["subnet"], value::subnet);
    let gateway = fields.optional(faults, &["gateway"], value::ipv4);
    let (start, end) = match fields.section(faults, "dhcp") {
        Section::Absent => (Some(None), Some(None)),
        Section::Refused => (None, None),
        Section::Open(mut dhcp) => {
            let ends = (
                dhcp.optional(faults, &["start"], value::ipv4),
                dhcp.optional(faults, &["end"], value::ipv4),
            );
            dhcp.finish(faults);
            ends
        }
    };
    fields.finish(faults);
    Some(NetworkDraft::new(name, subnet, gateway, start, end))
}

fn service(faults: &mut Faults<'_>, node: &Node) -> Option<ServiceDraft> {
    let mut fields = Fields::open(faults, "service", node)?;
    let vip = fields.required(faults, &["vip"], value::vip);
    let protocol = fields.required(faults, &["protocol"], |node| {
        value::choice(&[("icmp", Protocol::Icmp), ("tcp", Protocol::Tcp)], &["udp"], node)
    });
    let port = fields.optional(faults, &["port"], value::port);
    fields.finish(faults);
    Some(ServiceDraft { vip, protocol, port })
}

fn group(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<GroupDraft> {
    let mut fields = match fields.section(faults, "group") {
        Section::Open(fields) => fields,
        Section::Refused => return None,
        Section::Absent => {
            fields.report_missing(faults, "group");
            return None;
        }
    };
    let group = GroupDraft {
        min: fields.required(faults, &["min"], draft::min_instances),
        max: fields.required(faults, &["max"], draft::max_instances),
        buffer_time: fields.defaulted(faults, &["buffer_time"], DEFAULT_BUFFER_TIME, draft::wait),
        cool_down: fields.defaulted(faults, &["cool_down"], DEFAULT_COOL_DOWN, draft::wait),
    };
    fields.finish(faults);
    Some(group)
}

fn policies(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Vec<PolicySpec>> {
    match fields.optional_list(faults, "policies")? {
        None => Some(Vec::new()),
        // All are read, so that all faults are found, before the first that is missing ends it.
        Some(items) => {
            let policies: Vec<_> = items.value.iter().map(|item| policy(faults, item)).collect();
            policies.into_iter().collect()
        }
    }
}

/// A policy is a mapping of one key, its kind: `- reactive: {…}`.
fn policy(faults: &mut Faults<'_>, node: &Node) -> Option<PolicySpec> {
    let mut fields = Fields::open(faults, "policy", node)?;
    let reactive = fields.section(faults, "reactive");
    fields.finish_with(faults, |key| {
        let later = ["static", "proactive", "custom", "target_tracking", "step", "simple", "scheduled"];
        later
            .contains(&key)
            .then(|| format!("policies of kind {} come later; today there is `reactive`", quote(key)))
    });
    match reactive {
        Section::Open(fields) => self::reactive(faults, fields),
        Section::Refused => None,
        Section::Absent => {
            faults.error_with_help(
                node.span,
                "a policy needs its kind",
                "write `- reactive: {threshold: 60%}`",
            );
            None
        }
    }
}

fn reactive(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<PolicySpec> {
    let metric = fields.defaulted(faults, &["metric"], Metric::Cpu, value::metric);
    let threshold = fields.required(faults, &["threshold"], |node| match metric {
        // What is not known is not judged; the metric itself has been reported.
        None => Ok(f64::NAN),
        Some(ref metric) if metric.is_share() => value::share(node),
        Some(_) => rate(node),
    });
    let window = fields.defaulted(faults, &["window"], DEFAULT_WINDOW, draft::window);
    fields.finish(faults);
    let signal = Signal::mean(metric?, window?);
    Some(PolicySpec::Reactive(Reactive { signal, threshold: threshold?.value }))
}

fn rate(node: &Node) -> Result<f64, Complaint> {
    if value::text(node).is_ok_and(|text| text.trim_end().ends_with('%')) {
        let message = "only `cpu` is measured in percent";
        return Err(Complaint::with_help(message, "write a number in the metric's unit"));
    }
    match value::number(node)? {
        number if number > 0.0 => Ok(number),
        number => Err(Complaint::new(format!("{number} is not more than 0"))),
    }
}

/// A section of one switch that is on by default.
fn switch(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    section: &'static str,
    name: &'static str,
) -> Option<bool> {
    match fields.section(faults, section) {
        Section::Absent => Some(true),
        Section::Refused => None,
        Section::Open(mut fields) => {
            let on = fields.defaulted(faults, &[name], true, value::boolean);
            fields.finish(faults);
            on
        }
    }
}
