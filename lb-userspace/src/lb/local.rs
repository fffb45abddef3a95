//! What is this host's: the addresses that no client has, the uplink's own Ethernet address and routes, and open ports.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::lpm_trie::Key;
use lb_common::abi::{Address, Control, PROTOCOL_TCP, PROTOCOL_UDP, is_open, open_key, owner};

use super::maps::{Maps, absent_is_fine};
use super::tenants::present;
use super::uplink::Uplink;
use super::{Error, LoadBalancer, OpenPorts, uplink};
use crate::service::Protocol;

impl LoadBalancer {
    /// Tells the programs what the uplink is now: its Ethernet address, for which clients' frames are; its own addresses,
    /// which no client has; and whether the default routes lead by it. Idempotent. Where there is no such interface at the
    /// moment, all stays as it was.
    pub(super) fn follow_uplink(&mut self) -> Result<(), Error> {
        let Some(now) = uplink::observe(&self.transit, &self.uplink)? else { return Ok(()) };
        let before = self.maps.control()?;
        let told = Control { default_routes: now.default_routes, ..before }.with_uplink_mac(now.mac);
        if told != before {
            self.maps.set_control(&told)?;
        }
        self.maps.set_own_addresses(&now)
    }
}

impl Maps {
    /// Makes the addresses that are the uplink's or VIPs these, whatever there was.
    fn set_own_addresses(&mut self, uplink: &Uplink) -> Result<(), Error> {
        let vips = self.vips()?;
        let mut wanted: BTreeMap<Address, u32> =
            uplink.addresses.iter().map(|address| (*address, owner::HOST)).collect();
        wanted.extend(vips.into_iter().map(|vip| (vip, owner::VIP)));
        for address in self.own_addresses()? {
            if !wanted.contains_key(&address) {
                self.set_owner(&address, None)?;
            }
        }
        wanted.iter().try_for_each(|(address, owner)| self.set_owner(address, Some(*owner)))
    }

    /// The addresses that the map has as VIPs or the uplink's own.
    fn own_addresses(&self) -> Result<BTreeSet<Address>, Error> {
        let mut own = BTreeSet::new();
        for entry in &self.local_addresses {
            let (key, whose) = entry.map_err(Error::map("local_addresses"))?;
            if matches!(whose, owner::VIP | owner::HOST) {
                own.insert(Address::v6(key.data()));
            }
        }
        Ok(own)
    }

    /// Sets the owner of an address, or removes it.
    pub(super) fn set_owner(&mut self, address: &Address, owner: Option<u32>) -> Result<(), Error> {
        let key = Key::new(u128::BITS, address.bytes);
        let before = present(self.local_addresses.get(&key, 0)).map_err(Error::map("local_addresses"))?;
        let done = match owner {
            _ if before == owner => Ok(()),
            Some(owner) => self.local_addresses.insert(&key, owner, 0),
            None => absent_is_fine(self.local_addresses.remove(&key)),
        };
        done.map_err(Error::map("local_addresses"))
    }

    /// Makes the open ports these, whatever there was.
    pub(super) fn set_open_ports(&mut self, ports: &OpenPorts) -> Result<(), Error> {
        let wanted = open_ports(ports);
        let before: BTreeSet<u32> =
            self.open_ports.keys().collect::<Result<_, _>>().map_err(Error::map("open_ports"))?;
        for port in before.into_iter().filter(|port| !wanted.contains_key(port)) {
            absent_is_fine(self.open_ports.remove(&port)).map_err(Error::map("open_ports"))?;
        }
        let mut insert = |port: u32, whom: u32| self.open_ports.insert(port, whom, 0);
        wanted.into_iter().try_for_each(|(port, whom)| insert(port, whom)).map_err(Error::map("open_ports"))
    }
}

/// The entries of `open_ports`.
fn open_ports(ports: &OpenPorts) -> BTreeMap<u32, u32> {
    let mut open = BTreeMap::new();
    for (list, whom) in [(&ports.at_vips, is_open::AT_VIPS), (&ports.at_gateways, is_open::AT_GATEWAYS)] {
        for &(protocol, port) in list {
            let number = match protocol {
                Protocol::Tcp => PROTOCOL_TCP,
                Protocol::Udp => PROTOCOL_UDP,
                // It has no port, and the kernel answers pings of its own.
                Protocol::Icmp => continue,
            };
            *open.entry(open_key(number, port)).or_default() |= whom;
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::{OpenPorts, Protocol, open_key, open_ports};

    #[test]
    fn a_port_is_open_for_those_that_list_it() {
        let ports = OpenPorts {
            at_vips: [(Protocol::Tcp, 22), (Protocol::Udp, 514)].into(),
            at_gateways: [(Protocol::Udp, 514), (Protocol::Icmp, 0)].into(),
        };
        let expected = [(open_key(6, 22), 1), (open_key(17, 514), 3)];
        assert_eq!(open_ports(&ports).into_iter().collect::<Vec<_>>(), expected);
    }
}
