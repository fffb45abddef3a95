//! A decision as people read it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{
    Address, DropReason, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, backend_state,
};
use lb_common::packet::tcp_flag;
use lb_common::watch::{Candidate, Decision, NO_SLOT, kind};
use serde::{Deserialize, Serialize};

use super::super::explain::{ChosenBy, Outcome, SlotView};
use super::super::sandbox::Verdict;
use crate::lb::address;
use crate::service::BackendState;

/// What became of a client's packet, and why.
///
/// Outcome, backend, reason and whether the flow is new are what the program did. Slot and `chosen_by` say what the maps had
/// for the packet just before, and which of that the program's choice agrees with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Where it came from; `None` where the packet can't be read.
    pub client: Option<IpAddr>,
    /// The client's port, or the echo identifier; `None` where none is named.
    pub client_port: Option<u16>,
    /// Where it went to.
    pub vip: Option<IpAddr>,
    /// The port there.
    pub vip_port: Option<u16>,
    /// `tcp`, `udp`, `icmp`, or the number of another IP protocol.
    pub protocol: Option<String>,
    /// TCP flags by their letters, as tcpdump shows them: `S`, `SA`, `F`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    /// Its length from the Ethernet header on, in bytes.
    pub length: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// The slot that its flow hashes to; the address of nobody is left out.
    pub slot: Option<SlotView>,
    /// Who has its flow by an entry in a flow table.
    pub flow: Option<IpAddr>,
    /// What has decided between backends; `None` where nothing had to, or another packet has changed it meanwhile.
    pub chosen_by: Option<ChosenBy>,
}

impl Sample {
    pub(super) fn of(decision: &Decision) -> Self {
        let read = decision.kind != kind::UNREAD;
        let has_flow = decision.kind == kind::FLOW;
        let has_ports = has_flow && !is_icmp(decision.protocol);
        Self {
            client: read.then(|| address::to_ip(&decision.client)),
            client_port: has_flow.then_some(decision.client_port),
            vip: read.then(|| address::to_ip(&decision.vip)),
            vip_port: has_ports.then_some(decision.vip_port),
            protocol: read.then(|| protocol(decision.protocol)),
            flags: (has_flow && decision.protocol == PROTOCOL_TCP).then(|| flags(decision.flags)),
            length: decision.length,
            outcome: outcome(decision),
            slot: (decision.slot != NO_SLOT).then(|| SlotView {
                number: decision.slot,
                tracked: decision.tracked != 0,
                owner: candidate(&decision.owner),
                previous_owner: candidate(&decision.previous_owner),
            }),
            flow: candidate(&decision.flow),
            chosen_by: chosen_by(decision),
        }
    }
}

fn outcome(decision: &Decision) -> Outcome {
    let reason = usize::try_from(decision.reason).ok().and_then(|place| DropReason::ALL.get(place));
    let reason = reason.map_or("unknown", |reason| reason.name()).to_owned();
    match Verdict::of(decision.verdict) {
        Verdict::Redirect => Outcome::Backend {
            to: SocketAddr::new(address::to_ip(&decision.backend), decision.backend_port),
            state: state(decision),
            new_flow: decision.new_flow != 0,
        },
        Verdict::Transmit => Outcome::Answered { reason },
        Verdict::Drop => Outcome::Dropped { reason },
        Verdict::Pass => Outcome::Kernel,
    }
}

/// The state of the backend that was chosen, where it is one of those known.
fn state(decision: &Decision) -> Option<BackendState> {
    let known = [decision.flow, decision.owner, decision.previous_owner];
    let chosen = known.iter().find(|candidate| is_at(candidate, &decision.backend))?;
    match chosen.state {
        backend_state::ACTIVE => Some(BackendState::Active),
        backend_state::DRAINING => Some(BackendState::Draining),
        _ => Some(BackendState::Down),
    }
}

/// Which of those that might have the flow has got it. In a steady slot TCP is its owner's, whatever a table says.
fn chosen_by(decision: &Decision) -> Option<ChosenBy> {
    let Decision { backend, owner, previous_owner, flow, .. } = decision;
    if Verdict::of(decision.verdict) != Verdict::Redirect {
        return None;
    }
    match decision.kind {
        kind::FRAGMENT => return Some(ChosenBy::FirstFragment),
        kind::ERROR => return Some(ChosenBy::QuotedFlow),
        _ => {}
    }
    let is_looked_up = decision.tracked != 0 || decision.protocol != PROTOCOL_TCP;
    let is_flow = is_at(flow, backend) && decision.new_flow == 0;
    match () {
        () if is_flow && is_looked_up => Some(ChosenBy::Flow),
        () if decision.tracked != 0
            && is_at(previous_owner, backend)
            && previous_owner.address != owner.address =>
        {
            Some(ChosenBy::SlotPreviousOwner)
        }
        () if is_at(owner, backend) => Some(ChosenBy::SlotOwner),
        () if is_flow => Some(ChosenBy::Flow),
        () => None,
    }
}

fn is_at(candidate: &Candidate, backend: &Address) -> bool {
    candidate.state != backend_state::FREE && candidate.address == *backend
}

fn candidate(candidate: &Candidate) -> Option<IpAddr> {
    (candidate.state != backend_state::FREE).then(|| address::to_ip(&candidate.address))
}

