//! Tenants' interfaces, and the subnets behind them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use lb_common::abi::{Address, TenantKey, TenantValue, family};

use super::maps::{Maps, absent_is_fine};
use super::{Error, TenantLink, address};

impl Maps {
    /// Makes the tenant behind an interface what is asked, whatever it was. Whether there was none.
    pub(super) fn set_tenant(&mut self, interface: u32, link: &TenantLink) -> Result<bool, Error> {
        let is_new = !self.tenant_interfaces()?.contains(&interface);
        let ipv4 = link.ipv4.map(|subnet| TenantValue {
            outbound: u32::from(subnet.outbound),
            ..tenant(subnet.net.into(), subnet.gateway.into())
        });
        let ipv6 = link.ipv6.map(|subnet| tenant(subnet.net.into(), subnet.gateway.into()));
        self.set_family(TenantKey { interface, family: family::IPV4 }, ipv4)?;
        self.set_family(TenantKey { interface, family: family::IPV6 }, ipv6)?;
        let may_go_out = ipv4.is_some_and(|subnet| subnet.outbound != 0);
        self.own_tables.set_tenant(interface, ipv4.is_some() || ipv6.is_some(), may_go_out)?;
        Ok(is_new)
    }

    /// The interfaces behind which tenants are.
    pub(super) fn tenant_interfaces(&self) -> Result<BTreeSet<u32>, Error> {
        let keys = self.tenants.keys().map(|key| key.map(|key| key.interface));
        keys.collect::<Result<_, _>>().map_err(Error::map("tenants"))
    }

    /// Forgets the tenant behind an interface. A crash at any line leaves no table without its tenant.
    pub(super) fn remove_tenant(&mut self, interface: u32) -> Result<(), Error> {
        self.own_tables.set_tenant(interface, false, false)?;
        self.set_family(TenantKey { interface, family: family::IPV4 }, None)?;
        self.set_family(TenantKey { interface, family: family::IPV6 }, None)
    }

    /// A crash at any line leaves no subnet without its tenant: then nothing would tell that it is to be removed.
    fn set_family(&mut self, key: TenantKey, value: Option<TenantValue>) -> Result<(), Error> {
        let before = present(self.tenants.get(&key, 0)).map_err(Error::map("tenants"))?;
        if before != value
            && let Some(before) = before
        {
            self.remove_subnet(&before, key.interface)?;
        }
        let Some(value) = value else {
            return absent_is_fine(self.tenants.remove(&key)).map_err(Error::map("tenants"));
        };
        self.tenants.insert(key, value, 0).map_err(Error::map("tenants"))?;
        self.local_addresses.insert(&subnet(&value), key.interface, 0).map_err(Error::map("local_addresses"))
    }

    /// Removes a subnet, unless another interface has it by now.
    fn remove_subnet(&mut self, tenant: &TenantValue, interface: u32) -> Result<(), Error> {
        let subnet = subnet(tenant);
        let owner = present(self.local_addresses.get(&subnet, 0)).map_err(Error::map("local_addresses"))?;
        if owner != Some(interface) {
            return Ok(());
        }
        absent_is_fine(self.local_addresses.remove(&subnet)).map_err(Error::map("local_addresses"))
    }
}

pub(super) fn present<V>(result: Result<V, MapError>) -> Result<Option<V>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn tenant(subnet: IpNet, gateway: IpAddr) -> TenantValue {
    TenantValue {
        subnet: address::from_ip(subnet.network()),
        mask: mask(subnet),
        gateway: address::from_ip(gateway),
        outbound: 0,
        reserved: 0,
    }
}

/// The key of a tenant's subnet.
fn subnet(tenant: &TenantValue) -> Key<[u8; 16]> {
    Key::new(u128::from_be_bytes(tenant.mask.bytes).leading_ones(), tenant.subnet.bytes)
}

/// A subnet's mask over both families' addresses: an IPv4 address is the end of an IPv6 one.
pub(super) fn mask(subnet: IpNet) -> Address {
    let host_bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let ones = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Address { bytes: ones.to_be_bytes() }
}

#[cfg(test)]
mod tests {
    use super::{mask, subnet, tenant};

    #[test]
    fn a_mask_covers_the_family_too() {
        let bytes = |subnet: &str| mask(subnet.parse().expect("a subnet")).bytes;
        let mut expected = [0xff; 16];
        assert_eq!(bytes("19.0.0.1/32"), expected);
        expected[15] = 0;
        assert_eq!(bytes("19.0.0.0/24"), expected, "no IPv6 address is within an IPv4 subnet");
        assert_eq!(bytes("::/0"), [0; 16]);
        assert_eq!(bytes("2001:db8::/32")[..5], [0xff, 0xff, 0xff, 0xff, 0]);
    }

    #[test]
    fn a_subnets_key_is_as_long_as_its_mask() {
        for (net, gateway, length) in [
            ("19.0.0.0/24", "19.0.0.1", 120),
            ("0.0.0.0/0", "19.0.0.1", 96),
            ("2001:db8::/32", "2001:db8::1", 32),
        ] {
            let net = net.parse().expect("a subnet");
            let tenant = tenant(net, gateway.parse().expect("an address"));
            let key = subnet(&tenant);
            assert_eq!((key.prefix_len(), key.data()), (length, tenant.subnet.bytes), "{net}");
        }
    }
}
