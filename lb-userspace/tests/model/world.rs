//! The services that random packets meet, and how their backends change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use lb_common::abi::{Address, EndpointKey};
use lb_userspace::net::MacAddr;
use lb_userspace::service::{self, BackendState, Protocol, Reach, ServiceKey};

use super::flow::Member;
use crate::bed::Bed;

pub(crate) const VIP_4: Ipv4Addr = Ipv4Addr::new(45, 45, 45, 45);
pub(crate) const VIP_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x45, 0, 0, 0, 0, 0x45);
pub(crate) const TENANT_MAC: [u8; 6] = crate::bed::TENANT_MAC.0;

pub(crate) struct World {
    pub(crate) services: Vec<Service>,
}

pub(crate) struct Service {
    pub(crate) vip: IpAddr,
    pub(crate) port: Option<u16>,
    protocol: u8,
    pub(crate) target_port: Option<u16>,
    pub(crate) backends: Vec<Backend>,
    /// Whether it has had other backends.
    pub(crate) has_changed: bool,
    /// Whether its backends are no other service's, so that they can change alone.
    changes: bool,
}

pub(crate) struct Backend {
    pub(crate) mac: [u8; 6],
    pub(crate) address: Vec<u8>,
    role: Role,
    /// How often it has been added.
    life: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Absent,
    Active { weight: u16 },
    Draining { weight: u16 },
}

impl Service {
    /// The backends that are its.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let is_there = |(_, backend): &(usize, &Backend)| backend.role != Role::Absent;
        self.backends.iter().enumerate().filter(is_there).map(|(place, backend)| (place, backend.life))
    }

    pub(crate) fn lives(&self, (place, life): Member) -> bool {
        let backend = &self.backends[place];
        backend.role != Role::Absent && backend.life == life
    }

    pub(crate) fn is_served(&self) -> bool {
        self.members().next().is_some()
    }

    /// Who may own a slot: an active backend, or while none is a draining one; `None` where there is no backend.
    pub(crate) fn takers(&self) -> Vec<Option<Member>> {
        let is_active = |&(place, _): &Member| matches!(self.backends[place].role, Role::Active { .. });
        let mut takers: Vec<_> = self.members().filter(is_active).map(Some).collect();
        if takers.is_empty() {
            takers = self.members().map(Some).collect();
        }
        if takers.is_empty() { vec![None] } else { takers }
    }

    /// The member that has this address.
    pub(crate) fn member(&self, address: &[u8]) -> Option<Member> {
        self.members().find(|&(place, _)| self.backends[place].address == address)
    }

    /// As the programs name it.
    pub(crate) fn endpoint(&self) -> EndpointKey {
        let vip = match self.vip {
            IpAddr::V4(vip) => Address::v4(vip.octets()),
            IpAddr::V6(vip) => Address::v6(vip.octets()),
        };
        EndpointKey::new(vip, self.port.unwrap_or(0), self.protocol)
    }

    fn key(&self) -> ServiceKey {
        let protocol = match self.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => Protocol::Icmp,
        };
        ServiceKey { vip: self.vip, protocol, port: self.port }
    }

    fn apply(&self, bed: &mut Bed) {
        let backends: Vec<_> =
            self.backends.iter().filter_map(|backend| as_asked(backend, bed.interface)).collect();
        bed.translate(self.key(), self.target_port, &backends);
    }
}

impl Backend {
    /// Adds, drains or removes the backend, or gives it another weight.
    fn change(&mut self, rng: &mut Rng) {
        let another = |weight: u16| 1 + weight % 3;
        self.role = match (self.role, rng.u8(..4)) {
            (Role::Absent, _) => {
                self.life += 1;
                Role::Active { weight: 1 }
            }
            (Role::Active { weight }, 0) => Role::Active { weight: another(weight) },
            (Role::Active { weight }, 1 | 2) => Role::Draining { weight },
            (Role::Draining { weight }, 0 | 1) => Role::Active { weight },
            _ => Role::Absent,
        };
    }
}

