//! YAML as a tree in which every node knows its place.
//!
//! Built from the parser's events rather than with a loader, because a loader forgets what a good message needs:
//! the text as written, the place of every key, and keys that come twice. Events also keep the nesting bounded.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span as ParserSpan};

use crate::characters;

/// Longest text taken, in bytes. The largest sensible tenant file is a hundredth of it.
pub(crate) const LONGEST: usize = 256 * 1024;

/// Deepest nesting taken; the formats need five levels.
const DEEPEST: usize = 32;

/// Characters on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// In characters, at least 1; ends with the line.
    pub(crate) width: usize,
}

impl Span {
    pub(crate) const START: Self = Self { line: 1, column: 1, width: 1 };
}

impl From<Marker> for Span {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1, width: 1 }
    }
}

impl From<ParserSpan> for Span {
    fn from(span: ParserSpan) -> Self {
        let same_line = span.start.line() == span.end.line();
        let width = if same_line { span.end.col().saturating_sub(span.start.col()).max(1) } else { 1 };
        Self { width, ..span.start.into() }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Spanned<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// As written, whatever type YAML would make of it: `plain` when it was not in quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// In the file's order; keys may come twice.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// Nothing was written: `key:`, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// Why a text is not a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxFault {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl SyntaxFault {
    pub(crate) fn new(span: impl Into<Span>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span: span.into(), message: message.into(), help: Some(help.into()) }
    }
}

/// A text with faults of its syntax.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unsound {
    /// At least one.
    pub(crate) faults: Vec<SyntaxFault>,
    /// What the text says beside them, where that can be told.
    pub(crate) rest: Option<Node>,
}

impl From<SyntaxFault> for Unsound {
    fn from(fault: SyntaxFault) -> Self {
        Self { faults: vec![fault], rest: None }
    }
}

/// Most faults of the syntax that are collected: there are no more of one kind, or this is the wrong file.
const MOST_FAULTS: usize = 50;

/// Reads a text of exactly one document.
pub(crate) fn parse(text: &str) -> Result<Node, Unsound> {
    parse_up_to(LONGEST, text)
}

/// Reads a text of exactly one document and at most so many bytes.
pub(crate) fn parse_up_to(longest: usize, text: &str) -> Result<Node, Unsound> {
    if text.len() > longest {
        let message = format!("the file has more than {longest} bytes");
        return Err(SyntaxFault::new(Span::START, message, "is this the right file?").into());
    }
    let forbidden = characters::forbidden(text, MOST_FAULTS);
    if !forbidden.is_empty() {
        return Err(Unsound { faults: forbidden, rest: None });
    }
    let tree = build(Tree { text, ..Tree::default() }, text);
    let tree = tree.map_err(|faults| Unsound { faults, rest: None })?;
    match tree.document {
        Some(node) if !node.is_null() && tree.faults.is_empty() => Ok(node),
        node if !tree.faults.is_empty() => {
            let rest = node.filter(|_| !tree.is_incomplete);
            Err(Unsound { faults: tree.faults, rest })
        }
        _ => Err(SyntaxFault::new(Span::START, "the file is empty", "is it still being written?").into()),
    }
}

/// Reads a document that is another program's: its tags have a meaning there, and it may be empty.
pub(crate) fn parse_foreign(text: &str) -> Result<Option<Node>, SyntaxFault> {
    let (faults, document) = match build(Tree { text, is_foreign: true, ..Tree::default() }, text) {
        Ok(tree) => (tree.faults, tree.document),
        Err(faults) => (faults, None),
    };
    faults.into_iter().next().map_or(Ok(document), Err)
}

/// The error has all faults that were found.
fn build<'t>(mut tree: Tree<'t>, text: &'t str) -> Result<Tree<'t>, Vec<SyntaxFault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for event in Parser::new_from_iter(text.chars()) {
        let taken = match event {
            Ok((event, span)) => tree.take(event, span),
            Err(error) => Err(not_yaml(text, &error)),
        };
        if let Err(fault) = taken {
            if tree.faults.iter().all(|known| known.span != fault.span) {
                tree.faults.push(fault);
            }
            return Err(tree.faults);
        }
    }
    Ok(tree)
}

