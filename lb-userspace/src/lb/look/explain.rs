//! Which backend a packet would go to, and why.
//!
//! The program itself decides, on a packet made for the question, in a [`Sandbox`]. Why it has decided so is read from
//! what it did there: which entry it used, what it counted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{Control, DropReason, FlowKey, FlowValue, Handle, NO_BACKEND, Slot, flow_end};
use lb_common::attempt::{self, Attempt};
use lb_common::hash;
use serde::{Deserialize, Serialize};

use super::flows::FlowView;
use super::sandbox::{Sandbox, Trace, Verdict};
use super::state::Placed;
use super::{Look, probe};
use crate::lb::{Error, address, registry};
use crate::net::Netns;
use crate::service::{BackendState, Protocol, ServiceKey};

/// A client's packet, as far as its backend depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The client, with its port or its echo identifier.
    pub client: SocketAddr,
    /// Where the packet goes; the port is 0 for ICMP.
    pub to: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether it begins its flow: a SYN. Only TCP tells.
    pub begins: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It goes to a backend.
    Backend {
        /// The backend, with the port that the packet has there; 0 for ICMP.
        to: SocketAddr,
        /// What the backend may be given.
        state: Option<BackendState>,
        /// Whether it counts as a new flow.
        new_flow: bool,
    },
    /// It is answered in the program: with a reset, or an ICMP error.
    Answered {
        /// The reason's name, as in the drop counters.
        reason: String,
    },
    /// It is dropped.
    Dropped {
        /// The reason's name, as in the drop counters.
        reason: String,
    },
    /// It is no service's: the kernel's business.
    Kernel,
}

/// What has decided between backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// The flow's own entry in the flow table, or the attempt that it still is.
    Flow,
    /// The slot: new flows are its owner's, and in a steady slot all flows.
    SlotOwner,
    /// The slot has moved, and flows that began before and aren't known are still those of the owner it had.
    SlotPreviousOwner,
    /// The first fragment of the packet, which this one follows.
    FirstFragment,
    /// The flow that an ICMP error is about.
    QuotedFlow,
}

/// The slot of its service's table that a flow hashes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    /// Its number, of 65,537.
    pub number: u32,
    /// It has moved lately: its flows are looked up.
    pub tracked: bool,
    /// Who gets the flows that begin.
    pub owner: Option<IpAddr>,
    /// Who has the flows that began before and aren't known.
    pub previous_owner: Option<IpAddr>,
}

/// Which backend a packet would go to, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked.
    pub question: Question,
    /// What becomes of the packet.
    pub outcome: Outcome,
    /// The service that takes it.
    pub service: Option<String>,
    /// Its slot.
    pub slot: Option<SlotView>,
    /// Its flow, where the flow table knows it.
    pub flow: Option<FlowView>,
    /// What has decided.
    pub chosen_by: Option<ChosenBy>,
    /// Whether the program that was asked is the one on the uplink, told by its tag; `None` where that can't be told.
    pub same_program: Option<bool>,
}

/// A flow as the maps know it.
struct Known {
    placed: Placed,
    key: FlowKey,
    slot: Slot,
    number: u32,
    entry: Option<FlowValue>,
    attempt: Option<Attempt>,
}

impl Look {
    /// Asks the program, in the namespace in which it runs. Leaves no trace in what packets meet or what is counted. The
    /// program is loaded once for all questions.
    ///
    /// # Errors
    ///
    /// [`Error::NoObject`] and the errors of loading the program; [`Error::Map`] where a map can't be read.
    pub fn explain(&self, questions: &[Question], transit: &Netns) -> Result<Vec<Explanation>, Error> {
        let mut sandbox = Sandbox::open(&self.pins)?;
        questions.iter().map(|question| self.explain_one(question, &mut sandbox, transit)).collect()
    }

