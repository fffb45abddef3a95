//! First packets of connections that go no further, from random sources, as fast as they can be sent.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use nix::libc;

use crate::flow::Flow;
use crate::wire::Wire;

/// Different SYNs; they are sent again and again, each time from other ports.
const SYNS: usize = 1 << 16;
/// Frames of one system call.
const BATCH: usize = 64;

/// The frames of a flood, one after the other.
pub(crate) struct Flood {
    frames: Vec<u8>,
    length: usize,
}

impl Flood {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let syn = |_| {
            let client = Ipv4Addr::new(10, rng.u8(..), rng.u8(..), rng.u8(1..255));
            Flow { client, port: rng.u16(1024..) }.segment("S")
        };
        let frames: Vec<Vec<u8>> = (0..SYNS).map(syn).collect();
        Self { length: frames[0].len(), frames: frames.concat() }
    }

    /// Sends them until it is time to stop. What finds no room in the ring is lost, as on any wire.
    pub(crate) fn run(mut self, wire: &Wire, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            for batch in self.frames.chunks_mut(BATCH * self.length) {
                batch.chunks_mut(self.length).for_each(next_port);
                send(wire, batch, self.length);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// Counts the source port one on, and the checksum one back.
fn next_port(frame: &mut [u8]) {
    const PORT: usize = 34;
    const SUM: usize = PORT + 16;
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (port, sum) = (word(frame, PORT), word(frame, SUM));
    if port < u16::MAX && sum > 0 {
        frame[PORT..PORT + 2].copy_from_slice(&(port + 1).to_be_bytes());
        frame[SUM..SUM + 2].copy_from_slice(&(sum - 1).to_be_bytes());
    }
}

fn send(wire: &Wire, batch: &mut [u8], length: usize) {
    let mut parts: Vec<libc::iovec> = batch
        .chunks_mut(length)
        .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() })
        .collect();
    let message = |part: &mut libc::iovec| {
        // SAFETY: all zeros are a message without anything.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (part, 1);
        message
    };
    let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
    let count = u32::try_from(messages.len()).expect("a batch");
    // SAFETY: so many messages, each of one part, all of which outlive the call. That fewer are sent is no fault.
    unsafe { libc::sendmmsg(wire.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
}
