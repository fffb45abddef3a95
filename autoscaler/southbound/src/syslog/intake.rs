//! How much is taken in: bounds that all listeners share, and what was beyond them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_store::logs::LogMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a message takes beside its words, bytes.
const BESIDE: usize = 512;

/// How much may be there at one time, of all senders together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Bytes of messages from TCP that have come and are not kept yet; 16 MiB. Who sends more waits.
    pub tcp: u32,
    /// The same of messages from UDP; 16 MiB. What is more is lost.
    pub udp: u32,
    /// Connections; 4,096, each with up to 80 KiB of a message whose end has not come. One more is closed.
    pub connections: usize,
    /// Connections of one address; 64. One more is closed.
    pub connections_of_one: usize,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        Self { tcp: 16 << 20, udp: 16 << 20, connections: 4_096, connections_of_one: 64 }
    }
}

/// What was not taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Messages that found no room, in their socket or here, all of them from UDP.
    pub lost: u64,
    /// Datagrams and connections from addresses that no instance has.
    pub unknown: u64,
    /// Connections that were closed since there were too many.
    pub refused: u64,
}

/// The bounds, and how far they are reached.
#[derive(Debug, Clone)]
pub struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: IntakeLimits,
    tcp: Arc<Semaphore>,
    udp: Arc<Semaphore>,
    /// Of each address that has any.
    connections: Mutex<HashMap<IpAddr, usize>>,
    lost: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

impl Intake {
    /// Nothing is there yet.
    #[must_use]
    pub fn new(limits: IntakeLimits) -> Self {
        let room = |bytes: u32| Arc::new(Semaphore::new(bytes as usize));
        Self(Arc::new(Inner {
            limits,
            tcp: room(limits.tcp),
            udp: room(limits.udp),
            connections: Mutex::default(),
            lost: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// What was not taken in so far.
    #[must_use]
    pub fn counts(&self) -> IntakeCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        IntakeCounts {
            lost: read(&self.0.lost),
            unknown: read(&self.0.unknown),
            refused: read(&self.0.refused),
        }
    }

    /// Room for a message from TCP, once there is some.
    pub(super) async fn room(&self, message: &LogMessage) -> Option<Room> {
        let size = size(message).min(self.0.limits.tcp);
        self.0.tcp.clone().acquire_many_owned(size).await.ok().map(Room)
    }

    /// Room for a message from UDP; `None` has been counted.
    pub(super) fn room_now(&self, message: &LogMessage) -> Option<Room> {
        let room = self.0.udp.clone().try_acquire_many_owned(size(message)).ok().map(Room);
        if room.is_none() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    /// Counts datagrams that found no room in their socket.
    pub(super) fn lost(&self, datagrams: u32) {
        self.0.lost.fetch_add(u64::from(datagrams), Ordering::Relaxed);
    }

    /// A place for a connection; `None` has been counted.
    pub(super) fn place(&self, from: IpAddr) -> Option<Place> {
        let mut connections = self.connections();
        let (all, theirs) = (connections.values().sum::<usize>(), connections.get(&from).copied());
        let theirs = theirs.unwrap_or_default();
        if all >= self.0.limits.connections || theirs >= self.0.limits.connections_of_one {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        connections.insert(from, theirs + 1);
        Some(Place { intake: self.clone(), from })
    }

    /// Counts what has come from an address that no instance has.
    pub(super) fn unknown(&self) {
        self.0.unknown.fetch_add(1, Ordering::Relaxed);
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room of a message, until this is dropped.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Room {
    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }
}

/// The place of a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    intake: Intake,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.intake.connections();
        match connections.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                connections.remove(&self.from);
            }
        }
    }
}

/// What a message takes in memory, bytes.
fn size(message: &LogMessage) -> u32 {
    let LogMessage { facility, severity, hostname, app, process, message_id, structured_data, text, .. } =
        message;
    let optional = [facility, severity, hostname, app, process, message_id, structured_data];
    let words: usize = optional.into_iter().flatten().chain([text]).map(String::capacity).sum();
    u32::try_from(BESIDE + words).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> LogMessage {
        LogMessage { text: "x".repeat(length), ..LogMessage::default() }
    }

    #[tokio::test]
    async fn room_is_counted_in_bytes_and_each_way_has_its_own() {
        let intake = Intake::new(IntakeLimits { tcp: 2_048, udp: 2_048, ..IntakeLimits::default() });
        let large = intake.room_now(&message(1_024)).unwrap();
        assert_eq!(large.bytes(), 1_024 + BESIDE);
        assert!(intake.room_now(&message(1)).is_none());
        assert_eq!(intake.counts().lost, 1);
        assert!(intake.room(&message(1 << 20)).await.is_some(), "what can never fit takes all there is");
        drop(large);
        assert!(intake.room_now(&message(1)).is_some());
        assert_eq!(intake.counts().lost, 1);
    }

    #[test]
    fn one_sender_can_not_take_every_place() {
        let limits = IntakeLimits { connections: 3, connections_of_one: 2, ..IntakeLimits::default() };
        let intake = Intake::new(limits);
        let [one, other, third] = [1, 2, 3].map(|last| IpAddr::from([19, 0, 0, last]));
        let first = intake.place(one);
        let _rest = (intake.place(one).unwrap(), intake.place(other).unwrap());
        assert!(intake.place(third).is_none(), "no more at all");
        drop(first);
        let last = intake.place(third).unwrap();
        assert_eq!(intake.counts().refused, 1);
        drop(last);
        let _again = intake.place(one).unwrap();
        assert!(intake.place(one).is_none());
        assert_eq!(intake.counts().refused, 2);
    }
}
