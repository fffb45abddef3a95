//! Where a dockerd keeps what it has.

use std::fs;
use std::io;
use std::iter;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// All of them are below; only root may write there, so that nobody else can lay a trap under a known name.
const ROOT: &str = "/var/lib/sluice-dockerd";
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// A directory that is known by its name, so that what a killed process has left in it is found, and that is one
/// process's at a time: an abstract Unix socket (`unix(7)`) says whose, which the kernel lets go of however it ends.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    _claim: UnixListener,
}

impl Place {
    /// Takes the place of that name; waits for so long where another process has it.
    pub(crate) async fn take(name: &str, patience: Duration) -> Result<Self> {
        let path = Path::new(ROOT).join(name);
        let address = SocketAddr::from_abstract_name(format!("sluice-dockerd-{name}"))?;
        let deadline = Instant::now() + patience;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(claim) => return Ok(Self { path, _claim: claim }),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    return Err(error).with_context(|| format!("`{name}` can't be claimed"));
                }
                Err(_) if Instant::now() >= deadline => {
                    bail!("another process on this host has a dockerd `{name}`: wait for its end, or end it")
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody has left something there.
    pub(crate) fn is_used(&self) -> bool {
        self.path.exists()
    }

    /// Makes the directory, with an empty configuration: without one dockerd reads that of the host's own.
    pub(crate) fn prepare(&self) -> Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("{} can't be made", self.path.display()))?;
        Ok(fs::write(self.path.join("daemon.json"), "{}")?)
    }

    /// Kills the dockerd that still runs there, if one does. Its containerd ends with it; its containers don't.
    pub(crate) async fn end_dockerd(&self, patience: Duration) -> Result<()> {
        let file = self.path.join("pid");
        let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
        let Ok(pid) = text.trim().parse() else { return Ok(()) };
        let deadline = Instant::now() + patience;
        // The number may be another process's by now.
        while self.is_named_by(pid) {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Err(Errno::ESRCH) | Ok(()) if Instant::now() < deadline => sleep(POLL).await,
                Err(error) => return Err(error).with_context(|| format!("dockerd, process {pid}")),
                Ok(()) => bail!("dockerd, process {pid}, does not end"),
            }
        }
        // The next one would not start where that number is another process's.
        Ok(fs::remove_file(file)?)
    }

    /// Whether a process was started with a path of this directory, be it in `--flag=PATH` or in `unix://PATH`; one
    /// that waits to be reaped has no arguments.
    fn is_named_by(&self, pid: i32) -> bool {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        arguments.any(|argument| {
            let start = argument.find('/').map_or("", |at| &argument[at..]);
            // By whole components: the name of one place may begin with that of another.
            Path::new(start.trim_start_matches("//")).starts_with(&self.path)
        })
    }

    /// Kills dockerd, containerd and shims that still have this directory's name, and what runs in those shims'
    /// containers. Without the directory no later start would find them.
    fn end_all(&self) {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids.filter(|pid| self.is_named_by(*pid) && is_dockers(*pid)) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            // A shim before its children, lest it act on their end.
            for pid in iter::once(pid).chain(children) {
                // Who has ended meanwhile is no fault.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Removes the directory, and the one that it is in when it was the last.
    pub(crate) fn remove(&self) {
        self.end_all();
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("{} can't be removed: {error}", self.path.display());
            }
            _ => {
                let _ = fs::remove_dir(ROOT);
            }
        }
    }
}

/// Whether a process is one of Docker's own programs, by the name it was started with.
fn is_dockers(pid: i32) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    let name = program.rsplit('/').next().unwrap_or_default();
    name == "dockerd" || name.starts_with("containerd")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn what_is_named_after_the_directory_goes_with_it() {
        let place = Place::take("end-all", Duration::ZERO).await.expect("nobody else has it");
        let shell = |name: &str, script: &str, path: &str| {
            let mut command = Command::new("sh");
            command.arg0(name).args(["-c", script, path]).stdin(Stdio::piped());
            command.spawn().expect("sh runs")
        };
        let path = place.path().display();
        let mut shim =
            shell("containerd-shim", "sleep 60 & wait", &format!("--address=unix://{path}/socket"));
        let mut neighbours = shell("containerd-shim", "read line", &format!("{path}-neighbour/socket"));
        let mut other = shell("tail", "read line", &path.to_string());
        let children = format!("/proc/{0}/task/{0}/children", shim.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        let child = loop {
            let child = fs::read_to_string(&children).unwrap_or_default();
            if !child.is_empty() {
                break child.trim().to_owned();
            }
            assert!(Instant::now() < deadline, "the shell has no child");
            sleep(POLL).await;
        };
        place.remove();
        assert_eq!(shim.wait().expect("it ends").signal(), Some(9));
        let runs = || fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|text| !text.is_empty());
        while runs() {
            assert!(Instant::now() < deadline, "what ran in it is still there");
            sleep(POLL).await;
        }
        for (process, why) in [(&mut other, "only Docker's"), (&mut neighbours, "only this directory's")] {
            assert_eq!(process.try_wait().expect("a child"), None, "{why} are ended");
            let _ = kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM);
            process.wait().expect("it ends");
        }
    }
}
