//! What tenants must not say twice: names, VIPs and subnets; and what a host has no room for.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::SignedDuration;
use sluice_logic::samples::MOST_SAMPLES;
use sluice_logic::spec::{Metric, ProviderKind, Signal, VipFault};

use super::Tenant;
use crate::diagnostic::{Diagnostic, Place, Severity};

/// A tenant claims what another has claimed before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The index of the later claim in the list given.
    pub offender: usize,
    /// The fault, in the offender's file; it names the other file too.
    pub diagnostic: Diagnostic,
}

/// Compares tenants with one another. Who comes first in the list has the older claim.
#[must_use]
pub fn cross_check(tenants: &[&Tenant]) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (offender, later) in tenants.iter().enumerate() {
        for earlier in &tenants[..offender] {
            let mut claims = Claims { earlier, later, found: Vec::new() };
            claims.names();
            claims.subnets();
            claims.vips();
            conflicts.extend(claims.found.into_iter().map(|diagnostic| Conflict { offender, diagnostic }));
        }
    }
    conflicts
}

/// Finds the tenants that claim addresses of the management network, for their networks or as VIPs.
#[must_use]
pub fn check_reserved(tenants: &[&Tenant], reserved: Ipv4Net) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (offender, tenant) in tenants.iter().enumerate() {
        for (network, place) in tenant.spec.networks.iter().zip(&tenant.places.subnets) {
            if overlap(network.subnet, reserved) {
                let message =
                    format!("the subnet {} overlaps the management network {reserved}", network.subnet);
                let help =
                    Some("choose another one here, or `management.subnet` in the host file".to_owned());
                let diagnostic = Diagnostic::at(&tenant.file, place, Severity::Error, message, help);
                conflicts.push(Conflict { offender, diagnostic });
            }
        }
        let within = |vip: IpAddr| {
            within(vip, reserved).then(|| format!("the VIP {vip} is in the management network {reserved}"))
        };
        let help = "a VIP is an address that clients reach over the uplink; or choose another \
                    `management.subnet` in the host file";
        conflicts
            .extend(check_vips(tenant, within, help).map(|diagnostic| Conflict { offender, diagnostic }));
    }
    conflicts
}

/// Finds the VIPs that are the host's own, by the addresses that its interfaces have and that are no VIPs.
#[must_use]
pub fn check_host_addresses(tenants: &[&Tenant], addresses: &[(String, Ipv4Net)]) -> Vec<Conflict> {
    let own = |vip: IpAddr| {
        let IpAddr::V4(vip) = vip else { return None };
        let addresses = addresses.iter().map(|(interface, net)| (interface.as_str(), *net));
        VipFault::of(vip, addresses).map(|fault| fault.to_string())
    };
    let faults = |(offender, tenant): (usize, &&Tenant)| {
        let found: Vec<_> =
            check_vips(tenant, own, "give the service an address that no machine has").collect();
        found.into_iter().map(move |diagnostic| Conflict { offender, diagnostic })
    };
    tenants.iter().enumerate().flat_map(faults).collect()
}

/// The faults of a tenant's VIPs, one for each place in its file.
fn check_vips(
    tenant: &Tenant,
    fault: impl Fn(IpAddr) -> Option<String>,
    help: &str,
) -> impl Iterator<Item = Diagnostic> {
    let mut judged = Vec::new();
    let services = tenant.spec.services.iter().zip(&tenant.places.vips);
    services.filter_map(move |(service, place)| {
        if judged.contains(&place) {
            return None;
        }
        judged.push(place);
        let help = Some(help.to_owned());
        Some(Diagnostic::at(&tenant.file, place, Severity::Error, fault(service.vip)?, help))
    })
}

/// Finds the policies that look further back than an instance's samples are kept where one is taken every
/// `sample_interval`: the rest of the window would be missing, and not known to be. What is pushed by users comes at a
/// pace of its own, and is not judged.
#[must_use]
pub fn check_windows(tenants: &[&Tenant], sample_interval: Duration) -> Vec<Conflict> {
    let most = u32::try_from(MOST_SAMPLES).unwrap_or(u32::MAX);
    let kept = sample_interval.saturating_mul(most);
    let measured = |signal: &&&Signal| !matches!(signal.metric, Metric::Custom(_));
    let mut conflicts = Vec::new();
    for (offender, tenant) in tenants.iter().enumerate() {
        for (policy, place) in tenant.spec.policies.iter().zip(&tenant.places.policies) {
            let window = policy.signals().iter().filter(measured).map(|signal| signal.window).max();
            let Some(window) = window.filter(|window| *window > kept) else { continue };
            let message = format!(
                "a window of {} is longer than samples are kept to look back on: {most} of them, one in {}, are {}",
                words(window),
                words(sample_interval),
                words(kept)
            );
            let help = Some("shorten `window`, or raise `sample_interval` in the host file".to_owned());
            let diagnostic = Diagnostic::at(&tenant.file, place, Severity::Error, message, help);
            conflicts.push(Conflict { offender, diagnostic });
        }
    }
    // `policy: dynamic` is two policies with one window.
    conflicts.dedup();
    conflicts
}

