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

pub(crate) use self::order::{Claims, Step, confirmations, steps};

/// A tenant's interface in the transit namespace, as frames to its instances need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Egress {
    /// The interface's index.
    pub(crate) interface: u32,
    /// The interface's own address.
    pub(crate) mac: MacAddr,
}

/// Whether nothing is to serve a group's clients any more: its tenant leaves, or no instance is desired. Then draining
/// instances take no new flow, also where none is in service, so that their drain ends.
pub(crate) fn closes(leaves: bool, desired: u32) -> bool {
    leaves || desired == 0
}

/// The services of a tenant with the backends that its instances are now; `closing` as [`closes`] says.
pub(crate) fn services(
    spec: &TenantSpec,
    instances: &[Instance],
    egress: Egress,
    closing: bool,
    now: Timestamp,
) -> Vec<Service> {
    let service = |service: &ServiceSpec| {
        let (key, target_port) = (key(service), service.target_port);
        let backends = backends(service, instances, egress, closing, now);
        Service { key, target_port, closing, backends }
    };
    spec.services.iter().map(service).collect()
}

fn backends(
    service: &ServiceSpec,
    instances: &[Instance],
    egress: Egress,
    closing: bool,
    now: Timestamp,
) -> Vec<Backend> {
    let mut backends: Vec<(Backend, &Instance)> =
        (instances.iter()).filter_map(|instance| Some((backend(instance, egress)?, instance))).collect();
    backends.sort_by_key(|(backend, _)| backend.address);
    let some_active = backends.iter().any(|(backend, _)| backend.state == BackendState::Active);
    let takes_new_flows = |(backend, _): &&mut (Backend, &Instance)| match backend.state {
        BackendState::Active => true,
        BackendState::Draining => !some_active && !closing,
        BackendState::Stopping | BackendState::Down => false,
    };
    let serving: Vec<Serving<'_>> = (backends.iter_mut().filter(takes_new_flows))
        .map(|(backend, instance)| Serving { cloud: &instance.cloud, since: serves_since(backend, instance) })
        .collect();
    let weights = weights(service, &serving, now);
    for ((backend, _), weight) in backends.iter_mut().filter(takes_new_flows).zip(weights) {
        backend.weight = weight;
    }
    backends.into_iter().map(|(backend, _)| backend).collect()
}

/// Since when it has served; one that drains no later than it was made, as it does not come up anew.
fn serves_since(backend: &Backend, instance: &Instance) -> Timestamp {
    if backend.state == BackendState::Active { instance.since } else { instance.created }
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
        InstanceState::Terminating if instance.stopping => BackendState::Stopping,
        InstanceState::Pending | InstanceState::Terminating | InstanceState::Terminated => return None,
    };
    let reach = Reach::Link {
        interface: egress.interface,
        source_mac: egress.mac,
        mac: MacAddr::of_instance(instance.address),
    };
    let weight = u16::from(state != BackendState::Stopping);
    Some(Backend { address: IpAddr::V4(instance.address), reach, weight, state })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sluice_logic::group::Event;

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
        let services = services(&tenant, &instances, EGRESS, false, at(0));
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
        assert!(services(&tenant("demo"), &[failed], EGRESS, false, at(0))[0].backends.is_empty());
    }

    #[test]
    fn draining_instances_serve_while_none_is_in_service_and_some_are_desired() {
        let mut tenant = tenant("demo");
        tenant.services[1].spread = spec::Spread::ByCloud;
        let draining = |number, cloud: &str| {
            let mut draining = instance(number, InstanceState::Draining);
            draining.cloud = spec::CloudName::new(cloud);
            draining
        };
        let mut failed = instance(1, InstanceState::InService);
        failed.failed = true;
        let pending = instance(5, InstanceState::Pending);
        let mut instances = vec![failed, draining(2, "a"), draining(3, "a"), draining(4, "b"), pending];
        let of = |instances: &[Instance], closing| {
            services(&tenant, instances, EGRESS, closing, at(1_000)).remove(1)
        };
        let weights = |service: &Service| -> Vec<u16> {
            service.backends.iter().map(|backend| backend.weight).collect()
        };
        let alone = of(&instances, closes(false, 1));
        assert!(alone.draining_serve());
        assert_eq!(weights(&alone), [1, 1, 2]);
        for closing in [closes(true, 1), closes(false, 0)] {
            let closed = of(&instances, closing);
            assert!(!closed.draining_serve());
            assert_eq!(weights(&closed), [1, 1, 1]);
        }
        instances[4].state = InstanceState::InService;
        assert!(!of(&instances, closes(false, 1)).draining_serve());
    }

    #[test]
    fn an_instance_that_stops_keeps_its_flows_and_takes_none_whatever_the_others_are() {
        let mut stopping = instance(2, InstanceState::Draining);
        stopping.apply(Event::Terminate, at(9)).unwrap();
        for others in
            [&[][..], &[instance(3, InstanceState::InService)], &[instance(3, InstanceState::Draining)]]
        {
            let instances = [&[stopping.clone()], others].concat();
            let service = services(&tenant("demo"), &instances, EGRESS, false, at(9)).remove(1);
            let first = service.backends[0];
            assert_eq!((first.state, first.weight), (BackendState::Stopping, 0));
            assert!(service.backends[1..].iter().all(|other| other.weight == 1));
        }
        assert!(!services(&tenant("demo"), &[stopping], EGRESS, false, at(9))[1].draining_serve());
    }

    #[test]
    fn the_order_of_instances_makes_no_difference() {
        let (a, b) = (instance(2, InstanceState::InService), instance(3, InstanceState::InService));
        let tenant = tenant("demo");
        let one = services(&tenant, &[a.clone(), b.clone()], EGRESS, false, at(0));
        assert_eq!(steps(&services(&tenant, &[b, a], EGRESS, false, at(0)), &one), []);
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
            let services = services(&tenant, &instances, EGRESS, false, at(seconds));
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
