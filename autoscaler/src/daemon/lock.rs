//! One daemon per name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held as long as this daemon runs; the kernel lets go of it however the daemon ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Lock {
    /// Takes the lock in a daemon's run directory, which is made.
    pub(crate) fn take(run: &Path) -> Result<Self> {
        match try_lock(run)? {
            Ok(mut lock) => {
                lock.set_len(0)?;
                writeln!(lock, "{}", std::process::id())?;
                Ok(Self(lock))
            }
            Err(pid) => bail!(
                "a daemon with this name runs already, process {pid} ({} is locked): stop it first, or give this \
                 one another `name` in its host file",
                path(run).display()
            ),
        }
    }
}

/// The process of the daemon that runs, if one does.
pub(crate) fn holder(run: &Path) -> Result<Option<String>> {
    if !path(run).exists() {
        return Ok(None);
    }
    Ok(try_lock(run)?.err())
}

/// The lock, or the process that holds it.
fn try_lock(run: &Path) -> Result<Result<Flock<File>, String>> {
    let path = path(run);
    fs::create_dir_all(run).with_context(|| format!("cannot make {}", run.display()))?;
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(lock)),
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            file.rewind()?;
            file.read_to_string(&mut pid)?;
            Ok(Err(pid.trim().to_owned()))
        }
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn path(run: &Path) -> PathBuf {
    run.join("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_with_the_firsts_process() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("sluice");
        assert_eq!(holder(&run).unwrap(), None);
        let first = Lock::take(&run).unwrap();
        let pid = std::process::id().to_string();
        assert_eq!(holder(&run).unwrap(), Some(pid.clone()));
        let refused = Lock::take(&run).unwrap_err().to_string();
        assert!(refused.contains(&pid) && refused.contains("name"), "{refused}");
        drop(first);
        assert_eq!(holder(&run).unwrap(), None);
        Lock::take(&run).unwrap();
    }
}
