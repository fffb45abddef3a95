//! What the demo has shown, and whether it is what it should.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_northbound::api::{EventKind, XdpMode};

use crate::host_load::HostLoad;
use crate::traffic::{BrokenFlow, Failure, FailureKind, HttpCounts, PingCounts};

/// The demo's result. Its JSON form is what `sluice demo --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How the XDP program runs on the uplink; `None` where the daemon was never asked.
    pub xdp_mode: Option<XdpMode>,
    /// How long the load ran.
    pub seconds: f64,
    /// Scaling actions that added instances.
    pub scale_outs: u64,
    /// Scaling actions that removed instances.
    pub scale_ins: u64,
    /// Every scaling action.
    pub actions: Vec<ActionSummary>,
    /// The HTTP requests, each on a connection of its own.
    pub requests: HttpCounts,
    /// The pings.
    pub pings: PingCounts,
    /// The connections that were held open.
    pub connections: ConnectionSummary,
    /// Flows given to an instance that was draining, as clients saw it.
    pub new_flows_while_draining: u64,
    /// The same by the load balancer's counters.
    pub counted_while_draining: u64,
    /// How busy the host was meanwhile.
    #[serde(default)]
    pub host_load: HostLoad,
    /// Why the demo failed; empty when it did not.
    pub problems: Vec<String>,
}

/// A scaling action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionSummary {
    /// When it was decided.
    pub at: Timestamp,
    /// Which way.
    pub kind: EventKind,
    /// Why.
    pub reason: String,
    /// Connections that were answered before and after it.
    pub connections_held: u64,
    /// Streams of pings that were answered before and after it.
    pub pings_held: u64,
    /// From the decision on the sample that crossed the threshold to the first answer of a new instance,
    /// milliseconds.
    pub first_flow_ms: Option<f64>,
    /// What of it that instance took from its launch to being ready, milliseconds.
    #[serde(default)]
    pub boot_ms: Option<f64>,
}

/// Connections that were held open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionSummary {
    /// Opened in all.
    pub opened: u64,
    /// Lines sent and answered on them.
    pub exchanges: u64,
    /// Ended in another way than by our closing them.
    pub broken: u64,
    /// How: at most 200 of them.
    pub broken_flows: Vec<BrokenFlow>,
    /// What went wrong with HTTP requests: at most 200.
    pub failed_requests: Vec<Failure>,
    /// Streams of pings with a lost request: at most 200.
    pub lost_pings: Vec<BrokenFlow>,
}

impl Summary {
    /// Whether all is as it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Writes down every way in which the result is not what it should be; `actions` are the fewest each way.
    pub(crate) fn judge(&mut self, back_at_min: bool, actions: u64) {
        let (requests, pings, load) = (&self.requests, &self.pings, &self.host_load);
        let [lost, late] = self.unanswered(requests.sent - requests.answered, requests.late());
        let [lost_pings, late_pings] = self.unanswered(pings.lost, pings.late());
        let timed_out = |flow: &&BrokenFlow| flow.failure.kind == FailureKind::Timeout;
        let timeouts = self.connections.broken_flows.iter().filter(timed_out).count() as u64;
        let [broken, late_connections] = self.unanswered(self.connections.broken, timeouts);
        let checks = [
            (lost > 0, format!("{lost} of {} requests were lost", requests.sent)),
            (late > 0, format!("{late} of {} requests had no answer in time; {load}", requests.sent)),
            (lost_pings > 0, format!("{lost_pings} of {} pings were lost", pings.sent)),
            (late_pings > 0, format!("{late_pings} of {} pings had no answer in time; {load}", pings.sent)),
            (broken > 0, format!("{broken} held connections broke")),
            (
                late_connections > 0,
                format!("{late_connections} held connections had no answer in time; {load}"),
            ),
            (
                self.new_flows_while_draining > 0,
                format!("{} new flows went to a draining instance", self.new_flows_while_draining),
            ),
            (
                self.counted_while_draining > 0,
                format!(
                    "the load balancer counted {} new flows to draining instances",
                    self.counted_while_draining
                ),
            ),
            (self.scale_outs < actions, format!("{} scale-outs, fewer than {actions}", self.scale_outs)),
            (self.scale_ins < actions, format!("{} scale-ins, fewer than {actions}", self.scale_ins)),
            (requests.sent == 0 || pings.sent == 0, "no traffic".to_owned()),
            (!back_at_min, "the group is not back at its minimum".to_owned()),
        ];
        self.problems.extend(checks.into_iter().filter_map(|(bad, problem)| bad.then_some(problem)));
    }

