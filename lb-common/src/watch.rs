//! What `sluice lb watch` tells its program, and what that tells it; nothing of it is in the object that balances.

use crate::abi::Address;

/// [`Decision::reason`] where nothing was counted as dropped.
pub const NO_REASON: u32 = u32::MAX;

/// [`Decision::slot`] where the packet doesn't name its flow.
pub const NO_SLOT: u32 = u32::MAX;

/// Which packets are wanted: the only value of `watch_filter`, set before the program runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    /// Clients: those whose address is this one, but for what `client_mask` leaves out.
    pub client: Address,
    /// The bits of the address that count; none for any client.
    pub client_mask: Address,
    /// The VIP, likewise.
    pub vip: Address,
    /// The bits of the VIP that count: all or none.
    pub vip_mask: Address,
    /// The VIP's port; 0 for any.
    pub port: u16,
    /// The IP protocol number; 0 for any.
    pub protocol: u8,
    /// Not 0: packets to addresses that aren't VIPs too.
    pub all: u8,
    /// Of each CPU's packets that are wanted, one in so many is shown; at least 1.
    pub every: u32,
}

impl Filter {
    /// Whether packets that can't be read are wanted: their addresses aren't known.
    #[inline(always)]
    #[must_use]
    pub const fn takes_unread(&self) -> bool {
        let ([first, second], [third, fourth]) = (self.client_mask.words(), self.vip_mask.words());
        first | second | third | fourth == 0 && self.port == 0 && self.protocol == 0
    }

    /// Whether a packet's addresses, protocol and port are wanted. One that names no port has port 0.
    #[inline(always)]
    #[must_use]
    pub const fn takes(&self, client: &Address, vip: &Address, protocol: u8, port: u16) -> bool {
        agree(client, &self.client, &self.client_mask)
            && agree(vip, &self.vip, &self.vip_mask)
            && (self.protocol == 0 || self.protocol == protocol)
            && (self.port == 0 || self.port == port)
    }
}

/// Whether two addresses agree in the bits that the mask has.
#[inline(always)]
const fn agree(one: &Address, other: &Address, mask: &Address) -> bool {
    let (one, other, mask) = (one.words(), other.words(), mask.words());
    ((one[0] ^ other[0]) & mask[0]) | ((one[1] ^ other[1]) & mask[1]) == 0
}

/// How many packets there were, for each CPU: the only value of `watch_counts`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Those that the filter wants.
    pub wanted: u64,
    /// Those of them that found the ring buffer full.
    pub lost: u64,
}

/// Somebody who may have a flow, as the maps had it just before the packet was decided on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Candidate {
    /// A backend's address.
    pub address: Address,
    /// One of [`backend_state`](crate::abi::backend_state); `FREE` where there is nobody.
    pub state: u8,
    /// Always 0.
    pub reserved: [u8; 7],
}

/// What a packet is, as far as its way depends on it: [`Decision::kind`].
pub mod kind {
    /// It can't be read.
    pub const UNREAD: u8 = 0;
    /// It names its flow.
    pub const FLOW: u8 = 1;
    /// A fragment but the first of its packet: it follows that.
    pub const FRAGMENT: u8 = 2;
    /// An ICMP error: it follows the flow that it is about.
    pub const ERROR: u8 = 3;
    /// Of a protocol that isn't balanced.
    pub const OTHER: u8 = 4;
}

/// What became of a packet.
///
/// Verdict, backend, reason and whether the flow is new are what the program returned, wrote and counted. Slot, candidates
/// and `tracked` are what it found: read from the same maps, on the same CPU, just before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Decision {
    /// Where the packet came from; all zero where it can't be read.
    pub client: Address,
    /// Where it went to.
    pub vip: Address,
    /// Where it goes now, where the verdict is `XDP_REDIRECT`.
    pub backend: Address,
    /// The owner of the flow's slot.
    pub owner: Candidate,
    /// Who has the flows of its slot that began before it moved.
    pub previous_owner: Candidate,
    /// Who has the flow, by its entry in a flow table.
    pub flow: Candidate,
    /// The frame's length when it came.
    pub length: u32,
    /// `enum xdp_action` of `linux/bpf.h`.
    pub verdict: u32,
    /// The place in `drops` that was counted, or [`NO_REASON`].
    pub reason: u32,
    /// The slot, or [`NO_SLOT`].
    pub slot: u32,
    /// The client's port, or the echo's identifier.
    pub client_port: u16,
    /// The port at the VIP; 0 for ICMP, and where none is named.
    pub vip_port: u16,
    /// The port that the packet goes to now.
    pub backend_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// TCP flags; 0 for other protocols.
    pub flags: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// 1 where the flow's slot has moved lately: its flows are looked up.
    pub tracked: u8,
    /// 1 where the service counted a new flow.
    pub new_flow: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

#[cfg(feature = "user")]
mod pod {
    use super::{Counts, Decision, Filter};

    // SAFETY: `repr(C)`, made of integers only, without padding (asserted below), valid for any bytes.
    unsafe impl aya::Pod for Filter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Decision {}
}

const _: () = {
    assert!(size_of::<Filter>() == 4 * 16 + 8);
    assert!(size_of::<Candidate>() == 16 + 8);
    assert!(size_of::<Decision>() == 3 * 16 + 3 * 24 + 4 * 4 + 3 * 2 + 10);
};

#[cfg(test)]
mod tests {
    use super::Filter;
    use crate::abi::Address;

    const CLIENT: Address = Address::v4([198, 51, 100, 7]);
    const VIP: Address = Address::v4([45, 45, 45, 45]);
    const ALL: Address = Address { bytes: [0xff; 16] };

    #[test]
    fn an_empty_filter_takes_everything() {
        let filter = Filter::default();
        assert!(filter.takes(&CLIENT, &VIP, 6, 80) && filter.takes_unread());
    }

    #[test]
    fn each_part_of_a_filter_holds() {
        let filter = Filter {
            client: CLIENT,
            client_mask: ALL,
            vip: VIP,
            vip_mask: ALL,
            port: 80,
            protocol: 6,
            ..Filter::default()
        };
        assert!(filter.takes(&CLIENT, &VIP, 6, 80));
        assert!(!filter.takes(&VIP, &VIP, 6, 80) && !filter.takes(&CLIENT, &CLIENT, 6, 80));
        assert!(!filter.takes(&CLIENT, &VIP, 17, 80) && !filter.takes(&CLIENT, &VIP, 6, 81));
        for part in [
            Filter { client_mask: ALL, ..Filter::default() },
            Filter { vip_mask: ALL, ..Filter::default() },
            Filter { port: 80, ..Filter::default() },
            Filter { protocol: 6, ..Filter::default() },
        ] {
            assert!(!part.takes_unread());
        }
    }

    #[test]
    fn a_mask_leaves_bits_out() {
        let mut mask = ALL;
        mask.bytes[15] = 0;
        let filter =
            Filter { client: Address::v4([198, 51, 100, 0]), client_mask: mask, ..Filter::default() };
        assert!(filter.takes(&CLIENT, &VIP, 6, 80));
        assert!(!filter.takes(&Address::v4([198, 51, 101, 7]), &VIP, 6, 80));
    }
}
