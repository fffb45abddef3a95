//! Bridges to which the host is no neighbour, and on which no instance speaks for another.

use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};

use super::Error;
use super::links::{attach_clsact, program};
use crate::net::Netns;
use crate::object::bridge_object;

/// Keeps the host from all that a bridge would hand up to it; what goes from port to port stays as it is. Idempotent. It ends
/// with the bridge.
///
/// Reverse-path filters do most of that, but let a datagram from 0.0.0.0 to 255.255.255.255 or to a multicast group of the link
/// through to whatever listens on the host.
pub fn close_bridge(netns: &Netns, bridge: &str) -> Result<(), Error> {
    attach("closed", netns, bridge)
}

/// Lets an interface on a bridge take IPv4 packets only from those instances that they say to be from. To be used
/// where the bridge's ports check Ethernet addresses ([`Links::seal_port`](crate::net::Links::seal_port)).
/// Idempotent. It ends with the interface.
pub fn admit_own_addresses(netns: &Netns, interface: &str) -> Result<(), Error> {
    attach("own_address", netns, interface)
}

fn attach(name: &'static str, netns: &Netns, interface: &str) -> Result<(), Error> {
    let mut ebpf: Ebpf = EbpfLoader::new().load(bridge_object().ok_or(Error::NoObject)?)?;
    let filter: &mut SchedClassifier = program(&mut ebpf, name)?;
    filter.load().map_err(Error::program(name))?;
    attach_clsact(filter, name, netns, interface)
}
