//! Reads files that people write, whatever is in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::diagnostic::{Diagnostic, Source};
use crate::yaml::{LONGEST, Span, SyntaxFault};

/// A file's bytes, of a huge file only as many as it takes to refuse it.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_open(&File::open(path)?)
}

/// The same of a file that is open.
pub(crate) fn read_open(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file's bytes as text. What is not UTF-8 has a place too.
pub(crate) fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Vec<Diagnostic>> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = good.rsplit('\n').next().unwrap_or_default();
        let span = Span { line: good.matches('\n').count() + 1, column: line.chars().count() + 1, width: 1 };
        let message = format!("the byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]);
        let text = String::from_utf8_lossy(bytes);
        let fault = SyntaxFault { span, message, help: Some("save the file as UTF-8".to_owned()) };
        vec![Source { label: file, text: &text }.syntax_fault(fault)]
    })
}
