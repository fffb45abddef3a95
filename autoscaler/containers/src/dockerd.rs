//! A dockerd that keeps all it has below one directory and leaves the host's network alone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bollard::query_parameters::{
    ImportImageOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker, body_full};
use futures_util::TryStreamExt as _;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::Image;
use crate::place::Place;

/// It starts within this, also on a host that builds something else meanwhile.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// dockerd gives its containers 10 s to end.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const POLL: Duration = Duration::from_millis(20);
/// For one request, in seconds.
const TIMEOUT_S: u64 = 60;

/// A dockerd, its containers and images. All of it goes with the value.
///
/// It has Docker's `live-restore`, so that containers outlive it while it is [stopped](Dockerd::stop) or
/// [killed](Dockerd::kill).
#[derive(Debug)]
pub struct Dockerd {
    process: Mutex<Option<Child>>,
    /// More of its arguments.
    arguments: Vec<OsString>,
    /// Last, so that it is given back when nothing is in it any more.
    place: Place,
}

impl Dockerd {
    /// Starts the one of that name, and waits until it answers. Needs root.
    ///
    /// There is one of a name at a time on a host. What was left by one whose process was killed is removed first: the
    /// dockerd itself, its containers and all their processes, mounts and files.
    ///
    /// # Errors
    /// Where another process has one of that name and doesn't end, or dockerd can't be started.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, Vec::new()).await
    }

    /// The same, with more arguments for dockerd, such as another `--host`.
    pub async fn start_with(name: &str, arguments: Vec<OsString>) -> Result<Self> {
        let place = Place::take(name, START_PATIENCE).await?;
        let place = if place.is_used() { Self::clear_away(name, place).await? } else { place };
        place.prepare()?;
        let dockerd = Self { process: Mutex::default(), arguments, place };
        dockerd.start_again().await?;
        Ok(dockerd)
    }

    /// Ends what another process has left there: containers are a running dockerd's to remove, so one is started for it.
    async fn clear_away(name: &str, place: Place) -> Result<Place> {
        place.end_dockerd(STOP_PATIENCE).await?;
        place.prepare()?;
        let left = Self { process: Mutex::default(), arguments: Vec::new(), place };
        tokio::task::spawn_blocking(move || drop(left)).await?;
        Place::take(name, STOP_PATIENCE).await
    }

    /// The one of the name that was first asked for, which all who ask at the same time share; it goes with the last of
    /// them.
    pub async fn shared(name: &str) -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Dockerd>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(there) = shared.upgrade() {
            return Ok(there);
        }
        let started = Arc::new(Self::start(name).await?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.path().join("docker.sock")
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// A client of it.
    pub fn client(&self) -> Result<Docker> {
        Ok(Docker::connect_with_unix(&self.socket().to_string_lossy(), TIMEOUT_S, API_DEFAULT_VERSION)?)
    }

    /// Loads an image.
    pub async fn load(&self, image: &Image) -> Result<()> {
        let client = self.client()?.negotiate_version().await?;
        let archive = body_full(image.archive()?.into());
        client
            .import_image(ImportImageOptions::default(), archive, None)
            .try_for_each(async |_| Ok(()))
            .await
            .with_context(|| format!("{} can't be loaded", image.name()))
    }

    /// The names of all containers that there are.
    pub async fn containers(&self) -> Result<Vec<String>> {
        let client = self.client()?.negotiate_version().await?;
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let containers = client.list_containers(Some(all)).await?;
        Ok(containers.into_iter().flat_map(|container| container.names.unwrap_or_default()).collect())
    }

    /// Starts it after it was stopped or killed; its containers are there again.
    pub async fn start_again(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        // A containerd ends with its dockerd. Where nobody reaps it, its number seems to be in use, and the next dockerd
        // would wait for it.
        let _ = fs::remove_file(self.place.path().join("exec/containerd/containerd.pid"));
        let child = self.command()?.spawn().context(
            "dockerd can't be started: `apt-get install docker.io` installs it, `./x setup` does so too",
        )?;
        let child = process.insert(child);
        let deadline = Instant::now() + START_PATIENCE;
        while !self.answers().await {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "dockerd has ended with {status}; it needs root. It said:\n{}",
                    last_lines(&self.log())
                );
            }
            if Instant::now() >= deadline {
                bail!("dockerd doesn't answer; it said:\n{}", last_lines(&self.log()));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops it; its containers run on.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM).await
    }

    /// Kills it as a crash would; its containers run on.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL).await
    }

    /// Halts it: its socket takes connections, and nothing answers. Its containers run on.
    pub async fn halt(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP).await
    }

    /// Lets it go on after it was halted.
    pub async fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT).await
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.lock().await;
        send(process.as_ref().context("it doesn't run")?, signal)
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let mut process = self.process.lock().await;
        let Some(mut child) = process.take() else { return Ok(()) };
        if child.try_wait()?.is_none() {
            send(&child, signal)?;
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill()?;
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        match self.client() {
            Ok(client) => client.ping().await.is_ok(),
            Err(_) => false,
        }
    }

    fn command(&self) -> Result<Command> {
        let below = |name: &str| self.place.path().join(name);
        let log = File::options().create(true).append(true).open(below("log"))?;
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(below("data"))
            .arg("--exec-root")
            .arg(below("exec"))
            .arg("--pidfile")
            .arg(below("pid"))
            .arg("--config-file")
            .arg(below("daemon.json"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"])
            .arg("--live-restore")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C on the terminal is for us: containers can't be removed without a dockerd.
            .process_group(0);
        Ok(command)
    }

    /// Removes all containers, and ends dockerd: its shims would outlive it.
    async fn clear(&self) -> Result<()> {
        if !self.answers().await {
            self.end(Signal::SIGKILL).await?;
            self.start_again().await?;
        }
        let client = self.client()?.negotiate_version().await?;
        let all = ListContainersOptionsBuilder::default().all(true).build();
        for container in client.list_containers(Some(all)).await? {
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            client.remove_container(&container.id.unwrap_or_default(), Some(force)).await?;
        }
        self.stop().await
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // The runtime of whoever drops it may be ending.
        let cleared = std::thread::scope(|scope| {
            let clear = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(self.clear())
            };
            scope.spawn(clear).join()
        });
        if !matches!(cleared, Ok(Ok(()))) {
            eprintln!("a dockerd could not be cleared: {cleared:?}");
        }
        unmount_below(self.place.path());
        self.place.remove();
    }
}

/// What dockerd leaves mounted, it alone would unmount.
fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    // The newest first: one may be on another.
    let mut below: Vec<&Path> = places.filter(|place| place.starts_with(directory)).collect();
    below.reverse();
    for place in below {
        if let Err(error) = umount2(place, MntFlags::MNT_DETACH) {
            eprintln!("{} can't be unmounted: {error}", place.display());
        }
    }
}

fn send(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).context("a process number")?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}

fn last_lines(log: &str) -> String {
    const LINES: usize = 10;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
