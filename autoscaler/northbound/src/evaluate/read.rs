//! Reads a question.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;
use jiff::{SignedDuration, Timestamp};
use sluice_logic::group::{Instance, InstanceId, InstanceState};
use sluice_logic::outlook::Outlook;
use sluice_logic::samples::Source;
use sluice_logic::spec::{CloudName, GroupSpec, Metric, PolicySpec};

use super::{Past, Request, Written, first_twin, instance, unnamed};
use crate::diagnostic::{Faults, quote};
use crate::policies::{self, Limits};
use crate::reader::{Fields, Section};
use crate::tenant::{DEFAULT_BUFFER_TIME, DEFAULT_COOL_DOWN, min_instances, policy_by_name};
use crate::value::{self, Complaint};
use crate::yaml::{Kind, Node, Spanned};

/// How often samples are taken where it is not written: the pace of the clouds' own metrics.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);

/// A group as it is asked about.
struct Asked {
    spec: GroupSpec,
    limits: Limits,
    desired: u32,
    instances: Vec<Instance>,
    last_action: Option<Timestamp>,
}

pub(super) fn request(faults: &mut Faults<'_>, node: &Node) -> Option<Request> {
    let mut fields = Fields::open(faults, "the question", node)?;
    let time = fields.required(faults, &["time"], absolute).map(|time| time.value);
    // What is written relative to the time is judged without it too.
    let now = time.unwrap_or(Timestamp::UNIX_EPOCH);
    let group = group(faults, &mut fields, now);
    let interval = fields.defaulted(faults, &["sample_interval"], DEFAULT_INTERVAL, |node| {
        value::duration(Duration::from_millis(100)..=Duration::from_hours(1), node)
    });
    let limits = group.as_ref().map_or(Limits { min: None, max: None }, |group| group.limits);
    let policies = policies(faults, &mut fields, limits);
    let samples = list(faults, &mut fields, "samples", |faults, node| sample(faults, node, now));
    let past = list(faults, &mut fields, "history", |faults, node| past(faults, node, now));
    let outlooks = list(faults, &mut fields, "outlooks", |faults, node| outlook(faults, node, now));
    fields.finish(faults);
    let (group, past) = (group?, past?);
    let policies: Vec<PolicySpec> = policies?.into_iter().map(|policy| policy.value).collect();
    let outlooks = placed(faults, node, &policies, outlooks?)?;
    Some(Request {
        group: group.spec,
        desired: group.desired,
        instances: group.instances,
        last_action: group.last_action,
        policies,
        outlooks,
        samples: samples?,
        sample_interval: interval?,
        past,
        time: time?,
    })
}

/// A list, or one by its name, as the two forms of a tenant file have them. `None` has been reported.
fn policies(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    limits: Limits,
) -> Option<Vec<Spanned<PolicySpec>>> {
    if !fields.has("policy") {
        let items = fields.required_list(faults, "policies")?;
        return policies::policies(faults, items.value, limits);
    }
    if let Some(list) = fields.take(faults, &["policies"]) {
        faults.error_with_help(
            list.span,
            "`policy` and `policies` exclude each other",
            "remove one of the two",
        );
    }
    policy_by_name(faults, fields)
}

/// The items of a list that may be left out. `None` has been reported.
fn list<T>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl Fn(&mut Faults<'_>, &Node) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(items) = fields.optional_list(faults, name)? else { return Some(Vec::new()) };
    let read: Vec<Option<T>> = items.value.iter().map(|item| read(faults, item)).collect();
    read.into_iter().collect()
}

fn group(faults: &mut Faults<'_>, fields: &mut Fields<'_>, now: Timestamp) -> Option<Asked> {
    let mut fields = match fields.section(faults, "group") {
        Section::Open(fields) => fields,
        Section::Refused => return None,
        Section::Absent => {
            fields.report_missing(faults, "group");
            return None;
        }
    };
    let wait = |node: &Node| value::duration(Duration::ZERO..=value::LONGEST_WAIT, node);
    let count = |node: &Node| value::whole(0..=10_000, node);
    let min = fields.required(faults, &["min"], min_instances);
    let max = fields.required(faults, &["max"], count);
    let buffer_time = fields.defaulted(faults, &["buffer_time"], DEFAULT_BUFFER_TIME, wait);
    let cool_down = fields.defaulted(faults, &["cool_down"], DEFAULT_COOL_DOWN, wait);
    let pace = policies::pace(faults, &mut fields);
    let desired = fields.optional(faults, &["desired"], count);
    let last_action = fields.optional(faults, &["last_action"], |node| moment(node, now));
    let instances = fields.take(faults, &["instances"]);
    if instances.is_none() {
        fields.report_missing(faults, "instances");
    }
    let instances = instances.and_then(|node| self::instances(faults, node.value, now));
    fields.finish(faults);
    let (low, high) = (min?, max?);
    if low.value > high.value {
        let message = format!("the min is {}, the max {}", low.value, high.value);
        faults.error_with_help(low.span, message, "the min can't be more than the max");
    }
    let instances = instances?;
    let capacity = instances.iter().filter(|instance| instance.is_capacity()).count();
    let desired = desired?.map_or(u32::try_from(capacity).unwrap_or(u32::MAX), |desired| desired.value);
    Some(Asked {
        spec: GroupSpec {
            min: low.value,
            max: high.value,
            buffer_time: buffer_time?,
            cool_down: cool_down?,
            pace: pace?,
        },
        limits: Limits { min, max },
        desired,
        instances,
        last_action: last_action?.map(|at| at.value),
    })
}