fn is_icmp(protocol: u8) -> bool {
    protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6
}

fn protocol(number: u8) -> String {
    match number {
        PROTOCOL_TCP => "tcp".to_owned(),
        PROTOCOL_UDP => "udp".to_owned(),
        number if is_icmp(number) => "icmp".to_owned(),
        number => number.to_string(),
    }
}

fn flags(flags: u8) -> String {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let letters = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (ACK, 'A')];
    letters.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, letter)| letter).collect()
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(client), Some(vip), Some(protocol)) = (self.client, self.vip, &self.protocol) else {
            write!(f, "unreadable packet of {} bytes: ", self.length)?;
            return self.fate(f);
        };
        write!(f, "{} > {}/{protocol}", end(client, self.client_port), end(vip, self.vip_port))?;
        if let Some(flags) = &self.flags {
            write!(f, " [{flags}]")?;
        }
        write!(f, " {} bytes: ", self.length)?;
        self.fate(f)
    }
}

impl Sample {
    fn fate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Backend { to, state, new_flow } => {
                write!(f, "to {}", end(to.ip(), Some(to.port()).filter(|port| *port != 0)))?;
                if *state == Some(BackendState::Draining) {
                    write!(f, " (draining)")?;
                }
                if *new_flow {
                    write!(f, ", a new flow")?;
                }
            }
            Outcome::Answered { reason } => write!(f, "answered: {reason}")?,
            Outcome::Dropped { reason } => write!(f, "dropped: {reason}")?,
            Outcome::Kernel => write!(f, "left to the kernel")?,
        }
        let slot = self.slot.as_ref().map_or(0, |slot| slot.number);
        match self.chosen_by {
            Some(ChosenBy::Flow) => write!(f, "; its flow is known"),
            Some(ChosenBy::SlotOwner) => write!(f, "; slot {slot} is that backend's"),
            Some(ChosenBy::SlotPreviousOwner) => {
                write!(f, "; slot {slot} was that backend's when the flow began")
            }
            Some(ChosenBy::FirstFragment) => write!(f, "; after the packet's first fragment"),
            Some(ChosenBy::QuotedFlow) => write!(f, "; an error about a flow there"),
            None => Ok(()),
        }
    }
}

/// An endpoint as people write it, with its port where it has one.
fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

#[cfg(test)]
mod tests {
    use lb_common::watch::NO_REASON;

    use super::*;

    const OLD: Address = Address::v4([19, 0, 0, 2]);
    const NEW: Address = Address::v4([19, 0, 0, 3]);

    fn known(address: Address, state: u8) -> Candidate {
        Candidate { address, state, reserved: [0; 7] }
    }

    /// A TCP segment in a slot that has moved from a draining backend to another.
    fn moved(backend: Address) -> Decision {
        Decision {
            client: Address::v4([198, 51, 100, 7]),
            vip: Address::v4([45, 45, 45, 45]),
            backend,
            owner: known(NEW, backend_state::ACTIVE),
            previous_owner: known(OLD, backend_state::DRAINING),
            verdict: 4,
            reason: NO_REASON,
            slot: 7,
            client_port: 40_000,
            vip_port: 80,
            backend_port: 80,
            protocol: PROTOCOL_TCP,
            flags: tcp_flag::ACK,
            kind: kind::FLOW,
            tracked: 1,
            length: 54,
            ..Decision::default()
        }
    }

    #[test]
    fn what_decided_follows_from_the_backend() {
        let previous_owner = Sample::of(&moved(OLD));
        assert_eq!(previous_owner.chosen_by, Some(ChosenBy::SlotPreviousOwner));
        assert_eq!(
            previous_owner.to_string(),
            "198.51.100.7:40000 > 45.45.45.45:80/tcp [A] 54 bytes: to 19.0.0.2:80 (draining); slot 7 was that \
             backend's when the flow began"
        );
        assert_eq!(Sample::of(&moved(NEW)).chosen_by, Some(ChosenBy::SlotOwner));
        let flow = Decision { flow: known(OLD, backend_state::DRAINING), ..moved(OLD) };
        assert_eq!(Sample::of(&flow).chosen_by, Some(ChosenBy::Flow));
        let third = moved(Address::v4([19, 0, 0, 4]));
        assert_eq!(Sample::of(&third).chosen_by, None);
    }

    #[test]
    fn in_a_steady_slot_the_owner_has_every_tcp_flow() {
        let entry = known(NEW, backend_state::ACTIVE);
        let steady = Decision { tracked: 0, previous_owner: entry, flow: entry, ..moved(NEW) };
        assert_eq!(Sample::of(&steady).chosen_by, Some(ChosenBy::SlotOwner));
        let datagram = Decision { protocol: PROTOCOL_UDP, ..steady };
        assert_eq!(Sample::of(&datagram).chosen_by, Some(ChosenBy::Flow));
    }

    #[test]
    fn what_cannot_be_read_has_no_addresses() {
        let decision = Decision {
            verdict: 1,
            reason: DropReason::Ipv4Truncated as u32,
            slot: NO_SLOT,
            length: 20,
            ..Decision::default()
        };
        let sample = Sample::of(&decision);
        assert_eq!(sample.client, None);
        assert_eq!(sample.to_string(), "unreadable packet of 20 bytes: dropped: ipv4_truncated");
    }
}
