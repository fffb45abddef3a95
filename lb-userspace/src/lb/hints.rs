//! `services`, and the hints that spare packets a look at it.
//!
//! A packet must never miss a service because of a hint. So an endpoint is written while no hint leads to it; a service
//! is put into `services` first and hinted at afterwards, and taken back the other way round.

use lb_common::abi::{Endpoint, EndpointKey, Hint, ServiceValue, hint_place};

use super::maps::{Maps, absent_is_fine};
use super::{Error, rcu};

impl Maps {
    pub(super) fn services(&self) -> Result<Vec<(EndpointKey, ServiceValue)>, Error> {
        self.services.iter().collect::<Result<_, _>>().map_err(Error::map("services"))
    }

    /// Lets packets know a service, or that it has another value.
    pub(super) fn insert_service(&mut self, key: &EndpointKey, value: ServiceValue) -> Result<(), Error> {
        self.ensure_endpoint(key, value)?;
        self.services.insert(key, value, 0).map_err(Error::map("services"))?;
        let services = self.services()?;
        self.set_hint(hint_place(key), hint_at(hint_place(key), services.iter()))
    }

    pub(super) fn remove_service(&mut self, key: &EndpointKey) -> Result<(), Error> {
        let services = self.services()?;
        let others = services.iter().filter(|(other, _)| other != key);
        self.set_hint(hint_place(key), hint_at(hint_place(key), others))?;
        absent_is_fine(self.services.remove(key)).map_err(Error::map("services"))
    }

    /// Makes hints and endpoints what `services` says, whatever a process that died has left.
    pub(super) fn repair_hints(&mut self) -> Result<(), Error> {
        let services = self.services()?;
        for (key, value) in &services {
            self.ensure_endpoint(key, *value)?;
            self.set_hint(hint_place(key), hint_at(hint_place(key), services.iter()))?;
        }
        Ok(())
    }

    /// Writes a service's endpoint, where it isn't what is wanted, while packets ask `services`.
    fn ensure_endpoint(&mut self, key: &EndpointKey, value: ServiceValue) -> Result<(), Error> {
        let (index, endpoint) = (u32::from(value.service.index), Endpoint { key: *key, value });
        if self.endpoints.get(&index, 0).map_err(Error::map("endpoints"))? == endpoint {
            return Ok(());
        }
        if self.hint(hint_place(key))? != Hint::NONE {
            self.set_hint(hint_place(key), Hint::MANY)?;
            rcu::synchronize();
        }
        self.endpoints.set(index, endpoint, 0).map_err(Error::map("endpoints"))
    }

    fn hint(&self, place: u32) -> Result<Hint, Error> {
        self.service_hints.get(&place, 0).map_err(Error::map("service_hints"))
    }

    fn set_hint(&mut self, place: u32, hint: Hint) -> Result<(), Error> {
        self.service_hints.set(place, hint, 0).map_err(Error::map("service_hints"))
    }
}

/// The hint for the services in a place of `service_hints`.
fn hint_at<'a>(place: u32, services: impl Iterator<Item = &'a (EndpointKey, ServiceValue)>) -> Hint {
    let mut sharing = services.filter(|(key, _)| hint_place(key) == place);
    match (sharing.next(), sharing.next()) {
        (None, _) => Hint::NONE,
        (Some((_, value)), None) => Hint::only(value.service.index),
        _ => Hint::MANY,
    }
}
