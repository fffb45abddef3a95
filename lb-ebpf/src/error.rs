//! ICMP errors about a flow: they go the flow's way, the packet that they quote translated with them.

use lb_common::abi::{DropReason, EndpointKey, FlowKey};
use lb_common::packet::{self, End, Frame, Header, Packet, Quote, Transport};

use crate::flow;
use crate::frame::Careful;
use crate::maps;
use crate::refusal::Refusal;
use crate::uplink;

/// Sends an error about what a VIP has sent to the backend that has the flow. One about something else is the kernel's.
#[inline(always)]
pub(crate) fn to_backend(mut frame: Careful, packet: &Packet) -> Result<u32, Refusal> {
    let quote = packet::quoted(&frame, packet).ok_or(DropReason::IcmpQuote)?;
    if quote.header.source != packet.header.destination {
        return Err(DropReason::IcmpQuote.into());
    }
    let (vip_port, client_port) = ports(&quote, End::Source).ok_or(DropReason::IcmpQuote)?;
    let endpoint = EndpointKey::new(quote.header.source, vip_port, quote.protocol);
    let service = maps::service(&endpoint).ok_or(Refusal::Pass)?;
    let key = FlowKey { client: quote.header.destination, service: service.service, client_port, vip_port };
    let client = Header { source: quote.header.destination, ..quote.header };
    if !client.has_possible_source() {
        return Err(DropReason::ImpossibleSource.into());
    }
    maps::refuse_local(&client.source)?;
    let choice = flow::holder(maps::control()?, &key, quote.protocol)?;
    maps::count_packet(choice.index, key.service, frame.length() as u64, false);
    packet
        .readdress_error(&mut frame, End::Destination, &choice.backend.address, &quote, service.target_port)
        .ok_or(DropReason::Inconsistent)?;
    uplink::send(&mut frame, choice.backend)
}

/// The ports of a quoted packet: that of `near`, the end where the service is, and the other's. An echo has port 0 on the
/// service's end and its identifier on the other; a request comes from the client, a reply from the service.
#[inline(always)]
pub(crate) fn ports(quote: &Quote, near: End) -> Option<(u16, u16)> {
    match (quote.transport, near) {
        (Transport::EchoRequest { identifier }, End::Destination)
        | (Transport::EchoReply { identifier }, End::Source) => Some((0, identifier)),
        (Transport::Tcp { .. } | Transport::Udp { .. }, _) => {
            Some((quote.port(near)?, quote.port(near.other())?))
        }
        _ => None,
    }
}
