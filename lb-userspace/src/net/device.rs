//! What is asked of an interface by ioctl, in the namespace of the calling thread.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `ETHTOOL_STXCSUM`, `ETHTOOL_STSO` and `ETHTOOL_SGSO` of `linux/ethtool.h`: transmit checksums, TCP and
/// generic segmentation.
const OFFLOADS: [u32; 3] = [0x17, 0x1f, 0x24];

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(ethtool, libc::SIOCETHTOOL, libc::ifreq);

/// Sets an interface up.
pub(super) fn set_up(interface: &str) -> io::Result<()> {
    let flags = libc::__c_anonymous_ifr_ifru { ifru_flags: flag(libc::IFF_UP)? };
    let request = libc::ifreq { ifr_name: name_of(interface)?, ifr_ifru: flags };
    let socket = any_socket()?;
    // SAFETY: the socket is open and the request is a complete ifreq for SIOCSIFFLAGS, only read by the kernel.
    unsafe { set_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Turns transmit checksum offload and segmentation offloads off.
pub(super) fn disable_offloads(interface: &str) -> io::Result<()> {
    let socket = any_socket()?;
    for command in OFFLOADS {
        run_ethtool(&socket, interface, &mut EthtoolValue { command, data: 0 })?;
    }
    Ok(())
}

fn run_ethtool(socket: &UdpSocket, interface: &str, value: &mut EthtoolValue) -> io::Result<()> {
    let data = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut *value).cast() };
    let request = libc::ifreq { ifr_name: name_of(interface)?, ifr_ifru: data };
    // SAFETY: the socket is open, the request is complete, and its data points to a live ethtool_value, which
    // is what the commands used here read and write.
    unsafe { ethtool(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Interface ioctls go through any socket of the namespace.
fn any_socket() -> io::Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(UdpSocket::from(socket))
}

fn flag(flag: libc::c_int) -> io::Result<libc::c_short> {
    flag.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// An interface's name as the kernel takes it, ended by a zero.
fn name_of(interface: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut name = [0; libc::IFNAMSIZ];
    if interface.is_empty() || interface.len() >= name.len() {
        let reason = format!("`{interface}` is not an interface name: 1 to {} bytes", libc::IFNAMSIZ - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Netns;

    /// `ETHTOOL_GTXCSUM`, `ETHTOOL_GTSO` and `ETHTOOL_GGSO`.
    const READ: [u32; 3] = [0x16, 0x1e, 0x23];

    fn offloads(interface: &str) -> Vec<u32> {
        let socket = any_socket().expect("a socket");
        let read = |command| {
            let mut value = EthtoolValue { command, data: 7 };
            run_ethtool(&socket, interface, &mut value).expect("ethtool can read");
            value.data
        };
        READ.into_iter().map(read).collect()
    }

    #[tokio::test]
    async fn offloads_go_off_and_stay_off() {
        let name = format!("slnet-off-{}", std::process::id());
        let netns = Netns::create(&name).expect("a namespace: this test needs root");
        let links = crate::net::Links::open(&netns).expect("netlink");
        let mark = crate::net::Mark { group: 7, alias: "offload test".to_owned() };
        let end = |name| crate::net::VethEnd { links: &links, name, mac: None, master: None };
        links.ensure_veth(&mark, &end("va"), &end("vb")).await.expect("a veth");
        let before = netns.run(|| offloads("va")).expect("in the namespace");
        netns.disable_offloads("va").expect("off");
        netns.disable_offloads("va").expect("off again");
        let after = netns.run(|| offloads("va")).expect("in the namespace");
        let unknown = netns.disable_offloads("nope").expect_err("there is no such interface");
        Netns::delete(&name).expect("deleted");
        assert_eq!(before, [1, 1, 1]);
        assert_eq!(after, [0, 0, 0]);
        assert!(unknown.to_string().contains("nope") && unknown.to_string().contains(&name), "{unknown}");
    }

    #[test]
    fn long_names_are_refused() {
        assert!(name_of("abcdefghijklmno").is_ok());
        assert!(name_of("abcdefghijklmnop").is_err());
        assert!(name_of("").is_err());
    }
}
