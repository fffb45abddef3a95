//! In which order the load balancer's services become what all tenants' files ask for: pure.
//!
//! A backend answers from one port for one service only, so an edit that moves ports or VIPs about may have to take
//! before it can give. What is taken first, over all tenants, is what a service no longer has by the files in force
//! ([`Claims::releases`]): from then on no packet reaches a tenant that the service is not of. What a tenant's own
//! services give each other is then ordered within the tenant ([`steps`]), where a cycle is opened by taking the
//! backends from one service for the moment until all are applied.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use lb_userspace::service::{Service, ServiceKey};
use sluice_logic::spec::{TenantName, TenantSpec};

use super::key;

/// A change of the load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Makes the service what is given; one without backends refuses its clients for a moment.
    Apply(Service),
    /// Removes the service.
    Remove(ServiceKey),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(service) if service.backends.is_empty() => {
                write!(f, "{} is taken from what had it", service.key)
            }
            Self::Apply(service) => write!(f, "{} has {} backends", service.key, service.backends.len()),
            Self::Remove(key) => write!(f, "{key}, which no tenant has, is removed"),
        }
    }
}

/// Which tenant each service is of, by the files in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    by_service: BTreeMap<ServiceKey, Claim>,
    /// Whether all tenants are known: otherwise a service that none of them has may be of another one.
    are_all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    tenant: TenantName,
    target_port: Option<u16>,
    /// The tenant's first network, on which its backends are.
    backends: Option<Ipv4Net>,
}

impl Claims {
    /// The claims of all tenants in force. No two of them claim the same service: their files would have been refused.
    pub(crate) fn of<'a>(tenants: impl Iterator<Item = &'a TenantSpec>, are_all: bool) -> Self {
        let claims = tenants.flat_map(|tenant| {
            let backends = tenant.networks.first().map(|network| network.subnet);
            tenant.services.iter().map(move |service| {
                let claim = Claim { tenant: tenant.name.clone(), target_port: service.target_port, backends };
                (key(service), claim)
            })
        });
        Self { by_service: claims.collect(), are_all }
    }

    /// Whether the service is the tenant's.
    pub(crate) fn is_of(&self, key: &ServiceKey, tenant: &TenantName) -> bool {
        self.by_service.get(key).is_some_and(|claim| claim.tenant == *tenant)
    }

    /// What the services that are `there` must give up: one that no tenant has is removed, and one that has another
    /// tenant's backends, or translates to another port than its tenant's file says, loses them.
    pub(crate) fn releases(&self, there: &[Service]) -> Vec<Step> {
        there.iter().filter_map(|service| self.release(service)).collect()
    }

    fn release(&self, service: &Service) -> Option<Step> {
        let Some(claim) = self.by_service.get(&service.key) else {
            return self.are_all.then_some(Step::Remove(service.key));
        };
        let is_own = |address: IpAddr| match (address, claim.backends) {
            (IpAddr::V4(address), Some(subnet)) => subnet.contains(&address),
            _ => false,
        };
        let is_right = service.target_port == claim.target_port
            && service.backends.iter().all(|backend| is_own(backend.address));
        (!is_right && !service.backends.is_empty()).then(|| {
            let Service { key, closing, .. } = *service;
            Step::Apply(Service { key, target_port: claim.target_port, closing, backends: Vec::new() })
        })
    }
}

/// The steps by which a tenant's services become the `wanted` ones, where `there` are its services as they are: removals
/// first, then each service once nothing else has what it takes.
pub(crate) fn steps(wanted: &[Service], there: &[Service]) -> Vec<Step> {
    let is_wanted = |key: &ServiceKey| wanted.iter().any(|service| service.key == *key);
    let (kept, removed): (Vec<_>, Vec<_>) = there.iter().partition(|service| is_wanted(&service.key));
    let mut steps: Vec<Step> = removed.iter().map(|service| Step::Remove(service.key)).collect();
    let mut current: BTreeMap<ServiceKey, Service> =
        kept.into_iter().map(|service| (service.key, service.clone())).collect();
    let mut pending: Vec<&Service> = wanted.iter().filter(|service| !there.contains(service)).collect();
    while let Some(first) = pending.first().copied() {
        let clear = pending.iter().position(|next| blockers(next, &current).next().is_none());
        let Some(place) = clear else {
            open_cycle(first, &mut pending, &mut current, &mut steps);
            continue;
        };
        let next = pending.remove(place);
        current.insert(next.key, next.clone());
        steps.push(Step::Apply(next.clone()));
    }
    steps
}

