//! ARP on one interface: whether another machine has an address, and telling the link that it is here (RFC 5227).
//!
//! The kernel does neither for an address that is added to an interface: it takes it, and neighbours that knew it
//! somewhere else go on sending there.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, send, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::link::Link;
use super::mac::MacAddr;
use super::netns::Netns;
use super::packet;

/// How often an address is asked for before it counts as free: `PROBE_NUM` of RFC 5227.
const PROBES: u32 = 3;
/// How long each time an answer is waited for. RFC 5227 has seconds, for links that came up just now and for
/// thousands of machines that start together; on a link that works an answer takes milliseconds.
const PROBE_WAIT: Duration = Duration::from_millis(150);
/// How often an address is announced: `ANNOUNCE_NUM` of RFC 5227.
const ANNOUNCEMENTS: u32 = 2;
/// Between two announcements: `ANNOUNCE_INTERVAL` of RFC 5227.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// An Ethernet header and an ARP packet for IPv4.
const FRAME: usize = 14 + 28;
/// From the Ethernet type to the lengths of addresses: ARP, for Ethernet and IPv4.
const ARP_OF_IPV4: [u8; 8] = [0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// `ETH_P_ARP` of `linux/if_ether.h`.
const ETH_P_ARP: u16 = 0x0806;

/// Sends and hears ARP on one interface.
#[derive(Debug)]
pub struct Arp {
    socket: AsyncFd<OwnedFd>,
    mac: MacAddr,
}

impl Arp {
    /// Opens a socket on an interface of a namespace; the interface has to be an Ethernet one. To be called on a tokio
    /// runtime.
    pub fn open(netns: &Netns, interface: &Link) -> io::Result<Self> {
        let Some(mac) = interface.mac else {
            let reason = format!("{} has no Ethernet address, so there is no ARP on it", interface.name);
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        };
        let socket = netns.run(|| packet_socket(interface.index))??;
        // SAFETY: an `OwnedFd` stays open and is the same descriptor until it is dropped, and only `AsyncFd` drops it.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket, mac })
    }

    /// The other machine that has the address, or is about to take it; `None` when nobody answers within 0.45 s.
    pub async fn holder(&self, address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
        for _ in 0..PROBES {
            self.send(&request(self.mac, Ipv4Addr::UNSPECIFIED, address)).await?;
            if let Ok(answer) = timeout(PROBE_WAIT, self.claim(address)).await {
                return answer.map(Some);
            }
        }
        Ok(None)
    }

    /// Tells the link that the address is here, so that neighbours that knew it elsewhere know it now: at once, and again
    /// two seconds later, when this returns.
    pub async fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        for round in 0..ANNOUNCEMENTS {
            if round > 0 {
                sleep(ANNOUNCE_INTERVAL).await;
            }
            self.send(&request(self.mac, address, address)).await?;
        }
        Ok(())
    }

    /// Waits until another machine claims the address.
    async fn claim(&self, address: Ipv4Addr) -> io::Result<MacAddr> {
        loop {
            let mut frame = [0; FRAME];
            let receive = |socket: &OwnedFd| Ok(recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty())?);
            let length = self.socket.async_io(Interest::READABLE, receive).await?;
            if length == FRAME
                && let Some(mac) = claimed_by(&frame, self.mac, address)
            {
                return Ok(mac);
            }
        }
    }

    async fn send(&self, frame: &[u8; FRAME]) -> io::Result<()> {
        let write = |socket: &OwnedFd| Ok(send(socket.as_raw_fd(), frame, MsgFlags::empty())?);
        let sent = timeout(PROBE_WAIT, self.socket.async_io(Interest::WRITABLE, write)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(drop)
    }
}

/// A socket for ARP frames on the interface, in the namespace of the calling thread.
fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it hears nothing until it is bound to its interface.
    let opened = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    bind(opened.as_raw_fd(), &packet::address_of(index, ETH_P_ARP)?)?;
    Ok(opened)
}

/// An ARP request to all: from an address nobody has it is a probe, from the address itself an announcement.
fn request(from: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let parts: [&[u8]; 8] = [
        &[0xff; 6],
        &from.0,
        &ARP_OF_IPV4,
        &REQUEST.to_be_bytes(),
        &from.0,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    ];
    for (to, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *byte;
    }
    frame
}

/// The machine other than `own` that says in a frame that it has the address, or asks for it as one that is about to
/// take it does.
fn claimed_by(frame: &[u8; FRAME], own: MacAddr, address: Ipv4Addr) -> Option<MacAddr> {
    let part = |from: usize| frame.get(from..from + 4);
    let operation = u16::from_be_bytes([frame[20], frame[21]]);
    if frame[12..20] != ARP_OF_IPV4 || !(REQUEST..=REPLY).contains(&operation) {
        return None;
    }
    let mac = MacAddr(frame[22..28].try_into().ok()?);
    let (sender, target) = (part(28)?, part(38)?);
    let has = sender == address.octets();
    let probes = operation == REQUEST && sender == [0; 4] && target == address.octets();
    (mac != own && (has || probes)).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn who_has_an_address_or_is_about_to_take_it_claims_it() {
        let client = Ipv4Addr::new(198, 51, 100, 2);
        let announcement = request(OTHER, VIP, VIP);
        let mut answer = request(OTHER, VIP, client);
        answer[21] = 2;
        let probe = request(OTHER, Ipv4Addr::UNSPECIFIED, VIP);
        for claim in [announcement, answer, probe] {
            assert_eq!(claimed_by(&claim, OWN, VIP), Some(OTHER));
            assert_eq!(claimed_by(&claim, OTHER, VIP), None, "its own frames come back to a packet socket");
        }
        assert_eq!(claimed_by(&request(OTHER, client, VIP), OWN, VIP), None, "a client asks for it");
        let mut other_protocol = announcement;
        other_protocol[13] = 0;
        assert_eq!(claimed_by(&other_protocol, OWN, VIP), None);
    }
}
