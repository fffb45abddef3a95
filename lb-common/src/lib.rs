//! What the XDP programs and userspace share: the maps' keys and values, and the pure packet code.
//!
//! Nothing here touches a map or a helper, so all of it is tested on the host.
#![cfg_attr(not(test), no_std)]
#![expect(
    clippy::inline_always,
    reason = "the kernel's verifier follows a packet pointer's bounds within a function, not through a call"
)]
#![expect(clippy::cast_possible_truncation, reason = "lengths in a frame are below 65,536")]

pub mod abi;
pub mod attempt;
pub mod bench;
pub mod checksum;
pub mod clock;
pub mod handshake;
pub mod hash;
pub mod packet;
pub mod recent;
pub mod watch;
