//! Making the maps what is asked.
//!
//! Each change is ordered so that a packet at any moment meets a whole state, old or new, and so that a crash at any
//! line leaves one that the next `apply` of the same service puts right: first what the new table refers to, then the
//! table, then the flip of its generation, and only when no packet can still see the old one, what only that referred
//! to.

use std::collections::BTreeSet;

use lb_common::abi::{
    AnswerValue, EndpointKey, Handle, NO_BACKEND, SweepOrder, Table, backend_state, sweep_order,
};

use super::maglev;
use super::recipe::{Members, Recipe};
use super::registry::{Known, answer_port, backend_value, endpoint};
use super::slots;
use super::{Error, LoadBalancer, address, rcu};
use crate::service::{Backend, BackendState, Service, ServiceKey};

impl LoadBalancer {
    /// Makes the service what is asked, whatever it was: one atomic step for packets. Idempotent, and cheap where
    /// nothing changes. A backend that is no longer listed is gone: its flows are forgotten.
    ///
    /// A backend may answer for several services; its state is the one given last.
    pub fn apply(&mut self, service: &Service) -> Result<(), Error> {
        let endpoint = endpoint(&service.key)?;
        self.check(service)?;
        let members = self.place(service)?;
        self.ensure_service(service, &endpoint)?;
        let earlier = self.retarget(service)?;
        self.ensure_answers(&service.key, &endpoint, &members)?;
        self.install_table(service, &members)?;
        self.publish(service, &endpoint)?;
        self.forget_answers(&earlier)?;
        self.take_down(&members)?;
        self.retire(&service.key, &endpoint, &members)
    }

    /// Removes a service and the backends that answered for it only. Idempotent.
    pub fn remove(&mut self, key: &ServiceKey) -> Result<(), Error> {
        let endpoint = endpoint(key)?;
        if self.registry.service(key).is_none() {
            return Ok(());
        }
        self.maps.remove_service(&endpoint)?;
        self.retire(key, &endpoint, &Members::new())?;
        self.registry.remove_service(key);
        self.share_flow_table()?;
        self.maps.set_vip(&endpoint.address, self.registry.services_at(key.vip))?;
        rcu::synchronize();
        Ok(())
    }

    /// Refuses what can't be done, before anything is.
    fn check(&self, service: &Service) -> Result<(), Error> {
        let key = service.key;
        if service.target_port.is_some() && key.port.is_none() {
            return Err(Error::TargetPort(key));
        }
        if service.target_port == Some(0) {
            return Err(Error::PortZero(key));
        }
        let is_ipv4 = address::from_ip(key.vip).is_v4();
        let limit = self.maps.backend_places();
        let mut room = usize::try_from(limit).unwrap_or(usize::MAX);
        room = room.saturating_sub(self.registry.backends().count());
        let mut seen = BTreeSet::new();
        for backend in &service.backends {
            let address = backend.address;
            let mapped = address::from_ip(address);
            if mapped.is_v4() != is_ipv4 {
                return Err(Error::OtherFamily { key, address });
            }
            let place = self.registry.place_of(&mapped);
            if !seen.insert(mapped) {
                return Err(Error::DuplicateBackend { key, address });
            }
            let clash = place.and_then(|index| self.registry.answers_for(&key, service.target_port, index));
            if let Some(other) = clash {
                return Err(Error::AmbiguousAnswer { key, address, other: *other });
            }
            if place.is_none() {
                room = room.checked_sub(1).ok_or(Error::NoRoomForBackend { address, limit })?;
            }
        }
        let limit = self.maps.service_places();
        if self.registry.service(&key).is_none() && self.registry.free_service_place(limit).is_none() {
            return Err(Error::NoRoomForService { key, limit });
        }
        Ok(())
    }

