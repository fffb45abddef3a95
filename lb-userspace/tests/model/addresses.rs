//! Whose an address is, and where it is valid.

use std::net::IpAddr;

use super::world::World;

/// Whom an address of this host's belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Vip,
    Tenant,
}

pub(crate) fn owner(address: IpAddr) -> Option<Owner> {
    if World::is_vip(address) {
        return Some(Owner::Vip);
    }
    (is_within(address) || is_another_tenants(address)).then_some(Owner::Tenant)
}

/// The tenant's subnets.
pub(crate) fn is_within(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[19, 0, 0]),
        IpAddr::V6(address) => address.segments().starts_with(&[0x2001, 0xdb8, 0x19, 0]),
    }
}

fn is_another_tenants(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[20, 0, 0]),
        IpAddr::V6(address) => address.segments().starts_with(&[0x2001, 0xdb8, 0x20, 0]),
    }
}

/// Whether some host on another link can have it.
pub(crate) fn is_possible(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => {
            let is_nobodys = address.octets().starts_with(&[0; 8]) || address.is_multicast();
            !is_nobodys && !address.is_unicast_link_local()
        }
    }
}

/// Whether it is on the sender's own link, or everybody there.
pub(crate) fn is_to_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}

/// Whether it is valid on the sender's own link only.
pub(crate) fn is_from_link(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    is_link_local || address.is_unspecified()
}
