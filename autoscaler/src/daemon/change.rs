//! What an edit of a tenant's file changes: pure.

use std::net::Ipv4Addr;

use sluice_logic::spec::{NetworkSpec, TenantSpec};

/// Why a running tenant, whose instances have these addresses, can't be changed like that; `None` where it can.
///
/// Instances carry their networks' addresses and the first one's gateway as default route until they end, so the first
/// network stays what it is as long as the tenant does, and any other as long as it is in the file. Networks may come,
/// and go: one that is not in the file any more is removed when no instance is on it.
pub(crate) fn refused(from: &TenantSpec, to: &TenantSpec, addresses: &[Ipv4Addr]) -> Option<String> {
    let (was, is) = (from.networks.first()?, to.networks.first()?);
    if (&was.name, was.subnet, was.gateway) != (&is.name, is.subnet, is.gateway) {
        return Some(format!(
            "the first network of a tenant that exists can't change: it is {}, the file says {}; delete the file, wait for \
             `tenant_removed` in `sluice events`, and write it again",
            named(was),
            named(is)
        ));
    }
    to.networks.iter().find_map(|network| match from.networks.iter().find(|old| old.name == network.name) {
        Some(old) if (old.subnet, old.gateway) != (network.subnet, network.gateway) => Some(format!(
            "a network that exists can't change: it is {}, the file says {}; take it out of the file and write the other \
             one under a name of its own, with addresses that no instance has",
            named(old),
            named(network)
        )),
        Some(_) => None,
        None => {
            let held = addresses.iter().find(|address| network.subnet.contains(*address))?;
            Some(format!(
                "the network {} can't come yet: an instance has the address {held} on a network that is being removed; \
                 `sluice drain` the instances that have addresses of it, then write the file again",
                named(network)
            ))
        }
    })
}

fn named(network: &NetworkSpec) -> String {
    format!("`{}`, {} with the gateway {}", network.name, network.subnet, network.gateway)
}

/// What has changed, for people.
pub(crate) fn describe(from: &TenantSpec, to: &TenantSpec) -> String {
    let parts = [
        (from.networks != to.networks, "networks (instances made from now on are on them)"),
        (from.outbound != to.outbound, "outbound"),
        (from.services != to.services, "services"),
        (from.group != to.group, "group"),
        (from.policies != to.policies, "policies"),
        (from.template != to.template, "template (instances made from now on have it)"),
        (from.keep_logs != to.keep_logs || from.encrypt_passwords != to.encrypt_passwords, "options"),
    ];
    let changed: Vec<&str> =
        parts.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect();
    format!("changed: {}", changed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::tenant;

    #[test]
    fn limits_and_services_may_change_and_the_subnet_may_not() {
        let was = tenant("demo");
        let mut is = was.clone();
        is.group.max = 9;
        is.template.cpus = 2.0;
        assert_eq!(refused(&was, &is, &[]), None);
        assert_eq!(describe(&was, &is), "changed: group, template (instances made from now on have it)");
        is.networks[0].subnet = "20.0.0.0/24".parse().unwrap();
        let reason = refused(&was, &is, &[]).unwrap();
        assert!(reason.contains("19.0.0.0/24") && reason.contains("20.0.0.0/24"), "{reason}");
    }

    fn network(name: &str, third: u8) -> NetworkSpec {
        let address = |last| Ipv4Addr::new(19, 0, third, last);
        NetworkSpec {
            name: name.to_owned(),
            subnet: format!("19.0.{third}.0/24").parse().unwrap(),
            gateway: address(1),
            dhcp_start: address(2),
            dhcp_end: address(254),
        }
    }

    #[test]
    fn other_networks_may_come_and_go_and_the_first_one_stays_first() {
        let one = tenant("demo");
        let mut two = one.clone();
        two.networks.push(network("back", 1));
        let addresses = [Ipv4Addr::new(19, 0, 0, 2), Ipv4Addr::new(19, 0, 1, 2)];
        assert_eq!(refused(&one, &two, &addresses[..1]), None);
        assert_eq!(refused(&two, &one, &addresses), None);
        let mut other_order = two.clone();
        other_order.networks.reverse();
        assert!(refused(&two, &other_order, &addresses).unwrap().contains("first network"));
        let mut moved = two.clone();
        moved.networks[1] = network("back", 2);
        assert!(refused(&two, &moved, &addresses).unwrap().contains("`back`, 19.0.1.0/24"));
    }

    #[test]
    fn addresses_of_a_network_that_is_being_removed_are_not_given_to_another() {
        let one = tenant("demo");
        let mut renamed = one.clone();
        renamed.networks.push(network("rear", 1));
        let reason = refused(&one, &renamed, &[Ipv4Addr::new(19, 0, 1, 2)]).unwrap();
        assert!(reason.contains("19.0.1.2") && reason.contains("sluice drain"), "{reason}");
        assert_eq!(refused(&one, &renamed, &[Ipv4Addr::new(19, 0, 0, 2)]), None);
    }
}
