//! What instances and hosts log: a file for each tenant and day, compressed, bounded in time and size.

mod file;
mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sluice_logic::spec::TenantName;

pub use line::{LogLine, LogMessage};

/// The directory of what hosts send; no tenant can have that name.
const HOSTS: &str = "_hosts";
/// What files end with.
const ENDING: &str = ".jsonl.zst";

/// Whose a line is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogOwner {
    /// Sent by an instance of that tenant.
    Tenant(TenantName),
    /// Sent by a host.
    Host,
}

impl LogOwner {
    fn directory(&self) -> &str {
        match self {
            Self::Tenant(name) => name.as_str(),
            Self::Host => HOSTS,
        }
    }
}

/// How much is kept of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// For so long.
    pub keep: Duration,
    /// Most of all files, bytes. One tenant's day has at most a quarter of it; what is oldest of whoever has most goes
    /// first.
    pub size: u64,
}

/// What was done with lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Kept.
    pub kept: u64,
    /// Kept as they came, since they are not syslog; they are among `kept`.
    pub malformed: u64,
    /// Not kept: their tenant's day is full, or the disk.
    pub lost: u64,
}

/// Lines that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLoss {
    /// Whose.
    pub owner: LogOwner,
    /// How many.
    pub lines: u64,
    /// In which file, and why.
    pub reason: String,
}

/// The logs' directory.
#[derive(Debug)]
pub struct LogBook {
    directory: PathBuf,
    limits: LogLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: LogCounts,
    /// Files whose end is whole, as we have written it.
    checked: BTreeSet<PathBuf>,
}

