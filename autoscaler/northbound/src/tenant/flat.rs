//! The flat form, that of the original system.

use std::time::Duration;

use ipnet::Ipv4Net;
use sluice_logic::policy::{DEFAULT_POLICIES_WINDOW, default_policies};
use sluice_logic::spec::{Metric, Outbound, Pace, PolicySpec, Proactive, Protocol, Reactive, Signal, Spread};

use super::draft::{self, Draft, GroupDraft, NetworkDraft, ServiceDraft};
use super::{DEFAULT_BUFFER_TIME, DEFAULT_COOL_DOWN, DEFAULT_WINDOW, structured, template};
use crate::diagnostic::Faults;
use crate::policies::warn_of_bare_one;
use crate::reader::Fields;
use crate::value::{self, Complaint};
use crate::yaml::{Node, Spanned};

/// Every key, to tell the forms apart.
pub(super) const KEYS: &[&str] = &[
    "t_name",
    "nw_name",
    "subnet",
    "subnet_addr",
    "subnet_mask",
    "dhcp_start",
    "dhcp_end",
    "min_containers",
    "min_instances",
    "max_containers",
    "max_instances",
    "public_ip",
    "spread",
    "slow_start",
    "policy",
    "threshold",
    "window",
    "buffer_time",
    "cool_down",
    "cpus",
    "request_cost",
    "port",
    "command",
    "should_log",
    "should_encrypt_pwd",
];

pub(super) fn read(faults: &mut Faults<'_>, node: &Node) -> Option<Draft> {
    let mut fields = Fields::open(faults, "the tenant", node)?;
    let name = fields.required(faults, &["t_name"], draft::tenant_name);
    let network = network(faults, &mut fields);
    let group = GroupDraft {
        min: fields.required(faults, &["min_containers", "min_instances"], draft::min_instances),
        max: fields.required(faults, &["max_containers", "max_instances"], draft::max_instances),
        buffer_time: fields.defaulted(faults, &["buffer_time"], DEFAULT_BUFFER_TIME, draft::wait),
        cool_down: fields.defaulted(faults, &["cool_down"], DEFAULT_COOL_DOWN, draft::wait),
        pace: Some(Pace::default()),
    };
    let services = services(faults, &mut fields);
    let policies = policies(faults, &mut fields);
    let template = template::flat(faults, &mut fields);
    let keep_logs = fields.defaulted(faults, &["should_log"], true, value::boolean);
    let encrypt_passwords = draft::encrypt_passwords(faults, &mut fields, "should_encrypt_pwd");
    fields.finish_with(faults, |key| {
        let of_the_other = structured::KEYS.contains(&key);
        of_the_other.then(|| format!("`{key}` is of the structured form, and this file has the flat one"))
    });
    Some(Draft {
        name,
        networks: vec![network],
        outbound: Some(Outbound::None),
        services,
        template,
        group,
        metrics: Some(Vec::new()),
        policies,
        keep_logs,
        encrypt_passwords,
    })
}

