//! What is on the host for a world, counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use lb_common::abi::VERSION;
use lb_userspace::net::{Link, Links, Netns};
use serde_json::Value;
use sluice_demo::world::World;
use sluice_southbound::scope::Scope;

use crate::lb;

/// The maps that have an entry for each service, backend or address of its own that there is. Flows end by their
/// timeouts, whatever becomes of their backends.
const MAPS: [&str; 3] = ["answers", "services", "local_addresses"];

/// How many of each kind of thing there are, those included of which there is none.
pub type Inventory = BTreeMap<&'static str, usize>;

/// Counts what there is of a world whose daemon runs: interfaces of the host that are ours, namespaces, leases, entries of
/// the load balancer's maps.
pub async fn inventory(world: &World) -> Result<Inventory> {
    let mut found = Inventory::from([
        ("links", links(world.name()).await?.len()),
        ("namespaces", namespaces(world.name())?.len()),
        ("leases", leases(world.name())?),
    ]);
    for map in MAPS {
        found.insert(map, entries(world.name(), map)?);
    }
    let backends = lb(world, &["backends"])?;
    found.insert("backends", backends.as_array().context("a list of backends")?.len());
    Ok(found)
}

/// The host's links that a world's daemon has made, taps among them, in order; another daemon's are its own affair.
pub async fn links(world: &str) -> Result<Vec<String>> {
    let group = Scope::new(world)?.group();
    let links = Links::open(&Netns::current()?)?.list().await.context("links")?;
    let bridges: Vec<u32> = links.iter().filter(|link| link.group == group).map(|link| link.index).collect();
    // Taps are libvirt's, on the daemon's bridges.
    let is_port = |link: &Link| link.master.is_some_and(|master| bridges.contains(&master));
    let ours = links.into_iter().filter(|link| link.group == group || is_port(link));
    let mut names: Vec<String> = ours.map(|link| link.name).collect();
    names.sort();
    Ok(names)
}

/// The named namespaces of a world and its daemon, in order.
pub fn namespaces(world: &str) -> Result<Vec<String>> {
    let is_ours = |name: &String| name.strip_prefix(world).is_some_and(|rest| rest.starts_with(['-', '.']));
    let mut names: Vec<String> = Netns::names()?.into_iter().filter(is_ours).collect();
    names.sort();
    Ok(names)
}

/// Each network's server has a folder with a file for each lease.
fn leases(world: &str) -> Result<usize> {
    let mut count = 0;
    for server in entries_of(&Path::new("/run").join(world).join("dhcp"))? {
        count += entries_of(&server.join("leases"))?.len();
    }
    Ok(count)
}

/// The paths in a folder; where there is none, there is nothing in it.
fn entries_of(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let paths = entries?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
            paths.with_context(|| format!("{} can't be read", folder.display()))
        }
    }
}

/// The entries of a pinned map, as an operator counts them.
fn entries(world: &str, map: &str) -> Result<usize> {
    let path = format!("/sys/fs/bpf/{world}/v{VERSION}/{map}");
    let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned", &path]).output();
    let output = output.context("bpftool can't be run: `./x setup` installs it")?;
    ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    Ok(entries.len())
}
