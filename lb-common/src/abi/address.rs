//! Who is addressed: an address, and a port of it.

/// An IP address; IPv4 in its IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// Aligned to words, so that the programs build one with two stores and not by a loop over its bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// In network byte order.
    pub bytes: [u8; 16],
}

/// What the lower word of an IPv4-mapped address has before the IPv4 address.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

impl Address {
    /// An IPv4 address from its four bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        // The address as one number: from its bytes one by one, the compiler would load it so.
        let address = u32::from_ne_bytes([a, b, c, d]) as u64;
        Self::of_words([
            0,
            if cfg!(target_endian = "little") { address << 32 | MAPPED } else { address | MAPPED },
        ])
    }

    /// An address from its two words, in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn of_words(words: [u64; 2]) -> Self {
        // Byte by byte, the compiler would make it a call of `memset`, at 14 ns.
        // SAFETY: both are 16 bytes without padding, and any bytes are an address.
        Self { bytes: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) } }
    }

    /// An IPv6 address from its sixteen bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self { bytes: octets }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        let [high, low] = self.words();
        high == 0 && low & u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]) == MAPPED
    }

    /// Its two words, in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        // SAFETY: both are 16 bytes without padding, and any bytes are two numbers.
        unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(self.bytes) }
    }

    /// The last four bytes: an IPv4 address, where this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4_octets(&self) -> [u8; 4] {
        let [_, low] = self.words();
        // As one number: byte by byte, the compiler would load it in three pieces.
        let address = if cfg!(target_endian = "little") { low >> 32 } else { low };
        (address as u32).to_ne_bytes()
    }
}

/// Names a service or an answer: key of `services` (by VIP) and of `answers` (by backend address).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The VIP, or the backend's address.
    pub address: Address,
    /// The port; 0 is every port, and ICMP's only one.
    pub port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

impl EndpointKey {
    /// The key of an address, a port and a protocol.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        let [low, high] = port.to_ne_bytes();
        let [first, second] = address.words();
        let words = [first, second, u64::from_ne_bytes([low, high, protocol, 0, 0, 0, 0, 0])];
        // Field by field, the compiler would make the reserved bytes a call of `memset`, at 14 ns.
        // SAFETY: both are 24 bytes without padding, laid out alike, and any bytes are a key.
        unsafe { core::mem::transmute::<[u64; 3], Self>(words) }
    }

    /// Whether a service of this key takes what is for the other: the port is the same, or this one is every port. Word by
    /// word, where `==` would be a call.
    #[inline(always)]
    #[must_use]
    pub const fn takes(&self, other: &Self) -> bool {
        const PORT: u64 = u64::from_ne_bytes([0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        let (mine, others) = (self.words(), other.words());
        let differs = mine[2] ^ others[2];
        let elsewhere = (mine[0] ^ others[0]) | (mine[1] ^ others[1]) | differs & !PORT;
        elsewhere == 0 && (differs == 0 || mine[2] & PORT == 0)
    }

    #[inline(always)]
    const fn words(&self) -> [u64; 3] {
        // SAFETY: both are 24 bytes without padding, and any bytes are three numbers.
        unsafe { core::mem::transmute::<Self, [u64; 3]>(*self) }
    }

    /// The key of every port.
    #[inline(always)]
    #[must_use]
    pub const fn of_every_port(&self) -> Self {
        Self::new(self.address, 0, self.protocol)
    }
}
