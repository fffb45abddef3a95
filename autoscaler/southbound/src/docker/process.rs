//! A container's first process, on this host: by it its namespace is reached and its end is seen.

use std::fs;
use std::io;

use bollard::models::ContainerState;
use lb_userspace::net::Netns;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The number of a container's first process, while it runs.
pub(super) fn number(state: Option<ContainerState>) -> Option<i32> {
    state?.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
}

/// Opens the network namespace of a container's process.
///
/// A process number says nothing by itself: dockerd may be on another host, or the process may have ended and its
/// number passed on. The kernel says in which container's cgroup the process is.
pub(super) fn namespace(pid: i32, container: &str) -> io::Result<Netns> {
    let netns = Netns::of_process(pid);
    // After the namespace was opened: if the process is the container's now, it was then.
    if is_in(pid, container) {
        return netns;
    }
    let reason = format!(
        "process {pid} is not the container's: it has ended, or this dockerd runs on another host, where our links \
         don't reach"
    );
    Err(io::Error::new(io::ErrorKind::NotFound, reason))
}

/// Waits for the end of a container's process; at once where it is none of the container's any more.
pub(super) async fn ended(pid: i32, container: &str) -> io::Result<()> {
    let Some(raw) = Pid::from_raw(pid) else { return Ok(()) };
    let Ok(process) = pidfd_open(raw, PidfdFlags::NONBLOCK) else { return Ok(()) };
    if !is_in(pid, container) {
        return Ok(());
    }
    // SAFETY: the AsyncFd owns the descriptor, nobody else can close it, and its number does not change.
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    // A pidfd is readable when its process has ended.
    watched.map_err(|error| io::Error::other(error.to_string()))?.readable().await.map(|_| ())
}

/// Whether a process is in the cgroup that Docker has named after the container.
fn is_in(pid: i32, container: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_not_the_containers_is_refused() {
        let (own, container) = (std::process::id().cast_signed(), "4792136bc3c316ea");
        let error = namespace(own, container).expect_err("not in a container").to_string();
        assert!(error.contains("another host"), "{error}");
        ended(own, container).await.expect("over already");
    }
}
