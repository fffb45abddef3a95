//! What spares packets the lookup in `services`: `service_hints` and `endpoints`.
//!
//! `services` is a hash table, and asking it takes 25 ns, twice where a packet's port has no service of its own. So an
//! array says, by a hash of address, port and protocol, that there is no such service, or which one it may be. It is
//! made from `services` and never the only one to know something: a hint that is for another service leads to `services`.

use super::{EndpointKey, ServiceValue};
use crate::hash::GOLDEN;

/// Places of `service_hints`: a power of two, many times the usual number of services, so that few share a hint.
pub const HINTS: usize = 8_192;

/// What is known of all services whose keys have one [`hint_place`]: value of `service_hints`.
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

/// The place of a key's hint: Fibonacci hashing (Knuth, TAOCP 3, 6.4) of address and protocol, and the port's bits.
///
/// A packet is looked for under its port and under that of every port, [`EndpointKey::of_every_port`]: the places of both
/// differ in the port's bits only.
#[inline(always)]
#[must_use]
pub const fn hint_place(key: &EndpointKey) -> u32 {
    const BITS: u32 = HINTS.trailing_zeros();
    let [high, low] = key.address.words();
    let word = low ^ high.wrapping_mul(GOLDEN) ^ key.protocol as u64;
    let port = key.port as u32;
    (word.wrapping_mul(GOLDEN) >> (u64::BITS - BITS)) as u32 ^ (port ^ port >> BITS) & (HINTS as u32 - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{HINTS, Hint, hint_place};
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
                let place = hint_place(&EndpointKey::new(vip, port, protocol));
                assert!((place as usize) < HINTS);
                places.insert(place);
            }
        }
        assert!(places.len() > 512 - 40, "{} of 512", places.len());
    }
}
