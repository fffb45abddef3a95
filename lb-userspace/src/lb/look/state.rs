//! Services, backends and drops as the maps have them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::abi::{DropReason, Handle, NO_BACKEND, backend_state};
use serde::{Deserialize, Serialize};

use super::Look;
use crate::lb::counters::FlowCounters;
use crate::lb::{Error, FlowTableUse, ServiceUse, address, registry};
use crate::net::MacAddr;
use crate::service::{BackendState, ServiceKey};

/// A service in the data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The service as people write it: `45.45.45.45:80/tcp`.
    pub service: String,
    /// The same in parts.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// Backends that take new flows.
    pub active: u32,
    /// Backends that keep the flows they have, those that stop among them.
    pub draining: u32,
    /// Whether new flows go to those, as no backend is active.
    pub draining_serve: bool,
    /// Backends that get nothing.
    pub down: u32,
    /// Slots of its table whose flows are looked up, because they have moved lately; of 65,537.
    pub tracked_slots: u32,
    /// What it has of the flow table.
    #[serde(flatten)]
    pub flow_use: ServiceUse,
    /// What it has counted.
    #[serde(flatten)]
    pub counters: FlowCounters,
}

/// A backend in the data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// Its address.
    pub address: IpAddr,
    /// What it may be given.
    pub state: BackendState,
    /// The part it has of each service that it answers for.
    pub services: Vec<Share>,
    /// Its MAC address.
    pub mac: MacAddr,
    /// The index of the interface in the transit namespace that leads to it.
    pub interface: u32,
    /// What it has counted.
    #[serde(flatten)]
    pub counters: FlowCounters,
}

/// The part that a backend has of a service's new flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The service as people write it.
    pub service: String,
    /// Its slots, of 65,537.
    pub slots: u32,
    /// The same as a fraction: 1 is all new flows.
    pub share: f64,
}

/// How many packets were dropped for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DropCount {
    /// The reason's name, as in metric labels.
    pub reason: &'static str,
    /// Packets since the maps were made.
    pub packets: u64,
}

/// A service in the maps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) key: ServiceKey,
    pub(super) handle: Handle,
}

/// What a service's table in force says.
struct Slots {
    /// Slots by owner's place.
    owned: BTreeMap<u16, u32>,
    tracked: u32,
}

impl Look {
    /// All services, sorted by VIP, protocol and port.
    pub fn services(&self) -> Result<Vec<ServiceView>, Error> {
        let members = self.members()?;
        let view = |placed: &Placed| -> Result<ServiceView, Error> {
            let states: Vec<u8> = (members.iter())
                .filter(|(_, service)| *service == placed.handle)
                .map(|(backend, _)| Ok(self.maps.backend(*backend)?.state))
                .collect::<Result<_, Error>>()?;
            let slots = self.slots(placed.handle)?;
            let count = |wanted: u8| states.iter().map(|state| u32::from(*state == wanted)).sum();
            Ok(ServiceView {
                service: placed.key.to_string(),
                key: placed.key,
                active: count(backend_state::ACTIVE),
                draining: count(backend_state::DRAINING),
                draining_serve: self.draining_own(&slots)?,
                down: count(backend_state::DOWN),
                tracked_slots: slots.tracked,
                flow_use: self.maps.service_use(placed.handle.index)?,
                counters: self.maps.service_counters(placed.handle.index)?,
            })
        };
        self.placed()?.iter().map(view).collect()
    }

    /// How full the flow table is.
    pub fn flow_table(&self) -> Result<FlowTableUse, Error> {
        self.maps.flow_table_use()
    }

    /// All backends, sorted by address.
    pub fn backends(&self) -> Result<Vec<BackendView>, Error> {
        let members = self.members()?;
        let services = self.placed()?;
        let tables =
            services.iter().map(|placed| self.slots(placed.handle)).collect::<Result<Vec<_>, _>>()?;
        let mut views = Vec::new();
        for index in 0..u16::try_from(self.maps.backend_places()).unwrap_or(NO_BACKEND) {
            let value = self.maps.backend(index)?;
            let Some(state) = registry::state(&value) else { continue };
            let shares = (services.iter().zip(&tables))
                .filter(|(placed, _)| members.contains(&(index, placed.handle)))
                .map(|(placed, slots)| slots.share(index, &placed.key))
                .collect();
            views.push(BackendView {
                address: address::to_ip(&value.address),
                state,
                services: shares,
                mac: MacAddr(value.mac),
                interface: value.interface,
                counters: self.maps.backend_counters(index)?,
            });
        }
        views.sort_by_key(|view| view.address);
        Ok(views)
    }

    /// How many packets were dropped, by reason, in the reasons' order.
    pub fn drops(&self) -> Result<Vec<DropCount>, Error> {
        let count = |reason: DropReason| -> Result<DropCount, Error> {
            Ok(DropCount { reason: reason.name(), packets: self.maps.drops(reason)? })
        };
        DropReason::ALL.into_iter().map(count).collect()
    }

    /// The services with their places, sorted.
    pub(super) fn placed(&self) -> Result<Vec<Placed>, Error> {
        let services = self.maps.services()?.into_iter();
        let mut placed: Vec<Placed> = services
            .map(|(endpoint, value)| Placed { key: registry::service_key(&endpoint), handle: value.service })
            .collect();
        placed.sort_by_key(|placed| placed.key);
        Ok(placed)
    }

    /// Which backend, by place, answers for which service.
    fn members(&self) -> Result<Vec<(u16, Handle)>, Error> {
        let answers = self.maps.answers()?.into_iter();
        Ok(answers.map(|(_, answer)| (answer.backend.index, answer.service)).collect())
    }

    /// The place of the service's table in force.
    pub(super) fn table_in_force(&self, service: Handle) -> Result<u32, Error> {
        let generation = self.maps.generation(service.index)? & 1;
        Ok(2 * u32::from(service.index) + generation)
    }

    /// Whether a draining backend owns a slot.
    fn draining_own(&self, slots: &Slots) -> Result<bool, Error> {
        for &owner in slots.owned.keys().filter(|&&owner| owner != NO_BACKEND) {
            if self.maps.backend(owner)?.state == backend_state::DRAINING {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn slots(&self, service: Handle) -> Result<Slots, Error> {
        let table = self.maps.table(self.table_in_force(service)?)?;
        let mut slots = Slots { owned: BTreeMap::new(), tracked: 0 };
        for slot in table.iter() {
            *slots.owned.entry(slot.new_flows).or_default() += 1;
            slots.tracked += u32::from(slot.is_tracked());
        }
        Ok(slots)
    }
}

impl Slots {
    fn share(&self, backend: u16, service: &ServiceKey) -> Share {
        let slots = self.owned.get(&backend).copied().unwrap_or_default();
        let all: u32 = self.owned.values().sum();
        Share { service: service.to_string(), slots, share: f64::from(slots) / f64::from(all) }
    }
}
