//! What a tenant's task shows of itself.

use std::collections::{BTreeMap, BTreeSet};

use lb_userspace::lb::FlowCounters;
use sluice_logic::group::InstanceState;
use sluice_logic::spec::TenantSpec;
use sluice_northbound::api::{InstanceStatus, Load, ServiceCounters, TenantStatus};

use super::Tenant;
use crate::daemon::roster::Member;
use crate::daemon::services::key;

impl Tenant {
    /// Shows the API what it is doing.
    pub(super) fn publish(&self) {
        self.status.send_replace(self.view());
    }

    fn view(&self) -> TenantStatus {
        let begun: u64 = self.members.values().filter_map(|member| member.rates.begun).sum();
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_by_key(|member| (member.instance.created, &member.spec.id));
        TenantStatus {
            counters: self.counters.iter().map(|(key, count)| (key.to_string(), counters(count))).collect(),
            desired: self.desired(),
            loads: self.loads(),
            last_decision: self.decision.clone(),
            last_action: self.group.last_action,
            leaving: self.is_leaving(),
            leaving_until: self.leaving.as_ref().map(|leaving| leaving.until(&self.spec.group)),
            problem: self.problem(),
            failed_launch: self.failed_launch.clone(),
            instances: members.into_iter().map(|member| self.instance(member, begun)).collect(),
            ..unstarted(&self.spec)
        }
    }

    /// While its tenant leaves, what is in service takes no new flow: to clients it drains.
    fn instance(&self, member: &Member, begun: u64) -> InstanceStatus {
        let mut status = instance(member, begun);
        if let Some(leaving) = &self.leaving
            && status.state == InstanceState::InService
        {
            (status.state, status.since) = (InstanceState::Draining, leaving.since());
        }
        let is_made = member.instance.state == InstanceState::Pending;
        let provider = self.host.clouds.provider(&member.spec.cloud).ok().filter(|_| is_made);
        status.progress = provider.and_then(|provider| provider.progress(&member.spec.id));
        status
    }

    fn loads(&self) -> Vec<Load> {
        let evaluations = self.decision.iter().flat_map(|decision| &decision.policies);
        evaluations
            .filter_map(|evaluation| {
                let (metric, threshold) = evaluation.policy.bound()?;
                Some(Load { metric: metric.clone(), value: evaluation.load, threshold })
            })
            .collect()
    }
}

/// A tenant whose task has not done anything yet.
pub(super) fn unstarted(spec: &TenantSpec) -> TenantStatus {
    let vips: BTreeSet<_> = spec.services.iter().map(|service| service.vip).collect();
    TenantStatus {
        name: spec.name.clone(),
        services: spec.services.iter().map(|service| key(service).to_string()).collect(),
        counters: BTreeMap::new(),
        vips: vips.into_iter().collect(),
        desired: spec.group.min,
        min: spec.group.min,
        max: spec.group.max,
        loads: Vec::new(),
        last_decision: None,
        last_action: None,
        leaving: false,
        leaving_until: None,
        problem: None,
        failed_launch: None,
        instances: Vec::new(),
    }
}

fn counters(count: &FlowCounters) -> ServiceCounters {
    ServiceCounters {
        packets: count.packets,
        bytes: count.bytes,
        reply_packets: count.reply_packets,
        reply_bytes: count.reply_bytes,
        new_flows: count.new_flows,
        live_flows: count.live_flows,
    }
}

fn instance(member: &Member, begun: u64) -> InstanceStatus {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let share = |part: u64| part as f64 / begun as f64;
    let (state, since) = member.in_force();
    InstanceStatus {
        id: member.spec.id.clone(),
        cloud: member.spec.cloud.clone(),
        address: member.instance.address,
        other_addresses: member.spec.other_nics.iter().map(|nic| nic.address).collect(),
        state,
        progress: None,
        created: member.instance.created,
        since,
        cpu: member.rates.cpu,
        packets_per_second: member.rates.packets,
        new_flows_per_second: member.rates.new_flows,
        new_flows: member.reading.flows.map(|(_, flows)| flows.new_flows),
        live_flows: member.rates.live_flows,
        new_flow_share: member.rates.begun.filter(|_| begun > 0).map(share),
    }
}
