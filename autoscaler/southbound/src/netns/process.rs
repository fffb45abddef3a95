//! The processes of an instance: started into its namespace and cgroup, and ended with all their children.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lb_userspace::net::Netns;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{setsid, write};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cgroup::{Cgroup, CgroupError};

/// Where an instance's command is looked for; nothing else of the daemon's environment is passed on.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A killed process ends within this, unless the kernel is stuck in it (state `D`).
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// After this, those that were made while others were killed are killed too.
const KILL_ROUND: Duration = Duration::from_millis(100);

/// Between two looks at a group whose processes are on their way in or out.
const PAUSE: Duration = Duration::from_millis(1);

/// What is to be started.
pub(super) struct Launch {
    /// The program and its arguments.
    pub(super) command: Vec<OsString>,
    /// Its environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// The namespace it is in from its first instruction.
    pub(super) netns: Netns,
    /// The files by which it enters its cgroups.
    pub(super) entrances: Vec<File>,
    /// Where its output goes.
    pub(super) output: OwnedFd,
}

impl Launch {
    /// Starts it. The process is in its cgroup and namespace before its program runs, has a session of its own,
    /// no file descriptor of this process but its output, and does not end with it.
    pub(super) fn spawn(self) -> io::Result<Child> {
        let mut command = self.command.into_iter();
        let program = command.next().ok_or_else(|| io::Error::other("the command is empty"))?;
        let (netns, entrances) = (self.netns, self.entrances);
        let enter = move || {
            for entrance in &entrances {
                write(entrance, b"0")?;
            }
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            setsid()?;
            close_on_exec()
        };
        let mut child = Command::new(&program);
        child
            .args(command)
            .env_clear()
            .env("PATH", PATH)
            .envs(self.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::from(self.output.try_clone()?))
            .stderr(Stdio::from(self.output));
        // SAFETY: between fork and exec `enter` only makes system calls (write, setns, setsid, close_range) on
        // descriptors it owns; it neither allocates nor locks, and its errors are plain numbers.
        unsafe { child.pre_exec(enter) };
        child.spawn().map_err(|error| {
            let reason = format!("`{}`: {error}", program.display());
            io::Error::new(error.kind(), reason)
        })
    }
}

/// How a process has ended: by itself with a code, or by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
}

/// Keeps what the daemon itself has inherited from being passed on; its own descriptors are all close-on-exec.
pub(super) fn close_on_exec() -> io::Result<()> {
    // The first after stdin, stdout and stderr.
    const FIRST: libc::c_uint = 3;
    // SAFETY: close_range(2) takes plain numbers, and with CLOEXEC it closes nothing yet.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Why processes did not end.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    /// The group can't be read.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// They were killed, and are still there.
    #[error(
        "processes {0:?} do not end though they were killed; `ps -o stat,wchan` shows what they wait for"
    )]
    Stuck(Vec<i32>),
}

/// Asks all processes of a group to end, and kills those that are still there at `deadline`.
pub(super) async fn end(group: &Cgroup<'_>, deadline: Instant) -> Result<(), EndError> {
    send(group, Signal::TERM)?;
    if wait_until_empty(group, deadline).await? { Ok(()) } else { kill(group).await }
}

/// Kills all processes of a group, also those that are made meanwhile, and waits for their end.
pub(super) async fn kill(group: &Cgroup<'_>) -> Result<(), EndError> {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        send(group, Signal::KILL)?;
        let now = Instant::now();
        if wait_until_empty(group, now + KILL_ROUND).await? {
            return Ok(());
        }
        if now > deadline {
            return Err(EndError::Stuck(group.processes()?));
        }
    }
}

/// Waits until a group has no process any more.
pub(super) async fn ended(group: &Cgroup<'_>) -> Result<(), CgroupError> {
    loop {
        let processes = members(group)?;
        if processes.is_empty() && group.processes()?.is_empty() {
            return Ok(());
        }
        for (_, process) in &processes {
            // A pidfd is readable when its process has ended; one that can't be watched is looked at again.
            let _ = process.readable().await;
        }
        sleep(PAUSE).await;
    }
}

fn send(group: &Cgroup<'_>, signal: Signal) -> Result<(), CgroupError> {
    for (_, process) in members(group)? {
        // One that has ended meanwhile is what was wanted.
        let _ = pidfd_send_signal(process.get_ref(), signal);
    }
    Ok(())
}

/// Whether the group was empty before the deadline.
async fn wait_until_empty(group: &Cgroup<'_>, deadline: Instant) -> Result<bool, CgroupError> {
    loop {
        let processes = members(group)?;
        if processes.is_empty() && group.processes()?.is_empty() {
            return Ok(true);
        }
        for (_, process) in &processes {
            // A pidfd is readable when its process has ended.
            if timeout_at(deadline, process.readable()).await.is_err() {
                return Ok(false);
            }
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
}

/// The processes of a group, each held by a descriptor: a number alone may have passed to another process by the
/// time a signal is sent.
fn members(group: &Cgroup<'_>) -> Result<Vec<(i32, AsyncFd<rustix::fd::OwnedFd>)>, CgroupError> {
    let mut held = Vec::new();
    for number in group.processes()? {
        let Some(pid) = Pid::from_raw(number) else { continue };
        // NONBLOCK is what AsyncFd asks for; without the process there is nothing to hold.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { continue };
        // SAFETY: the AsyncFd owns the descriptor, nobody else can close it, and its number does not change.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        if let Ok(process) = watched {
            held.push((number, process));
        }
    }
    // What is still in the group after it was held is the process that was meant.
    let still_there = group.processes()?;
    held.retain(|(number, _)| still_there.contains(number));
    Ok(held)
}
