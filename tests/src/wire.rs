//! A socket for whole frames on an interface.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use lb_userspace::net::{Links, MacAddr, Netns};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, send, socket,
};

/// Sends frames as they are on one interface of a namespace. It hears nothing.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    mac: MacAddr,
}

impl Wire {
    /// Opens the interface.
    pub async fn open(netns: &Netns, interface: &str) -> Result<Self> {
        let links = Links::open(netns)?.list().await?;
        let link = links.into_iter().find(|link| link.name == interface);
        let link = link.with_context(|| format!("no interface {interface}"))?;
        let mac = link.mac.with_context(|| format!("{interface} has no Ethernet address"))?;
        let opened = netns.run(|| packet_socket(link.index))?;
        let socket = opened.with_context(|| format!("no packet socket on {interface}"))?;
        Ok(Self { socket, mac })
    }

    /// The interface's Ethernet address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }
}

/// A packet socket in the namespace of the calling thread.
fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    // No protocol: nothing is received.
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    bind(opened.as_raw_fd(), &address_of(index)?)?;
    Ok(opened)
}

fn address_of(index: u32) -> io::Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: it points to a whole `sockaddr_ll` of that length, which is copied.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}
