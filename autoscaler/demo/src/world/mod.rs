//! A world of one's own: a client namespace, a transit namespace, and a daemon that serves them.
//!
//! ```text
//! <name>-client                 <name>-transit              the host's namespace
//!   cl0 198.51.100.2–65/24 ───── up0 198.51.100.1/24          tenants' bridges and instances,
//!   (clients' sockets)           (XDP; the VIPs)              made by `sluice run`
//! ```
//!
//! Everything carries the world's name. It is removed when the world is dropped; what a killed process has left is
//! found by that name and removed by the next start.

mod claim;
mod daemon;
mod files;
mod leaks;
mod network;

use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context as _, Result, bail, ensure};
use lb_userspace::lb::{Receiver, attach_receiver};
use sluice_northbound::client::Client;

pub use daemon::READY_WITHIN;
pub use files::HostSettings;
pub use network::{CLIENT_LINK, GATEWAY, Network};

use claim::Claim;
use files::Files;

/// Namespaces, a host file, a tenants' directory, and a daemon. Dropping it removes all of them.
#[derive(Debug)]
pub struct World {
    network: Network,
    files: Files,
    sluice: PathBuf,
    daemon: Option<Child>,
    /// Both are held for their effect.
    _claim: Claim,
    _receiver: Receiver,
}

impl World {
    /// Makes the world, short of the daemon; what an earlier one of that name has left is removed first.
    ///
    /// `name` also scopes all that the daemon makes; `sluice` is the program.
    pub async fn create(name: &str, sluice: &Path, settings: &HostSettings) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "making namespaces, links and XDP programs needs root: use sudo"
        );
        ensure!(sluice.is_file(), "{} is not there: build it with `cargo build -p sluice`", sluice.display());
        let claim = Claim::take(name)?;
        let files = Files::of(name);
        remove_earlier(sluice, &files)?;
        let network = Network::create(name).await?;
        files.write(settings, &network.transit_name())?;
        let receiver = attach_receiver(network.client(), CLIENT_LINK)
            .context("the clients' interface can't take frames that XDP sends")?;
        Ok(Self {
            network,
            files,
            sluice: sluice.to_owned(),
            daemon: None,
            _claim: claim,
            _receiver: receiver,
        })
    }

    /// Its name, which is also the daemon's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.files.name()
    }

    /// Ends the daemon that an earlier world of that name has left, and removes its instances where what they run on
    /// still answers. To be called before that is made anew: a daemon that runs would make instances meanwhile.
    ///
    /// # Errors
    /// When the world is another process's.
    pub fn end_earlier(name: &str, sluice: &Path) -> Result<()> {
        let _claim = Claim::take(name)?;
        let files = Files::of(name);
        if files.host().exists()
            && let Err(error) = daemon::down(sluice, &files)
        {
            // `create` does it again, and then it has to succeed.
            tracing::debug!(world = name, "not all of the earlier one is removed yet: {error:#}");
        }
        Ok(())
    }

    /// Removes all that an earlier world of that name has left, as [`create`](Self::create) does, for who counts before
    /// that what is on the host.
    ///
    /// # Errors
    /// When the world is another process's, or what the earlier one's instances run on does not answer.
    pub fn remove_earlier(name: &str, sluice: &Path) -> Result<()> {
        let _claim = Claim::take(name)?;
        remove_earlier(sluice, &Files::of(name))
    }

    /// The namespaces.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The host file.
    #[must_use]
    pub fn host_file(&self) -> PathBuf {
        self.files.host()
    }

    /// The directory of programs that the daemon finds before the host's. There are none at first.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.files.programs()
    }

    /// Where the daemon's log lines go.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.files.log()
    }

    /// A client of the daemon, whether one runs or not.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.files.socket())
    }

    /// A file in the tenants' directory.
    #[must_use]
    pub fn tenant_path(&self, file: &str) -> PathBuf {
        self.files.tenants().join(file)
    }

    /// Writes (or replaces, in one step) a file in the tenants' directory.
    pub fn write_tenant(&self, file: &str, text: &str) -> Result<()> {
        self.files.write_tenant(file, text)
    }

    /// Removes a file from the tenants' directory.
    pub fn remove_tenant(&self, file: &str) -> Result<()> {
        let path = self.tenant_path(file);
        std::fs::remove_file(&path).with_context(|| format!("{} can't be removed", path.display()))
    }

    /// Starts the daemon and waits until its API answers.
    pub async fn start_daemon(&mut self) -> Result<Client> {
        if let Some(daemon) = &mut self.daemon
            && daemon.try_wait()?.is_none()
        {
            bail!("the daemon runs already, pid {}", daemon.id());
        }
        let daemon = self.daemon.insert(daemon::start(&self.sluice, &self.files)?);
        let client = Client::new(self.files.socket());
        daemon::ready(daemon, &client, &self.files).await?;
        Ok(client)
    }

    /// The daemon's process, while this world has one.
    #[must_use]
    pub fn daemon_id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Kills the daemon as a crash would (`SIGKILL`); packets must go on.
    pub fn kill_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Ends the daemon as an operator would (`SIGTERM`); packets must go on.
    pub async fn stop_daemon(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("no daemon runs")?;
        daemon::stop(daemon).await
    }

    /// Runs a command of `sluice` against this world and returns what it printed; `--socket` is added.
    pub fn sluice(&self, args: &[&str]) -> Result<std::process::Output> {
        let mut command = std::process::Command::new(&self.sluice);
        command.arg("--socket").arg(self.files.socket()).args(args);
        command.output().with_context(|| format!("{} can't be run", self.sluice.display()))
    }

    /// `sluice down`: removes all that the daemon has made; the clients' network stays.
    pub fn down(&mut self) -> Result<()> {
        daemon::down(&self.sluice, &self.files)?;
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait()?;
        }
        Ok(())
    }

    /// What of the daemon's is on the host: empty after [`down`](Self::down).
    pub async fn remains(&self) -> Result<Vec<String>> {
        leaks::of_daemon(self.files.name(), self.network.transit()).await
    }

    /// Takes everything down and says what is left, which should be nothing.
    pub async fn remove(mut self) -> Result<Vec<String>> {
        self.down()?;
        let mut left = self.remains().await?;
        self.network.remove()?;
        self.files.remove()?;
        left.extend(leaks::of_world(self.files.name(), self.files.directory())?);
        Ok(left)
    }

    fn end(&mut self) -> Result<()> {
        // The host file is there from the beginning to the end of a world.
        if self.files.host().exists() {
            self.down()?;
        }
        self.network.remove()?;
        self.files.remove()
    }
}

fn remove_earlier(sluice: &Path, files: &Files) -> Result<()> {
    if files.host().exists() {
        daemon::down(sluice, files)
            .context("what an earlier world of this name has left can't be removed")?;
    }
    network::remove(files.name())?;
    files.remove()
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(
                world = self.files.name(),
                "not all of it is removed, the next start does: {error:#}"
            );
        }
        if let Some(mut daemon) = self.daemon.take() {
            // Only where `sluice down` could not end it.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
