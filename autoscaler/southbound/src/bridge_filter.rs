//! Whether the host's packet filter sees the tenants' bridged frames, and drops them.
//!
//! Where `br_netfilter` is loaded, as Docker does, frames that go from port to port of a bridge pass iptables' `FORWARD`
//! chain. The daemon changes nothing of another's packet filter: it says what is wrong, and what mends it.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use lb_userspace::net::Netns;
use tokio::process::Command;
use tokio::time::timeout;

/// What lets the frames through.
const MEND: &str = "`iptables -I FORWARD -i sl+ -o sl+ -j ACCEPT` lets them pass, and `sysctl -w \
                    net.bridge.bridge-nf-call-iptables=0` keeps them from iptables";
/// `iptables` waits for whoever changes rules, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to say at start when bridged frames pass iptables; `None` when they don't.
#[must_use]
pub fn warning() -> Option<String> {
    is_on().then(|| {
        format!(
            "net.bridge.bridge-nf-call-iptables is 1: frames between instances and the transit namespace pass iptables' FORWARD \
             chain, and are lost where its policy is DROP, as Docker sets it. {MEND}"
        )
    })
}

/// What drops the frames now, and what mends that; `None` where nothing does.
///
/// # Errors
/// It is not known: iptables does not answer in time, or refuses.
pub async fn fault() -> io::Result<Option<(String, String)>> {
    if !is_on() {
        return Ok(None);
    }
    let listed = Command::new("iptables")
        .args(["-w", "1", "-S", "FORWARD"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(PATIENCE, listed).await? {
        // Without iptables there is none of its chains.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let what = "iptables' FORWARD chain drops frames between instances and the transit namespace: its policy is DROP, and \
                net.bridge.bridge-nf-call-iptables is 1";
    let drops = drops(&String::from_utf8_lossy(&output.stdout));
    Ok(drops.then(|| (what.to_owned(), MEND.to_owned())))
}

fn is_on() -> bool {
    const KEY: &str = "bridge/bridge-nf-call-iptables";
    Netns::current().and_then(|host| host.sysctl(KEY)).is_ok_and(|value| value != "0")
}

/// Whether the chain, as `iptables -S` lists it, drops what no rule takes, and has no rule for the daemon's interfaces.
fn drops(chain: &str) -> bool {
    let is_for_ours = |line: &str| line.contains("-i sl") && line.ends_with("-j ACCEPT");
    chain.lines().any(|line| line.trim() == "-P FORWARD DROP")
        && !chain.lines().any(|line| is_for_ours(line.trim()))
}

#[cfg(test)]
mod tests {
    use super::{drops, warning};

    #[test]
    fn a_policy_of_drop_is_found_unless_a_rule_lets_ours_pass() {
        assert!(!drops(""));
        assert!(!drops("-P FORWARD ACCEPT\n"));
        assert!(drops("-P FORWARD DROP\n-A FORWARD -o docker0 -j DOCKER\n"));
        assert!(drops("-P FORWARD DROP\n-A FORWARD -i sl+ -o sl+ -j DROP\n"));
        assert!(!drops("-P FORWARD DROP\n-A FORWARD -i sl+ -o sl+ -j ACCEPT\n"));
    }

    #[test]
    fn a_packet_filter_on_bridges_is_told() {
        let setting = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
        let on = setting.is_ok_and(|text| text.trim() != "0");
        let warning = warning();
        assert_eq!(warning.is_some(), on);
        assert!(warning.is_none_or(|text| text.contains("iptables -I FORWARD")));
    }
}
