//! The structured form: everything a tenant can say.

use sluice_logic::spec::{Outbound, PolicySpec};

use super::draft::{self, Draft, GroupDraft, NetworkDraft};
use super::{DEFAULT_BUFFER_TIME, DEFAULT_COOL_DOWN, flat, metrics, service, template};
use crate::diagnostic::Faults;
use crate::policies::{self, Limits};
use crate::reader::{Fields, Section};
use crate::value;
use crate::yaml::{Node, Spanned};

/// Every key of the first level, to tell the forms apart.
pub(super) const KEYS: &[&str] = &[
    "tenant",
    "networks",
    "outbound",
    "services",
    "template",
    "group",
    "metrics",
    "policies",
    "logs",
    "passwords",
];

pub(super) fn read(faults: &mut Faults<'_>, node: &Node) -> Option<Draft> {
    let mut fields = Fields::open(faults, "the tenant", node)?;
    let name = fields.required(faults, &["tenant"], draft::tenant_name);
    let networks = some_of(faults, &mut fields, "networks", network);
    let outbound = fields.defaulted(faults, &["outbound"], Outbound::None, |node| {
        value::choice(&[("none", Outbound::None), ("nat", Outbound::Nat)], &[], node)
    });
    let services = some_of(faults, &mut fields, "services", service::read).concat();
    let encrypt_passwords = passwords(faults, &mut fields);
    let template = template::structured(faults, &mut fields, encrypt_passwords.unwrap_or(true));
    let group = group(faults, &mut fields);
    let metrics = metrics::metrics(faults, &mut fields);
    let policies = policies(faults, &mut fields, group.as_ref());
    let keep_logs = switch(faults, &mut fields, "logs", "keep");
    fields.finish_with(faults, |key| {
        let of_the_other = flat::KEYS.contains(&key);
        of_the_other.then(|| format!("`{key}` is of the flat form, and this file has the structured one"))
    });
    Some(Draft {
        name,
        networks,
        outbound,
        services,
        template,
        group: group?,
        metrics,
        policies,
        keep_logs,
        encrypt_passwords,
    })
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
        pace: policies::pace(faults, &mut fields),
    };
    fields.finish(faults);
    Some(group)
}

fn policies(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    group: Option<&GroupDraft>,
) -> Option<Vec<Spanned<PolicySpec>>> {
    let limits = Limits { min: group.and_then(|group| group.min), max: group.and_then(|group| group.max) };
    match fields.optional_list(faults, "policies")? {
        None => Some(Vec::new()),
        Some(items) => policies::policies(faults, items.value, limits),
    }
}

/// A section of one switch that is on by default.
fn passwords(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<bool> {
    match fields.section(faults, "passwords") {
        Section::Absent => Some(true),
        Section::Refused => None,
        Section::Open(mut fields) => {
            let encrypt = draft::encrypt_passwords(faults, &mut fields, "encrypt");
            fields.finish(faults);
            encrypt
        }
    }
}

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
