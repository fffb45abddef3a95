//! What instances write: kept in two files of bounded size by their supervisors, and read from there by the daemon.
//!
//! A supervisor needs no daemon, and never waits for one: what finds no room is dropped and counted. The daemon reads on
//! where it was, also after a restart: `<id>.kept` says of which file how much has been kept elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Each of the two files has at most so many bytes, and one write more.
const LARGEST: u64 = 1 << 20;
/// Most that is kept of a second's output, bytes; so much may come at once.
const RATE: u64 = 1 << 20;
/// Most that is read at once, bytes.
const AT_ONCE: u64 = 256 << 10;
/// A line that is longer is cut into several, bytes.
const LONGEST: usize = 8 << 10;

/// The files of an instance's output.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// What came last.
    pub(super) current: PathBuf,
    /// What came before, once `current` was full.
    pub(super) before: PathBuf,
    /// How far the daemon has read.
    pub(super) kept: PathBuf,
}

/// Writes output as it comes; for the supervisor.
#[derive(Debug)]
pub(super) struct Recorder {
    files: Files,
    file: File,
    size: u64,
    /// Bytes that may be kept now.
    room: u64,
    since: Instant,
    /// Bytes that were dropped and have not been told of.
    dropped: u64,
    /// The last that came and found no room.
    held: Vec<u8>,
    /// Whether what was written ends a line.
    at_line_start: bool,
}

impl Recorder {
    /// Goes on in `file`, which is to become `files.current`.
    pub(super) fn new(files: Files, file: File, now: Instant) -> Self {
        Self {
            files,
            file,
            size: 0,
            room: RATE,
            since: now,
            dropped: 0,
            held: Vec::new(),
            at_line_start: true,
        }
    }

    /// Takes what has come; `false` where it was too much. Then it is held, in the place of what was held before: when the
    /// output comes to rest, the last of it is kept.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant) -> bool {
        if self.room(now) < bytes.len() as u64 {
            self.dropped += self.held.len() as u64;
            self.held.clear();
            self.held.extend_from_slice(bytes);
            return false;
        }
        self.room -= bytes.len() as u64;
        self.rest();
        self.keep(bytes);
        true
    }

    /// Keeps what is held, from the beginning of a line on, after a word on what was dropped before it.
    pub(super) fn rest(&mut self) {
        if self.dropped == 0 && self.held.is_empty() {
            return;
        }
        let held = mem::take(&mut self.held);
        let cut = held.iter().position(|byte| *byte == b'\n').filter(|end| end + 1 < held.len());
        let cut = cut.map_or(0, |end| end + 1);
        let dropped = self.dropped + cut as u64;
        self.dropped = 0;
        if dropped > 0 {
            let begin = if self.at_line_start { "" } else { "\n" };
            let told =
                format!("{begin}sluice: {dropped} bytes of output were dropped here: it came too fast\n");
            self.keep(told.as_bytes());
        }
        self.keep(held.get(cut..).unwrap_or_default());
    }

    fn room(&mut self, now: Instant) -> u64 {
        let passed = now.duration_since(self.since);
        let earned = u128::from(RATE) * passed.as_millis() / 1_000;
        if earned > 0 {
            self.since = now;
            self.room = RATE.min(self.room.saturating_add(u64::try_from(earned).unwrap_or(RATE)));
        }
        self.room
    }

    /// Where the disk is full it is dropped.
    fn keep(&mut self, bytes: &[u8]) {
        if self.write(bytes).is_err() {
            self.dropped += bytes.len() as u64;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= LARGEST {
            fs::rename(&self.files.current, &self.files.before)?;
            self.file = create(&self.files.current)?;
            self.size = 0;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        self.at_line_start = bytes.last() == Some(&b'\n');
        Ok(())
    }
}

/// Makes an empty file for root alone: what an instance says is its tenant's affair.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// How far output has been kept elsewhere: in the file with that inode up to that byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    offset: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.inode, self.offset)
    }
}

impl std::str::FromStr for Mark {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
        let mark = numbers.next().zip(numbers.next()).map(|(inode, offset)| Self { inode, offset });
        mark.ok_or_else(|| io::Error::other(format!("`{text}` is no mark")))
    }
}

impl Mark {
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        // One that can't be read is as none: lines come twice then, and none is missed.
        Ok(text.parse().ok())
    }

    /// Keeps it; it is replaced whole.
    pub(super) fn write(self, files: &Files) -> io::Result<()> {
        let draft = files.kept.with_extension("kept.new");
        create(&draft)?.write_all(self.to_string().as_bytes())?;
        fs::rename(draft, &files.kept)
    }
}

/// Output that has not been kept elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fresh {
    pub(super) lines: Vec<String>,
    pub(super) mark: Mark,
}

