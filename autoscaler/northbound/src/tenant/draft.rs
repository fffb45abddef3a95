//! A tenant file as far as it could be read: what is missing here has been reported.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use sluice_logic::spec::{
    GroupSpec, MetricSpec, NetworkSpec, Outbound, Pace, PolicySpec, Protocol, ServiceSpec, Spread,
    TemplateSpec, TenantName, TenantSpec,
};

use super::Places;
use crate::diagnostic::{Faults, quote};
use crate::reader::Fields;
use crate::value::{self, Complaint};
use crate::yaml::{Node, Span, Spanned};

pub(super) struct Draft {
    pub(super) name: Option<Spanned<TenantName>>,
    pub(super) networks: Vec<NetworkDraft>,
    pub(super) outbound: Option<Outbound>,
    pub(super) services: Vec<ServiceDraft>,
    pub(super) template: Option<TemplateSpec>,
    pub(super) group: GroupDraft,
    pub(super) metrics: Option<Vec<MetricSpec>>,
    pub(super) policies: Option<Vec<Spanned<PolicySpec>>>,
    pub(super) keep_logs: Option<bool>,
    pub(super) encrypt_passwords: Option<bool>,
}

pub(super) struct NetworkDraft {
    pub(super) name: Option<Spanned<String>>,
    pub(super) subnet: Option<Spanned<Ipv4Net>>,
    pub(super) gateway: Option<Spanned<Ipv4Addr>>,
    pub(super) dhcp_start: Option<Spanned<Ipv4Addr>>,
    pub(super) dhcp_end: Option<Spanned<Ipv4Addr>>,
    /// The range stands in the file; otherwise it is the default.
    pub(super) dhcp_written: bool,
}

#[derive(Clone, Copy)]
pub(super) struct ServiceDraft {
    pub(super) vip: Option<Spanned<IpAddr>>,
    pub(super) protocol: Option<Spanned<Protocol>>,
    #[expect(clippy::option_option, reason = "a port that was reported is not one that was left out")]
    pub(super) port: Option<Option<Spanned<u16>>>,
    #[expect(clippy::option_option, reason = "a port that was reported is not one that was left out")]
    pub(super) target_port: Option<Option<Spanned<u16>>>,
    pub(super) spread: Option<Spread>,
    pub(super) slow_start: Option<Duration>,
}

pub(super) struct GroupDraft {
    pub(super) min: Option<Spanned<u32>>,
    pub(super) max: Option<Spanned<u32>>,
    pub(super) buffer_time: Option<Duration>,
    pub(super) cool_down: Option<Duration>,
    pub(super) pace: Option<Pace>,
}

impl Draft {
    /// The whole of it; `None` when something is missing.
    pub(super) fn finish(self, faults: &Faults<'_>) -> Option<(TenantSpec, Places)> {
        let name = self.name?;
        let place = |span: Span| faults.place(span);
        let places = Places {
            name: place(name.span),
            subnets: self.networks.iter().map(|net| Some(place(net.subnet?.span))).collect::<Option<_>>()?,
            vips: self
                .services
                .iter()
                .map(|service| Some(place(service.vip?.span)))
                .collect::<Option<_>>()?,
            policies: self.policies.iter().flatten().map(|policy| place(policy.span)).collect(),
        };
        let spec = TenantSpec {
            name: name.value,
            networks: self.networks.into_iter().map(NetworkDraft::finish).collect::<Option<_>>()?,
            outbound: self.outbound?,
            services: self.services.iter().map(ServiceDraft::finish).collect::<Option<_>>()?,
            template: self.template?,
            group: self.group.finish()?,
            metrics: self.metrics?,
            policies: self.policies?.into_iter().map(|policy| policy.value).collect(),
            keep_logs: self.keep_logs?,
            encrypt_passwords: self.encrypt_passwords?,
        };
        Some((spec, places))
    }
}

impl NetworkDraft {
    /// Fills in what follows from the subnet: the gateway is its first address, and every other one is given to
    /// instances.
    #[expect(clippy::option_option, reason = "a value that was reported is not a value that was left out")]
    pub(super) fn new(
        name: Option<Spanned<String>>,
        subnet: Option<Spanned<Ipv4Net>>,
        gateway: Option<Option<Spanned<Ipv4Addr>>>,
        dhcp_start: Option<Option<Spanned<Ipv4Addr>>>,
        dhcp_end: Option<Option<Spanned<Ipv4Addr>>>,
    ) -> Self {
        let dhcp_written = [dhcp_start, dhcp_end].iter().any(|end| matches!(end, Some(Some(_))));
        let hosts = subnet.map(|net| Spanned::new(hosts(net.value), net.span));
        let or = |written: Option<Option<Spanned<Ipv4Addr>>>, pick: fn((Ipv4Addr, Ipv4Addr)) -> Ipv4Addr| {
            written?.or_else(|| hosts.map(|hosts| Spanned::new(pick(hosts.value), hosts.span)))
        };
        let gateway = or(gateway, |(first, _)| first);
        let first_free = match (gateway, hosts) {
            (Some(gateway), Some(hosts)) if gateway.value == hosts.value.0 => {
                |(first, _)| Ipv4Addr::from(u32::from(first) + 1)
            }
            _ => |(first, _): (Ipv4Addr, Ipv4Addr)| first,
        };
        let dhcp_start = or(dhcp_start, first_free);
        let dhcp_end = or(dhcp_end, |(_, last)| last);
        Self { name, subnet, gateway, dhcp_start, dhcp_end, dhcp_written }
    }

