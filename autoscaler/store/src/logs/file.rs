//! A day's file: zstd frames, each behind a skippable frame (RFC 8878, 3.1.2) that has its length. `zstdcat` reads it,
//! and where a crash has torn the last frame it can be found without reading the others. What is damaged is passed over
//! to the next of those skippable frames.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

/// The first of the magic numbers of skippable frames.
const SKIPPABLE: u32 = 0x184D_2A50;
/// Magic number, size of the content, and as content the length of the frame that follows; each little-endian.
const HEAD: usize = 12;
/// zstd's default: a batch a second leaves time for it.
const LEVEL: i32 = 3;

/// Appends a frame with that content. What a crash has torn before is cut off, unless the end was `checked` before. The
/// file gets no longer than `most` bytes.
pub(super) fn append(path: &Path, content: &[u8], checked: bool, most: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let end = if checked { file.metadata()?.len() } else { whole_length(&mut file)? };
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    let frame = compressor.compress(content)?;
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD + frame.len());
    for number in [SKIPPABLE, 4, length] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(frame);
    if end + bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is full: a tenant's day has at most {most} bytes")));
    }
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    file.write_all(&bytes).inspect_err(|_| {
        // A disk that is full keeps what it has.
        let _ = file.set_len(end);
    })
}

/// Where the last whole frame ends.
fn whole_length(file: &mut File) -> io::Result<u64> {
    let mut end = 0;
    while let Some(frame) = next_frame(file, end)? {
        end = frame.end;
    }
    Ok(end)
}

/// Where the first frame at or after `from` is that is all there, by what is said of its length.
fn next_frame(file: &mut File, from: u64) -> io::Result<Option<Range<u64>>> {
    let all = file.metadata()?.len();
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = BufReader::new(file).bytes();
    let mut window = [0; HEAD];
    for (place, end) in (from..all).zip(from + 1..) {
        window.rotate_left(1);
        let Some(byte) = bytes.next() else { break };
        window[HEAD - 1] = byte?;
        let is_full = place + 1 >= from + HEAD as u64;
        let frame = frame_length(&window).filter(|_| is_full).map(|length| end..end + length);
        if let Some(frame) = frame.filter(|frame| frame.end <= all) {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}

fn frame_length(head: &[u8; HEAD]) -> Option<u64> {
    let mut words = head.as_chunks().0.iter().copied().map(u32::from_le_bytes);
    let is_ours = words.next() == Some(SKIPPABLE) && words.next() == Some(4);
    words.next().filter(|_| is_ours).map(u64::from)
}

/// Where the whole frames are that begin at or after `from`. A file that is being written ends with the last whole one.
pub(super) fn frames(path: &Path, from: u64) -> io::Result<Vec<Range<u64>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (mut frames, mut from) = (Vec::new(), from);
    while let Some(frame) = next_frame(&mut file, from)? {
        from = frame.end;
        frames.push(frame);
    }
    Ok(frames)
}

/// The lines of a frame; none where it is damaged.
pub(super) fn frame_lines(path: &Path, frame: &Range<u64>) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(frame.start))?;
    let mut bytes = Vec::new();
    file.take(frame.end - frame.start).read_to_end(&mut bytes)?;
    let content = zstd::stream::decode_all(bytes.as_slice()).unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).lines().map(str::to_owned).collect())
}

/// Each line of a file, oldest first. What is torn or damaged costs only itself; returns how many places are.
pub(super) fn lines(path: &Path, mut take: impl FnMut(&str)) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let (mut damaged, mut from) = (0, 0);
    // Whether all before `from` was whole: one damage is counted once.
    let mut whole = true;
    while let Some(place) = next_frame(&mut file, from)? {
        damaged += u64::from(whole && place.start != from + HEAD as u64);
        let mut frame = Vec::new();
        file.seek(SeekFrom::Start(place.start))?;
        Read::by_ref(&mut file).take(place.end - place.start).read_to_end(&mut frame)?;
        let content = zstd::stream::decode_all(frame.as_slice());
        whole = content.is_ok();
        damaged += u64::from(!whole);
        // What was said of its length may be what is wrong.
        from = if whole { place.end } else { place.start };
        String::from_utf8_lossy(&content.unwrap_or_default()).lines().for_each(&mut take);
    }
    Ok(damaged + u64::from(whole && from < file.metadata()?.len()))
}
