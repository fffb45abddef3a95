//! Frames on a real interface.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use lb_userspace::net::Netns;
use nix::libc;

/// A socket for whole frames on one interface.
pub(crate) struct Wire(OwnedFd);

impl Wire {
    /// Opens it; what is received is IPv4 from clients with these first three bytes, and nothing else.
    pub(crate) fn open(netns: &Netns, interface: &str, clients: [u8; 3]) -> Self {
        let opened = netns.run(|| open(interface, clients)).expect("the namespace");
        Self(opened.expect("a packet socket"))
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is as long as is said, and is read only.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(frame.len()), "{}", io::Error::last_os_error());
    }

    /// The next frame, if one comes within the time.
    pub(crate) fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        let mut ready = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(within.as_millis()).expect("a short time");
        // SAFETY: one descriptor, as is said.
        if unsafe { libc::poll(&raw mut ready, 1, milliseconds) } != 1 {
            return None;
        }
        let mut frame = vec![0; 2048];
        // SAFETY: the buffer is as long as is said.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(length).expect("a frame"));
        Some(frame)
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn open(interface: &str, clients: [u8; 3]) -> io::Result<OwnedFd> {
    let every = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: numbers only.
    let number =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(every)) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let room: libc::c_int = 64 << 20;
    set(&socket, libc::SO_RCVBUFFORCE, &room)?;
    filter(&socket, clients)?;
    // SAFETY: all zeros are an address; its length is its own.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = every;
    address.sll_ifindex = i32::try_from(nix::net::if_::if_nametoindex(interface)?).expect("an index");
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of that length.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Accepts IPv4 whose source begins with these bytes.
fn filter(socket: &OwnedFd, clients: [u8; 3]) -> io::Result<()> {
    let step =
        |code: u32, on_false: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: on_false, k };
    let [a, b, c] = clients;
    let mut program = [
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 12),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 4, 0x0800),
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 26),
        step(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 0, 8),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::from_be_bytes([0, a, b, c])),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    set(socket, libc::SO_ATTACH_FILTER, &libc::sock_fprog { len: 7, filter: program.as_mut_ptr() })
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is of the type that the option takes, and of that length.
    let result = unsafe {
        let value: *const T = value;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
