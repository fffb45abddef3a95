//! Flows: keys and values of the parts of `flows`, and of `nascent_flows`.

use super::{Address, Handle};

/// The flows for which a part of `flows` has room, where there is more than one part: a sweep of one takes well below a
/// millisecond. A power of two, as the kernel rounds the buckets of a hash table up to one.
pub const FLOWS_A_PART: u32 = 2_048;

/// A flow, seen from the client: key of the parts of `flows`, and of `nascent_flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The client.
    pub client: Address,
    /// The service: stands for VIP and protocol.
    pub service: Handle,
    /// The client's port, or the ICMP echo identifier.
    pub client_port: u16,
    /// The VIP's port; 0 for ICMP.
    pub vip_port: u16,
}

/// Flags of `FlowValue::ended`.
pub mod flow_end {
    /// The client has sent a FIN.
    pub const CLIENT_FIN: u32 = 1;
    /// The backend has sent a FIN.
    pub const BACKEND_FIN: u32 = 2;
    /// Either has sent a RST.
    pub const RESET: u32 = 4;

    /// Whether a flow with these flags has ended for both sides.
    #[inline(always)]
    #[must_use]
    pub const fn is_closed(flags: u32) -> bool {
        flags & RESET != 0 || flags & (CLIENT_FIN | BACKEND_FIN) == CLIENT_FIN | BACKEND_FIN
    }
}

/// Value of the parts of `flows`, and of `nascent_flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowValue {
    /// Who has it. A handle whose incarnation isn't the place's own names a backend that is gone.
    pub backend: Handle,
    /// [`Control::clock`](super::Control::clock) at its last packet, seconds.
    pub last_seen: u32,
    /// Bits of [`flow_end`].
    pub ended: u32,
    /// The IP protocol number: which idle timeout holds.
    pub protocol: u32,
}

/// What the program `sweep` is run on: a frame whose first four bytes, in host order, are the number of a part of `flows`, or
/// one of these.
pub mod sweep {
    /// All of `nascent_flows`.
    pub const NASCENT: u32 = u32::MAX;
}

#[cfg(test)]
mod tests {
    use super::flow_end;

    #[test]
    fn a_flow_is_closed_by_both_fins_or_one_reset() {
        use flow_end::{BACKEND_FIN, CLIENT_FIN, RESET, is_closed};
        assert!(!is_closed(0));
        assert!(!is_closed(CLIENT_FIN));
        assert!(!is_closed(BACKEND_FIN));
        assert!(is_closed(CLIENT_FIN | BACKEND_FIN));
        assert!(is_closed(RESET));
        assert!(is_closed(RESET | CLIENT_FIN));
    }
}
