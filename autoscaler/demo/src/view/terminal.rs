//! The live view.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Table, Wrap};
use sluice_logic::group::InstanceState;
use sluice_northbound::api::{EventKind, InstanceStatus, TenantStatus};

use super::lines::kind_text;
use super::{Frame, load_text};

/// Cells of a full bar.
const BAR: usize = 20;

/// The terminal in raw mode on its alternate screen. Dropping it gives it back, a panic too.
pub(crate) struct Terminal(DefaultTerminal);

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    pub(super) fn draw(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.0.draw(|target| render(target, frame)).map(|_| ())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Whether Ctrl-C or `q` is among the keys typed since the last call.
pub(super) fn wants_to_end() -> io::Result<bool> {
    let mut end = false;
    while event::poll(Duration::ZERO)? {
        if let Input::Key(key) = event::read()? {
            let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            end |= control_c || key.code == KeyCode::Char('q');
        }
    }
    Ok(end)
}

fn render(target: &mut ratatui::Frame<'_>, frame: &Frame<'_>) {
    let instances = frame.tenant.map_or(0, |tenant| tenant.instances.len());
    // A group has five instances at most, and a draining one or two beside them; two for the border, one for the head.
    let table = u16::try_from(instances.max(5)).unwrap_or(u16::MAX).saturating_add(3);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(table),
        Constraint::Length(4),
        Constraint::Length(5),
        Constraint::Min(3),
    ]);
    let [title, load, table, decision, clients, events] = areas.areas(target.area());
    target.render_widget(title_line(frame), title);
    if let Some(tenant) = frame.tenant {
        render_load(target, tenant, load);
        target.render_widget(instance_table(tenant), table);
        target.render_widget(decision_text(tenant), decision);
    }
    target.render_widget(client_text(frame), clients);
    target.render_widget(event_list(frame, events), events);
}

fn title_line(frame: &Frame<'_>) -> Line<'static> {
    Line::from(vec![
        Span::from(" sluice demo ").bold().reversed(),
        Span::from(format!("  {}: {:.0} requests/s", frame.phase, frame.rate)).bold(),
        Span::from(format!("   {} s to go   Ctrl-C ends it", frame.remaining.as_secs())).dim(),
    ])
}

fn render_load(target: &mut ratatui::Frame<'_>, tenant: &TenantStatus, area: Rect) {
    let Some(load) = tenant.loads.first() else { return };
    let value = load.value.unwrap_or(0.0);
    let color = if value > load.threshold { Color::Red } else { Color::Green };
    let block = Block::bordered().title(format!(
        " CPU load of the group; desired {} ({} to {}) ",
        tenant.desired, tenant.min, tenant.max
    ));
    let gauge =
        Gauge::default().block(block).gauge_style(color).label(load_text(load)).ratio(value.clamp(0.0, 1.0));
    target.render_widget(gauge, area);
}

fn instance_table(tenant: &TenantStatus) -> Table<'static> {
    let head = Row::new(["instance", "state", "CPU", "share of new flows", "live flows"]).bold();
    let widths = [
        Constraint::Length(18),
        Constraint::Length(12),
        Constraint::Length(6),
        Constraint::Length(28),
        Constraint::Min(10),
    ];
    Table::new(tenant.instances.iter().map(instance_row), widths)
        .header(head)
        .block(Block::bordered().title(" instances "))
}

fn instance_row(instance: &InstanceStatus) -> Row<'static> {
    let (state, color) = match instance.state {
        InstanceState::Pending => ("pending", Color::Yellow),
        InstanceState::InService => ("in service", Color::Green),
        InstanceState::Draining => ("draining", Color::Magenta),
        InstanceState::Terminating => ("terminating", Color::Red),
        InstanceState::Terminated => ("terminated", Color::DarkGray),
    };
    let share = instance.new_flow_share.unwrap_or(0.0);
    Row::new([
        instance.id.to_string(),
        state.to_owned(),
        instance.cpu.map_or_else(String::new, |cpu| format!("{:3.0} %", cpu * 100.0)),
        format!("{} {:3.0} %", bar(share), share * 100.0),
        instance.live_flows.map_or_else(String::new, |flows| flows.to_string()),
    ])
    .style(Style::new().fg(color))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the share is clamped to 0..=1, so the number of cells is 0..=BAR"
)]
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(BAR - full)
}

fn decision_text(tenant: &TenantStatus) -> Paragraph<'static> {
    let text = tenant.last_decision.as_ref().map_or_else(String::new, |decision| decision.reason.clone());
    Paragraph::new(text).wrap(Wrap { trim: true }).block(Block::bordered().title(" last decision "))
}

fn client_text(frame: &Frame<'_>) -> Paragraph<'static> {
    let (requests, pings, held) = (&frame.requests, &frame.pings, &frame.connections);
    let line = |text: String, bad: bool| Line::from(text).style(if bad { Color::Red } else { Color::Reset });
    let lines = vec![
        line(
            format!(
                "requests     {} sent, {} failed, {} slow, median {:.1?}",
                requests.sent,
                requests.failed,
                requests.slow,
                Duration::from_micros(requests.p50_us)
            ),
            requests.failed > 0,
        ),
        line(format!("pings        {} sent, {} lost", pings.sent, pings.lost), pings.lost > 0),
        line(
            format!("connections  {} open, {} completed, {} broken", held.open, held.completed, held.broken),
            held.broken > 0,
        ),
    ];
    Paragraph::new(lines).block(Block::bordered().title(" clients "))
}

/// The newest events that fit. A decision to do nothing is shown above, so not here.
fn event_list(frame: &Frame<'_>, area: Rect) -> Paragraph<'static> {
    let room = usize::from(area.height.saturating_sub(2));
    let shown: Vec<_> = frame.events.iter().filter(|event| event.kind != EventKind::Hold).collect();
    let newest = &shown[shown.len().saturating_sub(room)..];
    let lines: Vec<Line<'_>> = newest
        .iter()
        .map(|event| {
            let time = event.at.strftime("%H:%M:%S").to_string();
            Line::from(format!("{time}  {:<14} {}", kind_text(event.kind), event.message))
        })
        .collect();
    Paragraph::new(lines).block(Block::bordered().title(" events (UTC) "))
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::view::testing;

    #[test]
    fn the_view_shows_instances_load_and_clients() {
        let tenant = testing::tenant();
        let mut terminal = ratatui::Terminal::new(TestBackend::new(100, 30)).expect("a terminal");
        terminal.draw(|target| render(target, &testing::frame(&tenant, &[]))).expect("drawn");
        let screen = terminal.backend().to_string();
        let expected =
            ["demo-0001", "in service", "draining", "75 %", "0.43 of 0.50", "rising: 60", "500 sent, 1 lost"];
        for part in expected {
            assert!(screen.contains(part), "{part:?} is not on the screen:\n{screen}");
        }
    }

    #[test]
    fn a_small_terminal_is_no_panic() {
        let tenant = testing::tenant();
        let mut terminal = ratatui::Terminal::new(TestBackend::new(20, 5)).expect("a terminal");
        terminal.draw(|target| render(target, &testing::frame(&tenant, &[]))).expect("drawn");
    }

    #[test]
    fn bars_have_one_length() {
        for share in [-1.0, 0.0, 0.33, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(share).chars().count(), BAR, "{share}");
        }
    }
}