    /// Of so many failures, those that are a loss, and those that were only late: `timeouts` of them on a busy host. Either
    /// is a problem, but only the first is the load balancer's.
    fn unanswered(&self, failures: u64, timeouts: u64) -> [u64; 2] {
        let late = if self.host_load.is_busy() { timeouts.min(failures) } else { 0 };
        [failures - late, late]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, pings, held) = (&self.requests, &self.pings, &self.connections);
        let mode = self.xdp_mode.map_or_else(|| "unknown".to_owned(), |mode| mode.to_string());
        writeln!(f, "{:.0} s of load, XDP mode {mode}", self.seconds)?;
        writeln!(f, "scale-outs   {}", self.scale_outs)?;
        writeln!(f, "scale-ins    {}", self.scale_ins)?;
        let latency =
            [requests.p50_us, requests.p99_us].map(|us| format!("{:.1?}", Duration::from_micros(us)));
        let lost = requests.sent - requests.answered;
        write!(f, "requests     {} sent, {lost} lost, {} slow", requests.sent, requests.slow)?;
        writeln!(f, " (median {}, 99 % within {})", latency[0], latency[1])?;
        writeln!(f, "pings        {} sent, {} lost", pings.sent, pings.lost)?;
        writeln!(
            f,
            "connections  {} held open, {} lines, {} broken",
            held.opened, held.exchanges, held.broken
        )?;
        let strays = self.new_flows_while_draining;
        writeln!(f, "new flows to draining instances: {strays}")?;
        for action in &self.actions {
            write!(f, "{action}")?;
        }
        for problem in &self.problems {
            writeln!(f, "FAILED: {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ActionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {}", if self.kind == EventKind::ScaleOut { "out" } else { "in" }, self.reason)?;
        let held = (self.connections_held, self.pings_held);
        write!(f, "             {} connections and {} ping streams held across it", held.0, held.1)?;
        if let Some(ms) = self.first_flow_ms {
            write!(f, "; first flow of a new instance after {ms:.0} ms")?;
        }
        if let Some(ms) = self.boot_ms {
            write!(f, ", {ms:.0} ms of which it took to start")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Summary {
        Summary {
            scale_outs: 2,
            scale_ins: 2,
            requests: HttpCounts { sent: 10, answered: 10, ..HttpCounts::default() },
            pings: PingCounts { sent: 10, answered: 10, ..PingCounts::default() },
            ..Summary::default()
        }
    }

    #[test]
    fn a_good_run_has_no_problems() {
        let mut summary = good();
        summary.judge(true, 2);
        assert!(summary.is_good(), "{:?}", summary.problems);
    }

    #[test]
    fn what_timed_out_on_a_busy_host_is_called_late_and_what_was_reset_lost() {
        let mut summary = good();
        summary.requests.answered = 7;
        summary.requests.failures = [(FailureKind::Timeout, 2), (FailureKind::Reset, 1)].into();
        summary.host_load = HostLoad { average: Some(18.0), cpus: 2, stalled: Some(0.9) };
        let mut quiet = Summary { host_load: HostLoad::default(), ..summary.clone() };
        summary.judge(true, 2);
        let late = "2 of 10 requests had no answer in time; the machine was busy: load 18.0 on 2 CPUs";
        assert!(summary.problems[0] == "1 of 10 requests were lost" && summary.problems[1].starts_with(late));
        quiet.judge(true, 2);
        assert_eq!(quiet.problems, ["3 of 10 requests were lost"]);
    }

    #[test]
    fn whatever_is_wrong_is_a_problem() {
        type Spoil = fn(&mut Summary);
        let spoil: [(&str, Spoil); 7] = [
            ("requests were lost", |s| s.requests.answered -= 1),
            ("pings were lost", |s| s.pings.lost = 1),
            ("held connections broke", |s| s.connections.broken = 1),
            ("draining instance", |s| s.new_flows_while_draining = 1),
            ("load balancer counted", |s| s.counted_while_draining = 1),
            ("scale-outs", |s| s.scale_outs = 1),
            ("scale-ins", |s| s.scale_ins = 1),
        ];
        for (expected, spoil) in spoil {
            let mut summary = good();
            spoil(&mut summary);
            summary.judge(true, 2);
            assert!(summary.problems.iter().any(|problem| problem.contains(expected)), "{expected}");
        }
        let mut summary = good();
        summary.judge(false, 2);
        assert!(!summary.is_good());
    }
}
