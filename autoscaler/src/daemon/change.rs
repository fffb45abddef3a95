//! What an edit of a tenant's file changes: pure.

use sluice_logic::spec::TenantSpec;

/// Why a running tenant can't be changed like that; `None` where it can.
///
/// Instances carry their subnet's address and its gateway as default route until they end, so these stay what
/// they are as long as the tenant does.
pub(crate) fn refused(from: &TenantSpec, to: &TenantSpec) -> Option<String> {
    let (was, is) = (from.networks.first()?, to.networks.first()?);
    if (was.subnet, was.gateway) == (is.subnet, is.gateway) {
        return None;
    }
    Some(format!(
        "the subnet of a tenant that exists can't change: it is {} with the gateway {}, the file says {} with {}; \
         delete the file, wait for `tenant_removed` in `sluice events`, and write it again",
        was.subnet, was.gateway, is.subnet, is.gateway
    ))
}

/// What has changed, for people.
pub(crate) fn describe(from: &TenantSpec, to: &TenantSpec) -> String {
    let parts = [
        (from.networks != to.networks, "networks"),
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
        assert_eq!(refused(&was, &is), None);
        assert_eq!(describe(&was, &is), "changed: group, template (instances made from now on have it)");
        is.networks[0].subnet = "20.0.0.0/24".parse().unwrap();
        let reason = refused(&was, &is).unwrap();
        assert!(reason.contains("19.0.0.0/24") && reason.contains("20.0.0.0/24"), "{reason}");
    }
}
