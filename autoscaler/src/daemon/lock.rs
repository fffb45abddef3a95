//! One daemon per name, and none while everything is being removed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::time::{Instant, sleep};

/// A process that was killed holds the lock for some milliseconds more: its memory is taken down first, and a
/// child that it was just making an instance of lets go only when it becomes another program.
const PATIENCE: Duration = Duration::from_secs(1);
/// So often the lock is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Held as long as a daemon runs or everything is removed; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// The process that has the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder(pub(crate) String);

impl Lock {
    /// Takes the lock in a daemon's run directory, which is made; or says who has it.
    pub(crate) async fn take(run: &Path) -> Result<std::result::Result<Self, Holder>> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let outcome = try_once(run).with_context(|| format!("cannot lock {}", path(run).display()))?;
            if outcome.is_ok() || Instant::now() >= give_up {
                return Ok(outcome);
            }
            sleep(TRY_EVERY).await;
        }
    }
}

fn try_once(run: &Path) -> io::Result<std::result::Result<Lock, Holder>> {
    let path = path(run);
    fs::create_dir_all(run)?;
    // Who can open a file can lock it, also for reading only: then no daemon would start, and nothing be removed.
    let file =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(&path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // Whoever had it may have removed the file; then the lock is on nothing.
            if !fs::metadata(&path).is_ok_and(|found| lock.metadata().is_ok_and(|m| m.ino() == found.ino())) {
                return Ok(Err(Holder("(just ending)".to_owned())));
            }
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(Ok(Lock(lock)))
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            file.rewind()?;
            file.read_to_string(&mut pid)?;
            Ok(Err(Holder(pid.trim().to_owned())))
        }
        Err((_, error)) => Err(error.into()),
    }
}

/// The lock's file.
pub(crate) fn path(run: &Path) -> PathBuf {
    run.join("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid() -> String {
        std::process::id().to_string()
    }

    #[tokio::test]
    async fn a_second_one_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("sluice");
        let first = Lock::take(&run).await.unwrap().unwrap();
        assert_eq!(Lock::take(&run).await.unwrap().unwrap_err(), Holder(pid()));
        drop(first);
        Lock::take(&run).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn nobody_else_can_open_it() {
        let dir = tempfile::tempdir().unwrap();
        // As an older daemon has left it.
        fs::write(path(dir.path()), "1\n").unwrap();
        fs::set_permissions(path(dir.path()), Permissions::from_mode(0o644)).unwrap();
        let _lock = Lock::take(dir.path()).await.unwrap().unwrap();
        assert_eq!(fs::metadata(path(dir.path())).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn one_that_is_about_to_let_go_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).await.unwrap().unwrap();
        let let_go = async {
            sleep(PATIENCE / 10).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(Lock::take(dir.path()), let_go);
        second.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_removed_file_does_not_let_two_in() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Lock::take(dir.path()).await.unwrap().unwrap();
        fs::remove_file(path(dir.path())).unwrap();
        // Whoever removes the file ends; the next lock is on the new file.
        let _second = Lock::take(dir.path()).await.unwrap().unwrap();
        assert_eq!(Lock::take(dir.path()).await.unwrap().unwrap_err(), Holder(pid()));
    }
}
