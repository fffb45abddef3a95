//! What is printed: tables, colours on a terminal only, JSON.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use jiff::Timestamp;
use serde::Serialize;
use sluice_logic::group::InstanceState;

/// For what is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// For what is on its way.
pub(super) const BUSY: Style = AnsiColor::Yellow.on_default();
/// For what went wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what is beside the point.
pub(super) const QUIET: Style = Style::new().dimmed();

/// Prints a value as JSON for programs, indented, as one document.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints a value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// A reader that has seen enough (`| head`) is an error like any other, not a panic.
fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// A table with aligned columns and nothing drawn, so that it can be cut and searched.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !colours() {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Dim)));
    table
}

/// Whether standard output takes colours: a terminal, and nobody said `NO_COLOR` (<https://no-color.org>).
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An instance's state, in the colour of what it means.
pub(super) fn state(state: InstanceState) -> Cell {
    let colour = match state {
        InstanceState::InService => Color::Green,
        InstanceState::Pending | InstanceState::Draining => Color::Yellow,
        InstanceState::Terminating | InstanceState::Terminated => Color::DarkGrey,
    };
    Cell::new(state).fg(colour)
}

/// How long ago, in the largest unit that says it: `5s`, `12m`, `3h`, `9d`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let passed = Duration::try_from(now.duration_since(at)).unwrap_or_default().as_secs();
    match passed {
        0..120 => format!("{passed}s"),
        120..7_200 => format!("{}m", passed / 60),
        7_200..172_800 => format!("{}h", passed / 3_600),
        _ => format!("{}d", passed / 86_400),
    }
}

/// A number that may be missing: `-` is not zero.
pub(super) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_follows_the_age() {
        let then = Timestamp::from_second(0).unwrap();
        for (seconds, expected) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d")] {
            assert_eq!(ago(then, Timestamp::from_second(seconds).unwrap()), expected);
        }
        assert_eq!(ago(Timestamp::from_second(9).unwrap(), then), "0s", "a clock that was set back");
    }

    #[test]
    fn missing_is_not_zero() {
        assert_eq!(or_dash(None::<f64>, |value| value.to_string()), "-");
    }
}