/// A number of instances that are in service since long ago, or a list.
fn instances(faults: &mut Faults<'_>, node: &Node, now: Timestamp) -> Option<Vec<Instance>> {
    let Kind::Sequence(items) = &node.kind else {
        return match value::whole(0..=10_000, node) {
            Ok(count) => Some(unnamed(count, now)),
            Err(complaint) => {
                let help = "write their number, or a list of `{id: i-1, state: in_service}`".to_owned();
                faults.complain(node.span, "instances", Complaint { help: Some(help), ..complaint });
                None
            }
        };
    };
    let read: Vec<_> = items.iter().map(|item| one_instance(faults, item, now)).collect();
    let read: Vec<Instance> = read.into_iter().collect::<Option<_>>()?;
    if let Some(twin) = first_twin(&read) {
        faults.error_with_help(
            node.span,
            format!("the instance `{twin}` comes twice"),
            "give each an id of its own",
        );
        return None;
    }
    Some(read)
}

fn one_instance(faults: &mut Faults<'_>, node: &Node, now: Timestamp) -> Option<Instance> {
    const STATES: [(&str, InstanceState); 5] = [
        ("in_service", InstanceState::InService),
        ("pending", InstanceState::Pending),
        ("draining", InstanceState::Draining),
        ("terminating", InstanceState::Terminating),
        ("terminated", InstanceState::Terminated),
    ];
    let mut fields = Fields::open(faults, "instance", node)?;
    let id = fields.required(faults, &["id"], |node| value::name(64, node));
    let state = fields
        .defaulted(faults, &["state"], InstanceState::InService, |node| value::choice(&STATES, &[], node));
    let since = fields.optional(faults, &["since"], |node| moment(node, now));
    let failed = fields.defaulted(faults, &["failed"], false, value::boolean);
    fields.finish(faults);
    let known = instance(InstanceId::from_label(id?.value), now);
    let since = since?.map_or(known.since, |since| since.value);
    Some(Instance { state: state?, since, created: since, failed: failed?, ..known })
}

/// An instance in service since then; what no policy looks at is made up.
pub(super) fn serving(id: InstanceId, since: Timestamp) -> Instance {
    Instance {
        id,
        cloud: CloudName::default(),
        rank: 0,
        address: Ipv4Addr::UNSPECIFIED,
        state: InstanceState::InService,
        created: since,
        since,
        live_flows: None,
        failed: false,
        stopping: false,
    }
}

fn sample(faults: &mut Faults<'_>, node: &Node, now: Timestamp) -> Option<Written> {
    let mut fields = Fields::open(faults, "sample", node)?;
    let metric = fields.required(faults, &["metric"], value::metric);
    let number =
        fields.required(faults, &["value"], |node| amount(metric.as_ref().map(|it| &it.value), node));
    let at = fields.defaulted(faults, &["at"], now, |node| moment(node, now));
    let id = fields.optional(faults, &["instance"], |node| value::name(64, node));
    let of_group = fields.defaulted(faults, &["of"], false, |node| {
        value::choice(&[("instances", false), ("group", true)], &[], node)
    });
    fields.finish(faults);
    let source = match (id?, of_group?) {
        (Some(id), true) => {
            faults.error_with_help(
                id.span,
                "a sample is an instance's or the group's",
                "remove one of the two",
            );
            return None;
        }
        (Some(id), false) => Some(Source::Instance(InstanceId::from_label(id.value))),
        (None, true) => Some(Source::Group),
        (None, false) => None,
    };
    Some(Written { source, metric: metric?.value, at: at?, value: number?.value, line: node.span.line })
}

