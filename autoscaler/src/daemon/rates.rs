//! From counters to rates: pure.

use std::time::Duration;

use jiff::Timestamp;
use lb_userspace::lb::FlowCounters;
use sluice_logic::spec::{Metric, TemplateSpec};
use sluice_southbound::provider::InstanceMetrics;

/// What was read of one instance at one poll. Each part may be missing: then there is no data, which is not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// From its provider.
    pub(crate) metrics: Option<InstanceMetrics>,
    /// From the load balancer, and when.
    pub(crate) flows: Option<(Timestamp, FlowCounters)>,
}

/// What an instance did between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    /// CPU utilisation: 1.0 is all cores of its template.
    pub(crate) cpu: Option<f64>,
    /// Memory utilisation: 1.0 is all that its template grants; missing where that says nothing of memory.
    pub(crate) memory: Option<f64>,
    /// Bytes a second that it received on its tenant's networks.
    pub(crate) network_in: Option<f64>,
    /// Bytes a second that it sent on its tenant's networks.
    pub(crate) network_out: Option<f64>,
    /// Packets a second of its services' flows towards it.
    pub(crate) packets: Option<f64>,
    /// Bytes a second of its services' flows towards it.
    pub(crate) bytes: Option<f64>,
    /// Flows begun a second.
    pub(crate) new_flows: Option<f64>,
    /// Flows begun between the readings.
    pub(crate) begun: Option<u64>,
    /// Flows alive at the second reading.
    pub(crate) live_flows: Option<u64>,
}

impl Rates {
    /// The rates after these, when `now` was read. What a provider measures at its own pace may be no newer than at the
    /// reading `before`: then its rates are as they were.
    #[must_use]
    pub(crate) fn next(&self, before: &Reading, now: &Reading, template: &TemplateSpec) -> Self {
        let next = Self::between(before, now, template);
        let measured = |reading: &Reading| reading.metrics.map(|metrics| metrics.at);
        if measured(now).is_none() || measured(before) != measured(now) {
            return next;
        }
        let Self { cpu, network_in, network_out, .. } = *self;
        Self { cpu, network_in, network_out, ..next }
    }

    /// The rates between two readings of an instance of that template. What a reading lacks, and what has
    /// counted backwards (the counters were made anew), is missing here too.
    fn between(before: &Reading, now: &Reading, template: &TemplateSpec) -> Self {
        let cpu = before.metrics.zip(now.metrics).and_then(|(before, now)| {
            let used = now.cpu.checked_sub(before.cpu)?;
            Some(used.as_secs_f64() / seconds(before.at, now.at)? / template.cpus)
                .filter(|cpu| cpu.is_finite())
        });
        let traffic = before.metrics.zip(now.metrics).and_then(|(before, now)| {
            let (passed, before, now) = (seconds(before.at, now.at)?, before.traffic?, now.traffic?);
            let received = now.received.checked_sub(before.received)?;
            let sent = now.sent.checked_sub(before.sent)?;
            Some((per_second(received, passed), per_second(sent, passed)))
        });
        let flows = before.flows.zip(now.flows).and_then(|((from, before), (to, now))| {
            let passed = seconds(from, to)?;
            Some((
                passed,
                now.packets.checked_sub(before.packets)?,
                now.bytes.checked_sub(before.bytes)?,
                now.new_flows.checked_sub(before.new_flows)?,
            ))
        });
        let in_use = now.metrics.and_then(|metrics| metrics.memory);
        let memory = in_use.zip(template.memory.filter(|granted| *granted > 0));
        Self {
            cpu,
            memory: memory.map(|(in_use, granted)| as_f64(in_use) / as_f64(granted)),
            network_in: traffic.map(|(received, _)| received),
            network_out: traffic.map(|(_, sent)| sent),
            packets: flows.map(|(passed, packets, ..)| per_second(packets, passed)),
            bytes: flows.map(|(passed, _, bytes, _)| per_second(bytes, passed)),
            new_flows: flows.map(|(passed, .., begun)| per_second(begun, passed)),
            begun: flows.map(|(.., begun)| begun),
            live_flows: now.flows.map(|(_, flows)| flows.live_flows),
        }
    }

    /// The value of a metric that a policy may look at.
    pub(crate) fn of(&self, metric: &Metric) -> Option<f64> {
        match metric {
            Metric::Cpu => self.cpu,
            Metric::Packets => self.packets,
            Metric::Bytes => self.bytes,
            Metric::NewFlows => self.new_flows,
            Metric::LiveFlows => self.live_flows.map(as_f64),
            Metric::Memory => self.memory,
            Metric::NetworkIn => self.network_in,
            Metric::NetworkOut => self.network_out,
            // Not among what a provider and the load balancer say.
            Metric::Custom(_) => None,
        }
    }
}

