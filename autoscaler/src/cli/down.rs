//! `sluice down`: everything that Sluice made on this host goes.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lb_userspace::lb::LoadBalancer;
use lb_userspace::net::Netns;
use serde::Serialize;
use sluice_northbound::client::Client;
use sluice_northbound::host::HostConfig;
use sluice_southbound::management;
use sluice_southbound::networks::Networks;
use sluice_southbound::scope::Scope;

use super::args::DownArgs;
use super::which::WhichDaemon;
use super::{Failure, output};
use crate::daemon::clouds::Clouds;
use crate::daemon::lock::{self, Holder, Lock};
use crate::daemon::open;

/// A daemon ends within so long of being asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was removed.
#[derive(Debug, Default, Serialize)]
struct Removed {
    /// Instances, by id.
    instances: Vec<String>,
    /// Bridges, public addresses, and the management network.
    networks: Vec<String>,
    /// Pinned programs and maps.
    pins: Vec<String>,
    /// Directories and files.
    files: Vec<String>,
    /// Directories on which something is mounted: they are empty now, and stay.
    emptied: Vec<String>,
}

/// Removes everything, in an order in which packets to what still exists go on until it is gone.
pub(super) async fn down(daemon: &WhichDaemon, args: &DownArgs) -> Result<(), Failure> {
    let (config, scope) = daemon.host_config()?;
    let lock = end_daemon(&config, &scope, args.stop).await?;
    let removed = remove(&config, &scope, args.purge).await?;
    drop(lock);
    if args.json {
        return Ok(output::json(&removed)?);
    }
    print(&removed);
    Ok(())
}

/// Nobody may make anew what is being removed: while the lock is held no daemon starts.
async fn end_daemon(config: &HostConfig, scope: &Scope, stop: bool) -> Result<Lock> {
    let pid = match Lock::take(&scope.run_dir()).await? {
        Ok(lock) => return Ok(lock),
        Err(Holder(pid)) if !stop => {
            bail!("the daemon `{}` runs as process {pid}: stop it first, or add `--stop`", config.name)
        }
        Err(Holder(pid)) => pid,
    };
    Client::new(&config.api.socket).stop().await?;
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(lock) = Lock::take(&scope.run_dir()).await? {
                return Ok(lock);
            }
        }
    })
    .await
    .unwrap_or_else(|_| {
        Err(anyhow!("the daemon, process {pid}, has not ended after {} s: see its log", PATIENCE.as_secs()))
    })
}

async fn remove(config: &HostConfig, scope: &Scope, purge: bool) -> Result<Removed> {
    let instances = remove_instances(config, scope).await?;
    let mut removed = Removed { instances, ..Removed::default() };
    if let Some(transit) = transit(config)? {
        let networks = Networks::open(scope.clone(), &transit, &config.transit.uplink)?;
        removed.networks = networks.remove_all().await.context("removing networks")?;
        LoadBalancer::release_uplink(&transit, &config.transit.uplink).context("releasing the uplink")?;
    }
    let management = management::remove(scope).await.context("removing the management network")?;
    removed.networks.extend(management);
    let pins = LoadBalancer::remove_pins(&config.pins).context("removing programs and maps")?;
    removed.pins = pins.iter().map(|pin| pin.display().to_string()).collect();
    remove_files(config, scope, purge, &mut removed)?;
    Ok(removed)
}

/// Of every cloud, also where another one fails: what can't be removed now is by the next `sluice down`.
async fn remove_instances(config: &HostConfig, scope: &Scope) -> Result<Vec<String>> {
    let clouds = Clouds::open(scope, &config.clouds)?;
    let (mut removed, mut faults) = (Vec::new(), Vec::new());
    for (cloud, provider) in clouds.providers() {
        match provider.remove_all().await {
            Ok(instances) => removed.extend(instances.iter().map(ToString::to_string)),
            Err(error) => faults.push(format!("the cloud `{cloud}`: {error}")),
        }
    }
    if faults.is_empty() {
        return Ok(removed);
    }
    bail!(
        "instances are left, so their networks stay too: {}. Run this again when that works, or take the cloud out of \
         the host file",
        faults.join("; ")
    )
}

