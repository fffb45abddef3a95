//! The end of an instance, step by step: pure.
//!
//! It stops, then the load balancer forgets its backend, then it is removed. While it stops, its backend keeps the flows that it
//! had and gets no other, so what its processes and its kernel send to end them (FIN, RST) reaches the clients. Which step is
//! due follows from what the instance is and what the load balancer has taken in of that, so a daemon that begins goes on
//! where an earlier one was ended.

use std::time::Duration;

use jiff::Timestamp;
use sluice_logic::group::InstanceState;
use tokio::time::Instant;

use super::Member;

/// A step that has failed is tried again after so long.
const RETRY: Duration = Duration::from_secs(2);

/// A cloud that can't be asked to stop an instance for so long, as it does not answer, most likely doesn't run it any more.
/// Its clients are then better off with a reset by another.
const UNASKED_FOR: Duration = Duration::from_secs(30);

/// What is to be begun for an instance, as a job of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is made.
    Make,
    /// It is told to stop.
    Stop {
        /// So much of its time to stop in has passed already.
        passed: Duration,
    },
    /// It is removed.
    Remove,
}

impl Member {
    /// What is to be begun for it now; `None` while a job is under way, where nothing is to be done, and where that has to wait,
    /// for the load balancer or for another try.
    pub(crate) fn due(&self, now: Instant, clock: Timestamp) -> Option<Due> {
        let waits = || self.settled().is_none() || self.not_before.is_some_and(|at| now < at);
        match self.instance.state {
            _ if self.job.is_some() => None,
            InstanceState::Pending => Some(Due::Make),
            InstanceState::Terminating if waits() => None,
            InstanceState::Terminating if self.instance.stopping => {
                // A clock that was set back gives it its time anew.
                let passed =
                    Duration::try_from(clock.duration_since(self.instance.since)).unwrap_or_default();
                Some(Due::Stop { passed })
            }
            InstanceState::Terminating => Some(Due::Remove),
            InstanceState::InService | InstanceState::Draining | InstanceState::Terminated => None,
        }
    }

    /// When a step that has failed is to be tried again.
    pub(crate) fn next_try(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|&at| at > now && self.job.is_none())
    }

    /// It has stopped, or can't be stopped, and its clients have heard of it what they will: the load balancer is to forget
    /// it.
    pub(crate) fn stopped(&mut self) {
        self.instance.stopping = false;
        (self.job, self.not_before, self.unasked) = (None, None, None);
    }

    /// Its cloud could not be asked to stop it: the time for that begins anew. After a while it is given up.
    pub(crate) fn not_asked(&mut self, now: Instant, clock: Timestamp) {
        if now.duration_since(*self.unasked.get_or_insert(now)) >= UNASKED_FOR {
            self.stopped();
            return;
        }
        self.instance.since = clock;
        self.try_again(now);
    }

    /// A step of its end has failed.
    pub(crate) fn try_again(&mut self, now: Instant) {
        self.job = None;
        self.not_before = Some(now + RETRY);
    }
}

#[cfg(test)]
mod tests;
