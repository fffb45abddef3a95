//! Ethernet frames of this process's own making.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket,
};

use super::netns::Netns;

/// Sends frames on the interfaces of one namespace, and hears none.
#[derive(Debug)]
pub struct FrameSender(OwnedFd);

impl FrameSender {
    /// Opens a socket in the namespace.
    pub fn open(netns: &Netns) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it hears nothing.
        Ok(Self(netns.run(|| socket(AddressFamily::Packet, SockType::Raw, flags, None))??))
    }

    /// Sends a frame, from its Ethernet header on, on the interface of that index.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        // The kernel reads the protocol from the frame where none is named.
        let to = address_of(interface, 0)?;
        sendto(self.0.as_raw_fd(), frame, &to, MsgFlags::empty())?;
        Ok(())
    }
}

/// An interface, and a protocol of `linux/if_ether.h`, for a packet socket.
pub(super) fn address_of(index: u32, protocol: u16) -> io::Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: it points to a whole `sockaddr_ll` of that length, which is copied.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.ok_or_else(|| Errno::EINVAL.into())
}
