//! Flows that are known before the first packet is measured.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::Result;
use lb_common::abi::{Address, EndpointKey, FlowKey, FlowValue, PROTOCOL_ICMP, PROTOCOL_TCP};
use lb_common::bench;

use crate::bed::BACKENDS;
use crate::frames::{PORT, Packet};
use crate::programs::Programs;

/// A service at a VIP, as the maps name it: TCP on the measured port, or ICMP echo.
pub(crate) fn endpoint(vip: Ipv4Addr, packet: Packet) -> EndpointKey {
    let (port, protocol) = if packet == Packet::Echo { (0, PROTOCOL_ICMP) } else { (PORT, PROTOCOL_TCP) };
    EndpointKey { address: Address::v4(vip.octets()), port, protocol, reserved: 0 }
}

/// Puts flows into the table, as two packets of each would.
pub(crate) fn insert(
    programs: &mut Programs,
    vip: Ipv4Addr,
    packet: Packet,
    numbers: Range<u32>,
) -> Result<()> {
    let endpoint = endpoint(vip, packet);
    let service = programs.service(&endpoint)?;
    let backends =
        (0..u16::from(BACKENDS)).map(|index| programs.backend(index)).collect::<Result<Vec<_>>>()?;
    let first = packet.first_client().octets();
    let mut flows = programs.flows()?;
    for (number, &backend) in numbers.zip(backends.iter().cycle()) {
        let (client, client_port) = bench::client(first, u64::from(number));
        let key = FlowKey { client: Address::v4(client), service, client_port, vip_port: endpoint.port };
        let value = FlowValue { backend, last_seen: 0, ended: 0, protocol: u32::from(endpoint.protocol) };
        flows.insert(key, value, 0)?;
    }
    Ok(())
}