/// Why the parser went no further. What can't be seen is named, on its own line.
fn not_yaml(text: &str, error: &ScanError) -> SyntaxFault {
    let span = Span::from(*error.marker());
    // It tells of a tab where the line before ends.
    let near = text.lines().zip(1..).skip(span.line - 1).take(2);
    for (line, number) in near {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(column) = line[..indentation].find('\t') {
            let span = Span { line: number, column: column + 1, width: 1 };
            return SyntaxFault::new(
                span,
                "a tab stands in the indentation",
                "YAML indents with blanks only",
            );
        }
    }
    let message = format!("not valid YAML: {}", error.info());
    // What can't be seen makes a value of what should have been a key, and the parser stops at the next one.
    let near = text.lines().zip(1..).take(span.line).skip(span.line.saturating_sub(2));
    for (line, number) in near.filter(|(line, _)| !line.trim_start().starts_with('#')) {
        let invisible = |(column, c)| Some((column, characters::invisible(c)?));
        if let Some((column, name)) = (1..).zip(line.chars()).find_map(invisible) {
            let span = Span { line: number, column, width: 1 };
            return SyntaxFault::new(
                span,
                characters::unseen(&name),
                format!("write a blank, or nothing; {message}"),
            );
        }
    }
    let line = text.lines().nth(span.line - 1).unwrap_or_default();
    if let Some(tab) = line.chars().position(|c| c == '\t') {
        return SyntaxFault::new(
            span,
            message,
            format!("there is a tab in column {}: write a blank", tab + 1),
        );
    }
    let is_at_end = error.marker().index() >= text.chars().count();
    SyntaxFault { span, message, help: is_at_end.then(|| "the file ends here".to_owned()) }
}

/// A collection that has begun and not yet ended.
enum Open {
    Sequence(Span, Vec<Node>),
    Mapping(Span, Vec<(Node, Node)>, Option<Node>),
}

#[derive(Default)]
struct Tree<'t> {
    text: &'t str,
    /// Tags are left to whose document it is.
    is_foreign: bool,
    open: Vec<Open>,
    document: Option<Node>,
    /// Faults that leave the rest as it is.
    faults: Vec<SyntaxFault>,
    /// A part stands elsewhere, and what is said of the rest would be wrong.
    is_incomplete: bool,
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, place: ParserSpan) -> Result<(), SyntaxFault> {
        let span = Span::from(place);
        match &event {
            Event::Alias(_) => {
                self.is_incomplete = true;
                self.fault(no_anchors(span));
            }
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if *anchor != 0 =>
            {
                self.fault(no_anchors(span));
            }
            Event::Scalar(_, _, _, Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag))
                if !self.is_foreign =>
            {
                let message = format!("the tag `{}{}` has no meaning here", tag.handle, tag.suffix);
                self.fault(SyntaxFault::new(span, message, "remove it"));
            }
            _ => {}
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) if self.document.is_none() => {}
            Event::DocumentStart(_) => {
                return Err(SyntaxFault::new(
                    span,
                    "a second document begins here; a file has one",
                    "put it into a file of its own, or remove the `---`",
                ));
            }
            Event::Alias(_) => {
                self.add(Node { span, kind: Kind::Scalar { text: String::new(), plain: true } });
            }
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                let text =
                    if plain && !self.is_foreign { self.visible(&text, place) } else { text.into_owned() };
                self.add(Node { span, kind: Kind::Scalar { text, plain } });
            }
            Event::SequenceStart(..) => self.begin(Open::Sequence(span, Vec::new()), span)?,
            Event::MappingStart(..) => self.begin(Open::Mapping(span, Vec::new(), None), span)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
        Ok(())
    }

    fn fault(&mut self, fault: SyntaxFault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    /// A text that is not in quotes, without what can't be seen of it, which is a fault: its author doesn't know of it.
    fn visible(&mut self, text: &str, place: ParserSpan) -> String {
        if !text.chars().any(|c| characters::invisible(c).is_some()) {
            return text.to_owned();
        }
        if self.faults.len() < MOST_FAULTS
            && let Some((span, name)) =
                characters::first_invisible(self.text, place.start.index(), place.start)
        {
            let help = "write a blank in its place, or nothing; if it is meant, put the text into quotes";
            self.fault(SyntaxFault::new(span, characters::unseen(&name), help));
        }
        let visible: String =
            text.chars().map(|c| if characters::invisible(c).is_some() { ' ' } else { c }).collect();
        visible.trim().to_owned()
    }

    fn begin(&mut self, open: Open, span: Span) -> Result<(), SyntaxFault> {
        if self.open.len() == DEEPEST {
            let message = format!("nested deeper than {DEEPEST} levels");
            return Err(SyntaxFault::new(span, message, "is this the right file?"));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self) {
        let (span, kind) = match self.open.pop() {
            Some(Open::Sequence(span, items)) => (span, Kind::Sequence(items)),
            Some(Open::Mapping(span, entries, _)) => (span, Kind::Mapping(entries)),
            // The parser ends only what it has begun.
            None => return,
        };
        self.add(Node { span, kind });
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
            None => self.document = Some(node),
        }
    }
}

fn no_anchors(span: Span) -> SyntaxFault {
    SyntaxFault::new(span, "anchors and aliases (`&x`, `*x`) are not supported", "write the value out")
}
