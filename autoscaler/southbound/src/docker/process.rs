//! A container's first process, on this host: by it its namespace is reached and its end is seen.

use std::fs;
use std::io;
use std::path::PathBuf;

use lb_userspace::net::Netns;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// The cgroup of a container's process, relative to the root: where its CPU time is counted.
pub(super) fn cgroup(pid: i32, container: &str) -> io::Result<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = counting(&groups, container).map(PathBuf::from);
    path.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("process {pid} is not the container's"))
    })
}

/// Of `cgroups(7)`'s `/proc/<pid>/cgroup` the path in the hierarchy with `cpuacct`, or in that of version 2.
fn counting<'a>(groups: &'a str, container: &str) -> Option<&'a str> {
    let path = |wanted: fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let is_it = wanted(controllers) && !container.is_empty() && path.contains(container);
            is_it.then(|| path.trim_start_matches('/'))
        })
    };
    path(|controllers| controllers.split(',').any(|name| name == "cpuacct")).or_else(|| path(str::is_empty))
}

/// Whether a process is in the cgroup that Docker has named after the container.
fn is_in(pid: i32, container: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_counted_in_one_of_the_groups() {
        let legacy = "12:pids:/docker/4792\n5:cpu,cpuacct:/docker/4792\n1:name=systemd:/docker/4792\n0::/\n";
        assert_eq!(counting(legacy, "4792"), Some("docker/4792"));
        let unified = "0::/system.slice/docker-4792.scope\n";
        assert_eq!(counting(unified, "4792"), Some("system.slice/docker-4792.scope"));
        assert_eq!(counting(unified, "5813"), None);
        assert_eq!(counting(unified, ""), None);
    }

    #[tokio::test]
    async fn a_process_that_is_not_the_containers_is_refused() {
        let (own, container) = (std::process::id().cast_signed(), "4792136bc3c316ea");
        let error = namespace(own, container).expect_err("not in a container").to_string();
        assert!(error.contains("another host"), "{error}");
        ended(own, container).await.expect("over already");
    }
}