impl LogBook {
    /// The logs in a directory, which is made with the first line.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, limits: LogLimits) -> Self {
        Self { directory: directory.into(), limits, inner: Mutex::default() }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// Appends lines. Blocks. Returns what can't be kept, which is counted.
    pub fn append(&self, lines: Vec<(LogOwner, LogLine)>) -> Vec<LogLoss> {
        let mut batches: BTreeMap<(LogOwner, Date), Vec<LogLine>> = BTreeMap::new();
        for (owner, line) in lines {
            batches.entry((owner, day_of(line.at))).or_default().push(line);
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut losses = Vec::new();
        for ((owner, day), lines) in batches {
            let path = self.path(&owner, day);
            let count = lines.len() as u64;
            match self.append_to(&path, &lines, &mut inner) {
                Ok(()) => {
                    inner.counts.kept += count;
                    inner.counts.malformed +=
                        lines.iter().filter(|line| line.message.malformed).count() as u64;
                }
                Err(error) => {
                    inner.counts.lost += count;
                    inner.checked.remove(&path);
                    let reason = format!("{}: {error}", path.display());
                    losses.push(LogLoss { owner, lines: count, reason });
                }
            }
        }
        losses
    }

    fn append_to(&self, path: &Path, lines: &[LogLine], inner: &mut Inner) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut content = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut content, line)?;
            content.push(b'\n');
        }
        file::append(path, &content, inner.checked.contains(path), self.limits.size / 4)?;
        inner.checked.insert(path.to_owned());
        Ok(())
    }

    /// Removes what is too old, the oldest of whoever has most where all together is too large, and the directories of
    /// those who have nothing any more. Blocks.
    ///
    /// # Errors
    /// When the directory can't be read, or a file not be removed.
    pub fn prune(&self, now: Timestamp) -> io::Result<()> {
        // Nobody may write into a directory that is being removed.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for path in self.excess(now)? {
            fs::remove_file(&path)?;
            inner.checked.remove(&path);
        }
        for directory in read_dir(&self.directory)? {
            // One that has something in it stays.
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }

    /// The files that have to go.
    fn excess(&self, now: Timestamp) -> io::Result<Vec<PathBuf>> {
        let keep = SignedDuration::try_from(self.limits.keep).unwrap_or(SignedDuration::MAX);
        let oldest = day_of(now.checked_sub(keep).unwrap_or(Timestamp::MIN));
        let mut files = self.files()?;
        let mut excess: Vec<PathBuf> =
            files.extract_if(.., |file| file.day < oldest).map(|file| file.path).collect();
        loop {
            let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
            for file in &files {
                *sizes.entry(&file.owner).or_default() += file.size;
            }
            let largest = sizes.iter().max_by_key(|(_, size)| **size).map(|(owner, _)| (*owner).to_owned());
            let (Some(owner), true) = (largest, sizes.values().sum::<u64>() > self.limits.size) else {
                return Ok(excess);
            };
            let theirs = files.iter().enumerate().filter(|(_, file)| file.owner == owner);
            let Some((place, _)) = theirs.min_by_key(|(_, file)| file.day) else { return Ok(excess) };
            excess.push(files.swap_remove(place).path);
        }
    }

    /// The end of the newest day of which there is a file. Blocks.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn newest(&self) -> io::Result<Option<Timestamp>> {
        let newest = self.files()?.into_iter().map(|file| file.day).max();
        let end = |day: Date| day.tomorrow().ok()?.to_zoned_datetime(TimeZone::UTC).ok();
        Ok(newest.and_then(end).map(|end| end.timestamp()))
    }

    /// Of whom there are logs. Blocks.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn owners(&self) -> io::Result<BTreeSet<LogOwner>> {
        let owner = |file: DayFile| match file.owner.as_str() {
            HOSTS => Some(LogOwner::Host),
            _ => TenantName::try_from(file.owner).ok().map(LogOwner::Tenant),
        };
        Ok(self.files()?.into_iter().filter_map(owner).collect())
    }

    /// The lines that came in [`from`, `to`), as they came. Returns how many frames could not be read. Blocks.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn lines(
        &self,
        owner: &LogOwner,
        from: Timestamp,
        to: Timestamp,
        mut take: impl FnMut(LogLine),
    ) -> io::Result<u64> {
        let mut damaged = 0;
        let (first, last) = (day_of(from), day_of(to));
        let days = self.files()?.into_iter().filter(|file| file.owner == owner.directory());
        let mut days: Vec<DayFile> = days.filter(|file| file.day >= first && file.day <= last).collect();
        days.sort_by_key(|file| file.day);
        for day in days {
            damaged += file::lines(&day.path, |line| {
                if let Ok(line) = serde_json::from_str::<LogLine>(line)
                    && line.at >= from
                    && line.at < to
                {
                    take(line);
                }
            })?;
        }
        Ok(damaged)
    }

    /// The newest `count` lines since then that are `wanted`, oldest first, and where what comes later begins. Reads from
    /// the end, and no more than it needs. Blocks.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn tail(
        &self,
        owner: &LogOwner,
        since: Timestamp,
        count: usize,
        wanted: impl Fn(&LogLine) -> bool,
    ) -> io::Result<(Vec<LogLine>, LogCursor)> {
        let (mut found, mut cursor) = (Vec::new(), LogCursor::default());
        let days = self.days(owner)?;
        if let Some(newest) = days.last() {
            let end = file::frames(&newest.path, 0)?.last().map_or(0, |frame| frame.end);
            cursor = LogCursor { day: Some(newest.day), offset: end };
        }
        for day in days.iter().rev().take_while(|day| day.day >= day_of(since)) {
            for frame in file::frames(&day.path, 0)?.iter().rev() {
                // What has come since is for the cursor.
                if cursor.day == Some(day.day) && frame.end > cursor.offset {
                    continue;
                }
                let lines = file::frame_lines(&day.path, frame)?;
                let lines = lines.iter().rev().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
                found.extend(lines.filter(|line| line.at >= since && wanted(line)).take(count - found.len()));
                if found.len() >= count {
                    found.reverse();
                    return Ok((found, cursor));
                }
            }
        }
        found.reverse();
        Ok((found, cursor))
    }

    /// The lines that have come after a cursor, which goes on behind them. Blocks.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn after(
        &self,
        owner: &LogOwner,
        cursor: &mut LogCursor,
        mut take: impl FnMut(LogLine),
    ) -> io::Result<()> {
        let begin = *cursor;
        let is_new = |day: &DayFile| begin.day.is_none_or(|seen| day.day >= seen);
        for day in self.days(owner)?.into_iter().filter(is_new) {
            let from = if begin.day == Some(day.day) { begin.offset } else { 0 };
            for frame in file::frames(&day.path, from)? {
                for line in file::frame_lines(&day.path, &frame)? {
                    if let Ok(line) = serde_json::from_str(&line) {
                        take(line);
                    }
                }
                *cursor = LogCursor { day: Some(day.day), offset: frame.end };
            }
        }
        Ok(())
    }

    /// The files of one's days, oldest first.
    fn days(&self, owner: &LogOwner) -> io::Result<Vec<DayFile>> {
        let mut days: Vec<DayFile> =
            self.files()?.into_iter().filter(|file| file.owner == owner.directory()).collect();
        days.sort_by_key(|file| file.day);
        Ok(days)
    }

    fn path(&self, owner: &LogOwner, day: Date) -> PathBuf {
        self.directory.join(owner.directory()).join(format!("{day}{ENDING}"))
    }

    fn files(&self) -> io::Result<Vec<DayFile>> {
        let mut found = Vec::new();
        for directory in read_dir(&self.directory)? {
            let owner =
                directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            for path in read_dir(&directory)? {
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let day = name.strip_suffix(ENDING).and_then(|day| day.parse().ok());
                let size = fs::metadata(&path).map_or(0, |file| file.len());
                // What has another name is not ours.
                found.extend(day.map(|day| DayFile { owner: owner.clone(), day, size, path }));
            }
        }
        Ok(found)
    }
}

/// A place in one's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCursor {
    day: Option<Date>,
    /// Behind the last frame of that day's file that was read.
    offset: u64,
}

struct DayFile {
    owner: String,
    day: Date,
    size: u64,
    path: PathBuf,
}

fn read_dir(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// The day in UTC, which is how files are named.
fn day_of(at: Timestamp) -> Date {
    at.to_zoned_datetime(TimeZone::UTC).date()
}
