//! Which address a new instance gets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

/// The lowest address of `range` that an instance may have: inside `subnet`, neither its network nor its
/// broadcast address, not the gateway's, and not in use. `None` when the range is used up.
#[must_use]
pub fn lowest_free(
    range: &RangeInclusive<Ipv4Addr>,
    gateway: Ipv4Addr,
    subnet: Ipv4Net,
    in_use: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    // RFC 3021: a /31 has neither a network nor a broadcast address.
    let special =
        |address| subnet.prefix_len() < 31 && (address == subnet.network() || address == subnet.broadcast());
    // What is outside the subnet is not looked at, so that a wrong range costs nothing.
    let first = u32::from(*range.start().max(&subnet.network()));
    let last = u32::from(*range.end().min(&subnet.broadcast()));
    (first..=last)
        .map(Ipv4Addr::from)
        .find(|&address| !special(address) && address != gateway && !in_use.contains(&address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(19, 0, 0, last)
    }

    fn subnet() -> Ipv4Net {
        "19.0.0.0/24".parse().expect("a network")
    }

    #[test]
    fn holes_are_filled_from_below() {
        let used = BTreeSet::from([ip(2), ip(4)]);
        assert_eq!(lowest_free(&(ip(2)..=ip(254)), ip(1), subnet(), &used), Some(ip(3)));
    }

    #[test]
    fn a_full_range_has_none() {
        let used = BTreeSet::from([ip(2), ip(3)]);
        assert_eq!(lowest_free(&(ip(2)..=ip(3)), ip(1), subnet(), &used), None);
        assert_eq!(lowest_free(&(ip(9)..=ip(3)), ip(1), subnet(), &BTreeSet::new()), None);
    }

    #[test]
    fn special_addresses_are_never_given() {
        let all = Ipv4Addr::UNSPECIFIED..=Ipv4Addr::BROADCAST;
        assert_eq!(lowest_free(&all, ip(1), subnet(), &BTreeSet::new()), Some(ip(2)));
        assert_eq!(lowest_free(&(ip(255)..=ip(255)), ip(1), subnet(), &BTreeSet::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_given_may_be_given(
            start: u8, end: u8, gateway: u8, used in proptest::collection::btree_set(any::<u8>(), 0..256)
        ) {
            let used: BTreeSet<_> = used.into_iter().map(ip).collect();
            let given = lowest_free(&(ip(start)..=ip(end)), ip(gateway), subnet(), &used);
            let may = |last| {
                last != 0 && last != 255 && last != gateway && !used.contains(&ip(last))
            };
            let expected = (start..=end).find(|last| may(*last)).map(ip);
            prop_assert_eq!(given, expected);
        }
    }
}
