//! What is kept of the past, in one embedded database in the state directory: samples, their roll-ups, and every
//! decision with its inputs.
//!
//! | table | a row is | kept for |
//! | --- | --- | --- |
//! | `fine` | a tenant's minute: every sample as it was taken | hours |
//! | `instances` | a tenant's minute: count, sum, min, max and last of each series of an instance | weeks |
//! | `groups` | the same of the group's series | weeks |
//! | `decisions` | a tenant's minute: every decision, as JSON | weeks |
//!
//! A row is compressed and has a checksum. A minute is gathered in memory by a thread of its own and written every few
//! seconds, its roll-ups anew from its samples, so there is no moment at which a roll-up has yet to be made. A crash
//! loses what was gathered since the last write, and nothing else: a commit is whole or not there.
//!
//! The store never holds up who tells it something, and its faults are nobody else's: a file that is damaged is set
//! aside, one that can't be written is tried again, and what does not fit is counted as lost.

mod activity;
mod clock;
mod disk;
pub mod logs;
mod minute;
mod reading;
mod record;
mod row;
mod sample;
mod settings;
mod table;
mod writer;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_logic::spec::TenantName;

pub use activity::{Activity, Following, Outcome};
pub use clock::PruneClock;
pub use disk::StoreError;
pub use reading::MinuteRollups;
pub use record::{Census, DecisionRecord};
pub use sample::{Rollup, Sample, Spread, Subject, spread};
pub use settings::{Limits, Settings};
pub use writer::Health;

use self::disk::Disk;
use self::writer::{Message, SharedHealth, Writer, note};

/// Messages that may wait for the thread; what finds no room is lost, and counted.
const MAILBOX: usize = 16_384;
/// A reader waits so long for what was gathered to be written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The store, open for writing and reading.
#[derive(Debug)]
pub struct Store {
    disk: Arc<Disk>,
    health: SharedHealth,
    /// `None` where it was opened for reading only.
    writer: Option<(SyncSender<Message>, JoinHandle<()>)>,
}

impl Store {
    /// Opens the store, and begins its thread. A file that can't be opened is tried again with each write: see
    /// [`health`](Self::health).
    ///
    /// # Errors
    /// Only when the thread can't be made.
    pub fn open(settings: Settings) -> std::io::Result<Self> {
        let (sender, messages) = mpsc::sync_channel(MAILBOX);
        let (disk, health) = (Arc::new(Disk::new(&settings.path)), SharedHealth::default());
        let mut writer = Writer {
            disk: disk.clone(),
            settings,
            health: health.clone(),
            minutes: BTreeMap::new(),
            pruned: None,
            clock: None,
            unpruned: 0,
            failed: None,
        };
        // Now, so that what is read next is there.
        writer.begin();
        let thread = std::thread::Builder::new().name("store".to_owned());
        let thread = thread.spawn(move || writer.run(&messages))?;
        Ok(Self { disk, health, writer: Some((sender, thread)) })
    }

    /// Opens a store that exists, for reading, while no other process has it open.
    pub fn open_for_reading(path: &std::path::Path) -> Result<Self, StoreError> {
        let disk = Disk::new(path);
        disk.open_existing()?;
        Ok(Self { disk: Arc::new(disk), health: SharedHealth::default(), writer: None })
    }

    /// Keeps samples. Never blocks.
    pub fn keep_samples(&self, tenant: &TenantName, samples: Vec<Sample>) {
        let count = samples.len() as u64;
        if count > 0 {
            self.tell(Message::Samples(tenant.clone(), samples), count);
        }
    }

    /// Keeps a decision. Never blocks.
    pub fn keep_decision(&self, tenant: &TenantName, record: DecisionRecord) {
        self.tell(Message::Decision(tenant.clone(), Box::new(record)), 1);
    }

    /// Returns when what was told before is on disk, or could not be written. Blocks.
    pub fn flush(&self) -> Result<(), StoreError> {
        let Some((sender, _)) = &self.writer else { return Ok(()) };
        let (reply, answer) = mpsc::sync_channel(1);
        if sender.send(Message::Flush(reply)).is_err() {
            return Ok(());
        }
        // A disk that hangs must not hang who reads: what is there already is better than nothing.
        answer.recv_timeout(FLUSH_PATIENCE).unwrap_or(Ok(()))
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, message: Message, weight: u64) {
        let Some((sender, _)) = &self.writer else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(message) {
            note(&self.health, |health| health.lost += weight);
        }
    }
}

impl Drop for Store {
    /// Writes what was gathered.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            let _ = sender.send(Message::End);
            let _ = thread.join();
        }
    }
}
