//! What spares packets the lookup in `services`: `service_hints` and `endpoints`.
//!
//! `services` is a hash table, and asking it takes 25 ns, twice where a packet's port has no service of its own. So an
//! array says first, by a hash of address and protocol, that there is no service, or which one is the only one; where
//! there are several, it says the same by the port too. It is made from `services`, and where it says "several" that knows.

use super::{EndpointKey, ServiceValue};
use crate::hash::GOLDEN;

/// Places of hints of a kind: a power of two, many times the usual number of services, so that few share a hint.
const PLACES: usize = 8_192;

/// Places of `service_hints`: by address, then by port.
pub const HINTS: usize = 2 * PLACES;

/// What is known of all services whose keys have one place in `service_hints`: its value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Hint {
    /// 0: there is none. Else one more than the place in `endpoints` of the only one; [`Hint::MANY`] if there are several.
    pub word: u32,
}

impl Hint {
    /// No service has this hint.
    pub const NONE: Self = Self { word: 0 };
    /// Several have it, or one whose endpoint is being changed: `services` knows.
    pub const MANY: Self = Self { word: u32::MAX };

    /// The only service is the one in this place.
    #[must_use]
    pub const fn only(place: u16) -> Self {
        Self { word: place as u32 + 1 }
    }

    /// The place in `endpoints` to look at: none that there is, for [`Hint::MANY`].
    #[inline(always)]
    #[must_use]
    pub const fn endpoint(self) -> u32 {
        self.word.wrapping_sub(1)
    }
}

/// A service as `services` has it, in the service's place: value of `endpoints`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its key in `services`.
    pub key: EndpointKey,
    /// Its value there.
    pub value: ServiceValue,
}

/// The place of the hint for all services of a key's address and protocol: Fibonacci hashing (Knuth, TAOCP 3, 6.4).
#[inline(always)]
#[must_use]
pub const fn address_hint_place(key: &EndpointKey) -> u32 {
    let [high, low] = key.address.words();
    let word = low ^ high.wrapping_mul(GOLDEN) ^ key.protocol as u64;
    (word.wrapping_mul(GOLDEN) >> (u64::BITS - BITS)) as u32
}

/// The place of the hint for a key: that of its address and protocol, and the port's bits.
///
/// A packet is looked for under its port and under that of every port, [`EndpointKey::of_every_port`]: the places of both
/// differ in the port's bits only.
#[inline(always)]
#[must_use]
pub const fn port_hint_place(key: &EndpointKey) -> u32 {
    let port = key.port as u32;
    PLACES as u32 + (address_hint_place(key) ^ (port ^ port >> BITS) & (PLACES as u32 - 1))
}

const BITS: u32 = PLACES.trailing_zeros();

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{HINTS, Hint, PLACES, address_hint_place, port_hint_place};
    use crate::abi::{Address, EndpointKey, PROTOCOL_ICMP, PROTOCOL_TCP};

    #[test]
    fn a_hint_names_its_place() {
        for place in [0, 1, 511, u16::MAX] {
            assert_eq!(Hint::only(place).endpoint(), u32::from(place));
            assert_ne!(Hint::only(place), Hint::NONE);
        }
        assert!(Hint::MANY.endpoint() > u32::from(u16::MAX));
    }

    /// Neighbouring addresses and ports, as they are given out: of 512 services at most as many share a hint as chance
    /// would have it (16 pairs are expected).
    #[test]
    fn few_services_share_a_hint() {
        let mut places = BTreeSet::new();
        for last in 0..128 {
            let vip = Address::v4([45, 45, 45, last]);
            for (port, protocol) in
                [(80, PROTOCOL_TCP), (443, PROTOCOL_TCP), (0, PROTOCOL_TCP), (0, PROTOCOL_ICMP)]
            {
                let key = EndpointKey::new(vip, port, protocol);
                assert!((address_hint_place(&key) as usize) < PLACES);
                let place = port_hint_place(&key);
                assert!((PLACES..HINTS).contains(&(place as usize)));
                places.insert(place);
            }
        }
        assert!(places.len() > 512 - 40, "{} of 512", places.len());
    }

    /// 128 addresses: one pair is expected.
    #[test]
    fn few_addresses_share_a_hint() {
        let key = |last| EndpointKey::new(Address::v4([45, 45, 45, last]), 0, PROTOCOL_TCP);
        let places: BTreeSet<u32> = (0..128).map(|last| address_hint_place(&key(last))).collect();
        assert!(places.len() > 128 - 8, "{} of 128", places.len());
    }
}
