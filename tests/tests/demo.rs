//! `sluice demo` as a person runs it: to its end, ended early, and after one that was killed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::net::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_demo::Summary;
use sluice_tests::sluice;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The demo's scope.
const NAME: &str = "sluice_demo";
/// It ends by itself in under three minutes.
const LONGEST: Duration = Duration::from_mins(3);

#[tokio::test]
async fn the_demo_ends_by_itself_and_loses_nothing() -> Result<()> {
    let summary = played(&[]).await?;
    assert!(summary.scale_outs >= 2 && summary.scale_ins >= 2);
    nothing_left()
}

#[tokio::test]
async fn the_demo_does_the_same_in_containers() -> Result<()> {
    let summary = played(&["--provider", "docker", "--brief"]).await?;
    assert!(summary.scale_outs >= 1 && summary.scale_ins >= 1);
    ensure!(!Path::new("/var/lib/sluice-dockerd/demo").exists(), "the demo's dockerd has left its files");
    nothing_left()
}

/// A mount namespace in which `/run/netns` is a plain directory, as on a host that was just started, and a person who
/// makes, uses and removes namespaces in it once a command has made its first one.
const BESIDE_IP_NETNS: &str = r#"
mount -t tmpfs run /run || exit 70
person() {
    until [ -n "$(ls /run/netns 2>/dev/null)" ]; do sleep 0.01; done
    round=0
    while [ ! -e /run/over ]; do
        round=$((round + 1))
        ip netns add "beside$round" && ip netns exec "beside$round" true && ip netns del "beside$round" || return 1
        sleep 0.05
    done
}
person & person=$!
"$@"; code=$?
touch /run/over
wait "$person" || { echo "ip netns failed beside the demo" >&2; exit 71; }
[ -z "$(ls /run/netns)" ] || { echo "left: $(ls /run/netns)" >&2; exit 72; }
exit "$code"
"#;

#[tokio::test]
async fn the_demo_and_ip_netns_do_each_other_no_harm() -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", BESIDE_IP_NETNS, "sh"]);
    command.arg(sluice()?).args(["demo", "--json", "--brief"]);
    summary_of(command).await?;
    nothing_left()
}

/// What came of a demo that nobody has ended, in which nothing may be lost.
async fn played(arguments: &[&str]) -> Result<Summary> {
    summary_of(demo(arguments)?).await
}

async fn summary_of(command: Command) -> Result<Summary> {
    let done = timeout(LONGEST, start(command)?.wait_with_output()).await;
    let done = done.context("it did not end in time")??;
    let summary: Summary = serde_json::from_slice(&done.stdout)
        .with_context(|| format!("no summary, {}: {}", done.status, String::from_utf8_lossy(&done.stderr)))?;
    eprintln!("{summary}");
    assert!(summary.is_good() && done.status.success(), "{:#?}", summary.problems);
    assert_eq!(summary.requests.sent, summary.requests.answered);
    assert!(summary.actions.iter().all(|action| action.connections_held > 0 && action.pings_held > 0));
    Ok(summary)
}

#[tokio::test]
async fn a_demo_that_is_ended_or_killed_leaves_nothing_in_the_end() -> Result<()> {
    let mut killed = start(demo(&[])?)?;
    instances_beside(&[]).await?;
    signal(&killed, Signal::SIGKILL)?;
    killed.wait().await?;
    let remains = namespaces()?;
    ensure!(nothing_left().is_err(), "it was killed before it had made anything: the test sees nothing");

    let mut ended = start(demo(&[])?)?;
    // The next start removes what is there, and makes its own.
    instances_beside(&remains).await?;
    signal(&ended, Signal::SIGINT)?;
    let status = timeout(Duration::from_secs(30), ended.wait()).await??;
    assert_eq!(status.code(), Some(1));
    nothing_left()
}

fn demo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(sluice()?);
    command.args(["demo", "--json"]).args(arguments);
    Ok(command)
}

fn start(mut command: Command) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().context("the demo can't be started")
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = child.id().context("it has ended")?;
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
}

/// Waits until the demo has two instances beside those of an earlier one.
async fn instances_beside(earlier: &[String]) -> Result<()> {
    let new = |name: &&String| name.starts_with("sluice_demo-demo-") && !earlier.contains(name);
    let waiting = async {
        while namespaces()?.iter().filter(new).count() < 2 {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs(30), waiting).await.context("the demo makes no instances")?
}

fn namespaces() -> Result<Vec<String>> {
    Ok(Netns::names()?.into_iter().filter(|name| name.starts_with(NAME)).collect())
}

fn nothing_left() -> Result<()> {
    let namespaces = namespaces()?;
    ensure!(namespaces.is_empty(), "left: {namespaces:?}");
    for path in ["/run/sluice-worlds/sluice_demo", "/sys/fs/bpf/sluice_demo", "/run/sluice_demo"] {
        ensure!(!Path::new(path).exists(), "left: {path}");
    }
    Ok(())
}