/// Finds the tenants whose template says nothing of any of the clouds there are, by the kinds of these: their instances can
/// be started nowhere. The host file may be another host's, so these are warnings.
#[must_use]
pub fn check_clouds(tenants: &[&Tenant], kinds: &[ProviderKind]) -> Vec<Conflict> {
    let names = |kinds: &mut dyn Iterator<Item = ProviderKind>| {
        let names: Vec<String> = kinds.map(|kind| format!("`{}`", kind.as_str())).collect();
        names.join(" and ")
    };
    let mut conflicts = Vec::new();
    for (offender, tenant) in tenants.iter().enumerate() {
        let template = &tenant.spec.template;
        if kinds.is_empty() || kinds.iter().any(|kind| template.is_for(*kind)) {
            continue;
        }
        let all = [ProviderKind::Netns, ProviderKind::Docker, ProviderKind::Libvirt];
        let message = format!(
            "no instance can be started: the template is for {} only, and the host file has clouds of {}",
            names(&mut all.into_iter().filter(|kind| template.is_for(*kind))),
            names(&mut all.into_iter().filter(|kind| kinds.contains(kind)))
        );
        let help = Some(
            "add a cloud of that kind to the host file, or what an instance is on another to `template`"
                .to_owned(),
        );
        let place = &tenant.places.name;
        let diagnostic = Diagnostic::at(&tenant.file, place, Severity::Warning, message, help);
        conflicts.push(Conflict { offender, diagnostic });
    }
    conflicts
}

fn words(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| "for ever".to_owned(), |duration| format!("{duration:#}"))
}

struct Claims<'a> {
    earlier: &'a Tenant,
    later: &'a Tenant,
    found: Vec<Diagnostic>,
}

impl Claims<'_> {
    fn report(&mut self, place: &Place, message: String, help: &str) {
        let help = Some(help.to_owned());
        self.found.push(Diagnostic::at(&self.later.file, place, Severity::Error, message, help));
    }

    /// The other tenant, as a message names it.
    fn other(&self) -> String {
        let Tenant { spec, file, .. } = self.earlier;
        format!("tenant `{}` ({file})", spec.name)
    }

    fn names(&mut self) {
        let (earlier, later) = (self.earlier, self.later);
        if earlier.spec.name == later.spec.name {
            let message = format!(
                "the tenant name `{}` is used twice: in {} and in {}",
                later.spec.name, earlier.file, later.file
            );
            self.report(&later.places.name, message, "a name is unique on the host");
        }
    }

    fn subnets(&mut self) {
        let (earlier, later) = (self.earlier, self.later);
        for (mine, place) in later.spec.networks.iter().zip(&later.places.subnets) {
            for theirs in earlier.spec.networks.iter().filter(|theirs| overlap(mine.subnet, theirs.subnet)) {
                let message =
                    format!("the subnet {} overlaps {} of {}", mine.subnet, theirs.subnet, self.other());
                self.report(place, message, "give each tenant addresses of its own");
            }
        }
        for (mine, place) in later.spec.networks.iter().zip(&later.places.subnets) {
            let theirs = earlier.spec.services.iter().map(|service| service.vip);
            if let Some(vip) = unique(theirs).into_iter().find(|vip| within(*vip, mine.subnet)) {
                let message =
                    format!("the subnet {} has the VIP {vip} of {} in it", mine.subnet, self.other());
                self.report(place, message, "choose a subnet without it");
            }
        }
    }

    fn vips(&mut self) {
        let (earlier, later) = (self.earlier, self.later);
        let mut judged = Vec::new();
        for (mine, place) in later.spec.services.iter().zip(&later.places.vips) {
            if judged.contains(&place) {
                continue;
            }
            judged.push(place);
            if earlier.spec.services.iter().any(|theirs| theirs.vip == mine.vip) {
                let message = format!("the VIP {} is taken by {}", mine.vip, self.other());
                self.report(place, message, "give each tenant a VIP of its own");
            }
            if let Some(theirs) = earlier.spec.networks.iter().find(|net| within(mine.vip, net.subnet)) {
                let message =
                    format!("the VIP {} is in the subnet {} of {}", mine.vip, theirs.subnet, self.other());
                self.report(place, message, "a VIP is an address outside every tenant's subnet");
            }
        }
    }
}

fn unique(vips: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut vips: Vec<IpAddr> = vips.collect();
    vips.sort();
    vips.dedup();
    vips
}

fn within(address: IpAddr, subnet: Ipv4Net) -> bool {
    matches!(address, IpAddr::V4(address) if subnet.contains(&address))
}

/// Whether two subnets share an address: one holds the other.
pub(super) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
