//! How rows are written: a byte for the version of the form, then zstd with a checksum, so that a damaged row is
//! noticed and costs only itself.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zstd::stream::{read, write};

/// The version of the form. Another one is unreadable, which is not an error: its time passes.
const VERSION: u8 = 1;
/// zstd's fastest level but one: rows are written again and again while their minute lasts.
const LEVEL: i32 = 1;
/// No row is larger; one that claims to be is damaged.
const LARGEST: u64 = 256 << 20;

/// Why a row can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRow {
    #[error("it has another version")]
    Version,
    #[error(transparent)]
    Compression(#[from] io::Error),
    #[error(transparent)]
    Content(#[from] postcard::Error),
}

/// Packs bytes.
pub(crate) fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = write::Encoder::new(vec![VERSION], LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What was packed.
pub(crate) fn unpack(row: &[u8]) -> Result<Vec<u8>, BadRow> {
    let Some((&VERSION, packed)) = row.split_first() else { return Err(BadRow::Version) };
    let mut bytes = Vec::new();
    read::Decoder::new(packed)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Packs a value.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, BadRow> {
    Ok(pack(&postcard::to_stdvec(value)?)?)
}

/// The value that was packed.
pub(crate) fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, BadRow> {
    Ok(postcard::from_bytes(&unpack(row)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_noticed() {
        let row = pack(&b"what was measured ".repeat(20)).unwrap();
        assert_eq!(unpack(&row).unwrap(), b"what was measured ".repeat(20));
        for byte in 0..row.len() {
            let mut damaged = row.clone();
            damaged[byte] ^= 0x10;
            let same = unpack(&damaged).is_ok_and(|bytes| bytes == unpack(&row).unwrap());
            let noticed = unpack(&damaged).is_err();
            // A bit of the frame's header may say nothing; the content is never another one.
            assert!(noticed || same, "byte {byte}");
        }
        assert!(unpack(&row[..row.len() - 1]).is_err());
        assert!(matches!(unpack(&[]), Err(BadRow::Version)));
    }
}
