//! `services`, and the hints that spare packets a look at it.
//!
//! A packet must never miss a service because of a hint. So an endpoint is written while no hint leads to it; a service
//! is put into `services` first and hinted at afterwards, and taken back the other way round.

use lb_common::abi::{Endpoint, EndpointKey, Hint, ServiceValue, address_hint_place, port_hint_place};

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
        self.set_hints(key, &self.services()?)
    }

    pub(super) fn remove_service(&mut self, key: &EndpointKey) -> Result<(), Error> {
        let mut others = self.services()?;
        others.retain(|(other, _)| other != key);
        self.set_hints(key, &others)?;
        absent_is_fine(self.services.remove(key)).map_err(Error::map("services"))
    }

    /// Makes hints and endpoints what `services` says, whatever a process that died has left.
    pub(super) fn repair_hints(&mut self) -> Result<(), Error> {
        let services = self.services()?;
        for (key, value) in &services {
            self.ensure_endpoint(key, *value)?;
            self.set_hints(key, &services)?;
        }
        Ok(())
    }

    /// Writes a service's endpoint, where it isn't what is wanted, while packets ask `services`.
    fn ensure_endpoint(&mut self, key: &EndpointKey, value: ServiceValue) -> Result<(), Error> {
        let (index, endpoint) = (u32::from(value.service.index), Endpoint { key: *key, value });
        if self.endpoints.get(&index, 0).map_err(Error::map("endpoints"))? == endpoint {
            return Ok(());
        }
        let mut is_led_to = false;
        for place in [port_hint_place(key), address_hint_place(key)] {
            if self.hint(place)?.endpoint() == index {
                self.set_hint(place, Hint::MANY)?;
                is_led_to = true;
            }
        }
        if is_led_to {
            rcu::synchronize();
        }
        self.endpoints.set(index, endpoint, 0).map_err(Error::map("endpoints"))
    }

    /// Writes the hints that a service has a part in: what is known by its port before what is known by its address, which
    /// is asked first.
    fn set_hints(
        &mut self,
        key: &EndpointKey,
        services: &[(EndpointKey, ServiceValue)],
    ) -> Result<(), Error> {
        let (address, port) = (address_hint_place, port_hint_place);
        self.set_hint(port(key), hint_of(services, |other| port(other) == port(key)))?;
        self.set_hint(address(key), hint_of(services, |other| address(other) == address(key)))
    }

    fn hint(&self, place: u32) -> Result<Hint, Error> {
        self.service_hints.get(&place, 0).map_err(Error::map("service_hints"))
    }

    fn set_hint(&mut self, place: u32, hint: Hint) -> Result<(), Error> {
        self.service_hints.set(place, hint, 0).map_err(Error::map("service_hints"))
    }
}

/// The hint for those of the services that share it.
fn hint_of(services: &[(EndpointKey, ServiceValue)], shares: impl Fn(&EndpointKey) -> bool) -> Hint {
    let mut sharing = services.iter().filter(|(key, _)| shares(key));
    match (sharing.next(), sharing.next()) {
        (None, _) => Hint::NONE,
        (Some((_, value)), None) => Hint::only(value.service.index),
        _ => Hint::MANY,
    }
}
