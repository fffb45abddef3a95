//! Outbound connections of instances: forwarded by the transit namespace, and masqueraded behind the uplink's own address.
//!
//! One nftables table of Sluice's own, `sluice_<daemon>`, lets the tenants' interfaces in its set `tenants` open connections
//! by the uplink, and keeps everything else apart: from a tenant's interface nothing is forwarded by another one, nothing is
//! forwarded into a tenant's interface but answers, and of the host an instance reaches its gateway alone. The table is there
//! while a tenant needs it, and nothing of anybody else's is touched.
//!
//! What comes in on the uplink has to be forwarded then. That the daemon has switched that on is remembered by a file in its
//! runtime directory, not in the table, which anybody's `nft flush ruleset` removes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use lb_userspace::net::Netns;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::scope::{Scope, TENANT_INTERFACES};

/// `nft` takes milliseconds, and a second with thousands of rules.
const LIMIT: Duration = Duration::from_secs(5);

/// Why outbound connections can't be set up or ended.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// There is no `nft`.
    #[error("outbound connections need nftables: `apt-get install nftables`")]
    NoNft,
    /// `nft` fails.
    #[error("nft: {0}")]
    Nft(String),
    /// `nft` does not answer.
    #[error("nft did not answer within {} s, and was ended", LIMIT.as_secs())]
    Slow,
    /// A setting of the uplink can't be read or made, or the namespace not entered.
    #[error("forwarding from the uplink: {0}")]
    Io(#[from] io::Error),
    /// A task was cancelled, as only the end of the runtime does.
    #[error("a task has failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The outbound connections of all tenants of a daemon. Clones are one.
#[derive(Debug, Clone)]
pub struct Outbound {
    nft: Nft,
    /// What the table holds, once it has been read.
    known: Arc<Mutex<Option<Admitted>>>,
}

/// What a table holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Admitted {
    interfaces: BTreeSet<String>,
    /// How many rules there are: fewer, where somebody has flushed a chain.
    rules: usize,
}

impl Outbound {
    /// Those by the interface `uplink` of `transit`. Nothing is read or made yet.
    #[must_use]
    pub fn new(scope: &Scope, transit: &Netns, uplink: &str) -> Self {
        let table = format!("sluice_{}", scope.name());
        let mark = scope.forwarding_mark();
        let nft = Nft { transit: transit.clone(), table, uplink: uplink.to_owned(), mark };
        Self { nft, known: Arc::default() }
    }

    /// Lets what comes from a tenant's interface out by the uplink. Idempotent; the rules are made anew, in one step.
    pub async fn admit(&self, interface: &str) -> Result<(), OutboundError> {
        let mut known = self.known.lock().await;
        // Not only this one: somebody may have removed the table since the others were admitted.
        let (mut wanted, own) = (known.clone().unwrap_or_default(), interface.to_owned());
        let admit = move |nft: &Nft| {
            wanted.interfaces.insert(own);
            nft.admit(&wanted.interfaces)?;
            nft.admitted()
        };
        *known = Some(self.blocking(admit).await?);
        Ok(())
    }

    /// Makes the table whole again where somebody else has emptied or removed it, as `nft flush ruleset` does. Whether that
    /// was so.
    pub async fn repair(&self) -> Result<bool, OutboundError> {
        let known = self.known.lock().await;
        let Some(wanted) = known.clone().filter(|known| !known.interfaces.is_empty()) else {
            return Ok(false);
        };
        self.blocking(move |nft| nft.repair(&wanted)).await
    }

    /// Ends that. With the last interface goes the table. None there is a success.
    pub async fn dismiss(&self, interface: &str) -> Result<(), OutboundError> {
        let mut known = self.known.lock().await;
        let (before, own) = (known.clone(), interface.to_owned());
        if before.as_ref().is_some_and(|admitted| !admitted.interfaces.contains(interface)) {
            return Ok(());
        }
        let left = self.blocking(move |nft| {
            if let Some(admitted) = before {
                // There has to be a table to dismiss it from, and the others stay in it.
                nft.repair(&admitted)?;
            }
            if nft.admitted()?.interfaces.contains(&own) {
                nft.dismiss(&own)?;
            }
            let left = nft.admitted()?;
            if left.interfaces.is_empty() {
                nft.remove()?;
                return Ok(Admitted::default());
            }
            Ok(left)
        });
        *known = Some(left.await?);
        Ok(())
    }

