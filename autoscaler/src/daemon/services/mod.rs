//! From a tenant and its instances to what the load balancer should do: pure.

mod order;

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use lb_userspace::net::MacAddr;
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, Service, ServiceKey};
use sluice_logic::group::{Instance, InstanceState};
use sluice_logic::spec::{self, ServiceSpec, TenantSpec};

use super::weights::{Serving, weights};

pub(crate) use self::order::{Claims, Step, steps};

/// A tenant's interface in the transit namespace, as frames to its instances need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Egress {
    /// The interface's index.
    pub(crate) interface: u32,
    /// The interface's own address.
    pub(crate) mac: MacAddr,
}

/// The services of a tenant with the backends that its instances are now.
pub(crate) fn services(
    spec: &TenantSpec,
    instances: &[Instance],
    egress: Egress,
    now: Timestamp,
) -> Vec<Service> {
    let service = |service: &ServiceSpec| Service {
        key: key(service),
        target_port: service.target_port,
        backends: backends(service, instances, egress, now),
    };
    spec.services.iter().map(service).collect()
}

fn backends(service: &ServiceSpec, instances: &[Instance], egress: Egress, now: Timestamp) -> Vec<Backend> {
    let mut backends: Vec<(Backend, &Instance)> =
        (instances.iter()).filter_map(|instance| Some((backend(instance, egress)?, instance))).collect();
    backends.sort_by_key(|(backend, _)| backend.address);
    let active = |(backend, _): &&mut (Backend, &Instance)| backend.state == BackendState::Active;
    let serving: Vec<Serving<'_>> = (backends.iter_mut().filter(active))
        .map(|(_, instance)| Serving { cloud: &instance.cloud, since: instance.since })
        .collect();
    let weights = weights(service, &serving, now);
    for ((backend, _), weight) in backends.iter_mut().filter(active).zip(weights) {
        backend.weight = weight;
    }
    backends.into_iter().map(|(backend, _)| backend).collect()
}

/// The load balancer's name for a service.
pub(crate) fn key(service: &ServiceSpec) -> ServiceKey {
    let protocol = match service.protocol {
        spec::Protocol::Icmp => Protocol::Icmp,
        spec::Protocol::Tcp => Protocol::Tcp,
        spec::Protocol::Udp => Protocol::Udp,
    };
    ServiceKey { vip: service.vip, protocol, port: service.port }
}

/// The load balancer's names for a tenant's services.
pub(crate) fn keys(spec: &TenantSpec) -> BTreeSet<ServiceKey> {
    spec.services.iter().map(key).collect()
}

/// What an instance is to the load balancer; `None` where it is nothing. One that has failed is nothing at
/// once: its flows are forgotten, so their next packet meets an instance that answers it with a reset, and the
/// client learns of it.
fn backend(instance: &Instance, egress: Egress) -> Option<Backend> {
    let state = match instance.state {
        _ if instance.failed => return None,
        InstanceState::InService => BackendState::Active,
        InstanceState::Draining => BackendState::Draining,
        InstanceState::Pending | InstanceState::Terminating | InstanceState::Terminated => return None,
    };
    let reach = Reach::Link {
        interface: egress.interface,
        source_mac: egress.mac,
        mac: MacAddr::of_instance(instance.address),
    };
    Some(Backend { address: IpAddr::V4(instance.address), reach, weight: 1, state })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::daemon::testing::{at, instance, tenant};

    const EGRESS: Egress = Egress { interface: 7, mac: MacAddr([2, 0, 0, 0, 0, 1]) };

    #[test]
    fn each_service_has_each_instance_that_may_carry_flows() {
        let tenant = tenant("demo");
        let instances = [
            instance(1, InstanceState::Pending),
            instance(2, InstanceState::InService),
            instance(3, InstanceState::Draining),
            instance(4, InstanceState::Terminating),
        ];
        let services = services(&tenant, &instances, EGRESS, at(0));
        let keys: Vec<String> = services.iter().map(|service| service.key.to_string()).collect();
        assert_eq!(keys, ["45.45.45.45/icmp", "45.45.45.45:*/tcp"]);
        for service in services {
            let states: Vec<_> =
                service.backends.iter().map(|backend| (backend.address.to_string(), backend.state)).collect();
            assert_eq!(
                states,
                [
                    ("19.0.0.2".to_owned(), BackendState::Active),
                    ("19.0.0.3".to_owned(), BackendState::Draining)
                ]
            );
        }
    }

    #[test]
    fn a_failed_instance_carries_nothing() {
        let mut failed = instance(2, InstanceState::InService);
        failed.failed = true;
        assert!(services(&tenant("demo"), &[failed], EGRESS, at(0))[0].backends.is_empty());
    }

    #[test]
    fn the_order_of_instances_makes_no_difference() {
        let (a, b) = (instance(2, InstanceState::InService), instance(3, InstanceState::InService));
        let tenant = tenant("demo");
        let one = services(&tenant, &[a.clone(), b.clone()], EGRESS, at(0));
        assert_eq!(steps(&services(&tenant, &[b, a], EGRESS, at(0)), &one), []);
    }

    #[test]
    fn a_new_instance_comes_up_slowly_where_that_is_asked() {
        let mut tenant = tenant("demo");
        tenant.services[1].slow_start = Duration::from_mins(1);
        let mut old = instance(2, InstanceState::InService);
        let mut new = instance(3, InstanceState::InService);
        (old.since, new.since) = (at(0), at(1_000));
        let draining = instance(4, InstanceState::Draining);
        let weights_at = |seconds| -> Vec<Vec<u16>> {
            let instances = [draining.clone(), new.clone(), old.clone()];
            let services = services(&tenant, &instances, EGRESS, at(seconds));
            services
                .iter()
                .map(|service| service.backends.iter().map(|backend| backend.weight).collect())
                .collect()
        };
        assert_eq!(weights_at(1_000), [[1, 1, 1], [10, 1, 1]]);
        assert_eq!(weights_at(1_030), [[1, 1, 1], [5, 3, 1]]);
        assert_eq!(weights_at(1_060), [[1, 1, 1], [1, 1, 1]]);
    }
}
