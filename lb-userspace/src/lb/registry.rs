//! Which service and which backend has which place in the maps.
//!
//! A mirror of the maps, made from them when they are opened, so that the maps alone are the truth that outlives a
//! process.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{
    Address, AnswerValue, BackendValue, EndpointKey, Handle, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP,
    PROTOCOL_UDP, ServiceValue, backend_state, service_flag,
};

use super::maps::Maps;
use super::recipe::Recipe;
use super::slots::{self, Moves};
use super::{Error, address};
use crate::net::MacAddr;
use crate::service::{Backend, BackendState, Protocol, Reach, Service, ServiceKey};

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its place.
    pub(super) handle: Handle,
    /// The backends' port, where it isn't the one that clients address.
    pub(super) target_port: Option<u16>,
    /// Whether its draining backends take no new flow, also where none is active.
    pub(super) closing: bool,
    /// Which of its two tables is in force: 0 or 1.
    pub(super) generation: u32,
    /// What the table in force was made of; `None` after a restart, when that isn't known.
    pub(super) table_of: Option<Recipe>,
    /// Whether the table in force has tracked slots.
    pub(super) has_tracked: bool,
    /// When those moved.
    pub(super) moves: Moves,
    /// The places of the backends that answer for it.
    pub(super) members: BTreeSet<u16>,
    /// Whether packets know it: it is in the map `services`.
    pub(super) published: bool,
}

impl Known {
    /// A service that packets don't know yet.
    pub(super) fn new(handle: Handle, target_port: Option<u16>) -> Self {
        Self {
            handle,
            target_port,
            closing: false,
            generation: 0,
            table_of: None,
            has_tracked: false,
            moves: Moves::all_at(0),
            members: BTreeSet::new(),
            published: false,
        }
    }

    /// As the map `services` is to have it.
    pub(super) fn value(&self, closing: bool) -> ServiceValue {
        ServiceValue {
            service: self.handle,
            target_port: self.target_port.unwrap_or(0),
            flags: if closing { service_flag::CLOSING } else { 0 },
        }
    }

    /// The place of the table in force.
    pub(super) fn table_in_force(&self) -> u32 {
        2 * u32::from(self.handle.index) + self.generation
    }

    /// The place of the other.
    pub(super) fn idle_table(&self) -> u32 {
        2 * u32::from(self.handle.index) + (self.generation ^ 1)
    }
}

/// The places and their owners.
#[derive(Debug, Default)]
pub(super) struct Registry {
    services: BTreeMap<ServiceKey, Known>,
    backends: BTreeMap<u16, BackendValue>,
    /// The backends' places by their addresses.
    places: BTreeMap<Address, u16>,
}

impl Registry {
    /// Reads the maps. What a crash left half made is put right: a backend that answers for no service is freed, and
    /// so is an answer without its service or backend.
    pub(super) fn from_maps(maps: &mut Maps) -> Result<Self, Error> {
        let mut registry = Self::default();
        maps.repair_hints()?;
        for (endpoint, ServiceValue { service: handle, target_port, flags }) in maps.services()? {
            let mut known = Known {
                closing: flags & service_flag::CLOSING != 0,
                generation: maps.generation(handle.index)? & 1,
                moves: Moves::all_at(maps.control()?.clock),
                published: true,
                ..Known::new(handle, (target_port != 0).then_some(target_port))
            };
            known.has_tracked = slots::has_tracked(maps.table(known.table_in_force())?.as_ref());
            registry.services.insert(service_key(&endpoint), known);
        }
        for index in 0..u16::try_from(maps.backend_places()).unwrap_or(u16::MAX) {
            let value = maps.backend(index)?;
            if value.state != backend_state::FREE {
                registry.set_backend(index, value);
            }
        }
        for (endpoint, answer) in maps.answers()? {
            if !registry.adopt_answer(&endpoint, &answer) {
                maps.remove_answer(&endpoint)?;
            }
        }
        registry.free_unused(maps)?;
        Ok(registry)
    }