/// The steps by which services that are there as `wanted` are made sure of, where an earlier daemon has left them: it may have
/// been ended when their backends had their new states and a table did not. Packets notice nothing where all is as it should
/// be.
pub(crate) fn confirmations(
    wanted: &[Service],
    there: &[Service],
    is_confirmed: impl Fn(&ServiceKey) -> bool,
) -> impl Iterator<Item = Step> {
    let is_left = move |service: &&Service| there.contains(service) && !is_confirmed(&service.key);
    wanted.iter().filter(is_left).cloned().map(Step::Apply)
}

/// The services that have what `next` takes.
fn blockers<'a>(
    next: &'a Service,
    current: &'a BTreeMap<ServiceKey, Service>,
) -> impl Iterator<Item = &'a Service> {
    current.values().filter(|other| next.clashes_with(other))
}

/// Takes the backends from what is in the way of `first`, where that is still to be applied; a service that is already as
/// wanted and in the way all the same contradicts it, which the load balancer is left to say.
fn open_cycle(
    first: &Service,
    pending: &mut Vec<&Service>,
    current: &mut BTreeMap<ServiceKey, Service>,
    steps: &mut Vec<Step>,
) {
    let in_the_way: Vec<ServiceKey> = blockers(first, current).map(|service| service.key).collect();
    let mut opened = false;
    for key in in_the_way {
        let Some(to_come) = pending.iter().find(|service| service.key == key) else { continue };
        let empty = Service { backends: Vec::new(), ..(*to_come).clone() };
        current.insert(key, empty.clone());
        steps.push(Step::Apply(empty));
        opened = true;
    }
    if !opened {
        steps.push(Step::Apply(first.clone()));
        pending.retain(|service| service.key != first.key);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use lb_userspace::net::MacAddr;
    use lb_userspace::service::{Backend, BackendState, Protocol, Reach};

    use super::*;
    use crate::daemon::testing::{name, tenant};

    /// A service of TCP at 45.45.45.`vip` whose backends are 19.0.`subnet`.2 and .3.
    fn service(vip: u8, port: u16, target_port: u16, subnet: u8) -> Service {
        let backend = |host| Backend {
            address: Ipv4Addr::new(19, 0, subnet, host).into(),
            reach: Reach::Link { interface: 7, source_mac: MacAddr([2; 6]), mac: MacAddr([4; 6]) },
            weight: 1,
            state: BackendState::Active,
        };
        Service {
            key: ServiceKey {
                vip: Ipv4Addr::new(45, 45, 45, vip).into(),
                protocol: Protocol::Tcp,
                port: Some(port),
            },
            target_port: (target_port != port).then_some(target_port),
            closing: false,
            backends: vec![backend(2), backend(3)],
        }
    }

    /// A tenant on 19.0.`subnet`.0/24 with these services.
    fn owner(text: &str, subnet: u8, services: &[Service]) -> TenantSpec {
        let mut spec = tenant(text);
        spec.networks[0].subnet = format!("19.0.{subnet}.0/24").parse().unwrap();
        let asked = |service: &Service| {
            let mut asked = spec.services[1];
            (asked.vip, asked.port, asked.target_port) =
                (service.key.vip, service.key.port, service.target_port);
            asked
        };
        spec.services = services.iter().map(asked).collect();
        spec
    }

    /// Carries the steps out, as the load balancer does: what clashes with what is there is refused.
    fn carry_out(steps: &[Step], there: &[Service]) -> Vec<Service> {
        let mut current: BTreeMap<ServiceKey, Service> =
            there.iter().map(|service| (service.key, service.clone())).collect();
        for step in steps {
            match step {
                Step::Remove(key) => {
                    current.remove(key);
                }
                Step::Apply(service) => {
                    let clash = current.values().find(|other| service.clashes_with(other));
                    assert_eq!(clash, None, "{service:?} is refused");
                    current.insert(service.key, service.clone());
                }
            }
        }
        current.into_values().collect()
    }

    /// Whatever is there becomes whatever is wanted; the number of steps.
    fn converges(there: &[Service], wanted: &[Service]) -> usize {
        let steps = steps(wanted, there);
        let mut wanted = wanted.to_vec();
        wanted.sort_by_key(|service| service.key);
        assert_eq!(carry_out(&steps, there), wanted);
        steps.len()
    }

    #[test]
    fn any_edit_of_ports_converges() {
        let of = |ports: &[(u16, u16)]| -> Vec<Service> {
            ports.iter().map(|&(port, target)| service(1, port, target, 0)).collect()
        };
        let before = of(&[(80, 8080), (81, 8081)]);
        assert_eq!(converges(&before, &before), 0, "nothing is touched where nothing differs");
        assert_eq!(
            converges(&before, &of(&[(80, 8081), (81, 8080)])),
            3,
            "a swap takes one service's for a moment"
        );
        assert_eq!(
            converges(&before, &of(&[(443, 8081), (80, 9090), (81, 8080)])),
            3,
            "a chain takes nothing"
        );
        assert_eq!(converges(&before, &of(&[(80, 9090), (443, 8080), (81, 8081)])), 2);
        assert_eq!(converges(&before, &of(&[(82, 8080)])), 3, "removals come first");
        let three = of(&[(80, 8080), (81, 8081), (82, 8082)]);
        assert_eq!(converges(&three, &of(&[(80, 8081), (81, 8082), (82, 8080)])), 4, "a ring of three");
    }

    #[test]
    fn what_an_earlier_daemon_left_is_made_sure_of_once() {
        let there = [service(1, 80, 80, 0), service(1, 81, 81, 0), service(1, 82, 82, 0)];
        let wanted = [service(1, 80, 8080, 0), there[1].clone(), there[2].clone()];
        let of = |is_confirmed: fn(&ServiceKey) -> bool| -> Vec<Step> {
            steps(&wanted, &there).into_iter().chain(confirmations(&wanted, &there, is_confirmed)).collect()
        };
        let changed = Step::Apply(wanted[0].clone());
        let again = Step::Apply(there[2].clone());
        assert_eq!(of(|key| key.port == Some(81)), [changed.clone(), again]);
        assert_eq!(of(|_| true), vec![changed]);
    }

    #[test]
    fn every_permutation_of_five_ports_converges() {
        let ports: Vec<u16> = (8080..8085).collect();
        let mut seed = fastrand::Rng::with_seed(7);
        let before: Vec<Service> = ports.iter().map(|&port| service(1, port - 8000, port, 0)).collect();
        for _ in 0..500 {
            let mut targets = ports.clone();
            seed.shuffle(&mut targets);
            let mut wanted: Vec<Service> =
                ports.iter().zip(targets).map(|(&port, target)| service(1, port - 8000, target, 0)).collect();
            seed.shuffle(&mut wanted);
            wanted.truncate(seed.usize(1..=5));
            converges(&before, &wanted);
        }
    }

    #[test]
    fn two_tenants_exchange_vips_and_no_packet_meets_a_third() {
        let there = [service(1, 80, 80, 1), service(2, 80, 80, 2)];
        let (a, b) = (service(2, 80, 80, 1), service(1, 80, 80, 2));
        let files = [owner("a", 1, std::slice::from_ref(&a)), owner("b", 2, std::slice::from_ref(&b))];
        let claims = Claims::of(files.iter(), true);
        assert!(claims.is_of(&a.key, &name("a")) && !claims.is_of(&a.key, &name("b")));
        let released = carry_out(&claims.releases(&there), &there);
        assert!(released.iter().all(|service| service.backends.is_empty()), "{released:?}");
        for order in [[&a, &b], [&b, &a]] {
            let mut current = released.clone();
            for wanted in order {
                let own: Vec<Service> =
                    current.iter().filter(|service| service.key == wanted.key).cloned().collect();
                current = carry_out(&steps(std::slice::from_ref(wanted), &own), &current);
            }
            assert_eq!(
                current.iter().map(|s| s.key).collect::<BTreeSet<_>>(),
                BTreeSet::from([a.key, b.key])
            );
            assert!(current.contains(&a) && current.contains(&b), "{current:?}");
        }
    }

    #[test]
    fn only_what_the_files_no_longer_say_is_released() {
        let there = [service(1, 80, 8080, 1), service(1, 81, 81, 1), service(3, 80, 80, 2)];
        let same = Claims::of([owner("a", 1, &there[..2]), owner("b", 2, &there[2..])].iter(), true);
        assert_eq!(same.releases(&there), []);
        let fewer =
            Claims::of([owner("a", 1, &[service(1, 80, 8081, 1)]), owner("b", 2, &there[2..])].iter(), true);
        let empty = Service { backends: Vec::new(), ..service(1, 80, 8081, 1) };
        assert_eq!(fewer.releases(&there), [Step::Apply(empty), Step::Remove(there[1].key)]);
    }
}
