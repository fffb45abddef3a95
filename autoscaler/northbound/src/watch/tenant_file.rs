//! What is known of one tenant file.

use std::time::Instant;

use super::listing::{Reading, Text};
use super::removal::SETTLE;
use crate::diagnostic::Diagnostic;
use crate::file;
use crate::tenant::{self, Tenant};

/// A file's text in force, the one that may come, and what has been said of them.
#[derive(Debug, Default)]
pub(super) struct TenantFile {
    /// What was last taken, and what it says.
    content: Option<Vec<u8>>,
    pub(super) says: Option<Result<Tenant, Vec<Diagnostic>>>,
    /// What was read last, and since when it has been alike.
    candidate: Option<(Text, Instant)>,
    /// Since when somebody has had it open for writing, at each reading.
    pub(super) written_since: Option<Instant>,
    /// The refusal that has been reported for `content`.
    pub(super) reported: Vec<Diagnostic>,
}

impl TenantFile {
    /// Takes in a reading. A new text is taken when it has been alike for [`SETTLE`]; `is_known`, or unchanged for so long
    /// when it is read for the first time, at once. An unchanged text keeps its verdict.
    pub(super) fn reads(
        &mut self,
        label: &str,
        reading: Reading,
        is_known: impl Fn(&[u8]) -> bool,
        now: Instant,
    ) {
        match reading {
            Reading::BeingWritten => {
                self.candidate = None;
                self.written_since.get_or_insert(now);
            }
            Reading::Unreadable(error) => {
                self.settle();
                // The same failure again is the same refusal; whatever is read next is read anew.
                self.says = Some(Err(vec![Diagnostic::unreadable(label, &error)]));
                self.content = None;
            }
            Reading::Whole(text) if self.content.as_ref() == Some(&text.bytes) => self.settle(),
            Reading::Whole(text) => {
                self.written_since = None;
                let since = match &self.candidate {
                    Some((before, since)) if (&before.bytes, before.stamp) == (&text.bytes, text.stamp) => {
                        *since
                    }
                    _ => now,
                };
                let is_new = self.says.is_none() && self.candidate.is_none();
                let is_old = is_new && text.age >= SETTLE;
                if is_old || is_known(&text.bytes) || now.saturating_duration_since(since) >= SETTLE {
                    self.settle();
                    let parsed = file::decode(label, &text.bytes).and_then(|text| tenant::parse(label, text));
                    self.says = Some(parsed);
                    self.content = Some(text.bytes);
                    self.reported.clear();
                } else {
                    self.candidate = Some((text, since));
                }
            }
        }
    }

    fn settle(&mut self) {
        self.candidate = None;
        self.written_since = None;
    }

    /// The text that was taken last.
    pub(super) fn content(&self) -> Option<&Vec<u8>> {
        self.content.as_ref()
    }

    /// The tenant that it says, where it says a good one.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.says.as_ref().and_then(|says| says.as_ref().ok())
    }

    /// When a text that was read may be taken.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.candidate.as_ref().map(|(_, since)| *since + SETTLE)
    }
}