    fn adopt_answer(&mut self, endpoint: &EndpointKey, answer: &AnswerValue) -> bool {
        let owner = self.backends.get(&answer.backend.index);
        let is_owner = owner.is_some_and(|backend| {
            backend.address == endpoint.address && backend.incarnation == answer.backend.incarnation
        });
        let service = self.services.iter_mut().find(|(_, known)| known.handle == answer.service);
        match service {
            Some((key, known)) if is_owner && answer_port(key, known.target_port) == endpoint.port => {
                known.members.insert(answer.backend.index)
            }
            _ => false,
        }
    }

    /// Frees the places of backends that answer for no service any more.
    pub(super) fn free_unused(&mut self, maps: &mut Maps) -> Result<(), Error> {
        let used: BTreeSet<u16> =
            self.services.values().flat_map(|known| known.members.iter().copied()).collect();
        let unused: Vec<u16> = self.backends.keys().copied().filter(|index| !used.contains(index)).collect();
        for index in unused {
            let gone = self.backends.get(&index).copied().unwrap_or_default();
            // The place remembers how often it was used, so that old flows never match its next owner.
            maps.set_backend(
                index,
                &BackendValue { incarnation: gone.incarnation, ..BackendValue::default() },
            )?;
            self.backends.remove(&index);
            self.places.remove(&gone.address);
        }
        Ok(())
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceKey, &Known)> {
        self.services.iter()
    }

    pub(super) fn backends(&self) -> impl Iterator<Item = (u16, &BackendValue)> {
        self.backends.iter().map(|(&index, value)| (index, value))
    }

    pub(super) fn service(&self, key: &ServiceKey) -> Option<&Known> {
        self.services.get(key)
    }

    pub(super) fn service_mut(&mut self, key: &ServiceKey) -> Option<&mut Known> {
        self.services.get_mut(key)
    }

    pub(super) fn insert_service(&mut self, key: ServiceKey, known: Known) {
        self.services.insert(key, known);
    }

    pub(super) fn remove_service(&mut self, key: &ServiceKey) -> Option<Known> {
        self.services.remove(key)
    }

    pub(super) fn backend(&self, index: u16) -> Option<&BackendValue> {
        self.backends.get(&index)
    }

    pub(super) fn set_backend(&mut self, index: u16, value: BackendValue) {
        self.backends.insert(index, value);
        self.places.insert(value.address, index);
    }

    /// The place of a backend.
    pub(super) fn place_of(&self, address: &Address) -> Option<u16> {
        self.places.get(address).copied()
    }

    /// A place without an owner.
    pub(super) fn free_backend_place(&self, places: u32) -> Option<u16> {
        (0..u16::try_from(places).unwrap_or(u16::MAX)).find(|index| !self.backends.contains_key(index))
    }

    /// A place without an owner.
    pub(super) fn free_service_place(&self, places: u32) -> Option<u16> {
        let taken: BTreeSet<u16> = self.services.values().map(|known| known.handle.index).collect();
        (0..u16::try_from(places).unwrap_or(u16::MAX)).find(|index| !taken.contains(index))
    }

    /// How many services a VIP has.
    pub(super) fn services_at(&self, vip: std::net::IpAddr) -> u32 {
        u32::try_from(self.services.keys().filter(|key| key.vip == vip).count()).unwrap_or(u32::MAX)
    }

    /// The service whose answers from a backend couldn't be told from those of `key`.
    pub(super) fn answers_for(
        &self,
        key: &ServiceKey,
        target_port: Option<u16>,
        index: u16,
    ) -> Option<&ServiceKey> {
        self.services
            .iter()
            .filter(|(other, known)| *other != key && known.members.contains(&index))
            .find(|(other, known)| answers_clash((key, target_port), (other, known.target_port)))
            .map(|(key, _)| key)
    }

    /// Everything as it would be asked for.
    pub(super) fn to_services(&self) -> Vec<Service> {
        let backends = |known: &Known| {
            known.members.iter().filter_map(|index| self.backends.get(index)).map(to_backend).collect()
        };
        let service = |(key, known): (&ServiceKey, &Known)| Service {
            key: *key,
            target_port: known.target_port,
            closing: known.closing,
            backends: backends(known),
        };
        self.services.iter().map(service).collect()
    }
}

