//! The event log: one JSON object a line, a file a day, bounded in size and age.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{Event, EventKind, EventPage, EventQuery};
use sluice_store::PruneClock;
use tokio::sync::watch;

/// Events kept in memory, which is what the API answers from.
const IN_MEMORY: usize = 10_000;
/// A day has another file when the first is larger; one older part of the day is kept.
const LARGEST_FILE: u64 = 16 << 20;
/// Files older than so many days go.
const DAYS_KEPT: i64 = 30;
/// The longest time a request may wait for the next event.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What the caller knows of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewEvent {
    kind: EventKind,
    tenant: Option<TenantName>,
    instance: Option<InstanceId>,
    message: String,
    details: Value,
}

impl NewEvent {
    pub(crate) fn new(kind: EventKind, message: impl Into<String>) -> Self {
        Self { kind, tenant: None, instance: None, message: message.into(), details: Value::Null }
    }

    pub(crate) fn of(mut self, tenant: &TenantName) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }

    pub(crate) fn about(mut self, instance: &InstanceId) -> Self {
        self.instance = Some(instance.clone());
        self
    }

    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

/// The log. Writing to it never fails for the caller: when the disk is full the data plane still has to be
/// looked after, so an event that can't be kept is an error line in the daemon's own log.
#[derive(Debug)]
pub(crate) struct EventLog {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    recent: VecDeque<Event>,
    file: Option<DayFile>,
    clock: PruneClock,
}

#[derive(Debug)]
struct DayFile {
    day: String,
    file: File,
    size: u64,
}

impl EventLog {
    /// Opens the log in `directory`, which is made, and reads back what the API may be asked for.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let recent = read_back(directory)?;
        let newest = recent.back().map_or(0, |event| event.seq);
        let clock = PruneClock::new(recent.back().map(|event| event.at), Instant::now());
        let inner = Inner { directory: directory.to_owned(), recent, file: None, clock };
        Ok(Self { inner: Mutex::new(inner), newest: watch::Sender::new(newest) })
    }

    /// Takes down what happened now.
    pub(crate) fn record(&self, new: NewEvent) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event {
            seq: inner.recent.back().map_or(0, |last| last.seq) + 1,
            at: Timestamp::now(),
            kind: new.kind,
            tenant: new.tenant,
            instance: new.instance,
            message: new.message,
            details: new.details,
        };
        announce(&event);
        if let Err(error) = inner.append(&event) {
            tracing::error!(%error, directory = %inner.directory.display(), "an event could not be kept");
        }
        let seq = event.seq;
        inner.recent.push_back(event);
        if inner.recent.len() > IN_MEMORY {
            inner.recent.pop_front();
        }
        drop(inner);
        self.newest.send_replace(seq);
    }

    /// The events asked for; waits for one where the query says so.
    pub(crate) async fn query(&self, query: &EventQuery) -> EventPage {
        let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(LONGEST_WAIT);
        let deadline = tokio::time::Instant::now() + wait;
        let mut newest = self.newest.subscribe();
        loop {
            newest.borrow_and_update();
            let page = self.page(query);
            let more = async { newest.changed().await.is_ok() };
            let ended = !page.events.is_empty() || wait.is_zero();
            if ended || !tokio::time::timeout_at(deadline, more).await.unwrap_or(false) {
                return page;
            }
        }
    }

    fn page(&self, query: &EventQuery) -> EventPage {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let after = query.after.unwrap_or(0);
        let wanted = |event: &&Event| {
            event.seq > after && query.tenant.as_ref().is_none_or(|t| event.tenant.as_ref() == Some(t))
        };
        let limit = query.limit.unwrap_or(50).min(IN_MEMORY);
        let mut events: Vec<Event> = inner.recent.iter().rev().filter(wanted).take(limit).cloned().collect();
        events.reverse();
        let next = inner.recent.back().map_or(after, |event| event.seq.max(after));
        EventPage { events, next }
    }
}

impl Inner {
    fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let day = day_of(event.at);
        let fits = |file: &DayFile| file.day == day && file.size < LARGEST_FILE;
        if !self.file.as_ref().is_some_and(fits) {
            self.file = Some(begin(&self.directory, day)?);
            if self.clock.believes(event.at, Instant::now()) {
                prune(&self.directory, event.at)?;
            }
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        // One write a line: a crash leaves whole lines, or a torn last one, which reading skips.
        file.file.write_all(&line)?;
        file.size += line.len() as u64;
        Ok(())
    }
}

fn announce(event: &Event) {
    let tenant = event.tenant.as_ref().map(TenantName::as_str);
    let instance = event.instance.as_ref().map(InstanceId::as_str);
    let kind = name_of(event.kind);
    match event.kind {
        EventKind::InstanceFailed
        | EventKind::StepFailed
        | EventKind::TenantRefused
        | EventKind::ProblemFound
        | EventKind::Drift
        | EventKind::Panicked
        | EventKind::DrainingServes
        | EventKind::FlowTableFull
        | EventKind::LogsMalformed
        | EventKind::LogsLost => {
            tracing::warn!(kind, tenant, instance, "{}", event.message);
        }
        _ => tracing::info!(kind, tenant, instance, "{}", event.message),
    }
}

/// An event kind's name in JSON.
pub(crate) fn name_of(kind: EventKind) -> String {
    match serde_json::to_value(kind) {
        Ok(Value::String(name)) => name,
        _ => format!("{kind:?}"),
    }
}

