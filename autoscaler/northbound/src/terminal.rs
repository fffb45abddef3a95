//! Text from outside, made harmless for a terminal.
//!
//! Names, errors, log lines and metrics come from tenants, containers, exporters and other daemons. A terminal obeys
//! some characters in them: control characters (C0, DEL and C1) begin escape sequences, the bidirectional controls
//! reorder what stands beside them, and a line break forges a line. Everything that prints such a text for people
//! sends it through [`escape`]; JSON goes through [`escape_json`].

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal, or the eye, takes a character for something other than itself.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // The marks of direction, their embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // The separators of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Characters without a width that are no letters' joiners: a byte order mark, and tags.
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with each harmful character as Rust would write it: `\u{1b}`, `\n`, `\t`. Line breaks are among them, so
/// that the result is one line.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// A JSON document with each harmful character of its strings as JSON writes it, `\u009b`: the same document for a
/// program. Its own line breaks stay.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // Below DEL a JSON writer has escaped all that stands in a string; what is left is between values.
    let is_left = |c: char| !matches!(c, '\n' | '\t' | '\r') && is_harmful(c);
    if !json.contains(is_left) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_left(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a `String` does not fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_harmful_is_left() {
        let every = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        let hostile: String = every.filter(|c| is_harmful(*c)).collect();
        assert!(!escape(&hostile).contains(is_harmful));
        for (text, expected) in [
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("\u{9b}31mred", "\\u{9b}31mred"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("one\ntwo\r", "one\\ntwo\\r"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn what_is_harmless_stays_as_it_is() {
        for text in ["plain", "Größe 5 µs → 3", "日本語", "a\u{200d}b", "C:\\path"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn json_stays_the_same_document() {
        let hostile = serde_json::json!({ "na\u{202e}me": "\u{1b}[31m\u{9b}2J\u{7f}\n\u{e0041}" });
        for text in [hostile.to_string(), serde_json::to_string_pretty(&hostile).unwrap()] {
            let escaped = escape_json(&text);
            assert!(!escaped.replace('\n', "").contains(is_harmful), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), hostile);
        }
    }
}