impl World {
    /// Both families with the same services, all set up in the load balancer.
    pub(crate) fn new(bed: &mut Bed) -> Self {
        let mut services = Vec::new();
        for (vip, icmp) in [(IpAddr::V4(VIP_4), 1), (IpAddr::V6(VIP_6), 58)] {
            for (protocol, port, target_port, backends) in [
                (6, Some(80), None, 20..24),
                (6, Some(443), Some(8443), 2..4),
                (6, Some(81), None, 0..0),
                (17, Some(53), Some(5353), 2..4),
                (17, Some(82), None, 0..0),
                // Services of one port and of every port need backends of their own.
                (17, None, None, 10..13),
                (icmp, None, None, 30..33),
            ] {
                let changes = backends.start >= 10;
                let backends = backends.map(|last| backend(vip, last)).collect();
                let has_changed = false;
                services.push(Service { vip, port, protocol, target_port, backends, has_changed, changes });
            }
        }
        bed.attach_another_tenant();
        for service in &services {
            service.apply(bed);
        }
        Self { services }
    }

    /// Changes the backends of a service. Which one it was.
    pub(crate) fn change(&mut self, rng: &mut Rng, bed: &mut Bed) -> usize {
        let changing: Vec<usize> =
            (0..self.services.len()).filter(|&place| self.services[place].changes).collect();
        let place = changing[rng.usize(..changing.len())];
        let service = &mut self.services[place];
        let first = rng.usize(..service.backends.len());
        service.backends[first].change(rng);
        if rng.bool() {
            // Another one, in the same step.
            let second = (first + rng.usize(1..service.backends.len())) % service.backends.len();
            service.backends[second].change(rng);
        }
        service.has_changed = true;
        service.apply(bed);
        place
    }

    pub(crate) fn is_vip(address: IpAddr) -> bool {
        address == VIP_4 || address == VIP_6
    }

    pub(crate) fn service(&self, vip: IpAddr, port: u16, protocol: u8) -> Option<(usize, &Service)> {
        let at = |wanted: Option<u16>| {
            self.services
                .iter()
                .position(|service| (service.vip, service.port, service.protocol) == (vip, wanted, protocol))
        };
        let exact = if port == 0 { None } else { at(Some(port)) };
        exact.or_else(|| at(None)).map(|place| (place, &self.services[place]))
    }

    /// The service for which a backend answers from a port.
    pub(crate) fn answered(&self, backend: IpAddr, port: u16, protocol: u8) -> Option<(usize, &Service)> {
        let address = octets(backend);
        let at = |wanted: u16| {
            self.services.iter().enumerate().find(|(_, service)| {
                let from = service.target_port.or(service.port).unwrap_or(0);
                service.member(&address).is_some() && (from, service.protocol) == (wanted, protocol)
            })
        };
        at(port).or_else(|| at(0))
    }
}

/// An address as it stands in a packet.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The VIP of a family, as it stands in a packet.
pub(crate) fn vip_of(is_v6: bool) -> Vec<u8> {
    octets(if is_v6 { VIP_6.into() } else { VIP_4.into() })
}

fn backend(vip: IpAddr, last: u8) -> Backend {
    let address = match vip {
        IpAddr::V4(_) => vec![19, 0, 0, last],
        IpAddr::V6(_) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
    };
    let mac = [2, 0x51, u8::from(vip.is_ipv6()), 0, 0, last];
    Backend { mac, address, role: Role::Active { weight: 1 }, life: 0 }
}

fn as_asked(backend: &Backend, interface: u32) -> Option<service::Backend> {
    let (state, weight) = match backend.role {
        Role::Absent => return None,
        Role::Active { weight } => (BackendState::Active, weight),
        Role::Draining { weight } => (BackendState::Draining, weight),
    };
    let address = match <[u8; 4]>::try_from(backend.address.as_slice()) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(backend.address.as_slice()).expect("an address")),
    };
    let reach = Reach::Link { interface, source_mac: MacAddr(TENANT_MAC), mac: MacAddr(backend.mac) };
    Some(service::Backend { address, reach, weight, state })
}
