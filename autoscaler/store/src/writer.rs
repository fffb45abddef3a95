//! The thread that gathers what happens and writes it in batches, so that no decision waits for a disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sluice_logic::spec::TenantName;

use crate::clock::PruneClock;
use crate::disk::{Disk, StoreError};
use crate::minute::{Minute, MinuteNumber};
use crate::record::DecisionRecord;
use crate::sample::Sample;
use crate::settings::{Limits, Settings};
use crate::table::{self, Table};

/// What can't be written is kept in memory for so many minutes.
const PATIENCE: i64 = 10;
/// What is too old is looked for so often.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    Samples(TenantName, Vec<Sample>),
    Decision(TenantName, Box<DecisionRecord>),
    /// Write all that was told before, and say how it went.
    Flush(SyncSender<Result<(), StoreError>>),
    End,
}

/// How the store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the last write failed; `None` when it didn't.
    pub problem: Option<String>,
    /// What the file was set aside as when it was found to be damaged, the last time.
    pub set_aside: Option<PathBuf>,
    /// Samples and decisions that are not kept: the disk did not keep up, or could not be written for long.
    pub lost: u64,
    /// Rows that could not be read back.
    pub unreadable: u64,
    /// Bytes of all rows, by the ledger.
    pub bytes: u64,
}

pub(crate) type SharedHealth = Arc<Mutex<Health>>;

pub(crate) fn note(health: &SharedHealth, change: impl FnOnce(&mut Health)) {
    change(&mut health.lock().unwrap_or_else(PoisonError::into_inner));
}

pub(crate) struct Writer {
    pub(crate) disk: Arc<Disk>,
    pub(crate) settings: Settings,
    pub(crate) health: SharedHealth,
    pub(crate) minutes: BTreeMap<(TenantName, MinuteNumber), Minute>,
    pub(crate) pruned: Option<Instant>,
    /// Says whether rows are old; made when the file is first written.
    pub(crate) clock: Option<PruneClock>,
    /// Bytes written since.
    pub(crate) unpruned: u64,
    /// The last failure, so that it is logged once.
    pub(crate) failed: Option<String>,
}

impl Writer {
    /// Opens the file. Its failure is in the log and in the health.
    pub(crate) fn begin(&mut self) {
        if let Err(error) = self.ready() {
            self.complain(&error);
        }
    }

