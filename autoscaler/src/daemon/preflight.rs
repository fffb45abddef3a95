//! What the host must have before anything is touched. Everything that is missing is named at once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_userspace::lb::provide_bpffs;
use lb_userspace::net::Netns;
use nix::sys::utsname::uname;
use sd_notify::NotifyState;
use sluice_southbound::uplink::{UplinkFault, without_ethernet};

use super::tell_service_manager;

/// What the compiled programs are fitted to this kernel with.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The oldest kernel that the programs are tested on: Debian 12's, by `cargo xtask test-kernel`.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// The rights that root may lack in a container, by their bit in `CapEff`, see `linux/capability.h`.
const RIGHTS: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// From one poll for the uplink to the next.
const UPLINK_POLL: Duration = Duration::from_millis(500);
/// It is said again after so many.
const SAID_EVERY: u32 = 60;

/// Checks rights, kernel and uplink, and mounts a bpffs where there should be one. Returns the transit
/// namespace.
pub(crate) fn check(namespace: Option<&str>, uplink: &str, pins: &Path) -> Result<Netns> {
    let mut missing = Vec::new();
    missing.extend(missing_rights(&fs::read_to_string("/proc/self/status")?));
    missing.extend(old_kernel(uname()?.release().to_string_lossy().as_ref()));
    if !Path::new(KERNEL_BTF).exists() {
        missing.push(format!("{KERNEL_BTF}: a kernel built with CONFIG_DEBUG_INFO_BTF=y"));
    }
    let transit = match open_transit(namespace, uplink) {
        Ok(transit) => Some(transit),
        Err(problem) => {
            missing.push(format!("{problem:#}"));
            None
        }
    };
    let Some(transit) = transit.filter(|_| missing.is_empty()) else {
        bail!("this host can't run Sluice; it lacks {}", missing.join(", and "));
    };
    if provide_bpffs(pins)? {
        tracing::info!("mounted a bpffs for {}", pins.display());
    }
    Ok(transit)
}

/// The rights that this process lacks, from its `/proc/self/status`.
fn missing_rights(status: &str) -> Option<String> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let lacks = |&(bit, _): &(u32, &str)| effective & (1 << bit) == 0;
    let lacking: Vec<&str> = RIGHTS.into_iter().filter(lacks).map(|(_, name)| name).collect();
    (!lacking.is_empty())
        .then(|| format!("the rights {}: run it as root, outside a container", lacking.join(", ")))
}

fn old_kernel(release: &str) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next()?, numbers.next()?);
    let (major, minor) = OLDEST_KERNEL;
    (version < OLDEST_KERNEL).then(|| format!("Linux {major}.{minor} or newer: this is {release}"))
}

/// Waits until there is an uplink, and says so: at the start of a host its driver, or what configures the network, may come later
/// than the daemon. A namespace that isn't there is left to [`check`].
pub(crate) async fn wait_for_uplink(namespace: Option<&str>, uplink: &str) {
    let mut polls = 0_u32;
    while namespace.map_or_else(Netns::current, Netns::open).is_ok_and(|netns| !has_interface(&netns, uplink))
    {
        if polls.is_multiple_of(SAID_EVERY) {
            let place = namespace
                .map_or_else(|| "on this host".to_owned(), |name| format!("in the namespace `{name}`"));
            let message = format!(
                "waiting for the uplink: there is no interface `{uplink}` {place}; make it, or name another one as \
                 `transit.uplink` in the host file"
            );
            tracing::warn!("{message}");
            tell_service_manager(NotifyState::Status(&message));
        }
        polls = polls.wrapping_add(1);
        tokio::time::sleep(UPLINK_POLL).await;
    }
}

fn has_interface(netns: &Netns, name: &str) -> bool {
    let name = name.to_owned();
    netns.run(move || nix::net::if_::if_nametoindex(name.as_str())).is_ok_and(|index| index.is_ok())
}

fn open_transit(namespace: Option<&str>, uplink: &str) -> Result<Netns> {
    let (netns, place) = match namespace {
        Some(name) => {
            let netns = Netns::open(name).with_context(|| {
                format!(
                    "the network namespace `{name}` (`transit.namespace`): make it with `ip netns add {name}`"
                )
            })?;
            (netns, format!("the namespace `{name}`"))
        }
        None => (Netns::current()?, "this host".to_owned()),
    };
    let name = uplink.to_owned();
    netns
        .run(move || nix::net::if_::if_nametoindex(name.as_str()))?
        .with_context(|| format!("an interface `{uplink}` (`transit.uplink`) in {place}"))?;
    if !netns.is_ethernet(uplink)? {
        let UplinkFault { what, way_out } = without_ethernet();
        bail!("an uplink with Ethernet: `{uplink}` (`transit.uplink`) is there, but {what}; {way_out}");
    }
    Ok(netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        assert_eq!(missing_rights("Name:\tx\nCapEff:\t000001ffffffffff\n"), None);
        let none = missing_rights("CapEff:\t0000000000000000\n").unwrap();
        assert!(RIGHTS.iter().all(|(_, name)| none.contains(name)), "{none}");
        let without_bpf = missing_rights("CapEff:\t0000007fffffffff\n").unwrap();
        assert!(without_bpf.contains("CAP_BPF") && !without_bpf.contains("CAP_PERFMON"), "{without_bpf}");
    }

    #[test]
    fn an_old_kernel_is_named_with_what_is_needed() {
        assert_eq!(old_kernel("6.1.0-13-amd64"), None);
        assert_eq!(old_kernel("6.18.44"), None);
        assert_eq!(old_kernel("7.0-rc1"), None);
        assert!(old_kernel("6.0.12-generic").unwrap().contains("6.1"));
        assert!(old_kernel("5.15.0").is_some());
    }
}
