//! Backends are asked whether they still have a flow that its client is said to have reset.
//!
//! A backend that has taken a RST says nothing, and one that has ignored it, since it was forged, says nothing
//! either. A segment out of the window tells them apart: where the flow lives it is answered with an ACK, and where
//! there is none with a RST (RFC 9293, 3.10.7.4 and 3.10.7.1). The reply takes the path of all egress traffic, where
//! the flow learns from it; for the client it is one ACK more of what it knows, or the RST of a flow that isn't
//! there.

use std::io;
use std::net::IpAddr;

use aya::maps::MapError;
use etherparse::PacketBuilder;
use lb_common::abi::{BackendValue, SUSPECTS, Suspect};

use super::{Error, LoadBalancer, address};
use crate::net::{FrameSender, Netns};

/// The time to live of a probe: it crosses no router, but may meet one in a guest.
const TTL: u8 = 64;
/// The window that a probe gives, in bytes: any.
const WINDOW: u16 = 1_024;

/// Sends probes.
#[derive(Debug)]
pub(super) struct Prober(FrameSender);

impl Prober {
    /// Opens a socket in the transit namespace.
    pub(super) fn open(transit: &Netns) -> Result<Self, Error> {
        FrameSender::open(transit)
            .map(Self)
            .map_err(Error::file("opening a packet socket in", "the transit namespace"))
    }
}

impl LoadBalancer {
    /// Probes the flows of which the sweep just now has found that it is due.
    pub(super) fn probe_suspects(&mut self) -> Result<(), Error> {
        let (mut probed, mut failed) = (0, None);
        // Once through the queue: nothing is added meanwhile.
        while probed < SUSPECTS {
            let suspect = match self.maps.suspects.pop(0) {
                Ok(suspect) => suspect,
                Err(MapError::ElementNotFound) => break,
                Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
                    break;
                }
                Err(error) => return Err(Error::map("suspects")(error)),
            };
            probed += 1;
            // A probe that is lost is one that isn't answered: another follows.
            failed = self.probe(&suspect).err().or(failed);
        }
        if probed > 0 {
            tracing::debug!(probed, ?failed, "asked backends whether they have flows that were reset");
        }
        Ok(())
    }

    fn probe(&self, suspect: &Suspect) -> io::Result<()> {
        let Suspect { flow, backend: handle, .. } = suspect;
        let backend =
            self.registry.backend(handle.index).filter(|known| known.incarnation == handle.incarnation);
        let service = self.registry.services().find(|(_, known)| known.handle == flow.service);
        let (Some(backend), Some((_, service))) = (backend, service) else { return Ok(()) };
        let port = service.target_port.unwrap_or(flow.vip_port);
        // Any numbers, which none can foresee: one in a thousand is in the window of a flow, and isn't answered.
        let numbers = [fastrand::u32(..), fastrand::u32(..)];
        self.prober.0.send(backend.interface, &frame(suspect, backend, port, numbers)?)
    }
}

/// An ACK as if from the flow's client, of these numbers: its own, and that which it acknowledges.
fn frame(
    suspect: &Suspect,
    backend: &BackendValue,
    port: u16,
    [sequence, acknowledged]: [u32; 2],
) -> io::Result<Vec<u8>> {
    let link = PacketBuilder::ethernet2(backend.source_mac, backend.mac);
    let network = match (address::to_ip(&suspect.flow.client), address::to_ip(&backend.address)) {
        (IpAddr::V4(client), IpAddr::V4(backend)) => link.ipv4(client.octets(), backend.octets(), TTL),
        (IpAddr::V6(client), IpAddr::V6(backend)) => link.ipv6(client.octets(), backend.octets(), TTL),
        _ => return Err(io::Error::other("a flow of two families")),
    };
    let segment = network.tcp(suspect.flow.client_port, port, sequence, WINDOW).ack(acknowledged);
    let mut frame = Vec::with_capacity(segment.size(0));
    segment.write(&mut frame, &[]).map_err(io::Error::other)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use lb_common::abi::{Address, BackendValue, FlowKey, Handle, Suspect};

    use super::frame;

    fn suspect(client: Address) -> Suspect {
        let service = Handle { index: 1, incarnation: 2 };
        let flow = FlowKey { client, service, client_port: 40_000, vip_port: 80 };
        Suspect { flow, backend: Handle { index: 3, incarnation: 4 }, reserved: 0 }
    }

    #[test]
    fn a_probe_is_a_bare_ack_of_the_client_to_the_backend() {
        let v6 = |last| Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        for (client, address) in
            [(Address::v4([198, 51, 100, 7]), Address::v4([19, 0, 0, 2])), (v6(7), v6(2))]
        {
            let backend =
                BackendValue { address, mac: [2; 6], source_mac: [4; 6], ..BackendValue::default() };
            let frame = frame(&suspect(client), &backend, 8_080, [7, 9]).expect("a frame");
            assert_eq!((&frame[..6], &frame[6..12]), (&[2; 6][..], &[4; 6][..]));
            let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP: {packet:?}") };
            assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 8_080));
            assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (7, 9));
            assert_eq!(
                (tcp.ack(), tcp.rst(), tcp.syn(), tcp.fin(), tcp.payload().len()),
                (true, false, false, false, 0)
            );
            let checksum = match packet.net.expect("IP") {
                NetSlice::Ipv4(ip) => tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()),
                NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
                NetSlice::Arp(_) => panic!("ARP"),
            };
            assert_eq!(checksum.ok(), Some(tcp.checksum()));
        }
    }

    #[test]
    fn a_flow_of_two_families_has_no_probe() {
        let backend = BackendValue { address: Address::v4([19, 0, 0, 2]), ..BackendValue::default() };
        assert!(frame(&suspect(Address::v6([7; 16])), &backend, 80, [0, 0]).is_err());
    }
}
