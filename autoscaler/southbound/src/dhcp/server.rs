//! One dnsmasq: its files, its leases, its process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lb_userspace::net::Netns;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sluice_logic::group::InstanceId;

use super::{DhcpError, DhcpNetwork, INTERFACE, Lease, io_error, names};

/// A server that was told to end is gone within this.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// One server: the digits that its network's interfaces have in their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) digits: String,
    pub(super) directory: PathBuf,
}

impl Server {
    /// Its bridge port.
    pub(super) fn port(&self) -> String {
        format!("sld-{}", self.digits)
    }

    /// Where its leases are.
    pub(super) fn leases_dir(&self) -> PathBuf {
        self.directory.join("leases")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("dnsmasq.conf")
    }

    /// dnsmasq sees a file that is moved into the directory.
    pub(super) fn write_lease(&self, lease: &Lease, owner: &str) -> Result<(), DhcpError> {
        let text = format!("{},{},{},infinite\n", lease.mac, lease.address, lease.id);
        replace(&self.directory.join("lease.new"), &self.lease(&lease.id, owner), &text)
    }

    fn lease(&self, id: &InstanceId, owner: &str) -> PathBuf {
        self.leases_dir().join(format!("{id}.{owner}"))
    }

    /// The names of the leases' files, whoever gave them.
    pub(super) fn leases(&self) -> Result<Vec<String>, DhcpError> {
        names(&self.leases_dir())
    }

    /// Ends a lease. None is a success.
    pub(super) fn forget(&self, id: &InstanceId, owner: &str) -> Result<(), DhcpError> {
        match fs::remove_file(self.lease(id, owner)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("a lease can't be removed")(error)),
            // It does not see a file that goes by itself.
            Ok(()) => {
                self.signal(Signal::HUP);
                Ok(())
            }
        }
    }

    /// Starts it, or anew where its configuration has changed.
    pub(super) fn ensure(&self, netns: &Netns, network: &DhcpNetwork) -> Result<(), DhcpError> {
        let text = self.text(network);
        let path = self.configuration();
        if fs::read_to_string(&path).is_ok_and(|there| there == text) && self.process().is_some() {
            return Ok(());
        }
        self.stop()?;
        replace(&self.directory.join("dnsmasq.conf.new"), &path, &text)?;
        self.start(netns)
    }

    /// Starts it where it has ended, as it was. One that was never started waits for its first lease.
    pub(super) fn revive(&self, netns: &str) -> Result<(), DhcpError> {
        if self.process().is_some() || !self.configuration().exists() {
            return Ok(());
        }
        tracing::warn!(port = self.port(), "a DHCP server has ended: it is started again");
        let netns = Netns::open(netns).map_err(io_error("a DHCP server's namespace is gone"))?;
        self.start(&netns)
    }

    fn start(&self, netns: &Netns) -> Result<(), DhcpError> {
        let path = self.configuration();
        let start = || {
            let mut dnsmasq = Command::new("dnsmasq");
            dnsmasq.arg(argument(&path)).stdin(Stdio::null()).output()
        };
        let failed = |reason: String| DhcpError::Start { port: self.port(), reason };
        // It returns when its other self, in the background, is ready.
        let done = netns.run(start).and_then(std::convert::identity);
        match done {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(failed("it is not installed: `apt-get install dnsmasq-base`".to_owned()))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// See dnsmasq(8).
    fn text(&self, network: &DhcpNetwork) -> String {
        let router = match network.router {
            Some(router) => format!("dhcp-option=option:router,{router}"),
            // Without a value it leaves out what it would say by itself: its own address.
            None => "dhcp-option=option:router".to_owned(),
        };
        let subnet = network.subnet.trunc();
        let log_server = network.log_server.map(|server| format!("dhcp-option=option:log-server,{server}"));
        let lines = [
            // No DNS, and nothing of the host's files.
            "port=0".to_owned(),
            "no-hosts".to_owned(),
            "no-resolv".to_owned(),
            format!("interface={INTERFACE}"),
            "bind-interfaces".to_owned(),
            format!("shared-network={INTERFACE},{}", subnet.network()),
            format!("dhcp-range={},static,{},infinite", subnet.network(), subnet.netmask()),
            format!("dhcp-hostsdir={}", self.leases_dir().display()),
            "dhcp-ignore=tag:!known".to_owned(),
            "dhcp-authoritative".to_owned(),
            "dhcp-broadcast".to_owned(),
            router,
            // The leases are those files; nothing else has to be remembered.
            "leasefile-ro".to_owned(),
            "quiet-dhcp".to_owned(),
            format!("pid-file={}", self.directory.join("pid").display()),
        ];
        lines.into_iter().chain(log_server).map(|line| line + "\n").collect()
    }

    /// Ends it. One that doesn't run is a success.
    pub(super) fn stop(&self) -> Result<(), DhcpError> {
        let deadline = Instant::now() + PATIENCE;
        while self.signal(if Instant::now() < deadline { Signal::TERM } else { Signal::KILL }) {
            if Instant::now() > deadline + PATIENCE {
                let stuck = io::Error::from(io::ErrorKind::TimedOut);
                return Err(io_error("a dnsmasq does not end though it was killed")(stuck));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether it runs, and was sent the signal.
    fn signal(&self, signal: Signal) -> bool {
        self.process().is_some_and(|process| pidfd_send_signal(&process, signal).is_ok())
    }

    /// The process of the pid file, if it is still this server: its number may have passed to another one.
    fn process(&self) -> Option<rustix::fd::OwnedFd> {
        let text = fs::read_to_string(self.directory.join("pid")).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Held by the descriptor, the process that is read about is the one that gets the signal.
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        let own = argument(&self.configuration());
        arguments.split(|byte| *byte == 0).any(|found| found == own.as_bytes()).then_some(process)
    }
}

fn argument(configuration: &Path) -> String {
    format!("--conf-file={}", configuration.display())
}

/// Writes a file that appears whole or not at all, and that everybody may read: dnsmasq runs as nobody.
fn replace(draft: &Path, path: &Path, text: &str) -> Result<(), DhcpError> {
    let done = fs::write(draft, text).and_then(|()| fs::rename(draft, path));
    done.map_err(|source| DhcpError::Io { what: format!("{} can't be written", path.display()), source })
}
