//! Connections that instances have opened themselves.

use super::Address;

/// A TCP connection that an instance has opened: key of the tables in `outbound_flows`.
///
/// Only by it can its packets be told from answers, where a service has every port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboundKey {
    /// The instance.
    pub instance: Address,
    /// Where it has connected to.
    pub peer: Address,
    /// The instance's port.
    pub port: u16,
    /// The peer's port.
    pub peer_port: u16,
    /// Always 0.
    pub reserved: u32,
}

impl OutboundKey {
    /// The key of a connection; of words, since the programs' stacks have to be accessed at their alignment.
    #[inline(always)]
    #[must_use]
    pub const fn new(instance: &Address, peer: &Address, port: u16, peer_port: u16) -> Self {
        let ([a, b], [c, d]) = (instance.words(), peer.words());
        let ([low, high], [peer_low, peer_high]) = (port.to_ne_bytes(), peer_port.to_ne_bytes());
        let ports = u64::from_ne_bytes([low, high, peer_low, peer_high, 0, 0, 0, 0]);
        // SAFETY: both are 40 bytes without padding, laid out alike, and any bytes are a key.
        unsafe { core::mem::transmute::<[u64; 5], Self>([a, b, c, d, ports]) }
    }
}
