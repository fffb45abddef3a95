//! What is this host's: addresses, open ports, and the uplink's own.

use super::Control;

/// Whose an address is: values of `local_addresses`. Any other value is the index of the tenant's interface behind which
/// the address is.
pub mod owner {
    /// A VIP.
    pub const VIP: u32 = 0;
    /// The uplink's own, or its link's broadcast address.
    pub const HOST: u32 = u32::MAX;
}

/// For whom a port is open: bits of a value of `open_ports`.
pub mod is_open {
    /// For clients, at every VIP: this host's own process behind it answers.
    pub const AT_VIPS: u32 = 1;
    /// For instances, at their gateway.
    pub const AT_GATEWAYS: u32 = 2;
}

/// Families of addresses: bits of [`Control::default_routes`].
pub mod default_route {
    /// IPv4.
    pub const IPV4: u32 = 1;
    /// IPv6.
    pub const IPV6: u32 = 2;
}

/// Key of `open_ports`: a protocol number and a port.
#[inline(always)]
#[must_use]
pub const fn open_key(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

impl Control {
    /// Whether a frame that begins with these bytes is for the uplink: not for another host, and not for many.
    #[inline(always)]
    #[must_use]
    pub const fn is_for_uplink(&self, first_bytes: [u8; 8]) -> bool {
        (u64::from_ne_bytes(first_bytes) ^ self.uplink_mac) & self.uplink_mac_mask == 0
    }

    /// The uplink's Ethernet address; zeroes where it isn't known.
    #[must_use]
    pub fn uplink_address(&self) -> [u8; 6] {
        let mut address = [0; 6];
        address.copy_from_slice(&self.uplink_mac.to_ne_bytes()[..6]);
        address
    }

    /// The same control with the uplink's Ethernet address; `None` where it isn't known, and all frames are taken.
    #[must_use]
    pub fn with_uplink_mac(self, mac: Option<[u8; 6]>) -> Self {
        let (uplink_mac, uplink_mac_mask) =
            mac.map_or((0, 0), |mac| (first_bytes(mac), first_bytes([0xff; 6])));
        Self { uplink_mac, uplink_mac_mask, ..self }
    }
}

/// Six bytes and two zeroes, as they stand in memory.
fn first_bytes(mac: [u8; 6]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&mac);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Control, open_key};

    #[test]
    fn a_frame_is_for_the_uplink_by_its_first_six_bytes() {
        let control = Control::default().with_uplink_mac(Some([2, 0, 0, 0, 0, 0x22]));
        assert!(control.is_for_uplink([2, 0, 0, 0, 0, 0x22, 0xaa, 0xbb]));
        for other in [[2, 0, 0, 0, 0, 0x23], [0xff; 6], [3, 0, 0, 0, 0, 0x22]] {
            let mut first = [0; 8];
            first[..6].copy_from_slice(&other);
            assert!(!control.is_for_uplink(first), "{other:?}");
        }
        assert!(control.with_uplink_mac(None).is_for_uplink([0xff; 8]), "not known");
    }

    #[test]
    fn open_keys_differ_by_protocol_and_port() {
        assert_eq!(open_key(17, 514), 0x0011_0202);
        assert_ne!(open_key(6, 22), open_key(17, 22));
    }
}