fn network(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> NetworkDraft {
    let name = fields.required(faults, &["nw_name"], draft::network_name);
    let subnet = fields.required(faults, &["subnet"], value::subnet);
    let mask = fields.optional(faults, &["subnet_mask"], value::netmask).flatten();
    if let (Some(subnet), Some(mask)) = (subnet, mask) {
        check_mask(faults, subnet, mask);
    }
    let gateway = fields.optional(faults, &["subnet_addr"], value::ipv4);
    let dhcp_start = fields.optional(faults, &["dhcp_start"], value::ipv4);
    let dhcp_end = fields.optional(faults, &["dhcp_end"], value::ipv4);
    NetworkDraft::new(name, subnet, gateway, dhcp_start, dhcp_end)
}

fn check_mask(faults: &mut Faults<'_>, subnet: Spanned<Ipv4Net>, mask: Spanned<u8>) {
    if subnet.value.prefix_len() != mask.value {
        let message = format!(
            "`subnet_mask` is a /{}, but `subnet` on line {} is a /{}",
            mask.value,
            subnet.span.line,
            subnet.value.prefix_len()
        );
        let help = format!("the mask of {} is `{}`", subnet.value, subnet.value.netmask());
        faults.error_with_help(mask.span, message, help);
    }
}

/// The original system announces a bare address: pings and every TCP port go to the instances.
fn services(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Vec<ServiceDraft> {
    let vip = fields.required(faults, &["public_ip"], value::vip);
    let span = vip.map_or(fields.span, |vip| vip.span);
    let spread = fields.defaulted(faults, &["spread"], Spread::default(), draft::spread);
    let slow_start = fields.defaulted(faults, &["slow_start"], Duration::ZERO, draft::slow_start);
    let service = |protocol| ServiceDraft {
        vip,
        protocol: Some(Spanned::new(protocol, span)),
        port: Some(None),
        target_port: Some(None),
        spread,
        slow_start,
    };
    [Protocol::Icmp, Protocol::Tcp].map(service).into()
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Reactive,
    Proactive,
    Dynamic,
    None,
}

/// The keys `policy`, `threshold` and `window`. `None` has been reported.
pub(crate) fn policies(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Vec<Spanned<PolicySpec>>> {
    let policy = fields.required(faults, &["policy"], |node| {
        let choices = [
            ("dynamic", Policy::Dynamic),
            ("reactive", Policy::Reactive),
            ("proactive", Policy::Proactive),
            ("none", Policy::None),
        ];
        match value::text(node).as_deref() {
            Ok(word @ ("static" | "custom")) => Err(Complaint::with_help(
                format!("`{word}` needs a schedule, and the flat form has none"),
                "write the file in the structured form, with a list of `policies`",
            )),
            _ => value::choice(&choices, &[], node),
        }
    });
    let threshold = fields
        .optional(faults, &["threshold"], |node| Ok((value::share(node)?, value::is_bare_one(node))))
        .map(|threshold| {
            threshold.map(|Spanned { value: (share, is_bare_one), span }| {
                if is_bare_one {
                    warn_of_bare_one(faults, "threshold", span);
                }
                Spanned::new(share, span)
            })
        });
    let window = fields.optional(faults, &["window"], draft::window)?;
    let policy = policy?;
    let span = window.map_or(policy.span, |window| window.span);
    let window = window.map(|window| window.value);
    let policies = match (policy.value, threshold?) {
        (Policy::None, None) => Vec::new(),
        (Policy::None, Some(threshold)) => {
            let message = "`threshold` has no effect: `policy` is `none`";
            faults.warning(threshold.span, message, "with `policy: dynamic` the group scales by it");
            Vec::new()
        }
        (Policy::Dynamic | Policy::Reactive | Policy::Proactive, None) => {
            fields.report_missing(faults, "threshold");
            return None;
        }
        (Policy::Reactive, Some(threshold)) => {
            let signal = Signal::mean(Metric::Cpu, window.unwrap_or(DEFAULT_WINDOW));
            vec![PolicySpec::Reactive(Reactive { signal, threshold: threshold.value })]
        }
        (Policy::Proactive, Some(threshold)) => vec![PolicySpec::Proactive(Proactive {
            signal: Signal::mean(Metric::Cpu, window.unwrap_or(DEFAULT_WINDOW)),
            threshold: threshold.value,
            margin: Duration::ZERO,
            shortage_cost: Proactive::default_shortage_cost(),
            change_cost: Proactive::default_change_cost(),
        })],
        (Policy::Dynamic, Some(threshold)) => {
            let signal = Signal::mean(Metric::Cpu, window.unwrap_or(DEFAULT_POLICIES_WINDOW));
            default_policies(&signal, threshold.value)
        }
    };
    Some(policies.into_iter().map(|policy| Spanned::new(policy, span)).collect())
}
