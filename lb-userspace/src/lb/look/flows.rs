//! The flows that the table knows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use aya::maps::IterableMap;
use ipnet::IpNet;
use lb_common::abi::{BackendValue, Control, FlowKey, FlowValue, Handle, flow_end};
use serde::{Deserialize, Serialize};

use super::Look;
use crate::lb::parts::Flows;
use crate::lb::{Error, address, batch, registry};
use crate::service::{Protocol, ServiceKey, ServiceSelector};

/// Which flows are wanted; all that is given must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlowFilter {
    /// Of these services.
    pub service: Option<ServiceSelector>,
    /// Of this backend.
    pub backend: Option<IpAddr>,
    /// From clients in here.
    pub client: Option<IpNet>,
}

/// Where a flow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Packets go on.
    Open,
    /// The client has sent its FIN.
    ClosedByClient,
    /// The backend has sent its FIN.
    ClosedByBackend,
    /// The client, or someone in its name, has reset it; its backend is being asked.
    Suspect,
    /// It has ended; it is remembered for late segments.
    Closed,
    /// Its backend is gone: its next packet is a flow of its own.
    Lost,
}

/// A flow that the table knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowView {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port, or the ICMP echo identifier.
    pub client_port: u16,
    /// The service as people write it; `None` where it is gone.
    pub service: Option<String>,
    /// The VIP's port; `None` for ICMP.
    pub vip_port: Option<u16>,
    /// Who has it; `None` where that backend is gone.
    pub backend: Option<IpAddr>,
    /// Where it is in its life.
    pub state: FlowState,
    /// For how long it was not seen, in seconds. A flow in use tells of itself about eight times in its idle timeout.
    pub idle: u32,
}

/// Flows, and whether these are all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowList {
    /// In the order of the table, which is no order that means anything.
    pub flows: Vec<FlowView>,
    /// No more than these are asked for.
    pub complete: bool,
}

/// What turns an entry into a [`FlowView`].
struct Reader {
    services: BTreeMap<Handle, ServiceKey>,
    backends: Vec<BackendValue>,
    clock: u32,
    filter: FlowFilter,
}

impl Look {
    /// At most `limit` flows. Packets aren't stopped: a bucket of the table at a time is locked while it is copied.
    ///
    /// A flow is in the table once both ends have spoken: a TCP flow when its handshake is over, any other when its backend has
    /// answered.
    pub fn flows(&self, filter: FlowFilter, limit: usize) -> Result<FlowList, Error> {
        let reader = self.reader(filter)?;
        let mut list = FlowList { flows: Vec::new(), complete: true };
        for part in self.flows.iter() {
            collect(&reader, &part?, limit, &mut list)?;
            if !list.complete {
                break;
            }
        }
        Ok(list)
    }

    /// One flow as it is shown.
    pub(super) fn flow(&self, key: &FlowKey, value: &FlowValue) -> Result<Option<FlowView>, Error> {
        Ok(self.reader(FlowFilter::default())?.view(key, value))
    }

    fn reader(&self, filter: FlowFilter) -> Result<Reader, Error> {
        let Control { clock, .. } = self.maps.control()?;
        let services = self.placed()?.into_iter().map(|placed| (placed.handle, placed.key)).collect();
        let places = u16::try_from(self.maps.backend_places()).unwrap_or(u16::MAX);
        let backends = (0..places).map(|index| self.maps.backend(index)).collect::<Result<_, _>>()?;
        Ok(Reader { services, backends, clock, filter })
    }
}

fn collect(reader: &Reader, map: &Flows, limit: usize, list: &mut FlowList) -> Result<(), Error> {
    let all = batch::for_each(map.map(), |key: &FlowKey, value: &FlowValue| {
        let Some(view) = reader.view(key, value) else { return ControlFlow::Continue(()) };
        if list.flows.len() >= limit {
            return ControlFlow::Break(());
        }
        list.flows.push(view);
        ControlFlow::Continue(())
    });
    list.complete &= all.map_err(Error::file("reading the map", "flows"))?;
    Ok(())
}

impl Reader {
    /// `None` where it isn't asked for.
    fn view(&self, key: &FlowKey, value: &FlowValue) -> Option<FlowView> {
        let service = self.services.get(&key.service);
        let client = address::to_ip(&key.client);
        let backend = self.backend(value.backend);
        let FlowFilter { service: of, backend: at, client: from } = self.filter;
        let wanted = of.is_none_or(|of| service.is_some_and(|key| of.selects(key)))
            && at.is_none_or(|at| backend == Some(at))
            && from.is_none_or(|from| from.contains(&client));
        wanted.then(|| FlowView {
            client,
            client_port: key.client_port,
            service: service.map(ToString::to_string),
            vip_port: service
                .is_none_or(|key| key.protocol != Protocol::Icmp)
                .then_some(key.vip_port)
                .filter(|port| *port != 0),
            backend,
            state: if backend.is_none() { FlowState::Lost } else { life(value) },
            // The programs may have read a later clock than we have.
            idle: self.clock.saturating_sub(value.last_seen),
        })
    }

    fn backend(&self, handle: Handle) -> Option<IpAddr> {
        let value = self.backends.get(usize::from(handle.index))?;
        registry::state(value).filter(|_| value.incarnation == handle.incarnation)?;
        Some(address::to_ip(&value.address))
    }
}

fn life(flow: &FlowValue) -> FlowState {
    match flow.ended {
        ended if flow_end::is_closed(ended) => FlowState::Closed,
        _ if flow.claimed & flow_end::RESET != 0 => FlowState::Suspect,
        ended if ended & flow_end::CLIENT_FIN != 0 => FlowState::ClosedByClient,
        ended if ended & flow_end::BACKEND_FIN != 0 => FlowState::ClosedByBackend,
        _ => FlowState::Open,
    }
}