/// Only what the daemon has made: the directories are named by a person, who may keep other things in them.
fn remove_files(config: &HostConfig, scope: &Scope, purge: bool, removed: &mut Removed) -> Result<()> {
    note(&config.api.socket, fs::remove_file(&config.api.socket), removed)?;
    let run = scope.run_dir();
    let instances = scope.instances_dir();
    note(&instances, fs::remove_dir_all(&instances), removed)?;
    let containers = scope.containers_dir();
    note(&containers, fs::remove_dir_all(&containers), removed)?;
    if purge {
        for part in open::STATE_PARTS.map(|part| config.state.join(part)) {
            note(&part, fs::remove_dir_all(&part), removed)?;
        }
        note(&config.state, remove_if_empty(&config.state), removed)?;
    }
    note(&config.run, remove_if_empty(&config.run), removed)?;
    // These we have made ourselves, if only just now. The marks are left only where their namespace has gone.
    let (lock, mut unremarkable) = (lock::path(&run), Removed::default());
    for mark in [scope.forwarding_mark(), scope.tags_record(), scope.neighbours_record()] {
        note(&mark, fs::remove_file(&mark), &mut unremarkable)?;
    }
    note(&lock, fs::remove_file(&lock), &mut unremarkable)?;
    note(&run, remove_if_empty(&run), &mut unremarkable)
}

/// What is left in it is not ours.
fn remove_if_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(io::ErrorKind::NotFound.into()),
        done => done,
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// The transit namespace; without it there is nothing in it to remove.
fn transit(config: &HostConfig) -> Result<Option<Netns>> {
    let opened = match &config.transit.namespace {
        Some(name) => Netns::open(name),
        None => Netns::current(),
    };
    match opened {
        Ok(netns) => Ok(Some(netns)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("opening the transit namespace"),
    }
}

/// Notes what was removed; what was not there needs no note. What is left of a directory on which something is mounted
/// is the mount point.
fn note(path: &Path, result: io::Result<()>, removed: &mut Removed) -> Result<()> {
    match result {
        Ok(()) => removed.files.push(path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_empty(path) => {
            removed.emptied.push(path.display().to_string());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("removing {}", path.display())),
    }
    Ok(())
}

fn print(removed: &Removed) {
    let parts = [
        ("instance", &removed.instances),
        ("network", &removed.networks),
        ("pinned", &removed.pins),
        ("file", &removed.files),
    ];
    for (kind, names) in parts {
        for name in names {
            output::say!("removed {kind} {name}");
        }
    }
    for name in &removed.emptied {
        output::say!("emptied {name}: something is mounted on it, so the directory stays");
    }
    if removed.emptied.is_empty() && parts.iter().all(|(_, names)| names.is_empty()) {
        output::say!("there was nothing to remove");
    }
}

#[cfg(test)]
mod tests {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    /// Unmounts when it is dropped.
    struct Mounted<'a>(&'a Path);

    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = umount2(self.0, MntFlags::MNT_DETACH);
        }
    }

    #[test]
    fn a_mount_point_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        mount(Some("none"), &state, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .expect("a mount: this test needs root");
        let _mounted = Mounted(&state);
        fs::create_dir(state.join("groups")).unwrap();
        fs::write(state.join("groups/demo.json"), "{}").unwrap();
        let mut removed = Removed::default();
        let part = state.join("groups");
        note(&part, fs::remove_dir_all(&part), &mut removed).unwrap();
        note(&state, remove_if_empty(&state), &mut removed).unwrap();
        assert_eq!(removed.files, [part.display().to_string()]);
        assert_eq!(removed.emptied, [state.display().to_string()]);
        // Also where a part has a disk of its own.
        note(&state, fs::remove_dir_all(&state), &mut removed).unwrap();
    }
}
