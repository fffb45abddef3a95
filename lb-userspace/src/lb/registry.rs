//! Which service and which backend has which place in the maps.
//!
//! A mirror of the maps, made from them when they are opened, so that the maps alone are the truth that outlives a
//! process.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{
    Address, AnswerValue, BackendValue, EndpointKey, Handle, PROTOCOL_ICMP, PROTOCOL_TCP, backend_state,
};

use super::maglev::Candidate;
use super::maps::Maps;
use super::slots::{self, Moves};
use super::{Error, address};
use crate::net::MacAddr;
use crate::service::{Backend, BackendState, Protocol, Reach, Service, ServiceKey};

/// What a table is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Who takes new flows.
    pub(super) candidates: Vec<Candidate>,
    /// The places of those who keep the flows they have.
    pub(super) keepers: BTreeSet<u16>,
}

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its place.
    pub(super) handle: Handle,
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
}

impl Registry {
    /// Reads the maps. What a crash left half made is put right: a backend that answers for no service is freed, and
    /// so is an answer without its service or backend.
    pub(super) fn from_maps(maps: &mut Maps) -> Result<Self, Error> {
        let mut registry = Self::default();
        maps.repair_hints()?;
        for (endpoint, value) in maps.services()? {
            let handle = value.service;
            let mut known = Known {
                handle,
                generation: maps.generation(handle.index)? & 1,
                table_of: None,
                has_tracked: false,
                moves: Moves::all_at(maps.control()?.clock),
                members: BTreeSet::new(),
                published: true,
            };
            known.has_tracked = slots::has_tracked(maps.table(known.table_in_force())?.as_ref());
            registry.services.insert(service_key(&endpoint), known);
        }
        for index in 0..u16::try_from(maps.backend_places()).unwrap_or(u16::MAX) {
            let value = maps.backend(index)?;
            if value.state != backend_state::FREE {
                registry.backends.insert(index, value);
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
        let service = self.services.values_mut().find(|known| known.handle == answer.service);
        match service {
            Some(known) if is_owner => known.members.insert(answer.backend.index),
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
    }

    /// The place of a backend.
    pub(super) fn place_of(&self, address: &Address) -> Option<u16> {
        self.backends.iter().find(|(_, value)| value.address == *address).map(|(&index, _)| index)
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

    /// The service for which a backend's answers from this endpoint are.
    pub(super) fn answers_for(&self, key: &ServiceKey, index: u16) -> Option<&ServiceKey> {
        let clashes =
            |other: &ServiceKey| other != key && other.protocol == key.protocol && other.port == key.port;
        self.services
            .iter()
            .find(|(other, known)| clashes(other) && known.members.contains(&index))
            .map(|(key, _)| key)
    }

    /// Everything as it would be asked for.
    pub(super) fn to_services(&self) -> Vec<Service> {
        let backends = |known: &Known| {
            known.members.iter().filter_map(|index| self.backends.get(index)).map(to_backend).collect()
        };
        self.services.iter().map(|(key, known)| Service { key: *key, backends: backends(known) }).collect()
    }
}

/// A service as the map `services` names it.
pub(super) fn endpoint(key: &ServiceKey) -> Result<EndpointKey, Error> {
    let protocol = match key.protocol {
        Protocol::Icmp => PROTOCOL_ICMP,
        Protocol::Tcp => PROTOCOL_TCP,
    };
    if protocol == PROTOCOL_ICMP && key.port.is_some() {
        return Err(Error::IcmpPort(*key));
    }
    Ok(EndpointKey::new(address::from_ip(key.vip)?, key.port.unwrap_or(0), protocol))
}

pub(super) fn service_key(endpoint: &EndpointKey) -> ServiceKey {
    ServiceKey {
        vip: address::to_ip(&endpoint.address),
        protocol: if endpoint.protocol == PROTOCOL_ICMP { Protocol::Icmp } else { Protocol::Tcp },
        port: (endpoint.port != 0).then_some(endpoint.port),
    }
}

/// A backend as the map `backends` has it, in a place used for the `incarnation`th time.
pub(super) fn backend_value(backend: &Backend, incarnation: u16) -> Result<BackendValue, Error> {
    let Reach::Link { interface, source_mac, mac } = backend.reach;
    let state = match backend.state {
        BackendState::Active => backend_state::ACTIVE,
        BackendState::Draining => backend_state::DRAINING,
        BackendState::Down => backend_state::DOWN,
    };
    Ok(BackendValue {
        address: address::from_ip(backend.address)?,
        interface,
        incarnation,
        weight: backend.weight,
        mac: mac.0,
        source_mac: source_mac.0,
        state,
        reach: lb_common::abi::reach::LINK,
        reserved: 0,
    })
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
        state: match value.state {
            backend_state::ACTIVE => BackendState::Active,
            backend_state::DRAINING => BackendState::Draining,
            _ => BackendState::Down,
        },
    }
}