/// Any number, also one that no sample can be: whether it is taken is for the samples to say. A share may be
/// written in percent.
fn amount(metric: Option<&Metric>, node: &Node) -> Result<f64, Complaint> {
    let text = value::text(node)?;
    let text = text.trim();
    let percent = text.strip_suffix('%').filter(|_| metric.is_none_or(Metric::is_share));
    let bare = percent.unwrap_or(text).trim().trim_start_matches('.');
    let written = percent.unwrap_or(text).trim();
    let number: Option<f64> =
        written.parse().ok().or_else(|| bare.parse().ok().filter(|it: &f64| !it.is_finite()));
    match (number, percent) {
        (Some(number), Some(_)) => Ok(number / 100.0),
        (Some(number), None) => Ok(number),
        (None, _) => Err(Complaint::new(format!("expected a number, found {}", quote(text)))),
    }
}

fn past(faults: &mut Faults<'_>, node: &Node, now: Timestamp) -> Option<Past> {
    let count = |node: &Node| value::whole(0..=10_000, node);
    let mut fields = Fields::open(faults, "history", node)?;
    let at = fields.required(faults, &["at"], |node| moment(node, now));
    let recommended = fields.optional(faults, &["recommended"], count);
    let from = fields.optional(faults, &["from"], count);
    let to = fields.optional(faults, &["to"], count);
    let cooldown = fields.optional(faults, &["cooldown"], |node| {
        value::duration(Duration::ZERO..=Duration::from_hours(7 * 24), node)
    });
    fields.finish(faults);
    let (from, to) = (from?, to?);
    if from.is_some() != to.is_some() {
        faults.error_with_help(node.span, "a change has both `from` and `to`", "write both, or neither");
        return None;
    }
    let change = from.zip(to).map(|(from, to)| (from.value, to.value));
    let recommended = recommended?.map(|count| count.value);
    Some(Past { at: at?.value, recommended, change, cooldown: cooldown?.map(|cooldown| cooldown.value) })
}

/// What is expected, for the policy of that number, from 1.
fn outlook(faults: &mut Faults<'_>, node: &Node, now: Timestamp) -> Option<(u32, Outlook)> {
    let mut fields = Fields::open(faults, "outlook", node)?;
    let policy = fields.required(faults, &["policy"], |node| value::whole(1..=1000, node));
    let outlook = match fields.optional(faults, &["silent"], value::text) {
        // A silent forecast expects nothing: what else is written is unknown here.
        Some(Some(reason)) => Some(Outlook::Silent { reason: reason.value }),
        Some(None) => expected(faults, &mut fields, now),
        None => None,
    };
    fields.finish(faults);
    Some((policy?.value, outlook?))
}

fn expected(faults: &mut Faults<'_>, fields: &mut Fields<'_>, now: Timestamp) -> Option<Outlook> {
    let amount = |node: &Node| value::number_within(0.0..=1e300, "", node);
    let demand = fields.required(faults, &["demand"], amount);
    let at = fields.defaulted(faults, &["at"], now, |node| moment(node, now));
    let ahead = fields.optional(faults, &["ahead"], amount);
    let kept = fields.optional(faults, &["kept"], amount);
    let number = |written: Option<Spanned<f64>>| written.map(|number| number.value);
    let (ahead, kept) = (number(ahead?), number(kept?));
    Some(Outlook::Expected { demand: demand?.value, at: at?, error: None, ahead, kept })
}

/// Outlooks beside their policies.
fn placed(
    faults: &mut Faults<'_>,
    node: &Node,
    policies: &[PolicySpec],
    outlooks: Vec<(u32, Outlook)>,
) -> Option<Vec<Option<Outlook>>> {
    let mut placed = vec![None; policies.len()];
    for (policy, outlook) in outlooks {
        let index = usize::try_from(policy).ok()?.checked_sub(1)?;
        let Some(place) = placed.get_mut(index) else {
            let message = format!("there is no policy {policy} for an outlook: there are {}", policies.len());
            faults.error_with_help(node.span, message, "policies are numbered from 1, in their order");
            return None;
        };
        *place = Some(outlook);
    }
    Some(placed)
}

/// A moment as RFC 3339 has it.
fn absolute(node: &Node) -> Result<Timestamp, Complaint> {
    let text = value::text(node)?;
    text.parse().map_err(|_| {
        let message = format!("expected a time, found {}", quote(&text));
        Complaint::with_help(message, "write it as `2026-11-25T08:00:00Z`")
    })
}

/// A moment, or a time before or after `now`: `-5m`, `+1h`.
fn moment(node: &Node, now: Timestamp) -> Result<Timestamp, Complaint> {
    let text = value::text(node)?;
    let (sign, span) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(span), _) => (-1, span),
        (_, Some(span)) => (1, span),
        _ => return absolute(node),
    };
    let span: Option<SignedDuration> = SpanParser::new().parse_duration(span).ok();
    span.and_then(|span| span.checked_mul(sign)).and_then(|span| now.checked_add(span).ok()).ok_or_else(
        || {
            let message = format!("expected a time before or after `time`, found {}", quote(&text));
            Complaint::with_help(message, "write it as `-5m`, `-90s` or `+1h`")
        },
    )
}