    /// Works until it is told to end, or nobody is left to tell it anything.
    pub(crate) fn run(mut self, messages: &Receiver<Message>) {
        let mut next = Instant::now() + self.settings.flush_every;
        loop {
            let message = messages.recv_timeout(next.saturating_duration_since(Instant::now()));
            let urgent = match message {
                Ok(Message::Samples(tenant, samples)) => {
                    for sample in samples {
                        self.add(&tenant, sample);
                    }
                    false
                }
                Ok(Message::Decision(tenant, record)) => self.decide(&tenant, &record),
                Ok(Message::Flush(reply)) => {
                    let _ = reply.send(self.flush());
                    false
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.flush();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => true,
            };
            if urgent || Instant::now() >= next {
                // Its failure is in the log and in the health.
                let _ = self.flush();
                next = Instant::now() + self.settings.flush_every;
            }
        }
    }

    fn add(&mut self, tenant: &TenantName, sample: Sample) {
        let oldest = oldest(Timestamp::now(), self.settings.limits.fine);
        let minute = MinuteNumber::of(sample.at);
        // Its fine row may be gone, and roll-ups made without it would be wrong.
        if minute > oldest {
            self.minute(tenant, minute).add(sample);
        }
    }

    /// Whether it changes anything: then it is written at once.
    fn decide(&mut self, tenant: &TenantName, record: &DecisionRecord) -> bool {
        match serde_json::to_string(record) {
            Ok(line) => self.minute(tenant, MinuteNumber::of(record.decision.at)).decide(line),
            Err(error) => tracing::error!(%error, "a decision can't be written as JSON"),
        }
        record.decision.from != record.decision.to
    }

    fn minute(&mut self, tenant: &TenantName, number: MinuteNumber) -> &mut Minute {
        self.minutes.entry((tenant.clone(), number)).or_default()
    }

    /// Takes in what was written before of minutes that are about to be written anew. A row that can't be read is lost.
    fn restore(&mut self) -> Result<(), StoreError> {
        let waiting = self.minutes.iter_mut().filter(|(_, minute)| !minute.restored);
        for ((tenant, number), minute) in waiting {
            let (fine, decisions) = self.disk.read(|transaction| {
                let row = |table: Table| -> Result<Option<Vec<u8>>, redb::Error> {
                    let rows = transaction.open_table(table.rows())?;
                    Ok(rows.get((tenant.as_str(), number.0))?.map(|row| row.value().to_vec()))
                };
                Ok((row(Table::Fine)?, row(Table::Decisions)?))
            })?;
            if minute.restore(fine.as_deref(), decisions.as_deref()).is_err() {
                note(&self.health, |health| health.unreadable += 1);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let done = self.ready().and_then(|()| self.restore()).and_then(|()| self.write());
        match &done {
            Ok(()) => self.settle(),
            Err(error) => self.complain(error),
        }
        self.bound_memory();
        done
    }

    /// Opens the file where it isn't, where the last write has failed, as redb takes nothing more after a fault, and where
    /// somebody has met damage.
    fn ready(&mut self) -> Result<(), StoreError> {
        if self.disk.is_open() && self.failed.is_none() && !self.disk.is_damaged() {
            return Ok(());
        }
        let aside = self.disk.open()?;
        if aside.is_some() {
            note(&self.health, |health| health.set_aside = aside);
            self.minutes.values_mut().for_each(|minute| minute.dirty = true);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let prune = self.pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY)
            || self.unpruned > self.settings.limits.rows() / 16;
        let dirty: Vec<_> = self.minutes.iter().filter(|(_, minute)| minute.dirty).collect();
        if dirty.is_empty() && !prune {
            return Ok(());
        }
        let (limits, mut left, mut written) = (&self.settings.limits, None, 0);
        let clock = &mut self.clock;
        self.disk.write(|transaction| {
            // Before anything is written by a clock that may be wrong.
            let clock = if let Some(clock) = clock {
                clock
            } else {
                let newest = table::newest(transaction)?.and_then(|minute| MinuteNumber(minute).begin());
                clock.insert(PruneClock::new(newest, Instant::now()))
            };
            for ((tenant, number), minute) in dirty {
                for (table, row) in rows(minute) {
                    written += row.len() as u64;
                    table::put(transaction, table, tenant.as_str(), number.0, &row)?;
                }
            }
            if prune {
                let now = Timestamp::now();
                let believed = clock.believes(now, Instant::now());
                left = Some(self::prune(transaction, limits, believed.then_some(now))?);
            }
            Ok(())
        })?;
        self.unpruned += written;
        if let Some(bytes) = left {
            (self.pruned, self.unpruned) = (Some(Instant::now()), 0);
            note(&self.health, |health| health.bytes = bytes);
        }
        Ok(())
    }

    /// All is on disk: only minutes to which something may be added stay.
    fn settle(&mut self) {
        let newest = self.minutes.keys().map(|(_, minute)| *minute).max();
        let open = newest.map_or(i64::MIN, |newest| newest.0 - 1);
        self.minutes.retain(|(_, minute), _| minute.0 >= open);
        self.minutes.values_mut().for_each(|minute| minute.dirty = false);
        if self.failed.take().is_some() {
            tracing::info!("the store is written again");
        }
        note(&self.health, |health| health.problem = None);
    }

    fn complain(&mut self, error: &StoreError) {
        let text = error.to_string();
        if self.failed.as_ref() != Some(&text) {
            tracing::error!("{text}; decisions go on without it, and it is tried again");
        }
        note(&self.health, |health| health.problem = Some(text.clone()));
        self.failed = Some(text);
    }

    /// A disk that can't be written for long costs history, not memory.
    fn bound_memory(&mut self) {
        let newest = self.minutes.keys().map(|(_, minute)| minute.0).max().unwrap_or_default();
        let before = self.minutes.len();
        self.minutes.retain(|(_, minute), _| newest - minute.0 <= PATIENCE);
        let lost = (before - self.minutes.len()) as u64;
        if lost > 0 {
            note(&self.health, |health| health.lost += lost);
        }
    }
}

/// The rows of a minute. One that can't be made is left out: a value is a number or a name, so that is a bug.
fn rows(minute: &Minute) -> impl Iterator<Item = (Table, Vec<u8>)> {
    let made = [
        (Table::Fine, minute.fine_row()),
        (Table::Instances, minute.rollup_row(true)),
        (Table::Groups, minute.rollup_row(false)),
        (Table::Decisions, minute.decision_row()),
    ];
    made.into_iter().filter_map(|(table, row)| match row {
        Ok(row) => Some((table, row?)),
        Err(error) => {
            tracing::error!(%error, table = table.name(), "a row can't be made");
            None
        }
    })
}

/// The newest minute that is too old.
fn oldest(now: Timestamp, kept: Duration) -> MinuteNumber {
    let kept = i64::try_from(kept.as_secs() / 60).unwrap_or(i64::MAX);
    MinuteNumber(MinuteNumber::of(now).0.saturating_sub(kept).saturating_sub(1))
}

/// Removes what is too old, where the time is known, and the oldest of whoever has most where all together is too
/// large. Returns what is left, in bytes.
fn prune(
    transaction: &redb::WriteTransaction,
    limits: &Limits,
    now: Option<Timestamp>,
) -> Result<u64, redb::Error> {
    let mut ledger = table::ledger(transaction)?;
    for (now, (tenant, table)) in now.iter().flat_map(|now| ledger.keys().map(move |key| (*now, key))) {
        let oldest = oldest(now, limits.of(*table));
        table::remove(transaction, *table, tenant, i64::MIN..=oldest.0)?;
    }
    loop {
        ledger = table::ledger(transaction)?;
        let total: u64 = ledger.values().sum();
        let largest = ledger.iter().max_by_key(|(_, bytes)| **bytes);
        let (Some(((tenant, table), bytes)), true) = (largest, total > limits.rows()) else {
            return Ok(total);
        };
        // A tenth more than is needed, so that it isn't needed again at once; the fairest is who has most.
        let excess = (total - limits.rows()) + limits.rows() / 10;
        table::shrink(transaction, *table, tenant, excess.min(bytes.div_ceil(4)))?;
    }
}
