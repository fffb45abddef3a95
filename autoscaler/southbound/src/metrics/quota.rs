//! How much may be asked and read at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections that a tenant's sources may have at once.
const ASKED: usize = 128;

/// Answers of a tenant that may be read at once. Each keeps at most 64 KiB of a page that are not worked on yet, as much of
/// a line, and what a few thousand series need; most keep a tenth of that.
const READ: usize = 16;

/// Answers of all tenants that may be read at once.
const READ_BY_ALL: usize = 128;

static ALL: Semaphore = Semaphore::const_new(READ_BY_ALL);

/// Whoever works on an answer has it. One at a time: what tenants' sources say may keep one thread busy, and no more.
static WORK: Semaphore = Semaphore::const_new(1);

/// What a tenant's sources may take at once, beside a bound for those of all tenants.
///
/// A connection that waits for its answer costs little, and a tenant may have 128 of them; an answer that is being read
/// costs memory, and a tenant may have 16. Sources that hang, or trickle, hold up those of their own tenant only.
#[derive(Debug, Clone)]
pub struct Quota {
    asked: Arc<Semaphore>,
    read: Arc<Semaphore>,
}

impl Default for Quota {
    fn default() -> Self {
        Self { asked: Arc::new(Semaphore::new(ASKED)), read: Arc::new(Semaphore::new(READ)) }
    }
}

/// While this lives, an answer may be read.
pub(super) struct Permit<'q> {
    _own: Option<SemaphorePermit<'q>>,
    _all: Option<SemaphorePermit<'static>>,
}

impl Quota {
    /// Waits until one more source may be asked: at most until others' time is over.
    pub(super) async fn ask(&self) -> Option<SemaphorePermit<'_>> {
        // No semaphore here is ever closed.
        self.asked.acquire().await.ok()
    }

    /// Waits until one more answer may be read. The tenant's own turn comes first, so that those of a tenant who wait take
    /// nothing from others.
    pub(super) async fn read(&self) -> Permit<'_> {
        let own = self.read.acquire().await.ok();
        Permit { _own: own, _all: ALL.acquire().await.ok() }
    }
}

/// Does what takes long on a thread for that, one at a time. Work that panics is an error, and the panic's message is
/// in the log.
pub(super) async fn work<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let turn = WORK.acquire().await;
    let done = tokio::task::spawn_blocking(move || {
        // Until the work is done, also where nobody waits for it any more.
        let _turn = turn;
        work()
    });
    done.await.unwrap_or_else(|error| Err(format!("what made its reader fail: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn work_leaves_the_runtime_free_and_is_done_one_at_a_time() {
        let (release, released) = mpsc::channel();
        let long = move || released.recv_timeout(Duration::from_secs(5)).map_err(|error| error.to_string());
        let begun = Arc::new(AtomicBool::new(false));
        let next = {
            let begun = begun.clone();
            move || {
                begun.store(true, Relaxed);
                Ok(())
            }
        };
        // On the runtime's one thread: while that is busy nobody lets the work end.
        let meanwhile = async {
            sleep(Duration::from_millis(50)).await;
            assert!(!begun.load(Relaxed), "two are done at once");
            release.send(())
        };
        let (long, next, released) = tokio::join!(work(long), work(next), meanwhile);
        released.expect("it waits");
        long.expect("the runtime was free meanwhile");
        next.expect("done");
        assert!(begun.load(Relaxed));
    }

    /// Whether it can't be had at once.
    async fn waits(permit: impl Future) -> bool {
        timeout(Duration::from_millis(20), permit).await.is_err()
    }

    #[tokio::test]
    async fn answers_that_are_read_at_once_are_bounded_by_tenant_and_for_all() {
        let tenants: Vec<Quota> = (0..=READ_BY_ALL / READ).map(|_| Quota::default()).collect();
        let (last, others) = tenants.split_last().expect("some");
        let first = join_all((0..READ).map(|_| others[0].read())).await;
        assert!(waits(others[0].read()).await, "a tenant's own bound");
        let rest = others[1..].iter().flat_map(|quota| (0..READ).map(|_| quota.read()));
        let rest = join_all(rest).await;
        assert!(waits(last.read()).await, "the bound of all");
        drop(first);
        assert!(!waits(last.read()).await);
        drop(rest);

        let asked = join_all((0..ASKED).map(|_| last.ask())).await;
        assert!(waits(last.ask()).await, "connections of a tenant");
        assert!(!waits(others[0].ask()).await, "of another");
        drop(asked);
    }
}
