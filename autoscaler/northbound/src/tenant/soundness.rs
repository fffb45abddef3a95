//! What single values can't show: whether a tenant file agrees with itself.

use std::net::{IpAddr, Ipv4Addr};

use sluice_logic::spec::{Protocol, ServiceSpec};

use super::draft::{Draft, GroupDraft, NetworkDraft, ServiceDraft, hosts};
use crate::diagnostic::Faults;
use crate::yaml::Spanned;

/// Each network is an interface of every instance, of which its provider has only so many.
const MOST_NETWORKS: usize = 8;

/// Reports all that contradicts itself; what could not be read is not judged.
pub(super) fn check(faults: &mut Faults<'_>, draft: &Draft) {
    limits(faults, &draft.group);
    for network in &draft.networks {
        gateway(faults, network);
        dhcp_range(faults, network);
        room(faults, network, draft.group.max);
    }
    distinct_networks(faults, &draft.networks);
    services(faults, &draft.services);
    vips(faults, draft);
}

fn limits(faults: &mut Faults<'_>, group: &GroupDraft) {
    let (Some(min), Some(max)) = (group.min, group.max) else { return };
    if min.value > max.value {
        let message =
            format!("the group's min is {}, its max on line {} is {}", min.value, max.span.line, max.value);
        faults.error_with_help(min.span, message, "the min can't be more than the max");
    }
}

fn gateway(faults: &mut Faults<'_>, network: &NetworkDraft) {
    let (Some(subnet), Some(gateway)) = (network.subnet, network.gateway) else { return };
    if let Some(why) = not_a_host(network, gateway.value) {
        let (first, last) = hosts(subnet.value);
        let message = format!("the gateway {} is {why}", gateway.value);
        faults.error_with_help(gateway.span, message, format!("give one of {first} to {last}"));
    }
}

/// Why no host of the network can have the address.
fn not_a_host(network: &NetworkDraft, address: Ipv4Addr) -> Option<String> {
    let subnet = network.subnet?.value;
    if !subnet.contains(&address) {
        Some(format!("not in the subnet {subnet}"))
    } else if address == subnet.network() {
        Some(format!("the network address of {subnet}"))
    } else if address == subnet.broadcast() {
        Some(format!("the broadcast address of {subnet}"))
    } else {
        None
    }
}

fn dhcp_range(faults: &mut Faults<'_>, network: &NetworkDraft) {
    let (Some(start), Some(end)) = (network.dhcp_start, network.dhcp_end) else { return };
    let mut sound = true;
    for (what, address) in [("start", start), ("end", end)] {
        if let (Some(why), Some(subnet)) = (not_a_host(network, address.value), network.subnet) {
            let (first, last) = hosts(subnet.value);
            let message = format!("the DHCP range's {what} {} is {why}", address.value);
            faults.error_with_help(address.span, message, format!("the subnet has {first} to {last}"));
            sound = false;
        }
    }
    if start.value > end.value {
        let message = format!("the DHCP range's end {} is before its start {}", end.value, start.value);
        faults.error_with_help(end.span, message, format!("the start is on line {}", start.span.line));
    }
    if let Some(gateway) = network.gateway
        && sound
        && network.dhcp_written
        && (start.value..=end.value).contains(&gateway.value)
    {
        let message = format!("the DHCP range has the gateway {} in it", gateway.value);
        faults.warning(start.span, message, "no instance will get that address");
    }
}

/// How many addresses the range has for instances; `None` where it has none that make sense.
fn addresses(network: &NetworkDraft) -> Option<u32> {
    let (start, end) = (network.dhcp_start?.value, network.dhcp_end?.value);
    let all = u32::from(end).checked_sub(u32::from(start))?.checked_add(1)?;
    let gateway = network.gateway.is_some_and(|gateway| (start..=end).contains(&gateway.value));
    Some(all - u32::from(gateway))
}

