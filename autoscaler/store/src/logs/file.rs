//! A day's file: zstd frames, each behind a skippable frame (RFC 8878, 3.1.2) that has its length. `zstdcat` reads it,
//! and where a crash has torn the last frame it can be found without reading the others.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The first of the magic numbers of skippable frames.
const SKIPPABLE: u32 = 0x184D_2A50;
/// Magic number, size of the content, and as content the length of the frame that follows; each little-endian.
const HEAD: usize = 12;
/// zstd's default: a batch a second leaves time for it.
const LEVEL: i32 = 3;

/// Appends a frame with that content. What a crash has torn before is cut off; `checked` says that it was.
pub(super) fn append(path: &Path, content: &[u8], checked: bool) -> io::Result<u64> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let end = if checked { file.metadata()?.len() } else { whole_length(&mut file)? };
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    let frame = zstd::bulk::compress(content, LEVEL)?;
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD + frame.len());
    for number in [SKIPPABLE, 4, length] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(frame);
    if let Err(error) = file.write_all(&bytes) {
        // A disk that is full keeps what it has.
        let _ = file.set_len(end);
        return Err(error);
    }
    Ok(end + bytes.len() as u64)
}

/// Where the last whole frame ends.
fn whole_length(file: &mut File) -> io::Result<u64> {
    let all = file.metadata()?.len();
    let mut end = 0;
    loop {
        file.seek(SeekFrom::Start(end))?;
        let mut head = [0; HEAD];
        if read_whole(file, &mut head)?.is_none() {
            return Ok(end);
        }
        let next = frame_length(&head).map(|length| end + HEAD as u64 + length);
        match next {
            Some(next) if next <= all => end = next,
            _ => return Ok(end),
        }
    }
}

fn frame_length(head: &[u8; HEAD]) -> Option<u64> {
    let mut words = head.as_chunks().0.iter().copied().map(u32::from_le_bytes);
    let is_ours = words.next() == Some(SKIPPABLE) && words.next() == Some(4);
    words.next().filter(|_| is_ours).map(u64::from)
}

/// `None` at the end of the file.
fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<Option<()>> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each line of a file, oldest first. A frame that is torn or damaged costs only itself; returns how many are.
pub(super) fn lines(path: &Path, mut take: impl FnMut(&str)) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut damaged = 0;
    let mut head = [0; HEAD];
    while read_whole(&mut file, &mut head)?.is_some() {
        let Some(length) = frame_length(&head) else { return Ok(damaged + 1) };
        let mut frame = Vec::new();
        file.by_ref().take(length).read_to_end(&mut frame)?;
        if read_frame(&frame, &mut take).is_err() {
            damaged += 1;
        }
    }
    Ok(damaged)
}

fn read_frame(frame: &[u8], take: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut content = BufReader::new(zstd::stream::read::Decoder::new(frame)?);
    let mut line = String::new();
    while content.read_line(&mut line)? > 0 {
        take(line.trim_end_matches('\n'));
        line.clear();
    }
    Ok(())
}