    /// Removes all of it. Returns what was there.
    pub async fn remove(&self) -> Result<Vec<String>, OutboundError> {
        let mut known = self.known.lock().await;
        let removed = self.blocking(Nft::remove).await?;
        *known = Some(Admitted::default());
        Ok(removed)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Nft) -> Result<T, OutboundError> + Send + 'static,
    ) -> Result<T, OutboundError> {
        let nft = self.nft.clone();
        tokio::task::spawn_blocking(move || work(&nft)).await?
    }
}

/// The table, by the program `nft` in the transit namespace.
#[derive(Debug, Clone)]
struct Nft {
    transit: Netns,
    table: String,
    uplink: String,
    /// The file that names the interface that did not forward before; its directory is there while a daemon runs.
    mark: PathBuf,
}

impl Nft {
    /// The rules first: nothing is forwarded from the uplink before they say what.
    fn admit(&self, interfaces: &BTreeSet<String>) -> Result<(), OutboundError> {
        self.apply(&self.rules(interfaces))?;
        if self.marked()?.is_some_and(|before| before != self.uplink) {
            self.end_forwarding()?;
        }
        if self.transit.sysctl(&forwarding(&self.uplink))? == "0" {
            fs::write(&self.mark, &self.uplink)?;
            self.transit.set_sysctl(&forwarding(&self.uplink), "1")?;
        }
        Ok(())
    }

    /// Makes the table what it was, where it isn't any more. Whether it wasn't.
    fn repair(&self, wanted: &Admitted) -> Result<bool, OutboundError> {
        let is_whole = self.admitted()? == *wanted;
        if !is_whole {
            self.admit(&wanted.interfaces)?;
        }
        Ok(!is_whole)
    }