    fn explain_one(
        &self,
        question: &Question,
        sandbox: &mut Sandbox,
        transit: &Netns,
    ) -> Result<Explanation, Error> {
        let control = self.maps.control()?;
        let known = self.known(question, &control)?;
        sandbox.set_control(&control)?;
        if let Some(known) = &known {
            let hash = hash::of_flow(&known.key, control.seed);
            sandbox.know(&self.maps, &control, hash, &known.key, known.entry)?;
        }
        let trace = sandbox.run(&probe::frame(question, control.uplink_address())?, transit)?;
        let outcome = self.outcome(&trace, sandbox, known.as_ref())?;
        let to_backend = matches!(outcome, Outcome::Backend { .. });
        let known_entry = known.as_ref().and_then(|known| Some((known.key, known.entry?)));
        let chosen_by = match &known {
            Some(known) if to_backend => Some(self.chosen_by(known, &trace, &outcome)?),
            _ => None,
        };
        Ok(Explanation {
            question: *question,
            outcome,
            service: known.as_ref().map(|known| known.placed.key.to_string()),
            slot: known.as_ref().map(|known| self.slot_view(known)).transpose()?,
            flow: known_entry.map(|(key, value)| self.flow(&key, &value)).transpose()?.flatten(),
            chosen_by,
            same_program: sandbox.is_on_uplink(&self.pins),
        })
    }

    /// The service, slot and entry of the packet's flow; `None` where it is no service's.
    fn known(&self, question: &Question, control: &Control) -> Result<Option<Known>, Error> {
        let exact = |key: &ServiceKey, port: Option<u16>| {
            key.vip == question.to.ip() && key.protocol == question.protocol && key.port == port
        };
        let port = Some(question.to.port()).filter(|port| *port != 0);
        let services = self.placed()?;
        // As the program: the service of the port, else that of every port.
        let found = services.iter().find(|placed| exact(&placed.key, port));
        let Some(&placed) = found.or_else(|| services.iter().find(|placed| exact(&placed.key, None))) else {
            return Ok(None);
        };
        let key = FlowKey {
            client: address::from_ip(question.client.ip()),
            service: placed.handle,
            client_port: question.client.port(),
            vip_port: question.to.port(),
        };
        let hash = hash::of_flow(&key, control.seed);
        let number = hash::slot(hash);
        let slot = self.slot(placed.handle, number)?;
        let (entry, attempt) = (self.entry(hash, &key)?, self.attempt(&key, hash, control)?);
        Ok(Some(Known { placed, key, slot, number, entry, attempt }))
    }

    fn outcome(&self, trace: &Trace, sandbox: &Sandbox, known: Option<&Known>) -> Result<Outcome, Error> {
        let reason = || trace.reason.map_or("unknown", DropReason::name).to_owned();
        Ok(match trace.verdict {
            Verdict::Redirect => {
                let to = probe::destination(&trace.frame).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
                let index = self.place_of(to.ip())?;
                let state = index.map(|index| self.maps.backend(index)).transpose()?;
                let counted = known.map(|known| sandbox.counted(known.placed.handle)).transpose()?;
                Outcome::Backend {
                    to,
                    state: state.and_then(|value| registry::state(&value)),
                    new_flow: counted.is_some_and(|counters| counters.new_flows > 0),
                }
            }
            Verdict::Transmit => Outcome::Answered { reason: reason() },
            Verdict::Drop => Outcome::Dropped { reason: reason() },
            Verdict::Pass => Outcome::Kernel,
        })
    }

    /// What has decided: what of all that is known of the flow agrees with what the program did.
    fn chosen_by(&self, known: &Known, trace: &Trace, outcome: &Outcome) -> Result<ChosenBy, Error> {
        let chosen = probe::destination(&trace.frame).map(|to| self.place_of(to.ip())).transpose()?.flatten();
        let Known { slot, entry, attempt, .. } = known;
        let is_looked_up = slot.is_tracked() || known.placed.key.protocol != Protocol::Tcp;
        let is_new = matches!(outcome, Outcome::Backend { new_flow: true, .. });
        let of_entry = entry.filter(|entry| !flow_end::is_closed(entry.ended)).map(|entry| entry.backend);
        let of_flow = of_entry.or_else(|| attempt.map(Attempt::backend)).map(|backend| backend.index);
        if is_looked_up && !is_new && chosen.is_some() && chosen == of_flow {
            return Ok(ChosenBy::Flow);
        }
        let is_previous = slot.is_tracked()
            && chosen == Some(slot.previous_owner())
            && slot.previous_owner() != slot.new_flows;
        Ok(if is_previous { ChosenBy::SlotPreviousOwner } else { ChosenBy::SlotOwner })
    }

