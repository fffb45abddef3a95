//! What the programs count.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::abi::{self, DropReason};
use serde::{Deserialize, Serialize};

use super::{Error, FlowTableUse, LoadBalancer, ServiceUse};
use crate::service::ServiceKey;

/// Counts since the maps were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounters {
    /// Packets from clients.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Packets to clients.
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Flows alive at the last sweep.
    pub live_flows: u64,
}

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// By backend address.
    pub backends: BTreeMap<IpAddr, FlowCounters>,
    /// By service.
    pub services: BTreeMap<ServiceKey, FlowCounters>,
    /// Dropped packets, by the name of the reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// How full the flow table is.
    pub flow_table: FlowTableUse,
    /// What each service has of it.
    pub flow_uses: BTreeMap<ServiceKey, ServiceUse>,
}

impl LoadBalancer {
    /// All counters.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut counters = Counters::default();
        for (index, backend) in self.registry.backends() {
            let address = super::address::to_ip(&backend.address);
            counters.backends.insert(address, self.maps.backend_counters(index)?);
        }
        for (key, service) in self.registry.services() {
            counters.services.insert(*key, self.maps.service_counters(service.handle.index)?);
        }
        for reason in DropReason::ALL {
            counters.drops.insert(reason.name(), self.maps.drops(reason)?);
        }
        counters.flow_table = self.maps.flow_table_use()?;
        for (key, service) in self.registry.services() {
            counters.flow_uses.insert(*key, self.maps.service_use(service.handle.index)?);
        }
        Ok(counters)
    }
}

impl FlowCounters {
    /// The sum over the CPUs.
    pub(super) fn sum(per_cpu: &[abi::Counters], live: abi::LiveFlows) -> Self {
        let total = |field: fn(&abi::Counters) -> u64| per_cpu.iter().map(field).sum();
        Self {
            packets: total(|counters| counters.packets),
            bytes: total(|counters| counters.bytes),
            reply_packets: total(|counters| counters.reply_packets),
            reply_bytes: total(|counters| counters.reply_bytes),
            new_flows: total(|counters| counters.new_flows),
            live_flows: u64::from(live.live),
        }
    }
}
