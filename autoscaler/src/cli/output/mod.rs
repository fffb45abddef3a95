//! What is printed: tables, colours on a terminal only, JSON.

mod screen;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement};
use jiff::Timestamp;
use serde::Serialize;
use sluice_logic::group::InstanceState;
use sluice_northbound::terminal::{escape, escape_json};

pub(crate) use self::screen::{Paint, Screened, print, print_error, remark, remark_lines, say, say_lines};

/// For what is as it should be.
pub(super) const GOOD: Paint = Paint::new(AnsiColor::Green.on_default());
/// For what is on its way.
pub(super) const BUSY: Paint = Paint::new(AnsiColor::Yellow.on_default());
/// For what went wrong.
pub(super) const BAD: Paint = Paint::new(AnsiColor::Red.on_default().bold());
/// For what is beside the point.
pub(super) const QUIET: Paint = Paint::new(Style::new().dimmed());
/// For what is as it always is.
pub(super) const PLAIN: Paint = Paint::new(Style::new());

/// Prints a value as JSON for programs, indented, as one document.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints a value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// A reader that has seen enough (`| head`) is an error like any other, not a panic.
fn line(json: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", escape_json(json))?;
    out.flush()
}

/// A table whose cells are escaped as they are put in.
#[derive(Debug)]
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// Adds a row.
    pub(super) fn add_row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.0.add_row(cells.into_iter().map(|cell| escaped(cell.into())));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        screen::obeyed(|| write!(f, "{}", self.0))
    }
}

/// One that needs escaping loses its colour.
fn escaped(cell: Cell) -> Cell {
    let content = cell.content();
    match escape(&content) {
        std::borrow::Cow::Borrowed(_) => cell,
        std::borrow::Cow::Owned(harmless) => Cell::new(harmless),
    }
}

/// A table with aligned columns and nothing drawn, so that it can be cut and searched.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !colours() {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Dim)));
    Table(table)
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