/// Whether a backend's answers for two services can't be told from one another: they come from the same port, or from
/// any port for the one. A service of every port and one of one port at the same VIP are no clash: the answers from
/// that port are the latter's, just as the packets to it.
pub(crate) fn answers_clash(one: (&ServiceKey, Option<u16>), other: (&ServiceKey, Option<u16>)) -> bool {
    let ((key, target), (other, other_target)) = (one, other);
    if key.protocol != other.protocol {
        return false;
    }
    let untranslated = |key: &ServiceKey, target: Option<u16>| target.is_none() || target == key.port;
    match (key.port, other.port) {
        (None, Some(_)) => key.vip != other.vip || !untranslated(other, other_target),
        (Some(_), None) => key.vip != other.vip || !untranslated(key, target),
        _ => answer_port(key, target) == answer_port(other, other_target),
    }
}

/// The port that a service's answers come from, as the map `answers` names it.
pub(super) fn answer_port(key: &ServiceKey, target_port: Option<u16>) -> u16 {
    target_port.or(key.port).unwrap_or(0)
}

/// A service as the map `services` names it.
pub(super) fn endpoint(key: &ServiceKey) -> Result<EndpointKey, Error> {
    match (key.protocol, key.port) {
        (Protocol::Icmp, Some(_)) => return Err(Error::IcmpPort(*key)),
        (_, Some(0)) => return Err(Error::PortZero(*key)),
        _ => {}
    }
    let address = address::from_ip(key.vip);
    let protocol = match key.protocol {
        Protocol::Icmp if address.is_v4() => PROTOCOL_ICMP,
        Protocol::Icmp => PROTOCOL_ICMPV6,
        Protocol::Tcp => PROTOCOL_TCP,
        Protocol::Udp => PROTOCOL_UDP,
    };
    Ok(EndpointKey::new(address, key.port.unwrap_or(0), protocol))
}

pub(super) fn service_key(endpoint: &EndpointKey) -> ServiceKey {
    ServiceKey {
        vip: address::to_ip(&endpoint.address),
        protocol: match endpoint.protocol {
            PROTOCOL_TCP => Protocol::Tcp,
            PROTOCOL_UDP => Protocol::Udp,
            _ => Protocol::Icmp,
        },
        port: (endpoint.port != 0).then_some(endpoint.port),
    }
}

/// A backend as the map `backends` has it, in a place used for the `incarnation`th time.
pub(super) fn backend_value(backend: &Backend, incarnation: u16) -> BackendValue {
    let Reach::Link { interface, source_mac, mac } = backend.reach;
    let (state, weight) = match backend.state {
        BackendState::Active => (backend_state::ACTIVE, backend.weight),
        BackendState::Draining => (backend_state::DRAINING, backend.weight),
        BackendState::Stopping => (backend_state::DRAINING, 0),
        BackendState::Down => (backend_state::DOWN, backend.weight),
    };
    BackendValue {
        address: address::from_ip(backend.address),
        interface,
        incarnation,
        weight,
        mac: mac.0,
        source_mac: source_mac.0,
        state,
        reach: lb_common::abi::reach::LINK,
        reserved: 0,
    }
}

fn to_backend(value: &BackendValue) -> Backend {
    Backend {
        address: address::to_ip(&value.address),
        reach: Reach::Link {
            interface: value.interface,
            source_mac: MacAddr(value.source_mac),
            mac: MacAddr(value.mac),
        },
        weight: value.weight,
        state: state(value).unwrap_or(BackendState::Down),
    }
}

/// What a backend is given; `None` for an empty place.
pub(super) fn state(value: &BackendValue) -> Option<BackendState> {
    match value.state {
        backend_state::ACTIVE => Some(BackendState::Active),
        backend_state::DRAINING if value.weight == 0 => Some(BackendState::Stopping),
        backend_state::DRAINING => Some(BackendState::Draining),
        backend_state::DOWN => Some(BackendState::Down),
        _ => None,
    }
}