    fn finish(self) -> Option<NetworkSpec> {
        Some(NetworkSpec {
            name: self.name?.value,
            subnet: self.subnet?.value,
            gateway: self.gateway?.value,
            dhcp_start: self.dhcp_start?.value,
            dhcp_end: self.dhcp_end?.value,
        })
    }
}

/// The first and the last address of a subnet that a host can have; a /30 is the smallest that is read.
pub(super) fn hosts(subnet: Ipv4Net) -> (Ipv4Addr, Ipv4Addr) {
    let first = u32::from(subnet.network()).saturating_add(1);
    let last = u32::from(subnet.broadcast()).saturating_sub(1);
    (first.into(), last.into())
}

impl ServiceDraft {
    pub(super) fn finish(&self) -> Option<ServiceSpec> {
        Some(ServiceSpec {
            vip: self.vip?.value,
            protocol: self.protocol?.value,
            port: self.port?.map(|port| port.value),
            target_port: self.target_port?.map(|port| port.value),
            spread: self.spread?,
            slow_start: self.slow_start?,
        })
    }
}

impl GroupDraft {
    fn finish(self) -> Option<GroupSpec> {
        Some(GroupSpec {
            min: self.min?.value,
            max: self.max?.value,
            buffer_time: self.buffer_time?,
            cool_down: self.cool_down?,
            pace: self.pace?,
        })
    }
}

// The readers that both forms share.

pub(super) fn tenant_name(node: &Node) -> Result<TenantName, Complaint> {
    let text = value::text(node)?;
    TenantName::try_from(text.clone()).map_err(|_| {
        let what = "1 to 32 of a-z, 0-9, `-` and `_`, the first a letter or digit";
        Complaint::new(format!("{} is not a tenant name: {what}", quote(&text)))
    })
}

/// Whether guests get passwords as salted hashes only. That they do not is taken, with a warning.
pub(super) fn encrypt_passwords(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
) -> Option<bool> {
    let Some(written) = fields.optional(faults, &[key], value::boolean)? else { return Some(true) };
    if !written.value {
        let message = "guests get their users' passwords in clear: who can read a guest's seed can read them";
        faults.warning(written.span, message, "with 1 they get salted hashes, which do as well");
    }
    Some(written.value)
}

pub(super) fn network_name(node: &Node) -> Result<String, Complaint> {
    value::name(32, node)
}

/// At least one: with no instance there is no load that could ask for one.
pub(crate) fn min_instances(node: &Node) -> Result<u32, Complaint> {
    match value::whole(0..=MOST_INSTANCES, node)? {
        0 => Err(Complaint::with_help(
            "0 is out of range: an empty group has no load from which it could grow again",
            "the smallest is 1",
        )),
        min => Ok(min),
    }
}

pub(super) fn max_instances(node: &Node) -> Result<u32, Complaint> {
    value::whole(1..=MOST_INSTANCES, node)
}

/// A Maglev table of 65,537 slots keeps shares within 1 % up to a hundredth of as many backends (NSDI'16, 5.3);
/// this is far above, and below what a typing error makes.
const MOST_INSTANCES: u32 = 10_000;

pub(super) fn wait(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::ZERO..=value::LONGEST_WAIT, node)
}

pub(super) fn spread(node: &Node) -> Result<Spread, Complaint> {
    value::choice(&[("by_instance", Spread::ByInstance), ("by_cloud", Spread::ByCloud)], &[], node)
}

/// AWS: up to 15 minutes. An hour leaves room.
pub(super) fn slow_start(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::ZERO..=Duration::from_hours(1), node)
}

/// Samples are kept for so long; a day is the longest that the large clouds offer.
pub(super) fn window(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::from_millis(100)..=Duration::from_hours(24), node)
}

/// The kernel's smallest quota is 1 ms of each 100 ms.
pub(super) fn cpus(node: &Node) -> Result<f64, Complaint> {
    value::number_within(0.01..=1024.0, " cores", node)
}

pub(super) fn request_cost(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::ZERO..=Duration::from_mins(1), node)
}

pub(super) fn start_timeout(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::from_secs(1)..=Duration::from_hours(1), node)
}
