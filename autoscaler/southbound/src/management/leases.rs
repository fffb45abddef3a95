//! Who has which address on the management network, and who had it last: pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sluice_logic::group::InstanceId;

use crate::addresses::lowest_free;

/// So many released addresses are given only when there is no other. What still comes from one is its last holder's, so
/// it must not be another's at once.
const SET_ASIDE: usize = 1_024;

/// The addresses that are not free.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Who has an address, or had it last.
    holders: BTreeMap<Ipv4Addr, InstanceId>,
    /// Of these the released ones, the longest released first.
    released: VecDeque<Ipv4Addr>,
}

impl Leases {
    /// Gives an address of `subnet` other than `manager`: the lowest that nobody had, or else the one released the
    /// longest ago. `None` when all are in use.
    pub(super) fn give(&mut self, id: &InstanceId, subnet: Ipv4Net, manager: Ipv4Addr) -> Option<Ipv4Addr> {
        let known: BTreeSet<Ipv4Addr> = self.holders.keys().copied().collect();
        let all = subnet.network()..=subnet.broadcast();
        let fresh = lowest_free(&all, manager, subnet, &known);
        let address = fresh.or_else(|| self.released.pop_front())?;
        self.holders.insert(address, id.clone());
        Some(address)
    }

    /// Notes that an instance has an address, and no other. One that is found late does not take what another was given
    /// meanwhile.
    pub(super) fn hold(&mut self, id: &InstanceId, address: Ipv4Addr) {
        let is_anothers = self.holders.get(&address).is_some_and(|holder| holder != id);
        if is_anothers && !self.released.contains(&address) {
            return;
        }
        self.holders.retain(|_, holder| holder != id);
        self.holders.insert(address, id.clone());
        self.released.retain(|released| *released != address && self.holders.contains_key(released));
    }

    /// Takes an instance's address back, and returns it, where it has one.
    pub(super) fn release(&mut self, id: &InstanceId) -> Option<Ipv4Addr> {
        let held = self.holders.iter().find(|(_, holder)| *holder == id).map(|(address, _)| *address);
        let address = held.filter(|address| !self.released.contains(address))?;
        self.released.push_back(address);
        if self.released.len() > SET_ASIDE
            && let Some(oldest) = self.released.pop_front()
        {
            self.holders.remove(&oldest);
        }
        Some(address)
    }

    /// Who has an address, or had it last.
    pub(super) fn holder(&self, address: Ipv4Addr) -> Option<&InstanceId> {
        self.holders.get(&address)
    }
}

#[cfg(test)]
mod tests {
    use sluice_logic::spec::TenantName;

    use super::*;

    const MANAGER: Ipv4Addr = ip(1);

    const fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, 8, last)
    }

    fn id(number: u32) -> InstanceId {
        InstanceId::new(&TenantName::try_from("demo".to_owned()).unwrap(), number)
    }

    fn give(leases: &mut Leases, number: u32, prefix: u8) -> Option<Ipv4Addr> {
        leases.give(&id(number), Ipv4Net::new_assert(ip(0), prefix).trunc(), MANAGER)
    }

    #[test]
    fn a_released_address_is_its_last_holders_and_given_last() {
        let mut leases = Leases::default();
        assert_eq!([2, 3].map(|n| give(&mut leases, n, 29)), [Some(ip(2)), Some(ip(3))]);
        leases.release(&id(3));
        leases.release(&id(2));
        leases.release(&id(2));
        assert_eq!([4, 5, 6].map(|n| give(&mut leases, n, 29)), [Some(ip(4)), Some(ip(5)), Some(ip(6))]);
        assert_eq!((leases.holder(ip(2)), leases.holder(ip(3))), (Some(&id(2)), Some(&id(3))));
        assert_eq!(give(&mut leases, 7, 29), Some(ip(3)), "released before the other");
        assert_eq!(leases.holder(ip(3)), Some(&id(7)));
        assert_eq!((give(&mut leases, 8, 29), give(&mut leases, 9, 29)), (Some(ip(2)), None));
    }

    #[test]
    fn an_instance_found_again_has_its_address() {
        let mut leases = Leases::default();
        leases.hold(&id(2), ip(2));
        leases.release(&id(2));
        leases.hold(&id(2), ip(2));
        leases.hold(&id(2), ip(2));
        assert_eq!(give(&mut leases, 3, 30), None, "it is not free");
        leases.release(&id(2));
        assert_eq!(give(&mut leases, 3, 30), Some(ip(2)));
    }

    #[test]
    fn an_instance_found_late_takes_nobodys_address() {
        let mut leases = Leases::default();
        assert_eq!(give(&mut leases, 2, 29), Some(ip(2)));
        leases.hold(&id(3), ip(2));
        assert_eq!(leases.holder(ip(2)), Some(&id(2)));
        leases.release(&id(3));
        assert_eq!([4, 5, 6, 7].map(|n| give(&mut leases, n, 29)), [3, 4, 5, 6].map(|n| Some(ip(n))));
        assert_eq!(give(&mut leases, 8, 29), None, "the second's is not free");
        leases.release(&id(2));
        leases.hold(&id(3), ip(2));
        assert_eq!(leases.holder(ip(2)), Some(&id(3)), "who had it is gone");
    }

    #[test]
    fn no_more_than_a_bound_is_set_aside() {
        let mut leases = Leases::default();
        let first = give(&mut leases, 0, 16).unwrap();
        leases.release(&id(0));
        for number in 1..=u32::try_from(SET_ASIDE).unwrap() {
            assert_ne!(give(&mut leases, number, 16), Some(first));
            leases.release(&id(number));
        }
        assert_eq!(leases.holder(first), None);
        assert_eq!(give(&mut leases, 9_999, 16), Some(first));
    }
}
