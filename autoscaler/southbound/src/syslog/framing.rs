//! Where one message ends and the next begins on TCP (RFC 6587): pure.

/// The longest message that is taken whole (RFC 5424, 6.1, asks for 2048 bytes at least).
pub const LONGEST: usize = 64 << 10;

/// Takes a stream of bytes apart. Each message says by its first byte how it is framed: a digit begins the count of its
/// bytes (octet counting, 3.4.1), anything else a message that ends with a newline or a NUL (3.4.2).
#[derive(Debug, Default)]
pub struct Framing {
    buffer: Vec<u8>,
    /// Where the next message begins.
    begin: usize,
    /// The rest of a message that was too long is left out up to its end.
    skipping: Option<Skip>,
}

#[derive(Debug, Clone, Copy)]
enum Skip {
    Bytes(usize),
    Line,
}

impl Framing {
    /// Takes in what has come.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        // No more memory than what is there: there may be thousands of these, and one may have had a long message.
        self.buffer.shrink_to(bytes.len());
        self.buffer.reserve_exact(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. One longer than [`LONGEST`] is cut there.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        loop {
            self.skip()?;
            let rest = self.buffer.get(self.begin..).unwrap_or_default();
            match rest.first()? {
                // Between two messages, where a sender counts octets and ends lines too.
                b'\n' | b'\r' | 0 => self.begin += 1,
                b'1'..=b'9' => match counted(rest) {
                    Count::Known { head, length } => return self.counted(head, length),
                    Count::Unfinished => return None,
                    Count::None => return self.line(),
                },
                _ => return self.line(),
            }
        }
    }

    /// What is left when the stream ends: a message without its end.
    #[must_use]
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.skip()?;
        let rest = self.buffer.get(self.begin..).unwrap_or_default();
        (!rest.is_empty()).then(|| trimmed(rest).to_vec())
    }

    /// `None` when more has to be skipped than has come.
    fn skip(&mut self) -> Option<()> {
        let Some(skipping) = self.skipping else { return Some(()) };
        let rest = self.buffer.get(self.begin..).unwrap_or_default();
        match skipping {
            Skip::Bytes(count) if count > rest.len() => {
                self.skipping = Some(Skip::Bytes(count - rest.len()));
                self.begin = self.buffer.len();
                return None;
            }
            Skip::Bytes(count) => self.begin += count,
            Skip::Line => {
                if let Some(end) = rest.iter().position(|byte| is_end(*byte)) {
                    self.begin += end + 1;
                } else {
                    self.begin = self.buffer.len();
                    return None;
                }
            }
        }
        self.skipping = None;
        Some(())
    }

    fn counted(&mut self, head: usize, length: usize) -> Option<Vec<u8>> {
        let begin = self.begin + head;
        let taken = length.min(LONGEST);
        let message = self.buffer.get(begin..begin + taken)?.to_vec();
        self.begin = begin + taken;
        self.skipping = (length > taken).then_some(Skip::Bytes(length - taken));
        Some(trimmed(&message).to_vec())
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.get(self.begin..)?;
        let message = match rest.iter().position(|byte| is_end(*byte)) {
            Some(end) if end <= LONGEST => {
                self.begin += end + 1;
                rest.get(..end)?
            }
            None if rest.len() <= LONGEST => return None,
            _ => {
                self.begin += LONGEST;
                self.skipping = Some(Skip::Line);
                rest.get(..LONGEST)?
            }
        };
        Some(trimmed(message).to_vec())
    }
}

enum Count {
    /// The message follows `head` bytes, and has `length`.
    Known { head: usize, length: usize },
    /// More digits may come.
    Unfinished,
    /// A line that begins with a digit.
    None,
}

/// `MSG-LEN SP`, of at most nine digits.
fn counted(bytes: &[u8]) -> Count {
    let digits = bytes.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(digits) {
        Some(b' ') if digits <= 9 => {
            let length = bytes.iter().take(digits).fold(0, |all, digit| all * 10 + usize::from(digit - b'0'));
            Count::Known { head: digits + 1, length }
        }
        None if digits <= 9 => Count::Unfinished,
        _ => Count::None,
    }
}

fn is_end(byte: u8) -> bool {
    byte == b'\n' || byte == 0
}

/// A message without what ends it.
pub(super) fn trimmed(message: &[u8]) -> &[u8] {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n' | 0)).map_or(0, |last| last + 1);
    message.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(stream: &[u8], pieces: usize) -> Vec<String> {
        let (mut framing, mut found) = (Framing::default(), Vec::new());
        for piece in stream.chunks(pieces.max(1)) {
            framing.extend(piece);
            found.extend(std::iter::from_fn(|| framing.next_message()));
        }
        found.extend(framing.finish());
        found.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
    }

    #[test]
    fn both_framings_on_one_stream() {
        let stream = b"<13>one\n<13>two\r\n9 <13>a\nb 1\n<13>three\x007 <13>end<13>open";
        let expected = ["<13>one", "<13>two", "<13>a\nb 1", "<13>three", "<13>end", "<13>open"];
        for pieces in 1..stream.len() {
            assert_eq!(messages(stream, pieces), expected, "in pieces of {pieces}");
        }
    }

    #[test]
    fn a_line_may_begin_with_a_digit() {
        assert_eq!(
            messages(b"2026-11-25 no syslog\n12345678901 x\n", 7),
            ["2026-11-25 no syslog", "12345678901 x"]
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_costs_no_other() {
        let long = "x".repeat(3 * LONGEST);
        for stream in [format!("<1>{long}\n<1>next\n"), format!("{} <1>{long}7 <1>next", long.len() + 3)] {
            for pieces in [1_000, 100_000, 1_000_000] {
                let found = messages(stream.as_bytes(), pieces);
                assert_eq!(found.len(), 2);
                assert_eq!((found[0].len(), found[1].as_str()), (LONGEST, "<1>next"));
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_apart_the_same_in_any_pieces(
            stream in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..200),
            pieces in 1..50_usize,
        ) {
            let all = |pieces| {
                let (mut framing, mut found) = (Framing::default(), Vec::new());
                for piece in stream.chunks(pieces) {
                    framing.extend(piece);
                    found.extend(std::iter::from_fn(|| framing.next_message()));
                }
                found.extend(framing.finish());
                found
            };
            prop_assert_eq!(all(pieces), all(200));
        }

        #[test]
        fn counted_messages_come_through(
            texts in prop::collection::vec("<[0-9]{1,2}>[a-z \n]{0,20}[a-z]", 0..10), pieces in 1..30_usize
        ) {
            let counted = texts.iter().map(|text| format!("{} {text}", text.len()));
            let stream = counted.collect::<Vec<_>>().concat();
            prop_assert_eq!(messages(stream.as_bytes(), pieces), texts);
        }
    }
}
