//! A tenant's VIPs: each is judged, asked for on the link, put on the uplink and announced. What takes time of that runs
//! beside the tenant's task, and what another machine or the host itself has is tried again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::anyhow;
use lb_userspace::service::Service;
use sluice_southbound::networks::{Claim, NetworkError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::Tenant;
use super::jobs::Done;
use super::problems::Work;
use crate::daemon::network;

/// A VIP that can't be had is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);
/// Netlink answers in milliseconds, and asking the link takes half a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of the VIPs.
#[derive(Debug, Default)]
pub(super) struct Vips(BTreeMap<Ipv4Addr, Vip>);

#[derive(Debug)]
struct Vip {
    /// Whether packets to it may be balanced: it is not the host's own.
    allowed: bool,
    step: Step,
    /// Why it can't be had, or who else has it.
    fault: Option<String>,
}

#[derive(Debug)]
enum Step {
    /// Nothing is done until then.
    Wait(Instant),
    /// A job asks the link, and puts it on the uplink.
    Claiming(AbortHandle),
    /// It is on the uplink, since then.
    Claimed(Instant),
}

impl Vips {
    /// Forgets those that are not wanted any more, and begins again with the others.
    pub(super) fn restart(&mut self, wanted: impl Fn(Ipv4Addr) -> bool) {
        self.0.retain(|vip, known| {
            if let Step::Claiming(job) = &known.step {
                job.abort();
            }
            known.step = Step::Wait(Instant::now());
            wanted(*vip)
        });
    }

    /// Whether packets to an address may be balanced.
    fn allows(&self, vip: IpAddr) -> bool {
        match vip {
            IpAddr::V4(vip) => self.0.get(&vip).is_some_and(|known| known.allowed),
            IpAddr::V6(_) => true,
        }
    }

    /// Those that are not on the uplink any more, by a list that began at that time: they are claimed again.
    pub(super) fn missing(&mut self, began: Instant, is_there: impl Fn(Ipv4Addr) -> bool) -> Vec<Ipv4Addr> {
        let mut missing = Vec::new();
        for (&vip, known) in &mut self.0 {
            if matches!(known.step, Step::Claimed(since) if since < began) && !is_there(vip) {
                known.step = Step::Wait(Instant::now());
                missing.push(vip);
            }
        }
        missing
    }

    fn is_due(&self, vip: Ipv4Addr, now: Instant) -> bool {
        self.0.get(&vip).is_none_or(|known| matches!(known.step, Step::Wait(until) if until <= now))
    }

    fn set(&mut self, vip: Ipv4Addr, allowed: bool, step: Step, fault: Option<String>) {
        self.0.insert(vip, Vip { allowed, step, fault });
    }

    /// Why not all are as they should be; `None` while that is not known yet.
    fn outcome(&self) -> Option<anyhow::Result<()>> {
        let faults: Vec<&str> = self.0.values().filter_map(|known| known.fault.as_deref()).collect();
        if !faults.is_empty() {
            return Some(Err(anyhow!(faults.join("; "))));
        }
        self.0.values().all(|known| matches!(known.step, Step::Claimed(_))).then_some(Ok(()))
    }
}

impl Tenant {
    /// Judges the VIPs by the host's own addresses, before the load balancer takes packets to them.
    pub(super) async fn judge_vips(&mut self) {
        let now = Instant::now();
        let mut due = network::vips(&self.spec);
        due.retain(|vip| self.vips.is_due(*vip, now));
        for vip in due {
            let judged = timeout(PATIENCE, self.host.networks.check_vip(vip)).await;
            let known = self.vips.0.get(&vip);
            let (allowed, fault) = match judged {
                Ok(Ok(())) => (true, known.and_then(|known| known.fault.clone())),
                Ok(Err(fault @ NetworkError::Vip(_))) => (false, Some(fault.to_string())),
                // What could not be asked changes nothing.
                Ok(Err(error)) => (self.serves(vip), Some(error.to_string())),
                Err(_) => {
                    (self.serves(vip), Some(format!("{vip}: the host's addresses could not be listed")))
                }
            };
            let next = if allowed { now } else { now + RETRY };
            self.vips.set(vip, allowed, Step::Wait(next), fault);
        }
    }

    fn serves(&self, vip: Ipv4Addr) -> bool {
        self.services.iter().any(|service| service.key.vip == IpAddr::V4(vip))
    }

    /// The services whose VIPs may be balanced.
    pub(super) fn allowed(&self, mut services: Vec<Service>) -> Vec<Service> {
        services.retain(|service| self.vips.allows(service.key.vip));
        services
    }

    /// Makes the VIPs known on the link, once the load balancer has their services.
    pub(super) fn announce(&mut self) {
        if self.has_withdrawn() {
            return;
        }
        let now = Instant::now();
        for (&vip, known) in &mut self.vips.0 {
            if !known.allowed || !matches!(known.step, Step::Wait(until) if until <= now) {
                continue;
            }
            let host = self.host.clone();
            let job = self.jobs.spawn(async move {
                let claimed = timeout(PATIENCE, host.networks.claim_vip(vip)).await;
                Done::Claimed(vip, claimed.map_err(anyhow::Error::from).and_then(|claimed| Ok(claimed?)))
            });
            known.step = Step::Claiming(job);
        }
        self.report_vips();
    }

    /// Takes in what has come of claiming a VIP.
    pub(super) fn claimed(&mut self, vip: Ipv4Addr, result: anyhow::Result<Claim>) {
        let Some(known) = self.vips.0.get_mut(&vip) else { return };
        let again = Instant::now() + RETRY;
        match result {
            Ok(Claim::Ours) => (known.step, known.fault) = (Step::Claimed(Instant::now()), None),
            Ok(Claim::Contested(mac)) => {
                known.step = Step::Wait(again);
                known.fault = Some(format!(
                    "another machine on the link, {mac}, answers for {vip} too: clients reach the one or the other; take the \
                     address off that machine"
                ));
            }
            Err(error) => {
                known.allowed &= !matches!(error.downcast_ref(), Some(NetworkError::Vip(_)));
                (known.step, known.fault) = (Step::Wait(again), Some(format!("{error:#}")));
            }
        }
        self.report_vips();
    }

    fn report_vips(&mut self) {
        if let Some(outcome) = self.vips.outcome() {
            self.outcome(Work::Addresses, outcome);
        }
    }
}