    /// What is there already is left as it is, but for the rules, which are this build's.
    fn rules(&self, interfaces: &BTreeSet<String>) -> String {
        let (table, uplink, tenants) = (&self.table, &self.uplink, format!("{TENANT_INTERFACES}*"));
        let interfaces: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
        let interfaces = interfaces.join(", ");
        format!(
            "add table ip {table}
             add set ip {table} tenants {{ type ifname; }}
             add chain ip {table} forward {{ type filter hook forward priority filter; policy accept; }}
             add chain ip {table} input {{ type filter hook input priority filter; policy accept; }}
             add chain ip {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
             flush chain ip {table} forward
             flush chain ip {table} input
             flush chain ip {table} postrouting
             add rule ip {table} forward iifname \"{uplink}\" oifname @tenants ct state established,related accept
             add rule ip {table} forward oifname \"{tenants}\" drop
             add rule ip {table} forward iifname @tenants oifname \"{uplink}\" ct state new,established,related accept
             add rule ip {table} forward iifname \"{tenants}\" drop
             add rule ip {table} input iifname \"{tenants}\" fib daddr . iif type != local drop
             add rule ip {table} postrouting iifname @tenants oifname \"{uplink}\" masquerade
             add element ip {table} tenants {{ {interfaces} }}
            "
        )
    }

    /// Added first, so that it is there to be deleted.
    fn dismiss(&self, interface: &str) -> Result<(), OutboundError> {
        let (table, element) = (&self.table, format!("tenants {{ \"{interface}\" }}"));
        self.apply(&format!("add element ip {table} {element}\ndelete element ip {table} {element}\n"))
    }

    /// What the table holds; nothing where there is no table.
    fn admitted(&self) -> Result<Admitted, OutboundError> {
        if !self.exists()? {
            return Ok(Admitted::default());
        }
        let listed = self.json(&["list", "table", "ip", &self.table])?;
        let mut admitted = Admitted::default();
        for item in listed["nftables"].as_array().into_iter().flatten() {
            let elements = item["set"]["elem"].as_array().into_iter().flatten();
            admitted.interfaces.extend(elements.filter_map(|element| element.as_str().map(str::to_owned)));
            admitted.rules += usize::from(item["rule"].is_object());
        }
        Ok(admitted)
    }

    /// What there was. Forwarding ends first: without the table nothing would say what is forwarded.
    fn remove(&self) -> Result<Vec<String>, OutboundError> {
        let mut removed = Vec::new();
        if let Some(uplink) = self.end_forwarding()? {
            removed.push(format!("forwarding from {uplink}"));
        }
        if self.exists()? {
            self.apply(&format!("delete table ip {}\n", self.table))?;
            removed.push(format!("the nftables table {}", self.table));
        }
        Ok(removed)
    }

    /// Ends what the mark tells of, and returns the interface, which need not be today's uplink.
    fn end_forwarding(&self) -> io::Result<Option<String>> {
        let Some(uplink) = self.marked()? else { return Ok(None) };
        match self.transit.set_sysctl(&forwarding(&uplink), "0") {
            // `sluice down` must work where the uplink has gone.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::remove_file(&self.mark)?,
        }
        Ok(Some(uplink))
    }

    /// The interface that forwards because of the daemon.
    fn marked(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(&self.mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Without `nft` nothing can have been made.
    fn exists(&self) -> Result<bool, OutboundError> {
        let listed = match self.json(&["list", "tables", "ip"]) {
            Err(OutboundError::NoNft) => return Ok(false),
            listed => listed?,
        };
        let items = listed["nftables"].as_array().into_iter().flatten();
        Ok(items.into_iter().any(|item| item["table"]["name"] == self.table.as_str()))
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, OutboundError> {
        let output = self.run(&[&["--json"], arguments].concat(), "")?;
        serde_json::from_slice(&output.stdout).map_err(|error| OutboundError::Nft(error.to_string()))
    }

    /// All of it, or nothing.
    fn apply(&self, commands: &str) -> Result<(), OutboundError> {
        self.run(&["--file", "-"], commands).map(drop)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<Output, OutboundError> {
        let run = || {
            let mut nft = Command::new("nft");
            nft.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            wait_for(nft.spawn()?, input, LIMIT)
        };
        match self.transit.run(run)? {
            Ok(None) => Err(OutboundError::Slow),
            Ok(Some(output)) if output.status.success() => Ok(output),
            Ok(Some(output)) => {
                Err(OutboundError::Nft(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OutboundError::NoNft),
            Err(error) => Err(error.into()),
        }
    }
}

/// A program's output; `None` where it takes longer, and was ended. It reads its input whole before it says anything.
fn wait_for(mut child: Child, input: &str, limit: Duration) -> io::Result<Option<Output>> {
    // It names this child, also when that has ended and another has its number.
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .inspect_err(|_| drop(child.kill().and_then(|()| child.wait())))?;
    let input = input.to_owned();
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || {
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let _ = done.send(child.wait_with_output().and_then(|output| written.map(|()| output)));
    });
    if let Ok(output) = outcome.recv_timeout(limit) {
        return output.map(Some);
    }
    let _ = pidfd_send_signal(&process, Signal::KILL);
    Ok(None)
}

/// The setting that has an interface's packets forwarded.
fn forwarding(interface: &str) -> String {
    format!("ipv4/conf/{interface}/forwarding")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn started(script: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.spawn().expect("a shell")
    }

    #[test]
    fn a_program_that_does_not_answer_is_ended() {
        let limit = Duration::from_millis(200);
        let said = wait_for(started("cat"), "input", Duration::from_secs(10)).expect("no error");
        assert_eq!(said.expect("an answer").stdout, b"input");
        for script in ["kill -STOP $$", "exec sleep 60"] {
            let (child, began) = (started(script), Instant::now());
            let process = child.id();
            assert!(wait_for(child, &"x".repeat(1 << 20), limit).expect("no error").is_none(), "{script}");
            assert!(began.elapsed() < Duration::from_secs(5), "{script}: {:?}", began.elapsed());
            let is_gone = || !std::path::Path::new(&format!("/proc/{process}")).exists();
            let deadline = Instant::now() + Duration::from_secs(5);
            while !is_gone() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(is_gone(), "{script}: it runs on");
        }
    }
}
