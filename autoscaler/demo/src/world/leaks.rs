//! What is left on the host under a world's name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::net::{Links, Netns};

use super::network::UPLINK;

/// All cgroup hierarchies are mounted below.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Pins are below.
const BPFFS: &str = "/sys/fs/bpf";
/// The daemon's runtime directory is below.
const RUN: &str = "/run";
/// Controller, then Sluice's own levels.
const CGROUP_DEPTH: usize = 4;

/// What of the daemon called `name` is there: namespaces, links, cgroups, pins, its runtime directory, and addresses on
/// the uplink.
pub(super) async fn of_daemon(name: &str, transit: &Netns) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let own = [format!("{name}-client"), format!("{name}-transit")];
    let namespaces = Netns::names()?.into_iter().filter(|found| is_of(found, name) && !own.contains(found));
    left.extend(namespaces.map(|found| format!("namespace {found}")));
    for netns in [Netns::current()?, transit.clone()] {
        left.extend(links(name, &netns).await?);
    }
    let mut directories = Vec::new();
    find_directories(Path::new(CGROUPS), name, CGROUP_DEPTH, &mut directories);
    find_directories(Path::new(BPFFS), name, 1, &mut directories);
    directories.extend(Some(Path::new(RUN).join(name)).filter(|runtime| runtime.exists()));
    left.extend(directories.into_iter().map(|path| path.display().to_string()));
    left.extend(uplink_addresses(transit).await?);
    left.extend(tables(name, transit)?);
    Ok(left)
}

/// The daemon's tables of nftables.
fn tables(name: &str, transit: &Netns) -> Result<Vec<String>> {
    let listed = transit.run(|| Command::new("nft").args(["list", "tables"]).output())?;
    let output = match listed {
        // Without the program there can be none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        output => output.context("nft can't be run")?,
    };
    ensure!(output.status.success(), "`nft list tables`: {}", String::from_utf8_lossy(&output.stderr));
    let own = format!("sluice_{name}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter(|line| line.ends_with(&own)).map(str::to_owned).collect())
}

/// What of the world itself is there: namespaces and files.
pub(super) fn of_world(name: &str, directory: &Path) -> Result<Vec<String>> {
    let namespaces = Netns::names()?.into_iter().filter(|found| is_of(found, name));
    let mut left: Vec<String> = namespaces.map(|found| format!("namespace {found}")).collect();
    if directory.exists() {
        left.push(directory.display().to_string());
    }
    Ok(left)
}

/// Links that carry the name in their own or in their alias, the world's veth excepted.
async fn links(name: &str, netns: &Netns) -> Result<Vec<String>> {
    let links = Links::open(netns)?.list().await.context("links can't be listed")?;
    let ours = links.into_iter().filter(|link| {
        let alias = link.alias.as_deref().unwrap_or_default();
        let named =
            is_of(&link.name, name) || alias.split([' ', '/', ':', '=']).any(|word| is_of(word, name));
        named && link.name != UPLINK
    });
    Ok(ours.map(|link| format!("link {} ({})", link.name, link.alias.unwrap_or_default())).collect())
}

/// The uplink has one IPv4 address of its own; more are VIPs that were not taken away.
async fn uplink_addresses(transit: &Netns) -> Result<Vec<String>> {
    let addresses =
        Links::open(transit)?.addresses(UPLINK).await.context("the uplink's addresses can't be read")?;
    let own = std::net::IpAddr::V4(super::GATEWAY);
    let left =
        addresses.iter().map(|address| address.net).filter(|net| net.addr().is_ipv4() && net.addr() != own);
    Ok(left.map(|net| format!("address {net} on {UPLINK}")).collect())
}

/// Whether something is called after `name`: the name itself, or with a suffix.
fn is_of(found: &str, name: &str) -> bool {
    found.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Finds directories called after `name`, and looks no deeper there. What vanishes meanwhile is not left.
fn find_directories(root: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for entry in directories {
        if is_of(&entry.file_name().to_string_lossy(), name) {
            found.push(entry.path());
        } else if depth > 1 {
            find_directories(&entry.path(), name, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_name_is_another_world() {
        assert!(is_of("demo", "demo") && is_of("demo-client", "demo") && is_of("demo.web.1", "demo"));
        assert!(!is_of("demo2", "demo") && !is_of("my-demo", "demo") && !is_of("dem", "demo"));
    }
}
