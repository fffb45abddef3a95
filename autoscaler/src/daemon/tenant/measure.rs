//! From a poll of the host to samples and a decision.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use sluice_logic::group::{InstanceId, InstanceState};
use sluice_logic::samples::Rejected;
use sluice_logic::spec::Metric;
use sluice_northbound::api::EventKind;
use sluice_southbound::provider::{InstanceMetrics, InstanceSpec};
use sluice_store::{Sample, Subject};
use tokio::time::Instant;

use super::jobs::{self, Done};
use super::{Poll, Tenant};
use crate::daemon::host::Host;
use crate::daemon::rates::Reading;
use crate::daemon::roster::Member;

/// Within this time a handshake that was under way when a drain began is over, and its flow is counted.
///
/// The load balancer counts a TCP flow from its first packet after the SYN on. Where a packet of the handshake is lost,
/// the next try comes after an initial retransmission timeout of 1 s, which doubles with each loss (RFC 6298, 2.1
/// and 5.5): two losses in a row are 1 s and 2 s.
const HANDSHAKE: Duration = Duration::from_secs(3);

impl Tenant {
    /// Takes in a poll of the host, and asks the provider for what it can measure. While an answer is out,
    /// no further one is asked for: what is missing then is missing data.
    pub(super) fn take_in(&mut self, poll: &Arc<Poll>) {
        if let Some(services) = &poll.services {
            self.services =
                services.iter().filter(|service| self.keys.contains(&service.key)).cloned().collect();
        }
        let counted = poll.counters.iter().flat_map(|(_, counters)| &counters.services);
        self.counters =
            counted.filter(|(key, _)| self.keys.contains(key)).map(|(&key, &count)| (key, count)).collect();
        self.tell_refused(poll);
        self.compare(poll);
        self.ask_sources();
        if self.measuring {
            return;
        }
        self.measuring = true;
        let (host, poll, specs) = (self.host.clone(), poll.clone(), self.measurable());
        self.jobs.spawn(async move {
            let metrics = specs.into_iter().map(async |spec| {
                let metrics = metrics(&host, &spec).await;
                (spec.id, metrics)
            });
            let metrics = join_all(metrics).await;
            Done::Measured(poll, metrics)
        });
    }

    /// Tells of flows of its services that weren't recorded.
    fn tell_refused(&mut self, poll: &Poll) {
        let Some((_, counters)) = &poll.counters else { return };
        let own = counters.flow_uses.iter().filter(|(key, _)| self.keys.contains(key));
        for refused in self.refusals.poll(own, Instant::now()) {
            let event = self.event(EventKind::FlowTableFull, refused.message());
            self.host.events.record(event.with(refused.details()));
        }
    }

    fn measurable(&self) -> Vec<InstanceSpec> {
        let measurable = |state| matches!(state, InstanceState::InService | InstanceState::Draining);
        let members = self.members.values().filter(|member| measurable(member.instance.state));
        members.map(|member| member.spec.clone()).collect()
    }

    /// Turns what was read into samples, and decides at once.
    pub(super) fn measured(&mut self, poll: &Poll, metrics: Vec<(InstanceId, Option<InstanceMetrics>)>) {
        self.measuring = false;
        let now = Timestamp::now();
        self.group.rewind(now);
        self.samples.rewind(now);
        self.note_known_good(now);
        let mut taken = Vec::new();
        for (id, metrics) in metrics {
            self.sample(&id, metrics, poll, now, &mut taken);
        }
        self.keep_samples(taken, now);
        self.keep_pushed(now);
        self.decide(now);
    }

    fn sample(
        &mut self,
        id: &InstanceId,
        metrics: Option<InstanceMetrics>,
        poll: &Poll,
        now: Timestamp,
        taken: &mut Vec<Sample>,
    ) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.instance.rewind(now);
        let address = IpAddr::V4(member.instance.address);
        let flows =
            poll.counters.as_ref().and_then(|(at, counters)| Some((*at, *counters.backends.get(&address)?)));
        if counts_all_flows(member, poll.began) {
            member.instance.live_flows = flows.map(|(_, flows)| flows.live_flows);
        }
        let reading = Reading { metrics, flows };
        member.rates = member.rates.next(&member.reading, &reading, &member.spec.template);
        member.reading = reading;
        if member.instance.state != InstanceState::InService {
            return;
        }
        for metric in &Metric::BUILT_IN {
            let Some(value) = member.rates.of(metric) else { continue };
            match self.samples.push(id, metric, now, value) {
                Ok(()) => taken.push(Sample {
                    at: now,
                    subject: Subject::Instance(id.clone()),
                    metric: metric.clone(),
                    value,
                }),
                // After the clock was set back by less than an interval: the next one is newer.
                Err(Rejected::Duplicate | Rejected::Late) => {}
                Err(error) => tracing::warn!(%id, ?metric, value, %error, "a sample is not used"),
            }
        }
    }
}

/// An instance's metrics; what can't be had in time is missing.
async fn metrics(host: &Host, spec: &InstanceSpec) -> Option<InstanceMetrics> {
    let (id, cloud) = (&spec.id, &spec.cloud);
    let provider = host.clouds.provider(cloud).ok()?;
    let read = tokio::time::timeout(jobs::MEASURE_TIMEOUT, provider.metrics(spec)).await.ok()?;
    read.inspect_err(|error| tracing::debug!(%id, %cloud, %error, "no metrics")).ok()
}

/// Whether a sweep that began then counts every flow that the instance has: one that began before the load balancer
/// knew of the instance's last change may lack a flow that came between, and one soon after a drain's beginning may
/// lack those whose handshakes were under way.
fn counts_all_flows(member: &Member, sweep: Instant) -> bool {
    let unseen = match member.instance.state {
        InstanceState::Draining => HANDSHAKE,
        _ => Duration::ZERO,
    };
    member.settled().is_some_and(|settled| settled + unseen < sweep)
}

#[cfg(test)]
mod tests {
    use sluice_logic::group::Event;
    use sluice_southbound::provider::Presence;

    use super::*;
    use crate::daemon::testing::{at, observed};

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_drains_flows_are_counted_when_no_handshake_can_be_under_way() {
        let mut member = Member::pending(observed(2, Presence::Running).spec.unwrap());
        let served = Instant::now();
        member.instance.apply(Event::Ready, at(1)).unwrap();
        assert!(!counts_all_flows(&member, served + HANDSHAKE), "the load balancer knows nothing of it");
        member.tell(served);
        assert!(!counts_all_flows(&member, served), "the sweep may have begun before");
        assert!(counts_all_flows(&member, served + MOMENT));

        member.drain("too many", at(2)).unwrap();
        let drained = served + Duration::from_mins(1);
        assert!(!counts_all_flows(&member, drained + 2 * HANDSHAKE), "the drain is not in force");
        member.tell(drained);
        assert!(!counts_all_flows(&member, drained + MOMENT));
        assert!(!counts_all_flows(&member, drained + HANDSHAKE));
        assert!(counts_all_flows(&member, drained + HANDSHAKE + MOMENT));
    }
}
