//! A private libvirtd, for tests and the demo: it needs no service manager, sees none of the host's domains, and ends
//! with all its guests when the process does that started it, however that ends.
//!
//! It has mount and process namespaces of its own, in which a directory of the caller's stands in the place of
//! libvirt's. The network is the caller's: that is where the bridges are.
//!
//! What guests had is still defined in the directory when another one starts there, so what a killed process has left
//! can be removed by the usual means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What runs in the namespaces.
const SCRIPT: &str = include_str!("libvirtd.sh");

/// Places that must exist to be mounted over.
const PLACES: [&str; 5] =
    ["/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"];
/// What stands in their place.
const PARTS: [&str; 5] = ["etc", "run", "lib", "log", "cache"];

/// Files in the directory that say what is there of guests: definitions, storage pools, and what runs.
const TRACES: [(&str, &str); 3] =
    [("etc/qemu", "domain"), ("etc/storage", "storage pool"), ("run/qemu", "running domain")];

/// A busy host takes its time to start it.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Nothing that would need a service manager, or a kind of cgroups that not every host has.
const QEMU_CONF: &str = "security_driver = \"none\"\nuser = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\n\
                         remember_owner = 0\ncgroup_controllers = [ ]\nnamespaces = [ ]\nstdio_handler = \"file\"\n";
const LIBVIRTD_CONF: &str = "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_outputs = \"3:stderr\"\n";

/// What a libvirtd finds of KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kvm {
    OfHost,
    None,
}

/// A libvirtd that runs as long as this lives.
#[derive(Debug)]
pub struct PrivateLibvirtd {
    directory: PathBuf,
    outer: Pid,
    /// It waits for the outer process. While it lives so does that: the kernel kills the process when the thread that
    /// started it ends.
    waiter: Option<JoinHandle<()>>,
    /// Nobody else uses the directory meanwhile.
    _lock: Flock<fs::File>,
}

impl PrivateLibvirtd {
    /// Starts one that keeps everything in `directory`, and waits until it answers. Fails where another process has one
    /// there.
    pub fn start(directory: &Path) -> io::Result<Self> {
        Self::start_with(directory, Kvm::OfHost)
    }

    /// The same for a host without KVM, whatever this one has: its guests can only be emulated.
    pub fn start_without_kvm(directory: &Path) -> io::Result<Self> {
        Self::start_with(directory, Kvm::None)
    }

    fn start_with(directory: &Path, kvm: Kvm) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let lock = lock(directory)?;
        // Guests have ended with their libvirtd: what is written there of running ones is no longer so.
        match fs::remove_dir_all(directory.join("run")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for part in PARTS {
            fs::create_dir_all(directory.join(part))?;
        }
        for place in PLACES {
            fs::create_dir_all(place)?;
        }
        fs::write(directory.join("etc/qemu.conf"), QEMU_CONF)?;
        fs::write(directory.join("etc/libvirtd.conf"), LIBVIRTD_CONF)?;
        let (sender, started) = mpsc::channel();
        let own = directory.to_owned();
        let waiter = thread::Builder::new().name("libvirtd".to_owned()).spawn(move || {
            // Who starts it waits for what is sent.
            match spawn(&own, kvm) {
                Ok(mut child) => {
                    let _ = sender.send(Ok(child.id()));
                    let _ = child.wait();
                }
                Err(error) => drop(sender.send(Err(error))),
            }
        })?;
        let id = started.recv().map_err(io::Error::other)??;
        let outer = Pid::from_raw(i32::try_from(id).map_err(io::Error::other)?);
        let daemon = Self { directory: directory.to_owned(), outer, waiter: Some(waiter), _lock: lock };
        daemon.wait_until_it_listens()?;
        Ok(daemon)
    }

    /// How to connect to it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    /// Kills the daemon, and only that: its guests run on, and another daemon takes its place.
    pub fn kill_daemon(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Stops the daemon, so that it answers nothing, or lets it go on.
    pub fn hang(&self, hang: bool) -> io::Result<()> {
        self.signal(if hang { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("libvirtd.log")).unwrap_or_default()
    }

    /// What guests have left: domains and storage pools.
    pub fn remains(&self) -> io::Result<Vec<String>> {
        let mut left = Vec::new();
        for (folder, kind) in TRACES {
            let entries = match fs::read_dir(self.directory.join(folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                if path.extension().is_some_and(|extension| extension == "xml") {
                    left.push(format!("{kind} {name}"));
                }
            }
        }
        Ok(left)
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("run/libvirt-sock")
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let daemon = children(self.outer)?.into_iter().map(children).collect::<io::Result<Vec<_>>>()?;
        let daemon = daemon.into_iter().flatten().find(|pid| comm(*pid).as_deref() == Some("libvirtd"));
        let daemon = daemon.ok_or_else(|| io::Error::other("the private libvirtd does not run just now"))?;
        Ok(kill(daemon, signal)?)
    }

    fn wait_until_it_listens(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let ended = || self.waiter.as_ref().is_none_or(JoinHandle::is_finished);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if ended() || Instant::now() > deadline {
                let log = self.log();
                return Err(io::Error::other(format!(
                    "a private libvirtd does not start: is Debian's libvirt-daemon-system installed, and is this \
                     root? It says: {log}"
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for PrivateLibvirtd {
    fn drop(&mut self) {
        // `unshare` takes the first process of its namespaces along, and that takes everything in them.
        let _ = kill(self.outer, Signal::SIGKILL);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// Held as long as the process lives, however it ends.
fn lock(directory: &Path) -> io::Result<Flock<fs::File>> {
    let file = fs::File::create(directory.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        io::Error::other(format!(
            "{} is in use by another private libvirtd: wait for its end, or end it",
            directory.display()
        ))
    })
}

fn spawn(directory: &Path, kvm: Kvm) -> io::Result<Child> {
    let log = fs::File::create(directory.join("libvirtd.log"))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--propagation", "private", "sh", "-c", SCRIPT, "sh"])
        .arg(directory)
        .args((kvm == Kvm::None).then_some("no-kvm"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while its file is read.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name stands in parentheses, and may have some itself; then come the state and the parent.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1) == Some(parent.to_string().as_str()) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

fn comm(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}
