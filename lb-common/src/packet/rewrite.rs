//! What a packet becomes on its way.

use super::{ETHERNET, FrameMut, Header, Packet, Part, Quote, Transport, Version};
use crate::abi::Address;
use crate::checksum::Difference;

/// An end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl End {
    /// The other end.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }

    /// The offset of its port in a TCP or UDP header.
    #[inline(always)]
    const fn port(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

impl Header {
    /// The offset of an end's address in the header.
    #[inline(always)]
    const fn address_offset(&self, end: End) -> usize {
        match (self.version, end) {
            (Version::V4 { .. }, End::Source) => 12,
            (Version::V4 { .. }, End::Destination) => 16,
            (Version::V6, End::Source) => 8,
            (Version::V6, End::Destination) => 24,
        }
    }

    /// Writes an end's new address into the header at `at`, and returns what that changes. An IPv4 header's own checksum
    /// is left to the caller.
    #[inline(always)]
    fn write_address<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        at: usize,
        end: End,
        address: &Address,
    ) -> Option<Difference> {
        let place = at + self.address_offset(end);
        let old = if end == End::Source { self.source } else { self.destination };
        match self.version {
            Version::V4 { .. } => {
                let new = address.v4_octets();
                frame.write(place, new)?;
                Some(Difference::of_4(old.v4_octets(), new))
            }
            Version::V6 => {
                // Word by word: the compiler would make all bytes at once a call of `memmove`.
                let [high, low] = address.words();
                frame.write(place, high.to_ne_bytes())?;
                frame.write(place + 8, low.to_ne_bytes())?;
                Some(Difference::of_16(old.words(), address.words()))
            }
        }
    }
}

impl Packet {
    /// Gives an end another address and counts the hop, in the IP header. Returns the change, for the checksums of the
    /// payload that cover it; nothing where the frame is shorter than was parsed.
    ///
    /// A packet with a new destination was for this host, which doesn't count a last hop: its TTL never becomes 0. One with
    /// a new source is forwarded, and must have a hop left.
    #[inline(always)]
    pub fn readdress<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        end: End,
        address: &Address,
    ) -> Option<Difference> {
        let is_last = end == End::Destination && self.hops <= 1;
        let hops = if is_last { self.hops } else { self.hops.wrapping_sub(1) };
        let change = self.header.write_address(frame, ETHERNET, end, address)?;
        match self.header.version {
            Version::V4 { checksum, .. } => {
                // TTL and protocol share a 16-bit word; the TTL is its first byte.
                let hop = Difference::of_2([self.hops, 0], [hops, 0]);
                frame.write(ETHERNET + 8, [hops])?;
                frame.write(ETHERNET + 10, change.and(hop).apply(checksum).to_ne_bytes())?;
            }
            Version::V6 => frame.write(ETHERNET + 7, [hops])?,
        }
        Some(change)
    }

    /// Where the payload's checksum is, if it covers the addresses.
    #[inline(always)]
    #[must_use]
    pub const fn checksum_offset(&self) -> Option<usize> {
        if let Part::Later { .. } = self.part {
            return None;
        }
        match self.transport {
            Transport::Tcp { .. } => Some(self.payload + 16),
            Transport::Udp { .. } => Some(self.payload + 6),
            Transport::EchoRequest { .. } | Transport::EchoReply { .. } | Transport::Error
                if self.header.is_v6() =>
            {
                Some(self.payload + 2)
            }
            _ => None,
        }
    }

    /// Where an end's port is, and what it is, if the payload has ports.
    #[inline(always)]
    #[must_use]
    pub const fn port(&self, end: End) -> Option<(usize, u16)> {
        match (self.transport, end) {
            (Transport::Tcp { source, .. } | Transport::Udp { source, .. }, End::Source) => {
                Some((self.payload, source))
            }
            (Transport::Tcp { destination, .. } | Transport::Udp { destination, .. }, End::Destination) => {
                Some((self.payload + 2, destination))
            }
            _ => None,
        }
    }

    /// Gives an end another port, unless it is 0, and updates the payload's checksum for that and for what
    /// [`readdress`](Self::readdress) has changed.
    #[inline(always)]
    pub fn readdress_payload<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        end: End,
        port: u16,
        address: Difference,
    ) -> Option<()> {
        let mut change = address;
        if port != 0
            && let Some((at, old)) = self.port(end)
        {
            let new = port.to_be_bytes();
            frame.write(at, new)?;
            change = change.and(Difference::of_2(old.to_be_bytes(), new));
        }
        if let Some(at) = self.checksum_offset() {
            let old = u16::from_ne_bytes(frame.read::<2>(at)?);
            let new = match self.transport {
                Transport::Udp { .. } => udp_checksum(change, old),
                _ => change.apply(old),
            };
            frame.write(at, new.to_ne_bytes())?;
        }
        Some(())
    }

    /// As [`readdress`](Self::readdress), for an ICMP error and the packet that it quotes, in which the address and port
    /// are the other end's.
    #[inline(always)]
    pub fn readdress_error<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        end: End,
        address: &Address,
        quote: &Quote,
        port: u16,
    ) -> Option<()> {
        let outer = self.readdress(frame, end, address)?;
        let inner = quote.readdress(frame, end.other(), address, port)?;
        let change = if self.header.is_v6() { outer.and(inner) } else { inner };
        let at = self.payload + 2;
        let checksum = u16::from_ne_bytes(frame.read::<2>(at)?);
        frame.write(at, change.apply(checksum).to_ne_bytes())
    }
}

impl Quote {
    /// Gives an end another address, and another port unless that is 0. Returns what this changes in all.
    #[inline(always)]
    fn readdress<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        end: End,
        address: &Address,
        port: u16,
    ) -> Option<Difference> {
        let address = self.header.write_address(frame, self.at, end, address)?;
        let mut change = address;
        if let Version::V4 { checksum, .. } = self.header.version {
            let new = address.apply(checksum);
            frame.write(self.at + 10, new.to_ne_bytes())?;
            change = change.and(Difference::of_2(checksum.to_ne_bytes(), new.to_ne_bytes()));
        }
        let mut in_payload = address;
        if let Some(old) = self.port(end)
            && port != 0
        {
            let new = port.to_be_bytes();
            frame.write(self.payload + end.port(), new)?;
            let of_port = Difference::of_2(old.to_be_bytes(), new);
            change = change.and(of_port);
            in_payload = in_payload.and(of_port);
        }
        let Some(at) = self.checksum_offset() else { return Some(change) };
        let old = u16::from_ne_bytes(frame.read::<2>(at)?);
        let new = match self.transport {
            Transport::Udp { .. } => udp_checksum(in_payload, old),
            _ => in_payload.apply(old),
        };
        frame.write(at, new.to_ne_bytes())?;
        Some(change.and(Difference::of_2(old.to_ne_bytes(), new.to_ne_bytes())))
    }
}

/// A UDP checksum of 0 means that there is none, and one that comes out as 0 is sent as all ones (RFC 768).
#[inline(always)]
const fn udp_checksum(change: Difference, old: u16) -> u16 {
    match (old, change.apply(old)) {
        (0, _) => 0,
        (_, 0) => 0xffff,
        (_, new) => new,
    }
}