    fn slot_view(&self, known: &Known) -> Result<SlotView, Error> {
        let Known { slot, number, .. } = *known;
        let owner = |index: u16| -> Result<Option<IpAddr>, Error> {
            if index == NO_BACKEND {
                return Ok(None);
            }
            Ok(Some(address::to_ip(&self.maps.backend(index)?.address)))
        };
        let (owner, previous_owner) = (owner(slot.new_flows)?, owner(slot.previous_owner())?);
        Ok(SlotView { number, tracked: slot.is_tracked(), owner, previous_owner })
    }

    fn slot(&self, service: Handle, number: u32) -> Result<Slot, Error> {
        let table = self.maps.table(self.table_in_force(service)?)?;
        Ok(table[number as usize])
    }

    fn entry(&self, hash: u64, key: &FlowKey) -> Result<Option<FlowValue>, Error> {
        let Some(part) = self.flows.get(hash::part(hash, self.flows.count()))? else { return Ok(None) };
        match part.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(Error::map("flows")(error)),
        }
    }

    /// The flow's attempt, where it may still become real.
    fn attempt(&self, key: &FlowKey, hash: u64, control: &Control) -> Result<Option<Attempt>, Error> {
        let set = self.maps.attempts(attempt::set(key.service.index, hash, control.attempt_mask))?;
        let found = set
            .ways()
            .into_iter()
            .find(|words| Attempt::difference(*words, hash) == 0)
            .map(Attempt::of_words);
        Ok(found.filter(|attempt| attempt.age(control.clock) <= control.nascent_timeout))
    }

    /// The place of a backend by its address.
    fn place_of(&self, ip: IpAddr) -> Result<Option<u16>, Error> {
        for index in 0..u16::try_from(self.maps.backend_places()).unwrap_or(NO_BACKEND) {
            let value = self.maps.backend(index)?;
            if registry::state(&value).is_some() && address::to_ip(&value.address) == ip {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Backend { to, state, .. } => {
                let to = shown(*to, self.question.protocol);
                write!(f, "goes to {to}")?;
                f.write_str(match (state, self.chosen_by) {
                    (Some(BackendState::Draining), Some(ChosenBy::SlotOwner)) => {
                        ", which is draining: it takes new flows as no backend is active"
                    }
                    (Some(BackendState::Draining), _) => ", which is draining: it keeps its flows",
                    (Some(BackendState::Stopping), _) => ", which is stopping: it keeps its flows until then",
                    _ => "",
                })?;
            }
            Outcome::Answered { reason } => write!(f, "is answered in place of a backend: {reason}")?,
            Outcome::Dropped { reason } => write!(f, "is dropped: {reason}")?,
            Outcome::Kernel => write!(f, "is left to the kernel: it is no service's")?,
        }
        match self.chosen_by {
            Some(ChosenBy::Flow) => write!(f, "\n  its flow is known, and stays where it is"),
            Some(ChosenBy::SlotOwner) => write!(f, "\n  its slot decides"),
            Some(ChosenBy::SlotPreviousOwner) => {
                write!(
                    f,
                    "\n  its slot has moved; what isn't known and doesn't begin now stays with the owner of before"
                )
            }
            // No question is about a fragment or an error.
            Some(ChosenBy::FirstFragment | ChosenBy::QuotedFlow) | None => Ok(()),
        }?;
        if let Some(flow) = &self.flow {
            let backend =
                flow.backend.map_or("a backend that is gone".to_owned(), |backend| backend.to_string());
            write!(f, "\n  flow: with {backend}, last noted {} s ago", flow.idle)?;
        }
        let nobody = |owner: Option<IpAddr>| owner.map_or("nobody".to_owned(), |owner| owner.to_string());
        if let Some(SlotView { number, tracked, owner, previous_owner }) = &self.slot {
            let (owner, previous_owner) = (nobody(*owner), nobody(*previous_owner));
            match tracked {
                false => write!(f, "\n  slot {number}: steady, all its flows are with {owner}"),
                true => write!(
                    f,
                    "\n  slot {number}: moved lately; new flows go to {owner}, old ones stay with {previous_owner}"
                ),
            }?;
        }
        if self.same_program == Some(false) {
            write!(f, "\n  the program on the uplink is another version than the one that was asked")?;
        }
        Ok(())
    }
}

/// An endpoint as people write it; ICMP has no port.
fn shown(endpoint: SocketAddr, protocol: Protocol) -> String {
    if protocol == Protocol::Icmp { endpoint.ip().to_string() } else { endpoint.to_string() }
}
