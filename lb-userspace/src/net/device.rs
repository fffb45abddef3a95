//! What is asked of an interface by ioctl, in the namespace of the calling thread.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `ETHTOOL_STXCSUM`, `ETHTOOL_STSO` and `ETHTOOL_SGSO` of `linux/ethtool.h`: transmit checksums, TCP and
/// generic segmentation.
const OFFLOADS: [u32; 3] = [0x17, 0x1f, 0x24];

/// `ETHTOOL_GTXCSUM`, `ETHTOOL_GTSO` and `ETHTOOL_GGSO`: the same, read.
const GET_OFFLOADS: [u32; 3] = [0x16, 0x1e, 0x23];

/// `ETHTOOL_GDRVINFO`.
const GET_DRIVER: u32 = 0x03;

/// `struct ethtool_drvinfo` of `linux/ethtool.h`, of which only the name is read.
#[repr(C)]
struct EthtoolDriver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
nix::ioctl_read_bad!(get_mtu, libc::SIOCGIFMTU, libc::ifreq);
nix::ioctl_read_bad!(get_address, libc::SIOCGIFHWADDR, libc::ifreq);
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

/// The MTU of an interface, in bytes.
pub(super) fn mtu(interface: &str) -> io::Result<u32> {
    let nothing = libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 };
    let mut request = libc::ifreq { ifr_name: name_of(interface)?, ifr_ifru: nothing };
    let socket = any_socket()?;
    // SAFETY: the socket is open and the request is a complete ifreq for SIOCGIFMTU, which the kernel fills.
    unsafe { get_mtu(socket.as_raw_fd(), &raw mut request) }?;
    // SAFETY: the kernel has written a number there.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(io::Error::other)
}

/// The name of an interface's driver.
pub(super) fn driver(interface: &str) -> io::Result<String> {
    let mut info = EthtoolDriver { command: GET_DRIVER, name: [0; 32], rest: [0; 160] };
    run_ethtool(&any_socket()?, interface, &mut info)?;
    Ok(info.name.into_iter().take_while(|byte| *byte != 0).map(char::from).collect())
}

/// Whether an interface's frames are Ethernet's.
pub(super) fn is_ethernet(interface: &str) -> io::Result<bool> {
    let nothing = libc::__c_anonymous_ifr_ifru { ifru_flags: 0 };
    let mut request = libc::ifreq { ifr_name: name_of(interface)?, ifr_ifru: nothing };
    let socket = any_socket()?;
    // SAFETY: the socket is open and the request is a complete ifreq for SIOCGIFHWADDR, which the kernel fills.
    unsafe { get_address(socket.as_raw_fd(), &raw mut request) }?;
    // SAFETY: the kernel has written an address there, whose family is the kind of hardware.
    let kind = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
    Ok(kind == libc::ARPHRD_ETHER)
}

/// Turns transmit checksum offload and segmentation offloads off.
pub(super) fn disable_offloads(interface: &str) -> io::Result<()> {
    let socket = any_socket()?;
    for command in OFFLOADS {
        run_ethtool(&socket, interface, &mut EthtoolValue { command, data: 0 })?;
    }
    Ok(())
}

/// What a veth's end leaves to the card that a frame will never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Transmit checksums: frames go out without them (`tx` of `ethtool -K`).
    pub checksums: bool,
    /// Segmentation: frames go out that are longer than the MTU (`tso` or `gso`).
    pub segmentation: bool,
}

/// Reads transmit checksum offload and segmentation offloads.
pub(super) fn offloads(interface: &str) -> io::Result<Offloads> {
    let socket = any_socket()?;
    let is_on = |command| {
        let mut value = EthtoolValue { command, data: 0 };
        run_ethtool(&socket, interface, &mut value)?;
        io::Result::Ok(value.data != 0)
    };
    let [checksums, tcp, generic] = GET_OFFLOADS;
    Ok(Offloads { checksums: is_on(checksums)?, segmentation: is_on(tcp)? || is_on(generic)? })
}

/// `value` is the structure of the command that it begins with.
pub(super) fn run_ethtool<T>(socket: &UdpSocket, interface: &str, value: &mut T) -> io::Result<()> {
    let data = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut *value).cast() };
    let request = libc::ifreq { ifr_name: name_of(interface)?, ifr_ifru: data };
    // SAFETY: the socket is open, the request is complete, and its data points to a live structure of the
    // command that it begins with, which is what the kernel reads and writes.
    unsafe { ethtool(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Interface ioctls go through any socket of the namespace.
pub(super) fn any_socket() -> io::Result<UdpSocket> {
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

    #[tokio::test]
    async fn offloads_go_off_and_stay_off() {
        let name = format!("slnet-off-{}", std::process::id());
        let netns = Netns::create(&name).expect("a namespace: this test needs root");
        let links = crate::net::Links::open(&netns).expect("netlink");
        let mark = crate::net::Mark { group: 7, alias: "offload test".to_owned() };
        let end = |name| crate::net::VethEnd { links: &links, name, mac: None, master: None };
        links.ensure_veth(&mark, &end("va"), &end("vb")).await.expect("a veth");
        let before = netns.run(|| offloads("va")).expect("in the namespace").expect("read");
        netns.disable_offloads("va").expect("off");
        netns.disable_offloads("va").expect("off again");
        let after = netns.run(|| offloads("va")).expect("in the namespace").expect("read");
        let unknown = netns.disable_offloads("nope").expect_err("there is no such interface");
        Netns::delete(&name).expect("deleted");
        assert_eq!(before, Offloads { checksums: true, segmentation: true });
        assert_eq!(after, Offloads { checksums: false, segmentation: false });
        assert!(unknown.to_string().contains("nope") && unknown.to_string().contains(&name), "{unknown}");
    }

    #[test]
    fn long_names_are_refused() {
        assert!(name_of("abcdefghijklmno").is_ok());
        assert!(name_of("abcdefghijklmnop").is_err());
        assert!(name_of("").is_err());
    }
}
