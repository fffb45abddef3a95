//! A fault in a file: where it is, what is wrong, and the way out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::terminal::is_harmful;
use crate::value::Complaint;
use crate::yaml::{Node, Span, SyntaxFault, Unsound};

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; it may not do what its author wants.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One fault of one file.
///
/// [`Display`](fmt::Display) renders it for a terminal, control characters of the file made harmless:
///
/// ```text
/// demo.yml:10:1: error: the tenant: unknown key `treshold`
///    |
/// 10 | treshold: 0.3
///    | ^^^^^^^^
/// help: did you mean `threshold`?
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file, as its reader was told to call it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters from `column` on are at fault; at least 1.
    pub width: usize,
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The way out, where one is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
    /// The line at fault as it stands in the file, cut after 200 characters; empty where there is none to show.
    pub source_line: String,
}

impl Diagnostic {
    /// A fault of a file as a whole, which could not be read.
    #[must_use]
    pub fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let message = format!("cannot be read: {error}");
        Self::at(file, &Place::default(), Severity::Error, message, None)
    }

    pub(crate) fn at(
        file: &str,
        place: &Place,
        severity: Severity,
        message: String,
        help: Option<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            width: place.width,
            severity,
            message,
            help,
            source_line: place.source_line.clone(),
        }
    }

    /// Whether the file is refused for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, .. } = self;
        write!(f, "{}:{line}:{column}: {severity}: {}", harmless(file), harmless(&self.message))?;
        if !self.source_line.is_empty() {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs stay tabs, so that the caret stands below its character whatever the terminal makes of them.
            let indent: String = (self.source_line.chars().chain(std::iter::repeat(' ')))
                .take(column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let rest = self.source_line.chars().count().saturating_sub(column.saturating_sub(1));
            let carets = "^".repeat(self.width.min(rest).max(1));
            write!(f, "\n{margin} |\n{number} | {}", harmless(&self.source_line))?;
            write!(f, "\n{margin} | {indent}{carets}")?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {}", harmless(help)),
            None => Ok(()),
        }
    }
}

/// Sorts faults by file, then place; what is wrong comes before what is only doubtful.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity).cmp(&(&b.file, b.line, b.column, b.severity))
    });
}

/// Whether any of them refuses its file.
#[must_use]
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(Diagnostic::is_error)
}

/// A text of a file, made safe and short enough to be quoted in a message.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", harmless(&short))
}

/// A terminal must not obey what somebody wrote into a file.
fn harmless(text: &str) -> String {
    // One character for one, so that carets stand below what they mean.
    text.chars().map(|c| if is_harmful(c) && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A place in a file together with the line that is there, so that it outlives the file's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
    pub(crate) source_line: String,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1, width: 1, source_line: String::new() }
    }
}

/// A file's text and what to call the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) label: &'a str,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    /// Reads a document, of one whose syntax has faults as much as can be told apart from them: none hides another.
    pub(crate) fn read<T>(
        self,
        parsed: Result<Node, Unsound>,
        read: impl FnOnce(Self, &Node) -> Result<T, Vec<Diagnostic>>,
    ) -> Result<T, Vec<Diagnostic>> {
        match parsed {
            Ok(node) => read(self, &node),
            Err(unsound) => {
                let rest = unsound.rest.and_then(|node| read(self, &node).err());
                let faults = unsound.faults.into_iter().map(|fault| self.syntax_fault(fault));
                let mut found: Vec<Diagnostic> = faults.chain(rest.into_iter().flatten()).collect();
                sort(&mut found);
                Err(found)
            }
        }
    }

    /// A fault that leaves nothing to be read.
    pub(crate) fn syntax_fault(&self, fault: SyntaxFault) -> Diagnostic {
        Diagnostic::at(self.label, &self.place(fault.span), Severity::Error, fault.message, fault.help)
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        // A line of a quarter megabyte helps nobody and would be kept once for each of its faults.
        const LONGEST: usize = 200;
        let shown = span.column <= LONGEST && !mentions_password(self.text);
        let line = self.line(span.line).filter(|_| shown).unwrap_or_default();
        let source_line = line.chars().take(LONGEST).collect();
        Place { line: span.line, column: span.column, width: span.width.max(1), source_line }
    }

    /// A line by its number; YAML ends lines with LF, CR LF or CR alone.
    fn line(&self, number: usize) -> Option<&str> {
        let mut rest = self.text;
        for _ in 1..number {
            let end = rest.find(['\n', '\r'])?;
            let length = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
            rest = &rest[end + length..];
        }
        Some(&rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())])
    }
}

