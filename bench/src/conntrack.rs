//! The kernel's connection tracking table in a namespace.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use lb_userspace::net::Netns;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// How many connections it may hold: the host's setting, for all namespaces.
pub(crate) fn limit() -> Result<u32> {
    const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    let text =
        fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}: no connection tracking"))?;
    text.trim().parse().with_context(|| format!("{PATH} is no number"))
}

/// Forgets all connections of a namespace: `IPCTNL_MSG_CT_DELETE` without a tuple
/// (`linux/netfilter/nfnetlink_conntrack.h`), as `conntrack -F` sends it.
pub(crate) fn flush(netns: &Netns) -> Result<()> {
    netns.run(send_flush)?.context("cannot empty the connection tracking table")
}

fn send_flush() -> io::Result<()> {
    const SUBSYSTEM: u16 = 1;
    const DELETE: u16 = 2;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const IPV4: u8 = 2;
    /// A netlink header and a `struct nfgenmsg`: family, version, resource.
    const LENGTH: u32 = 16 + 4;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend((SUBSYSTEM << 8 | DELETE).to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([IPV4, 0, 0, 0]);

    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // `struct nlmsgerr`: a negative error number, or 0.
    let error = answer[..length].get(16..20).and_then(|bytes| bytes.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}
