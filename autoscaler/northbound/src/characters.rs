//! Characters that a reader of a file does not see, or takes for others.

use saphyr_parser::Marker;

use crate::yaml::{Span, SyntaxFault};

/// What a character is that can't be seen, or that looks like a blank and is none.
pub(crate) fn invisible(c: char) -> Option<String> {
    let name = match c {
        '\u{a0}' => "no-break space",
        '\u{ad}' => "soft hyphen",
        '\u{85}' | '\u{2028}' | '\u{2029}' => "line separator",
        '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            "blank of another width"
        }
        '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => {
            "character of no width"
        }
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "mark that turns the direction of writing"
        }
        _ => return None,
    };
    Some(format!("{name} (U+{:04X})", u32::from(c)))
}

/// What is wrong with one of that name.
pub(crate) fn unseen(name: &str) -> String {
    format!("there is a {name}, which can't be seen or told from a blank")
}

/// Where the first one stands from the character `index` on, which is at `from`.
pub(crate) fn first_invisible(text: &str, index: usize, from: Marker) -> Option<(Span, String)> {
    // The parser has not seen the mark at the beginning.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut span = Span::from(from);
    for c in text.chars().skip(index) {
        if let Some(name) = invisible(c) {
            return Some((span, name));
        }
        if c == '\n' {
            span = Span { line: span.line + 1, column: 1, width: 1 };
        } else {
            span.column += 1;
        }
    }
    None
}

/// Characters that may stand nowhere in YAML, at most so many.
pub(crate) fn forbidden(text: &str, most: usize) -> Vec<SyntaxFault> {
    let is_forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let lines = text.split('\n').zip(1..);
    let places = lines.flat_map(|(line, number)| {
        let found = line.chars().zip(1..).filter(move |(c, _)| is_forbidden(*c));
        found.map(move |(c, column)| (c, Span { line: number, column, width: 1 }))
    });
    let fault = |(c, span)| {
        let message = format!("the control character U+{:04X} can't stand in YAML", u32::from(c));
        SyntaxFault::new(
            span,
            message,
            "remove it; in double quotes it can be written as `\\x` and two digits",
        )
    };
    places.take(most).map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_seen_is_visible() {
        assert!(('!'..='~').chain("äßμ漢😀é".chars()).chain([' ', '\t']).all(|c| invisible(c).is_none()));
        for (c, name) in
            [('\u{a0}', "no-break space (U+00A0)"), ('\u{200b}', "U+200B"), ('\u{202e}', "direction")]
        {
            assert!(invisible(c).is_some_and(|found| found.contains(name)), "{name}");
        }
    }

    #[test]
    fn control_characters_have_their_places() {
        let found = forbidden("a: 1\r\n\tb: \0\u{1b}[31m\u{7f}", 2);
        let places: Vec<(usize, usize)> =
            found.iter().map(|fault| (fault.span.line, fault.span.column)).collect();
        assert_eq!(places, [(2, 5), (2, 6)]);
    }
}