    /// Gives each backend a place and writes what is asked of it; only a backend that goes down keeps its state for
    /// now, since the table in force may still name it.
    fn place(&mut self, service: &Service) -> Result<Members, Error> {
        let mut members = Members::new();
        for backend in &service.backends {
            let address = address::from_ip(backend.address);
            let (index, incarnation) = match self.registry.place_of(&address) {
                Some(index) => (index, self.registry.backend(index).map_or(0, |value| value.incarnation)),
                None => self.new_backend_place(backend)?,
            };
            let mut value = backend_value(backend, incarnation);
            let before = self.registry.backend(index).copied();
            if let (BackendState::Down, Some(before)) = (backend.state, before) {
                value.state = before.state;
            }
            if before != Some(value) {
                self.maps.set_backend(index, &value)?;
                self.registry.set_backend(index, value);
            }
            members.insert(index, *backend);
        }
        Ok(members)
    }

    fn new_backend_place(&mut self, backend: &Backend) -> Result<(u16, u16), Error> {
        let limit = self.maps.backend_places();
        let no_room = Error::NoRoomForBackend { address: backend.address, limit };
        let index = self.registry.free_backend_place(limit).ok_or(no_room)?;
        self.maps.clear_backend_counters(index)?;
        Ok((index, self.maps.backend(index)?.incarnation.wrapping_add(1)))
    }

    /// Gives the service a place, where it has none yet. Packets don't know it until it is published.
    fn ensure_service(&mut self, service: &Service, endpoint: &EndpointKey) -> Result<(), Error> {
        let key = &service.key;
        if self.registry.service(key).is_some() {
            // There was no memory for it, perhaps, when the service came.
            return self.maps.own_tables.set_vip(endpoint.address, true);
        }
        let limit = self.maps.service_places();
        let no_room = Error::NoRoomForService { key: *key, limit };
        let index = self.registry.free_service_place(limit).ok_or(no_room)?;
        // The word's upper half counts the owners of the place.
        let incarnation = (self.maps.generation(index)? >> 16).wrapping_add(1) & 0xffff;
        self.maps.set_generation(index, incarnation << 16)?;
        self.maps.clear_service_counters(index)?;
        let incarnation = u16::try_from(incarnation).unwrap_or_default();
        let known = Known::new(Handle { index, incarnation }, service.target_port);
        self.registry.insert_service(*key, known);
        self.order(SweepOrder { with: u32::from(index), ..SweepOrder::of(sweep_order::CLEAR_REFUSED) })?;
        self.share_flow_table()?;
        self.maps.set_vip(&endpoint.address, self.registry.services_at(key.vip))
    }

    /// Gives the service another target port, where it isn't the one wanted: as if all its backends had left and come
    /// back, but for the places that they keep. Returns where their answers came from until now.
    ///
    /// The flows that they have break, since their packets now go to the other port.
    fn retarget(&mut self, service: &Service) -> Result<Vec<EndpointKey>, Error> {
        let endpoint = endpoint(&service.key)?;
        let Some(known) = self.registry.service_mut(&service.key) else { return Ok(Vec::new()) };
        let before = answer_port(&service.key, known.target_port);
        known.target_port = service.target_port;
        if before == answer_port(&service.key, service.target_port) {
            return Ok(Vec::new());
        }
        known.published = false;
        let members = std::mem::take(&mut known.members);
        let addresses = members.iter().filter_map(|&index| self.registry.backend(index));
        Ok(addresses
            .map(|backend| EndpointKey { address: backend.address, port: before, ..endpoint })
            .collect())
    }

    /// Removes answers that no packet can be for any more.
    fn forget_answers(&mut self, answers: &[EndpointKey]) -> Result<(), Error> {
        if answers.is_empty() {
            return Ok(());
        }
        answers.iter().try_for_each(|answer| self.maps.remove_answer(answer))?;
        rcu::synchronize();
        Ok(())
    }

    fn ensure_answers(
        &mut self,
        key: &ServiceKey,
        endpoint: &EndpointKey,
        members: &Members,
    ) -> Result<(), Error> {
        for &index in members.keys() {
            let Some(backend) = self.registry.backend(index).copied() else { continue };
            let Some(known) = self.registry.service_mut(key) else { continue };
            if known.members.insert(index) {
                let handle = Handle { index, incarnation: backend.incarnation };
                let port = answer_port(key, known.target_port);
                let answer = AnswerValue {
                    vip: endpoint.address,
                    service: known.handle,
                    backend: handle,
                    vip_port: if port == endpoint.port { 0 } else { endpoint.port },
                    reserved: [0; 3],
                };
                let from = EndpointKey { address: backend.address, port, ..*endpoint };
                self.maps.insert_answer(&from, &answer)?;
            }
        }
        Ok(())
    }

