//! When the flow table is nearly full, or a service's quota of it is: what is said, and how often. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_userspace::lb::{Counters, FlowTableUse, ServiceUse};
use lb_userspace::service::ServiceKey;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::problems::Finding;

/// After an event the next one of the same service comes no sooner.
const PAUSE: Duration = Duration::from_mins(10);
/// Without a refused flow for so long, a quota is full no longer.
const LASTING: Duration = Duration::from_mins(1);
/// Parts of the table, in percent: from the first on it is nearly full, below the second no longer.
const NEARLY_FULL: u64 = 90;
const ROOMY: u64 = 80;

const WAY_OUT: &str = "`sluice lb services` shows who has how much; for a larger table set `max_flows` of `load_balancer` \
                       in the host file, and start the load balancer anew (`sluice down --stop`, then the daemon)";

/// Flows of a service that were refused since the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Whose.
    pub(crate) service: ServiceKey,
    /// How many.
    pub(crate) flows: u64,
    /// What it has of the table now.
    pub(crate) usage: ServiceUse,
}

/// What is known of the flow table from one poll to the next, for the host.
#[derive(Debug, Default)]
pub(crate) struct FlowTableWatch {
    nearly_full: bool,
    refusals: Refusals,
}

/// What is known of services' refused flows from one poll to the next.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<ServiceKey, Count>);

#[derive(Debug)]
struct Count {
    /// At the last poll.
    refused: u64,
    /// Those that no event has told.
    untold: u64,
    /// When it grew last.
    grew: Option<Instant>,
    /// When the last event was.
    told: Option<Instant>,
}

impl FlowTableWatch {
    /// Takes what was counted now. Returns the problems that last.
    pub(crate) fn poll(&mut self, counters: &Counters, now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        let FlowTableUse { used, room } = counters.flow_table;
        let limit = if self.nearly_full { ROOMY } else { NEARLY_FULL };
        self.nearly_full = room > 0 && used.saturating_mul(100) >= room.saturating_mul(limit);
        if self.nearly_full {
            findings.push(finding("the flow table".to_owned(), "it is nearly full: flows may go unrecorded"));
        }
        self.refusals.poll(&counters.flow_uses, now);
        findings.extend(self.refusals.lasting(now).map(|service| {
            let what = "flows aren't recorded, as its quota of the flow table or the table is full: they may break when the \
                        instances change";
            finding(format!("the service {service}"), what)
        }));
        findings
    }
}

impl Refusals {
    /// Takes what services have now. Returns what is an event.
    pub(crate) fn poll<'a>(
        &mut self,
        uses: impl IntoIterator<Item = (&'a ServiceKey, &'a ServiceUse)>,
        now: Instant,
    ) -> Vec<Refused> {
        let mut before = std::mem::take(&mut self.0);
        let mut events = Vec::new();
        for (&service, &usage) in uses {
            // What was refused before this daemon was there is no news.
            let first = Count { refused: usage.flows_refused, untold: 0, grew: None, told: None };
            let mut count = before.remove(&service).unwrap_or(first);
            if count.grow(usage.flows_refused, now) {
                events.push(Refused { service, flows: std::mem::take(&mut count.untold), usage });
            }
            self.0.insert(service, count);
        }
        events
    }

    /// The services whose flows were refused a moment ago.
    fn lasting(&self, now: Instant) -> impl Iterator<Item = &ServiceKey> {
        let lasts = move |count: &Count| count.grew.is_some_and(|grew| now.duration_since(grew) < LASTING);
        self.0.iter().filter(move |(_, count)| lasts(count)).map(|(service, _)| service)
    }
}

impl Count {
    /// Takes the count of now. Whether it is time for an event.
    fn grow(&mut self, count: u64, now: Instant) -> bool {
        // It begins at zero again with another load balancer.
        let more = if count < self.refused { count } else { count - self.refused };
        self.refused = count;
        if more > 0 {
            self.untold = self.untold.saturating_add(more);
            self.grew = Some(now);
        }
        let is_due = self.untold > 0 && self.told.is_none_or(|told| now.duration_since(told) >= PAUSE);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

impl Refused {
    /// For people.
    pub(crate) fn message(&self) -> String {
        let Self { service, flows, usage } = self;
        let ServiceUse { flow_entries, flow_quota, .. } = usage;
        format!(
            "{flows} flows of {service} were not recorded, as its quota of the flow table or the table is full \
             ({flow_entries} entries of at most {flow_quota}): they may break when the instances change; {WAY_OUT}"
        )
    }
}

impl Refused {
    /// For programs.
    pub(crate) fn details(&self) -> Value {
        let Self { service, flows, usage } = self;
        json!({
            "service": service.to_string(),
            "refused": flows,
            "flow_entries": usage.flow_entries,
            "flow_quota": usage.flow_quota,
        })
    }
}

fn finding(about: String, what: &str) -> Finding {
    Finding { about, what: what.to_owned(), way_out: WAY_OUT.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counters(used: u64, refused: u64) -> Counters {
        let service: ServiceKey = "45.45.45.45:80/tcp".parse().unwrap();
        let usage = ServiceUse { flow_entries: used, flow_quota: 500, flows_refused: refused };
        let flow_table = FlowTableUse { used, room: 1_000 };
        Counters { flow_table, flow_uses: [(service, usage)].into(), ..Counters::default() }
    }

    #[test]
    fn a_table_is_nearly_full_until_it_is_roomy() {
        let mut watch = FlowTableWatch::default();
        let now = Instant::now();
        let mut problems = |used| watch.poll(&counters(used, 0), now).len();
        assert_eq!([899, 900, 850, 800, 799, 850, 900].map(&mut problems), [0, 1, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn refused_flows_are_an_event_once_in_ten_minutes() {
        let mut refusals = Refusals::default();
        let began = Instant::now();
        let mut flows = |seconds: u32, refused| {
            let events = refusals.poll(&counters(0, refused).flow_uses, began + seconds * SECOND);
            events.iter().map(|event| event.flows).collect::<Vec<_>>()
        };
        assert_eq!(flows(0, 7), [0; 0], "refused before the daemon was there");
        assert_eq!(flows(1, 9), [2]);
        assert_eq!(flows(2, 10), [0; 0]);
        assert_eq!(flows(300, 30), [0; 0]);
        assert_eq!(flows(601, 30), [21], "what came since");
        assert_eq!(flows(1_300, 30), [0; 0]);
        assert_eq!(flows(1_301, 5), [5], "another load balancer counts anew");
    }

    #[test]
    fn a_full_quota_is_a_problem_while_flows_are_refused() {
        let mut watch = FlowTableWatch::default();
        let began = Instant::now();
        let mut problems =
            |seconds: u32, refused| watch.poll(&counters(0, refused), began + seconds * SECOND).len();
        assert_eq!([problems(0, 0), problems(1, 1), problems(60, 1), problems(61, 1)], [0, 1, 1, 0]);
    }

    #[test]
    fn a_service_that_is_gone_is_forgotten() {
        let mut watch = FlowTableWatch::default();
        watch.poll(&counters(0, 5), Instant::now());
        watch.poll(&Counters::default(), Instant::now());
        assert!(watch.refusals.0.is_empty());
    }
}
