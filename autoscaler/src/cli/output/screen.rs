//! Text for people: the one way to standard output and standard error.
//!
//! What is printed is made of our own words, our own colours, and texts from outside. Nothing tells them apart once
//! they are one string, so they are told apart while it is made: only [`Paint`] and [`Table`](super::Table) may write
//! what a terminal obeys, and everything else is escaped.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::{io, mem};

use anstyle::Style;
use sluice_northbound::terminal::escape;

thread_local! {
    /// Whether what is written now is for the terminal to obey.
    static OBEYED: Cell<bool> = const { Cell::new(false) };
}

/// A colour: `{BAD}` begins it, `{BAD:#}` ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(Style);

impl Paint {
    pub(crate) const fn new(style: Style) -> Self {
        Self(style)
    }
}

impl fmt::Display for Paint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        obeyed(|| if f.alternate() { write!(f, "{:#}", self.0) } else { write!(f, "{}", self.0) })
    }
}

/// Lets what `write` writes through as it is.
pub(super) fn obeyed(write: impl FnOnce() -> fmt::Result) -> fmt::Result {
    let before = OBEYED.replace(true);
    let result = write();
    OBEYED.set(before);
    result
}

/// Takes what is formatted, and escapes what is not our own.
struct Screen(String);

impl fmt::Write for Screen {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if OBEYED.get() {
            self.0.push_str(part);
        } else {
            self.0.push_str(&escape(part));
        }
        Ok(())
    }
}

/// A line as a terminal may have it.
pub(crate) fn shown(line: fmt::Arguments<'_>) -> String {
    let mut screen = Screen(String::new());
    // A `Display` that fails has written what it could.
    let _ = screen.write_fmt(line);
    screen.0
}

/// Prints a line to standard output; use [`say!`].
#[expect(clippy::disallowed_macros, reason = "what is printed is escaped here")]
pub(crate) fn print(line: fmt::Arguments<'_>) {
    anstream::println!("{}", shown(line));
}

/// Prints a line to standard error; use [`remark!`].
#[expect(clippy::disallowed_macros, reason = "what is printed is escaped here")]
pub(crate) fn print_error(line: fmt::Arguments<'_>) {
    anstream::eprintln!("{}", shown(line));
}

/// Prints a line for people to standard output, as `println!` does. Line breaks in it are escaped: a blank line is a
/// `say!("")`.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::output::print(format_args!($($part)*)) };
}
pub(crate) use say;

/// The same to standard error.
macro_rules! remark {
    ($($part:tt)*) => { $crate::cli::output::print_error(format_args!($($part)*)) };
}
pub(crate) use remark;

/// Prints a text of several lines, each as [`say!`] does.
pub(crate) fn say_lines(text: &impl ToString) {
    text.to_string().split('\n').for_each(|line| say!("{}", tabs(line)));
}

/// The same to standard error.
pub(crate) fn remark_lines(text: &impl ToString) {
    text.to_string().split('\n').for_each(|line| remark!("{}", tabs(line)));
}

/// A line whose tabs stay, so that what stands below its characters does so.
fn tabs(line: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        for (number, part) in line.split('\t').enumerate() {
            if number > 0 {
                obeyed(|| f.write_str("\t"))?;
            }
            f.write_str(part)?;
        }
        Ok(())
    })
}

/// Data on its way to a terminal: escaped, a line at a time, where a file or a pipe gets it as it is.
#[derive(Debug)]
pub(crate) struct Screened<W: io::Write> {
    out: W,
    escape: fn(&str) -> Cow<'_, str>,
    line: Vec<u8>,
}

impl<W: io::Write> Screened<W> {
    pub(crate) fn new(out: W, escape: fn(&str) -> Cow<'_, str>) -> Self {
        Self { out, escape, line: Vec::new() }
    }
}

impl<W: io::Write> io::Write for Screened<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if let Some(line) = self.line.strip_suffix(b"\n") {
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
                writeln!(self.out, "{}", (self.escape)(&line))?;
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let rest = mem::take(&mut self.line);
        write!(self.out, "{}", (self.escape)(&String::from_utf8_lossy(&rest)))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BAD, table};
    use super::*;

    const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}1m\u{202e}\n\r";

    #[test]
    fn only_our_own_colours_are_obeyed() {
        let line = shown(format_args!("{BAD}problem:{BAD:#} {HOSTILE} {HOSTILE:?}"));
        let ours = [BAD.0.render().to_string(), BAD.0.render_reset().to_string()];
        let rest = ours.iter().fold(line.clone(), |line, ours| line.replacen(ours, "", 1));
        assert_ne!(rest, line, "the colour is there");
        assert!(!rest.contains(sluice_northbound::terminal::is_harmful), "{rest:?}");
    }

    #[test]
    fn cells_of_a_table_are_escaped_too() {
        let mut table = table(&["NAME"]);
        table.add_row([HOSTILE]);
        let text = shown(format_args!("{table}"));
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.replace('\n', "").contains(sluice_northbound::terminal::is_harmful), "{text:?}");
    }

    #[test]
    fn data_is_escaped_by_lines() {
        let mut screened = Screened::new(Vec::new(), escape);
        for part in ["a,\u{1b}[2J", "\r\nsec", "ond\u{202e}\n", "rest"] {
            io::Write::write_all(&mut screened, part.as_bytes()).unwrap();
        }
        io::Write::flush(&mut screened).unwrap();
        assert_eq!(String::from_utf8(screened.out).unwrap(), "a,\\u{1b}[2J\nsecond\\u{202e}\nrest");
    }

    #[test]
    fn a_caret_stays_below_its_character() {
        assert_eq!(shown(format_args!("{}", tabs("2 | \tx\u{1b}"))), "2 | \tx\\u{1b}");
    }
}
