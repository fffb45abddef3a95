//! The services that random packets meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_userspace::net::MacAddr;
use lb_userspace::service::{self, BackendState, Protocol, Reach, ServiceKey};

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
}

pub(crate) struct Backend {
    pub(crate) mac: [u8; 6],
    pub(crate) address: Vec<u8>,
}

impl World {
    /// Both families with the same services, all set up in the load balancer.
    pub(crate) fn new(bed: &mut Bed) -> Self {
        let mut services = Vec::new();
        for (vip, icmp) in [(IpAddr::V4(VIP_4), 1), (IpAddr::V6(VIP_6), 58)] {
            for (protocol, port, target_port, backends) in [
                (6, Some(80), None, 2),
                (6, Some(443), Some(8443), 2),
                (6, Some(81), None, 0),
                (17, Some(53), Some(5353), 2),
                (17, Some(82), None, 0),
                (17, None, None, 3),
                (icmp, None, None, 2),
            ] {
                // Services of one port and of every port need backends of their own.
                let first = if port.is_none() && protocol == 17 { 10 } else { 2 };
                let backends = (first..first + backends).map(|last| backend(vip, last)).collect();
                services.push(Service { vip, port, protocol, target_port, backends });
            }
        }
        bed.attach_another_tenant();
        for service in &services {
            let key =
                ServiceKey { vip: service.vip, protocol: protocol(service.protocol), port: service.port };
            let backends: Vec<_> =
                service.backends.iter().map(|backend| as_asked(backend, bed.interface)).collect();
            bed.translate(key, service.target_port, &backends);
        }
        Self { services }
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
    pub(crate) fn answered(&self, backend: IpAddr, port: u16, protocol: u8) -> Option<&Service> {
        let address = octets(backend);
        let at = |wanted: u16| {
            self.services.iter().find(|service| {
                let from = service.target_port.or(service.port).unwrap_or(0);
                let is_its = service.backends.iter().any(|backend| backend.address == address);
                is_its && (from, service.protocol) == (wanted, protocol)
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

fn protocol(number: u8) -> Protocol {
    match number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => Protocol::Icmp,
    }
}

fn backend(vip: IpAddr, last: u8) -> Backend {
    let address = match vip {
        IpAddr::V4(_) => vec![19, 0, 0, last],
        IpAddr::V6(_) => [&[0x20, 0x01, 0x0d, 0xb8, 0, 0x19][..], &[0; 9], &[last]].concat(),
    };
    Backend { mac: [2, 0x51, u8::from(vip.is_ipv6()), 0, 0, last], address }
}

fn as_asked(backend: &Backend, interface: u32) -> service::Backend {
    let address = match <[u8; 4]>::try_from(backend.address.as_slice()) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(backend.address.as_slice()).expect("an address")),
    };
    let reach = Reach::Link { interface, source_mac: MacAddr(TENANT_MAC), mac: MacAddr(backend.mac) };
    service::Backend { address, reach, weight: 1, state: BackendState::Active }
}
