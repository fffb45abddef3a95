//! YAML as a tree in which every node knows its place.
//!
//! Built from the parser's events rather than with a loader, because a loader forgets what a good message needs:
//! the text as written, the place of every key, and keys that come twice. Events also keep the nesting bounded.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as ParserSpan};

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
    pub(crate) help: Option<&'static str>,
}

impl SyntaxFault {
    fn new(span: impl Into<Span>, message: impl Into<String>, help: &'static str) -> Self {
        Self { span: span.into(), message: message.into(), help: Some(help) }
    }
}

/// Reads a text of exactly one document.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxFault> {
    parse_up_to(LONGEST, text)
}

/// Reads a text of exactly one document and at most so many bytes.
pub(crate) fn parse_up_to(longest: usize, text: &str) -> Result<Node, SyntaxFault> {
    if text.len() > longest {
        let message = format!("the file has more than {longest} bytes");
        return Err(SyntaxFault::new(Span::START, message, "is this the right file?"));
    }
    match build(Tree::default(), text)? {
        Some(node) if !node.is_null() => Ok(node),
        _ => Err(SyntaxFault::new(Span::START, "the file is empty", "is it still being written?")),
    }
}

/// Reads a document that is another program's: its tags have a meaning there, and it may be empty.
pub(crate) fn parse_foreign(text: &str) -> Result<Option<Node>, SyntaxFault> {
    build(Tree { is_foreign: true, ..Tree::default() }, text)
}

fn build(mut tree: Tree, text: &str) -> Result<Option<Node>, SyntaxFault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for event in Parser::new_from_iter(text.chars()) {
        let (event, span) = event.map_err(|error| SyntaxFault {
            span: (*error.marker()).into(),
            message: format!("not valid YAML: {}", error.info()),
            help: (error.marker().index() >= text.chars().count()).then_some("the file ends here"),
        })?;
        tree.take(event, span.into())?;
    }
    Ok(tree.document)
}

/// A collection that has begun and not yet ended.
enum Open {
    Sequence(Span, Vec<Node>),
    Mapping(Span, Vec<(Node, Node)>, Option<Node>),
}

#[derive(Default)]
struct Tree {
    /// Tags are left to whose document it is.
    is_foreign: bool,
    open: Vec<Open>,
    document: Option<Node>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxFault> {
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
            Event::Alias(_) => return Err(no_anchors(span)),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return Err(no_anchors(span));
            }
            Event::Scalar(_, _, _, Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag))
                if !self.is_foreign =>
            {
                let message = format!("the tag `{}{}` has no meaning here", tag.handle, tag.suffix);
                return Err(SyntaxFault::new(span, message, "remove it"));
            }
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                self.add(Node { span, kind: Kind::Scalar { text: text.into_owned(), plain } });
            }
            Event::SequenceStart(..) => self.begin(Open::Sequence(span, Vec::new()), span)?,
            Event::MappingStart(..) => self.begin(Open::Mapping(span, Vec::new(), None), span)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
        Ok(())
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