/// The time between two readings; `None` where none has passed.
fn seconds(from: Timestamp, to: Timestamp) -> Option<f64> {
    let passed = Duration::try_from(to.duration_since(from)).ok()?;
    (!passed.is_zero()).then_some(passed.as_secs_f64())
}

fn per_second(count: u64, seconds: f64) -> f64 {
    as_f64(count) / seconds
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 in one second is not of this world")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::tenant;
    use sluice_southbound::provider::Traffic;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn cores(cpus: f64) -> TemplateSpec {
        TemplateSpec { cpus, ..tenant("demo").template }
    }

    fn reading(seconds: i64, cpu_ms: u64, packets: u64, begun: u64) -> Reading {
        Reading {
            metrics: Some(InstanceMetrics {
                at: at(seconds),
                cpu: Duration::from_millis(cpu_ms),
                memory: None,
                traffic: Some(Traffic { received: packets * 100, sent: packets * 200 }),
            }),
            flows: Some((
                at(seconds),
                FlowCounters {
                    packets,
                    bytes: packets * 100,
                    new_flows: begun,
                    live_flows: 7,
                    ..Default::default()
                },
            )),
        }
    }

    #[test]
    fn cpu_is_measured_against_the_templates_cores() {
        let rates = Rates::between(&reading(0, 0, 0, 0), &reading(2, 500, 0, 0), &cores(0.5));
        assert_eq!(rates.cpu, Some(0.5));
    }

    #[test]
    fn memory_is_measured_against_what_is_granted() {
        let mut now = reading(1, 0, 0, 0);
        now.metrics = now.metrics.map(|metrics| InstanceMetrics { memory: Some(256 << 20), ..metrics });
        let granting = |memory| TemplateSpec { memory, ..cores(1.0) };
        let of = |memory| Rates::between(&Reading::default(), &now, &granting(memory)).memory;
        assert_eq!(of(Some(512 << 20)), Some(0.5));
        assert_eq!((of(None), of(Some(0))), (None, None));
        assert_eq!(Rates::between(&now, &Reading::default(), &granting(Some(1))).memory, None);
    }

    #[test]
    fn counts_become_rates() {
        let rates = Rates::between(&reading(0, 0, 100, 10), &reading(2, 0, 300, 16), &cores(1.0));
        assert_eq!(rates.packets, Some(100.0));
        assert_eq!(rates.bytes, Some(10_000.0));
        assert_eq!((rates.network_in, rates.network_out), (Some(10_000.0), Some(20_000.0)));
        assert_eq!(rates.new_flows, Some(3.0));
        assert_eq!(rates.begun, Some(6));
        assert_eq!(rates.of(&Metric::LiveFlows), Some(7.0));
    }

    #[test]
    fn what_counts_backwards_is_missing_and_not_zero() {
        let rates = Rates::between(&reading(0, 900, 100, 10), &reading(1, 100, 5, 1), &cores(1.0));
        assert_eq!((rates.cpu, rates.packets, rates.new_flows, rates.network_in), (None, None, None, None));
        assert_eq!(rates.live_flows, Some(7), "a gauge needs no reading before");
    }

    #[test]
    fn a_failed_source_is_missing_and_not_zero() {
        let now = Reading { metrics: None, ..reading(1, 0, 10, 0) };
        let rates = Rates::between(&reading(0, 0, 0, 0), &now, &cores(1.0));
        assert_eq!((rates.cpu, rates.packets), (None, Some(10.0)));
        assert_eq!(Rates::between(&Reading::default(), &Reading::default(), &cores(1.0)), Rates::default());
    }

    #[test]
    fn what_was_measured_once_is_so_until_it_is_measured_anew() {
        let of = |second, packets| {
            let mut reading = reading(second, u64::try_from(second).unwrap() * 100, packets, 0);
            reading.metrics =
                reading.metrics.map(|metrics| InstanceMetrics { at: at(second / 2 * 2), ..metrics });
            reading
        };
        let template = cores(1.0);
        let first = Rates::default().next(&of(0, 0), &of(2, 20), &template);
        let second = first.next(&of(2, 20), &of(3, 50), &template);
        assert_eq!((first.packets, second.packets), (Some(10.0), Some(30.0)), "the flows are counted");
        assert_eq!(first.cpu, Some(0.1));
        assert_eq!((second.cpu, second.network_out), (first.cpu, first.network_out));
        let missed = second.next(&of(3, 50), &Reading { metrics: None, ..of(4, 60) }, &template);
        assert_eq!((missed.cpu, missed.network_out), (None, None));
    }

    #[test]
    fn no_time_and_no_cores_make_no_number() {
        let same = reading(0, 100, 1, 1);
        assert_eq!(Rates::between(&same, &same, &cores(1.0)).cpu, None);
        assert_eq!(Rates::between(&reading(0, 0, 0, 0), &reading(1, 5, 0, 0), &cores(0.0)).cpu, None);
    }
}