fn day_of(at: Timestamp) -> String {
    at.to_zoned_datetime(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// Opens the day's file for appending; one that is too large becomes the day's older part.
fn begin(directory: &Path, day: String) -> io::Result<DayFile> {
    let path = directory.join(format!("{day}.jsonl"));
    if fs::metadata(&path).is_ok_and(|found| found.len() >= LARGEST_FILE) {
        fs::rename(&path, directory.join(format!("{day}.before.jsonl")))?;
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            // A line that a crash has torn ends here.
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok(DayFile { day, file, size })
}

/// Removes the files of days that are too long ago.
fn prune(directory: &Path, now: Timestamp) -> io::Result<()> {
    let oldest = day_of(now.saturating_sub((DAYS_KEPT * 24).hours()).unwrap_or(Timestamp::MIN));
    for (day, path) in files(directory)? {
        if day < oldest {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The log's files with their days, oldest first. `<day>.before.jsonl` sorts before `<day>.jsonl`.
fn files(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some((day, rest)) = name.split_once('.')
            && matches!(rest, "jsonl" | "before.jsonl")
        {
            files.push((day.to_owned(), path));
        }
    }
    files.sort_by(|(day, path), (other_day, other)| (day, path).cmp(&(other_day, other)));
    Ok(files)
}

/// The newest events of the newest files. Lines that can't be read are skipped: a crash may have torn one.
fn read_back(directory: &Path) -> io::Result<VecDeque<Event>> {
    let mut found = VecDeque::new();
    for (_, path) in files(directory)?.into_iter().rev() {
        let events: Vec<Event> = BufReader::new(File::open(path)?)
            .split(b'\n')
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_slice(&line).ok())
            .collect();
        for event in events.into_iter().rev().take(IN_MEMORY - found.len()) {
            found.push_front(event);
        }
        if found.len() >= IN_MEMORY {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{at, name};

    fn messages(page: &EventPage) -> Vec<&str> {
        page.events.iter().map(|event| event.message.as_str()).collect()
    }

    fn hold(message: &str) -> NewEvent {
        NewEvent::new(EventKind::Hold, message)
    }

    #[tokio::test]
    async fn a_new_daemon_goes_on_where_the_last_one_ended() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path()).unwrap();
        log.record(hold("one"));
        log.record(hold("two").of(&name("demo")));
        drop(log);

        let log = EventLog::open(dir.path()).unwrap();
        log.record(hold("three"));
        let page = log.query(&EventQuery::default()).await;
        assert_eq!(messages(&page), ["one", "two", "three"]);
        assert_eq!((page.events[2].seq, page.next), (3, 3));
        let of_demo = EventQuery { tenant: Some(name("demo")), ..EventQuery::default() };
        assert_eq!(messages(&log.query(&of_demo).await), ["two"]);
        let newest = EventQuery { limit: Some(1), ..EventQuery::default() };
        assert_eq!(messages(&log.query(&newest).await), ["three"]);
    }

    #[tokio::test]
    async fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        EventLog::open(dir.path()).unwrap().record(hold("whole"));
        let path = files(dir.path()).unwrap().remove(0).1;
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"seq\": 2, \"at").unwrap();

        EventLog::open(dir.path()).unwrap().record(hold("after"));
        let page = EventLog::open(dir.path()).unwrap().query(&EventQuery::default()).await;
        assert_eq!(messages(&page), ["whole", "after"]);
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_the_next_event() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path()).unwrap();
        log.record(hold("old"));
        let query = EventQuery { after: Some(1), wait: Some(30), ..EventQuery::default() };
        let (page, ()) = tokio::join!(log.query(&query), async { log.record(hold("new")) });
        assert_eq!(messages(&page), ["new"]);
    }

    #[test]
    fn a_clock_that_has_jumped_deletes_no_events() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path()).unwrap();
        log.record(hold("of today"));
        let old = dir.path().join("2020-01-01.jsonl");
        fs::write(&old, "").unwrap();
        let mut inner = log.inner.lock().unwrap();
        let mut event = inner.recent[0].clone();
        event.at = event.at.checked_add(9_000.hours()).unwrap();
        inner.append(&event).unwrap();
        assert!(old.exists(), "the clock is a year ahead all at once");
    }

    #[test]
    fn what_fails_is_a_warning_in_the_daemons_own_log() {
        let (dir, log) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let events = EventLog::open(dir.path()).unwrap();
        let writer = std::sync::Arc::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            events.record(NewEvent::new(EventKind::InstanceFailed, "has failed"));
            events.record(NewEvent::new(EventKind::StepFailed, "can't be done"));
            events.record(hold("stays"));
        });
        let text = fs::read_to_string(log.path()).unwrap();
        let levels: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(levels, ["WARN", "WARN", "INFO"], "{text}");
    }

    #[test]
    fn old_files_go_and_a_full_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let today = day_of(at(0));
        for file in ["2020-01-01.jsonl", "notes.txt"] {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        let full = File::create(dir.path().join(format!("{today}.jsonl"))).unwrap();
        full.set_len(LARGEST_FILE).unwrap();

        let begun = begin(dir.path(), today.clone()).unwrap();
        prune(dir.path(), at(0)).unwrap();
        assert_eq!(begun.size, 0);
        let days: Vec<String> = files(dir.path()).unwrap().into_iter().map(|(day, _)| day).collect();
        assert_eq!(days, [today.clone(), today]);
        assert!(dir.path().join("notes.txt").exists(), "what is not ours stays");
    }
}