/// Whether every instance gets an address, and one to spare: a draining instance keeps its own.
fn room(faults: &mut Faults<'_>, network: &NetworkDraft, max: Option<Spanned<u32>>) {
    let (Some(max), Some(room), Some(end)) = (max, addresses(network), network.dhcp_end) else { return };
    if room < max.value {
        let message = format!(
            "the DHCP range has {room} addresses for instances, and the group's max on line {} is {}",
            max.span.line, max.value
        );
        faults.error_with_help(end.span, message, "widen the range or lower the max");
    } else if room == max.value {
        let message =
            format!("the DHCP range has no address to spare beyond the group's max of {}", max.value);
        faults.warning(
            end.span,
            message,
            "a draining instance keeps its address, so its successor may have to wait for one",
        );
    }
}

fn distinct_networks(faults: &mut Faults<'_>, networks: &[NetworkDraft]) {
    if let Some(name) = networks.get(MOST_NETWORKS).and_then(|network| network.name.as_ref()) {
        let message = format!("this is the network after the {MOST_NETWORKS}th");
        faults.error_with_help(name.span, message, format!("a tenant has at most {MOST_NETWORKS}"));
    }
    for (index, network) in networks.iter().enumerate() {
        let earlier = &networks[..index];
        if let Some(name) = &network.name
            && let Some(twin) =
                earlier.iter().filter_map(|other| other.name.as_ref()).find(|other| other.value == name.value)
        {
            let message =
                format!("the network `{}` comes twice; it is on line {} already", name.value, twin.span.line);
            faults.error_with_help(name.span, message, "give each network a name of its own");
        }
        if let Some(subnet) = network.subnet
            && let Some(twin) = (earlier.iter().filter_map(|other| other.subnet))
                .find(|other| super::conflicts::overlap(other.value, subnet.value))
        {
            let message =
                format!("the subnet {} overlaps {} on line {}", subnet.value, twin.value, twin.span.line);
            faults.error_with_help(subnet.span, message, "give each network addresses of its own");
        }
    }
}

fn services(faults: &mut Faults<'_>, services: &[ServiceDraft]) {
    for (index, service) in services.iter().enumerate() {
        ports(faults, service);
        let (Some(spec), Some(vip)) = (service.finish(), service.vip) else { continue };
        let here = service.port.flatten().map_or(vip.span, |port| port.span);
        let earlier =
            services[..index].iter().filter_map(|other| Some((other.finish()?, other.vip?.span.line)));
        let earlier: Vec<(ServiceSpec, usize)> = earlier.collect();
        if let Some((_, line)) = earlier.iter().find(|(other, _)| other.is_twin_of(&spec)) {
            let message = format!("this service comes twice; it is on line {line} already");
            faults.error_with_help(here, message, "remove one of the two");
        } else if let Some((_, line)) = earlier.iter().find(|(other, _)| other.answers_clash_with(&spec)) {
            let message = format!(
                "the instances' answers for this service can't be told from those for the one on line {line}: they leave \
                 from the same port"
            );
            faults.error_with_help(here, message, "give each a port of the instances of its own (`ports`)");
        }
    }
}

fn ports(faults: &mut Faults<'_>, service: &ServiceDraft) {
    let (Some(port), Some(target)) = (service.port, service.target_port) else { return };
    let given = [port, target].into_iter().flatten().next();
    if let (Some(protocol), Some(given)) = (service.protocol, given)
        && protocol.value == Protocol::Icmp
    {
        faults.error_with_help(given.span, "ICMP has no ports", "remove it");
    } else if let (None, Some(target)) = (port, target) {
        let message = "a service of every port has no single port that could become another";
        faults.error_with_help(target.span, message, "give the `port` that clients address, too");
    }
}

fn vips(faults: &mut Faults<'_>, draft: &Draft) {
    let mut vips: Vec<Spanned<IpAddr>> = draft.services.iter().filter_map(|service| service.vip).collect();
    // The flat form makes several services of one address.
    vips.dedup();
    for vip in vips {
        let IpAddr::V4(address) = vip.value else { continue };
        let subnets = draft.networks.iter().filter_map(|network| network.subnet);
        for subnet in subnets.filter(|subnet| subnet.value.contains(&address)) {
            let message = format!(
                "the VIP {address} is in the tenant's own subnet {} on line {}",
                subnet.value, subnet.span.line
            );
            faults.error_with_help(
                vip.span,
                message,
                "a VIP is an address of the uplink's side, outside every tenant's subnet",
            );
        }
    }
}