    /// Gives each slot its owner, if the table in force isn't made of just these backends.
    fn install_table(&mut self, service: &Service, members: &Members) -> Result<(), Error> {
        let key = &service.key;
        let recipe = Recipe::of(members, service.closing);
        let clock = self.maps.control()?.clock;
        let Some(known) = self.registry.service_mut(key) else { return Ok(()) };
        if known.table_of.as_ref() == Some(&recipe) {
            return Ok(());
        }
        let owners = maglev::owners(&recipe.candidates);
        let table = if known.published {
            let before = self.maps.table(known.table_in_force())?;
            // Asked for each slot: a set would take longer than all the rest.
            let mut keeps = vec![false; usize::from(NO_BACKEND) + 1];
            recipe.may_keep.iter().for_each(|&index| keeps[usize::from(index)] = true);
            let keeps = |index: u16| keeps[usize::from(index)];
            let table = slots::moved(&before, &owners, keeps, &mut known.moves, clock);
            (table != before).then_some(table)
        } else {
            Some(slots::first(&owners))
        };
        if let Some(table) = table {
            self.install(key, &table)?;
        }
        if let Some(known) = self.registry.service_mut(key) {
            known.table_of = Some(recipe);
        }
        Ok(())
    }

    /// Writes the table to the idle one of the service's two, and flips.
    pub(super) fn install(&mut self, key: &ServiceKey, table: &Table) -> Result<(), Error> {
        let Some(known) = self.registry.service_mut(key) else { return Ok(()) };
        let generation = known.generation ^ 1;
        let Handle { index, incarnation } = known.handle;
        self.maps.set_table(known.idle_table(), table)?;
        self.maps.set_generation(index, u32::from(incarnation) << 16 | generation)?;
        known.generation = generation;
        known.has_tracked = slots::has_tracked(table);
        // What was the table in force is the idle one now: the next call may write to it.
        rcu::synchronize();
        Ok(())
    }

    /// Lets packets know the service, where they don't yet, and the next process whether it is closing.
    fn publish(&mut self, service: &Service, endpoint: &EndpointKey) -> Result<(), Error> {
        let Some(known) = self.registry.service_mut(&service.key) else { return Ok(()) };
        if known.published && known.closing == service.closing {
            return Ok(());
        }
        self.maps.insert_service(endpoint, known.value(service.closing))?;
        let replaces = known.published;
        (known.published, known.closing) = (true, service.closing);
        if replaces {
            // The replaced element's memory may be another's from now on.
            rcu::synchronize();
        }
        Ok(())
    }

    /// Marks the backends that are down: no table names them any more.
    fn take_down(&mut self, members: &Members) -> Result<(), Error> {
        for (&index, _) in members.iter().filter(|(_, backend)| backend.state == BackendState::Down) {
            let Some(&before) = self.registry.backend(index) else { continue };
            if before.state != backend_state::DOWN {
                let value = lb_common::abi::BackendValue { state: backend_state::DOWN, ..before };
                self.maps.set_backend(index, &value)?;
                self.registry.set_backend(index, value);
            }
        }
        Ok(())
    }

    /// Forgets the members that the service has no longer.
    fn retire(&mut self, key: &ServiceKey, endpoint: &EndpointKey, members: &Members) -> Result<(), Error> {
        let Some(known) = self.registry.service_mut(key) else { return Ok(()) };
        let gone: Vec<u16> =
            known.members.iter().copied().filter(|index| !members.contains_key(index)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        known.members.retain(|index| members.contains_key(index));
        let port = answer_port(key, known.target_port);
        for index in gone {
            if let Some(backend) = self.registry.backend(index) {
                self.maps.remove_answer(&EndpointKey { address: backend.address, port, ..*endpoint })?;
            }
        }
        self.registry.free_unused(&mut self.maps)?;
        // The removed elements' memory may be another's from now on.
        rcu::synchronize();
        Ok(())
    }
}