/// Reads what has come since the mark, up to 256 KiB of it; `None` where nothing has. A line whose end has not come is left
/// for the next time, but for the last one of an instance that has `ended`.
pub(super) fn fresh(files: &Files, ended: bool) -> io::Result<Option<Fresh>> {
    // The current one first: it may become the one before in between, and is then seen twice, not missed.
    let Some(mut current) = open(&files.current)? else { return Ok(None) };
    let mut before = open(&files.before)?.filter(|(_, inode)| *inode != current.1);
    let mark = Mark::read(&files.kept)?;
    let (is_before, offset) = match (mark, &before) {
        (Some(mark), _) if mark.inode == current.1 => (false, mark.offset),
        (Some(mark), Some((_, inode))) if mark.inode == *inode => (true, mark.offset),
        // Nothing was kept yet, or what was kept has gone.
        (_, Some(_)) => (true, 0),
        (_, None) => (false, 0),
    };
    if is_before && let Some((file, inode)) = &mut before {
        let bytes = read_from(file, offset)?;
        let is_all = (bytes.len() as u64) < AT_ONCE;
        let (lines, taken) = lines(&bytes, is_all);
        if !lines.is_empty() {
            let next = Mark { inode: *inode, offset: offset + taken as u64 };
            let mark = if is_all { Mark { inode: current.1, offset: 0 } } else { next };
            return Ok(Some(Fresh { lines, mark }));
        }
    }
    let offset = if is_before { 0 } else { offset };
    let bytes = read_from(&mut current.0, offset)?;
    let (lines, taken) = lines(&bytes, ended && (bytes.len() as u64) < AT_ONCE);
    let mark = Mark { inode: current.1, offset: offset + taken as u64 };
    Ok((!lines.is_empty()).then_some(Fresh { lines, mark }))
}

/// The last lines of all that is there, at most `count`.
pub(super) fn last_lines(files: &Files, count: usize) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for path in [&files.before, &files.current] {
        if let Some((mut file, _)) = open(path)? {
            let size = file.metadata()?.len();
            found.extend(lines(&read_from(&mut file, size.saturating_sub(AT_ONCE))?, true).0);
        }
    }
    Ok(found.split_off(found.len().saturating_sub(count)))
}

fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some((file, inode)))
        }
    }
}

fn read_from(file: &mut File, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(AT_ONCE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of some bytes, and how many bytes they are; the last one without its end only where that `is_all`.
fn lines(bytes: &[u8], is_all: bool) -> (Vec<String>, usize) {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let taken = if is_all || bytes.len() - whole > LONGEST { bytes.len() } else { whole };
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    let line = |line: &[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() { vec![String::new()] } else { line.chunks(LONGEST).map(text).collect() }
    };
    let taken_bytes = bytes.get(..taken).unwrap_or_default();
    (taken_bytes.split_inclusive(|byte| *byte == b'\n').flat_map(line).collect(), taken)
}

/// Output has come to rest when nothing has come for so long.
pub(super) const REST_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> Files {
        let file = |name: &str| directory.join(name);
        Files { current: file("x.log"), before: file("x.log.1"), kept: file("x.kept") }
    }

    fn recorder(files: &Files) -> Recorder {
        Recorder::new(files.clone(), create(&files.current).unwrap(), Instant::now())
    }

    fn drained(files: &Files, ended: bool) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(fresh) = fresh(files, ended).unwrap() {
            fresh.mark.write(files).unwrap();
            all.extend(fresh.lines);
        }
        all
    }

    #[test]
    fn each_line_is_read_once_also_over_restarts_and_full_files() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let mut recorder = recorder(&files);
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for number in 0..40_000 {
            let line = format!("line {number} {}", "x".repeat(60));
            recorder.keep(format!("{line}\n").as_bytes());
            written.push(line);
            if number % 1_000 == 999 {
                read.extend(drained(&files, false));
            }
        }
        assert_eq!(read, written);
        assert!(files.before.exists(), "one was full");
        assert_eq!(drained(&files, true), Vec::<String>::new());
    }

    #[test]
    fn what_nobody_reads_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let mut recorder = recorder(&files);
        for _ in 0..200 {
            recorder.keep(&vec![b'x'; 64 << 10]);
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&files.current) + size(&files.before) <= 2 * (LARGEST + (64 << 10)));
        assert!(drained(&files, true).iter().all(|line| line.len() <= LONGEST));
    }

    #[test]
    fn what_comes_too_fast_is_dropped_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let mut recorder = recorder(&files);
        let begin = Instant::now();
        assert!(recorder.take(&vec![b'x'; usize::try_from(RATE).unwrap()], begin));
        assert!(!recorder.take(b"lost\n", begin));
        assert!(!recorder.take(b"of this\nthe last line\n", begin), "it is held");
        recorder.rest();
        assert_eq!(
            last_lines(&files, 2).unwrap(),
            ["sluice: 13 bytes of output were dropped here: it came too fast", "the last line"]
        );
        assert!(recorder.take(b"later\n", begin + Duration::from_millis(600)));
        assert_eq!(last_lines(&files, 1).unwrap(), ["later"]);
    }

    #[test]
    fn a_line_waits_for_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let mut recorder = recorder(&files);
        recorder.keep(b"whole\r\nhal");
        assert_eq!(drained(&files, false), ["whole"]);
        recorder.keep(b"f\n\nlast");
        assert_eq!(drained(&files, false), ["half", ""]);
        assert_eq!(drained(&files, true), ["last"]);
    }
}