/// Whether a file may have a password in it, on whichever line. What is said of the file goes into logs, and that does not.
fn mentions_password(text: &str) -> bool {
    const HARMLESS: [&str; 3] = ["should_encrypt_pwd", "password_file", "passwords:"];
    let text = HARMLESS.iter().fold(text.to_ascii_lowercase(), |text, key| text.replace(key, ""));
    ["passw", "pwd"].iter().any(|word| text.contains(word))
}

/// More faults than these are of one kind, or this is the wrong file.
const MOST_FAULTS: usize = 200;

/// Collects the faults of one file.
#[derive(Debug)]
pub(crate) struct Faults<'a> {
    source: Source<'a>,
    found: Vec<Diagnostic>,
    /// The worst of the faults beyond [`MOST_FAULTS`].
    left_out: Option<Severity>,
    /// The optional keys that the file leaves out, so that a test can tell whether an example has all of them.
    #[cfg(test)]
    pub(crate) absent: Vec<String>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            found: Vec::new(),
            left_out: None,
            #[cfg(test)]
            absent: Vec::new(),
        }
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        self.source.place(span)
    }

    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.add(span, Severity::Error, message.into(), None);
    }

    pub(crate) fn error_with_help(
        &mut self,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(span, Severity::Error, message.into(), Some(help.into()));
    }

    /// The value of the key `name` is not what it should be.
    pub(crate) fn complain(&mut self, span: Span, name: &str, complaint: Complaint) {
        let message = format!("`{name}`: {}", complaint.message);
        self.add(span, Severity::Error, message, complaint.help);
    }

    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(span, Severity::Warning, message.into(), Some(help.into()));
    }

    pub(crate) fn add(&mut self, span: Span, severity: Severity, message: String, help: Option<String>) {
        if self.found.len() >= MOST_FAULTS {
            self.left_out = Some(self.left_out.map_or(severity, |worst| worst.min(severity)));
            return;
        }
        let place = self.source.place(span);
        self.found.push(Diagnostic::at(self.source.label, &place, severity, message, help));
    }

    /// Says that there are more, at the end of the file.
    fn mention_left_out(&mut self) {
        let Some(severity) = self.left_out else { return };
        let last = self.source.text.lines().count().max(1);
        let place = Place { line: last, ..Place::default() };
        let message = format!("there are more faults than the {MOST_FAULTS} that are shown");
        self.found.push(Diagnostic::at(self.source.label, &place, severity, message, None));
    }

    /// What was made of the file and its warnings, or all of its faults, sorted by place.
    pub(crate) fn conclude<T>(mut self, made: Option<T>) -> Result<(T, Vec<Diagnostic>), Vec<Diagnostic>> {
        sort(&mut self.found);
        self.mention_left_out();
        match made {
            Some(made) if !has_errors(&self.found) => Ok((made, self.found)),
            _ => Err(self.found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Severity, Source};
    use crate::yaml::Span;

    #[test]
    fn lines_end_as_yaml_says() {
        let source = Source { label: "a", text: "one\ntwo\r\nthree\rfour" };
        let lines: Vec<Option<&str>> = (1..=5).map(|number| source.line(number)).collect();
        assert_eq!(lines, [Some("one"), Some("two"), Some("three"), Some("four"), None]);
    }

    #[test]
    fn the_caret_stands_below_its_character() {
        let source = Source { label: "a.yml", text: "x\n\t{ä: 5}\n" };
        let place = source.place(Span { line: 2, column: 6, width: 40 });
        let help = Some("remove it".to_owned());
        let fault = Diagnostic::at("a.yml", &place, Severity::Warning, "no".to_owned(), help);
        let expected = "a.yml:2:6: warning: no\n  |\n2 | \t{ä: 5}\n  | \t    ^^\nhelp: remove it";
        assert_eq!(fault.to_string(), expected);
    }
}
