//! Plain lines: one for every event and, every few seconds, one with the state of things.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use sluice_northbound::api::EventKind;

use super::{Frame, load_text};

/// A line with the state of things comes so often.
const STATUS_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Lines {
    out: Box<dyn Write + Send>,
    next_status: Duration,
}

impl Lines {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, next_status: Duration::ZERO }
    }

    pub(super) fn draw(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let seconds = frame.elapsed.as_secs_f64();
        let new = &frame.events[frame.events.len().saturating_sub(frame.new_events)..];
        for event in new {
            writeln!(self.out, "{seconds:6.1} s  {:<14} {}", kind_text(event.kind), event.message)?;
        }
        if frame.elapsed >= self.next_status {
            self.next_status = frame.elapsed + STATUS_EVERY;
            writeln!(self.out, "{seconds:6.1} s  {}", status_text(frame))?;
        }
        self.out.flush()
    }
}

/// The kind as it is written in JSON: `scale_out`.
pub(super) fn kind_text(kind: EventKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn status_text(frame: &Frame<'_>) -> String {
    let mut text = format!("[{} {:.0}/s]", frame.phase, frame.rate);
    if let Some(tenant) = frame.tenant {
        let load = tenant.loads.first().map(load_text).unwrap_or_default();
        // Writing to a `String` does not fail.
        let _ = write!(text, " desired {} load {load};", tenant.desired);
        for instance in &tenant.instances {
            let share = instance.new_flow_share.unwrap_or(0.0) * 100.0;
            let state = serde_json::to_value(instance.state).unwrap_or_default();
            let _ = write!(text, " {} {} {share:.0} %,", instance.id, state.as_str().unwrap_or("?"));
        }
    }
    let (requests, pings, held) = (&frame.requests, &frame.pings, &frame.connections);
    let _ = write!(
        text,
        " requests {} failed {} slow {}; pings {} lost {}; connections {} broken {}",
        requests.sent, requests.failed, requests.slow, pings.sent, pings.lost, held.open, held.broken
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::testing;

    #[test]
    fn the_status_line_names_what_matters() {
        let tenant = testing::tenant();
        let line = status_text(&testing::frame(&tenant, &[]));
        let expected = [
            "rising 60/s",
            "desired 2",
            "load 0.43 of 0.50",
            "demo-0001 in_service 75 %",
            "demo-0002 draining",
        ];
        for part in expected.into_iter().chain([
            "requests 900 failed 0",
            "pings 500 lost 1",
            "connections 100 broken 0",
        ]) {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}
