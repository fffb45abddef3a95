//! What the demo shows while it runs: a live view on a terminal, plain lines elsewhere.

mod lines;
mod terminal;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Result;
use sluice_logic::group::InstanceId;
use sluice_northbound::api::{Event, Load, TenantStatus};

use crate::summary::Summary;
use crate::traffic::{FlowCounts, HttpCounts, PingCounts};

use lines::Lines;
use terminal::Terminal;

/// All that can be seen at one moment.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Since the load began.
    pub(crate) elapsed: Duration,
    /// Until the load's planned end.
    pub(crate) remaining: Duration,
    /// The load's phase.
    pub(crate) phase: &'a str,
    /// HTTP requests a second.
    pub(crate) rate: f64,
    /// The demo's tenant.
    pub(crate) tenant: Option<&'a TenantStatus>,
    /// Each instance's part of the flows begun lately, 0 to 1.
    pub(crate) shares: BTreeMap<InstanceId, f64>,
    /// All events, oldest first.
    pub(crate) events: &'a [Event],
    /// How many of them are new since the last frame.
    pub(crate) new_events: usize,
    /// The held connections.
    pub(crate) connections: FlowCounts,
    /// The pings.
    pub(crate) pings: PingCounts,
    /// The HTTP requests.
    pub(crate) requests: HttpCounts,
}

/// Shows frames. Dropping it gives the terminal back as it was.
pub(crate) enum View {
    /// On a terminal.
    Terminal(Terminal),
    /// Elsewhere.
    Lines(Lines),
}

impl View {
    /// Shows the frame.
    pub(crate) fn draw(&mut self, frame: &Frame<'_>) -> Result<()> {
        match self {
            Self::Terminal(terminal) => Ok(terminal.draw(frame)?),
            Self::Lines(lines) => Ok(lines.draw(frame)?),
        }
    }

    /// Whether somebody has typed Ctrl-C or `q`: a terminal in raw mode sends no signal.
    pub(crate) fn wants_to_end(&self) -> Result<bool> {
        match self {
            Self::Terminal(_) => Ok(terminal::wants_to_end()?),
            Self::Lines(_) => Ok(false),
        }
    }
}

/// Where the demo's words go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// A live view.
    Terminal,
    /// Lines on standard output.
    Lines,
    /// Lines on standard error, and the summary as JSON on standard output.
    Json,
}

impl Output {
    /// A live view where standard output is a terminal, unless JSON is asked for.
    pub(crate) fn choose(json: bool) -> Self {
        match (json, io::stdout().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Lines,
        }
    }

    /// Begins to show frames.
    pub(crate) fn view(self) -> Result<View> {
        match self {
            Self::Terminal => Ok(View::Terminal(Terminal::open()?)),
            Self::Lines => Ok(View::Lines(Lines::new(Box::new(io::stdout())))),
            Self::Json => Ok(View::Lines(Lines::new(Box::new(io::stderr())))),
        }
    }

    /// Says what is being done before and after the frames. A closed pipe is not worth a failure.
    pub(crate) fn note(self, text: &str) {
        let _ = match self {
            Self::Terminal | Self::Lines => writeln!(io::stdout(), "{text}"),
            Self::Json => writeln!(io::stderr(), "{text}"),
        };
    }

    /// Prints the summary.
    pub(crate) fn summary(self, summary: &Summary) -> Result<()> {
        match self {
            Self::Terminal | Self::Lines => write!(io::stdout(), "\n{summary}")?,
            Self::Json => {
                write!(io::stderr(), "\n{summary}")?;
                writeln!(io::stdout(), "{}", serde_json::to_string_pretty(summary)?)?;
            }
        }
        Ok(())
    }
}

/// What happened to what: `in_service` `demo-1f2e3d4c: in service, ready after 39 ms`.
fn event_text(event: &Event) -> String {
    let kind = serde_json::to_value(event.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    match &event.instance {
        Some(instance) => format!("{kind:<12} {instance}: {}", event.message),
        None => format!("{kind:<12} {}", event.message),
    }
}

/// `0.43 of 0.50`: a load beside its threshold.
fn load_text(load: &Load) -> String {
    match load.value {
        Some(value) => format!("{value:.2} of {:.2}", load.threshold),
        None => format!("no data yet, threshold {:.2}", load.threshold),
    }
}

#[cfg(test)]
mod testing {
    use sluice_logic::group::InstanceState;
    use sluice_logic::spec::{Metric, TenantName};
    use sluice_northbound::api::InstanceStatus;

    use super::*;

    pub(super) fn tenant() -> TenantStatus {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let instance = |name: &str, state| InstanceStatus {
            progress: None,
            id: InstanceId::from_label(name),
            cloud: sluice_logic::spec::CloudName::default(),
            address: std::net::Ipv4Addr::new(10, 0, 0, 2),
            other_addresses: Vec::new(),
            state,
            created: now,
            since: now,
            cpu: Some(0.4),
            packets_per_second: None,
            new_flows_per_second: None,
            new_flows: Some(12),
            live_flows: Some(7),
            new_flow_share: None,
        };
        TenantStatus {
            leaving_until: None,
            name: TenantName::try_from("demo".to_owned()).expect("a name"),
            services: Vec::new(),
            counters: BTreeMap::new(),
            vips: Vec::new(),
            desired: 2,
            min: 2,
            max: 5,
            loads: vec![Load { metric: Metric::Cpu, value: Some(0.43), threshold: 0.5 }],
            last_decision: None,
            last_action: None,
            leaving: false,
            problem: None,
            failed_launch: None,
            instances: vec![
                instance("demo-0001", InstanceState::InService),
                instance("demo-0002", InstanceState::Draining),
            ],
        }
    }

    pub(super) fn frame<'a>(tenant: &'a TenantStatus, events: &'a [Event]) -> Frame<'a> {
        Frame {
            elapsed: Duration::from_secs(20),
            remaining: Duration::from_secs(100),
            phase: "rising",
            rate: 60.0,
            tenant: Some(tenant),
            shares: BTreeMap::from([(InstanceId::from_label("demo-0001"), 0.75)]),
            events,
            new_events: events.len(),
            connections: FlowCounts { open: 100, ..FlowCounts::default() },
            pings: PingCounts { sent: 500, answered: 499, lost: 1, ..PingCounts::default() },
            requests: HttpCounts { sent: 900, answered: 900, ..HttpCounts::default() },
        }
    }
}
