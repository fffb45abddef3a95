//! From a look at the host to samples and a decision.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_logic::samples::Rejected;
use sluice_logic::spec::Metric;
use sluice_southbound::provider::InstanceMetrics;

use super::jobs::{self, Done};
use super::{Tenant, Tick};
use crate::daemon::rates::{Rates, Reading};

/// What the policies may look at.
const METRICS: [Metric; 5] =
    [Metric::Cpu, Metric::Packets, Metric::Bytes, Metric::NewFlows, Metric::LiveFlows];

impl Tenant {
    /// Takes in a look at the host, and asks the provider for what it can measure. While an answer is out,
    /// no further one is asked for: what is missing then is missing data.
    pub(super) fn look(&mut self, tick: &Arc<Tick>) {
        if let Some(services) = &tick.services {
            self.services =
                services.iter().filter(|service| self.keys.contains(&service.key)).cloned().collect();
        }
        if let Some(observed) = &tick.observed {
            self.compare(tick, observed);
        }
        if self.measuring {
            return;
        }
        self.measuring = true;
        let (host, tick, ids) = (self.host.clone(), tick.clone(), self.measurable());
        self.jobs.spawn(async move {
            let metrics = ids.into_iter().map(async |id| {
                let read = tokio::time::timeout(jobs::MEASURE_TIMEOUT, host.provider.metrics(&id)).await;
                let metrics = read.ok().and_then(|read| {
                    read.inspect_err(|error| tracing::debug!(%id, %error, "no metrics")).ok()
                });
                (id, metrics)
            });
            let metrics = join_all(metrics).await;
            Done::Measured(tick, metrics)
        });
    }

    fn measurable(&self) -> Vec<InstanceId> {
        let measurable = |state| matches!(state, InstanceState::InService | InstanceState::Draining);
        let members = self.members.values().filter(|member| measurable(member.instance.state));
        members.map(|member| member.spec.id.clone()).collect()
    }

    /// Turns what was read into samples, and decides at once.
    pub(super) async fn measured(
        &mut self,
        tick: &Tick,
        metrics: Vec<(InstanceId, Option<InstanceMetrics>)>,
    ) {
        self.measuring = false;
        let now = Timestamp::now();
        self.group.rewind(now);
        self.samples.rewind(now);
        for (id, metrics) in metrics {
            self.sample(&id, metrics, tick, now);
        }
        self.decide(now).await;
    }

    fn sample(&mut self, id: &InstanceId, metrics: Option<InstanceMetrics>, tick: &Tick, now: Timestamp) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.instance.rewind(now);
        let address = IpAddr::V4(member.instance.address);
        let flows =
            tick.counters.as_ref().and_then(|(at, counters)| Some((*at, *counters.backends.get(&address)?)));
        // A count that began before the load balancer knew of its last change may lack a flow that came between.
        if member.settled().is_some_and(|settled| settled < tick.at) {
            member.instance.live_flows = flows.map(|(_, flows)| flows.live_flows);
        }
        let reading = Reading { metrics, flows };
        member.rates = Rates::between(&member.reading, &reading, member.spec.template.cpus);
        member.reading = reading;
        if member.instance.state != InstanceState::InService {
            return;
        }
        for metric in METRICS {
            let Some(value) = member.rates.of(metric) else { continue };
            match self.samples.push(id, metric, now, value) {
                // After the clock was set back by less than an interval: the next one is newer.
                Ok(()) | Err(Rejected::OutOfOrder) => {}
                Err(error) => tracing::warn!(%id, ?metric, value, %error, "a sample is not used"),
            }
        }
    }
}
