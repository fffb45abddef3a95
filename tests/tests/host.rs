//! What is on the host: all of it goes by `sluice down`, tenants are apart, and what dies is replaced.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_userspace::net::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_demo::report;
use sluice_demo::traffic::{Arrivals, ClientThread, FailureKind};
use sluice_demo::world::HostSettings;
use sluice_logic::group::InstanceId;
use sluice_northbound::api::{EventKind, InstanceStatus};
use sluice_tests::{Scene, TenantFile, processes_in, sluice};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

const LONG: std::ops::RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_removes_all_of_it() -> Result<()> {
    let (web, shop) = (TenantFile::new("web", 80, 2, 5), TenantFile::new("shop", 81, 2, 5));
    let mut scene = Scene::open("slt_down", &HostSettings::default(), &[&web, &shop]).await?;
    scene.settled(&web.name(), 2).await?;
    scene.settled(&shop.name(), 2).await?;
    // Public addresses come last: the link is asked for them first.
    let mut there = scene.world.remains().await?;
    for _ in 0..100 {
        if there.iter().filter(|thing| thing.starts_with("address")).count() == 2 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
        there = scene.world.remains().await?;
    }
    for kind in ["namespace", "link", "/sys/fs/cgroup", "/sys/fs/bpf", "/run", "address"] {
        assert!(
            there.iter().any(|thing| thing.starts_with(kind)),
            "no {kind} in {there:#?}: the check is blind"
        );
    }
    scene.world.down()?;
    assert_eq!(scene.world.remains().await?, Vec::<String>::new());
    // Twice is no fault, nor is a start after it.
    scene.world.down()?;
    scene.world.start_daemon().await?;
    scene.settled(&web.name(), 2).await?;
    // And without a daemon it is the same.
    scene.world.kill_daemon()?;
    scene.world.down()?;
    assert_eq!(scene.world.remains().await?, Vec::<String>::new());
    scene.close().await
}

/// What tenants' instances are given, log and do is not every user's of the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_tenants_is_roots_alone() -> Result<()> {
    let web = TenantFile::new("web", 80, 1, 2);
    let mut scene = Scene::open("slt_private", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    let file = scene.world.tenant_path(&web.file());
    let state = file.ancestors().nth(2).context("a directory")?.join("state");
    let mut directories: Vec<PathBuf> =
        fs::read_dir(state)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    assert!(directories.len() >= 4, "the check is blind: {directories:?}");
    directories.push("/run/slt_private/instances".into());
    for directory in directories {
        let mode = fs::metadata(&directory)?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", directory.display());
    }
    scene.close().await
}

/// What systemd does for a unit with `Type=notify`: a socket of datagrams, named in the environment (`sd_notify(3)`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_told_when_the_daemon_serves_and_when_it_ends() -> Result<()> {
    let mut scene = Scene::open("slt_notify", &HostSettings::default(), &[]).await?;
    scene.world.stop_daemon().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    let mut daemon = Command::new(sluice()?)
        .arg("run")
        .arg("--config")
        .arg(scene.world.host_file())
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    assert_eq!(told(&manager).await?, "READY=1");
    let status = scene.world.client().status().await?;
    assert_eq!(Some(status.daemon.pid), daemon.id());
    kill(Pid::from_raw(status.daemon.pid.cast_signed()), Signal::SIGTERM)?;
    assert_eq!(told(&manager).await?, "STOPPING=1");
    assert!(daemon.wait().await?.success());
    scene.close().await
}

async fn told(manager: &UnixDatagram) -> Result<String> {
    let mut text = [0; 256];
    let length =
        timeout(Duration::from_secs(20), manager.recv(&mut text)).await.context("nothing was said")??;
    Ok(String::from_utf8_lossy(&text[..length]).trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_cannot_reach_one_another() -> Result<()> {
    let (web, shop) = (TenantFile::new("web", 80, 2, 2), TenantFile::new("shop", 81, 1, 1));
    let mut scene = Scene::open("slt_apart", &HostSettings::default(), &[&web, &shop]).await?;
    scene.settled(&web.name(), 2).await?;
    scene.settled(&shop.name(), 1).await?;
    let instances = |scene: &Scene, tenant: &TenantFile| -> Vec<InstanceStatus> {
        scene.group(&tenant.name()).map_or_else(Vec::new, |group| group.instances.clone())
    };
    let (ours, others) = (instances(&scene, &web), instances(&scene, &shop));
    let inside = ClientThread::enter(&Netns::open(&format!("slt_apart-{}", ours[0].id))?)?;
    let can_reach = async |address: IpAddr| -> Result<bool> {
        let connect = timeout(Duration::from_secs(2), TcpStream::connect(SocketAddr::from((address, 80))));
        Ok(matches!(inside.handle().spawn(connect).await?, Ok(Ok(_))))
    };
    assert!(can_reach(ours[1].address.into()).await?, "its neighbour of the same tenant");
    assert!(!can_reach(others[0].address.into()).await?, "another tenant's instance");
    let gateway = IpAddr::from([10, 232, 81, 1]);
    assert!(!can_reach(gateway).await?, "another tenant's gateway");
    drop(inside);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_is_replaced() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 3);
    let mut scene = Scene::open("slt_replace", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let before = scene.in_service(&web.name());
    let victim = &before[0];
    kill_instance("slt_replace", victim)?;
    let gone = |seen: &sluice_demo::observer::Observer| {
        let tenants = seen.status().map_or(&[][..], |status| &status.tenants);
        !tenants.iter().flat_map(|tenant| &tenant.instances).any(|instance| instance.id == *victim)
    };
    scene.observer.until("the end of a killed instance", Duration::from_secs(15), gone).await?;
    scene.settled(&web.name(), 2).await?;
    assert_eq!(scene.observer.count(EventKind::InstanceFailed), 1);
    assert!(scene.in_service(&web.name()).contains(&before[1]), "the other one stays");
    let held = scene.hold(web.vip(), 50, 5, &LONG)?;
    held.open(50, 5).await?;
    held.close(&scene.observer).await?;
    scene.close().await
}

/// Kills all processes of an instance of that world.
fn kill_instance(world: &str, instance: &InstanceId) -> Result<()> {
    let processes = processes_in(&format!("{world}-{instance}"))?;
    assert!(!processes.is_empty(), "no process in the instance");
    processes.into_iter().try_for_each(|pid| Ok(kill(pid, Signal::SIGKILL)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_instance_serves_while_no_other_does() -> Result<()> {
    let web = TenantFile::new("web", 84, 1, 3).with("policy: none\n");
    let mut scene = Scene::open("slt_alone", &HostSettings::default(), &[&web]).await?;
    scene.scale(&web.name(), 2).await?;
    let before = scene.in_service(&web.name());
    // Flows on both: the drain goes on.
    let held = scene.hold(web.vip(), 20, 0, &LONG)?;
    held.open(20, 0).await?;
    let arrivals = Arrivals::default();
    let load = scene.load(web.vip(), 50.0, &arrivals)?;
    let done = scene.world.sluice(&["drain", before[0].as_str(), "--decrement"])?;
    assert!(done.status.success(), "{done:?}");
    // The load balancer's counters are compared from two seconds on.
    let from = Instant::now();
    let drains = |_: &sluice_demo::observer::Observer| from.elapsed() > Duration::from_secs(4);
    scene.observer.until("a drain that is counted", Duration::from_secs(15), drains).await?;
    kill_instance("slt_alone", &before[1])?;
    let serves = |seen: &sluice_demo::observer::Observer| seen.count(EventKind::DrainingServes) == 1;
    scene.observer.until("a draining instance that serves", Duration::from_secs(15), serves).await?;
    let event = scene.observer.events().iter().find(|event| event.kind == EventKind::DrainingServes);
    let event = event.context("no such event")?.clone();
    assert!(event.message.contains(before[0].as_str()), "{event:?}");
    // Without a live flow it ends, once another is in service.
    held.connections.stop().await;
    scene.settled(&web.name(), 1).await?;
    assert!(!scene.in_service(&web.name()).iter().any(|instance| before.contains(instance)));
    assert_eq!(scene.observer.count(EventKind::DrainingServes), 1, "said once");
    load.stop().await;
    let (from, until) = (event.at, scene.observer.drains()[&before[0]]);
    assert!(from < until, "its end is said, too");
    assert!(arrivals.begun_within(&before[0], from, Some(until)) > 0, "it has taken new flows");
    assert_eq!(report::strays(&scene.observer, &arrivals), 0, "but none before and after");
    assert_eq!(scene.observer.new_flows_while_draining(), 0);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nobody_home_tcp_is_refused_and_pings_have_no_answer() -> Result<()> {
    // It runs, but it never listens: it stays pending, and the service has no backend.
    let idle = "policy: none\ncommand: [\"sleep\", \"1000\"]\n";
    let web = TenantFile::new("web", 80, 1, 1).with(idle);
    let mut scene = Scene::open("slt_nobody", &HostSettings::default(), &[&web]).await?;
    let launched = |seen: &sluice_demo::observer::Observer| {
        seen.status().is_some_and(|status| status.tenants.iter().any(|tenant| !tenant.instances.is_empty()))
    };
    scene.observer.until("a pending instance", Duration::from_secs(10), launched).await?;
    let load = scene.load(web.vip(), 20.0, &Arrivals::default())?;
    let held = scene.hold(web.vip(), 0, 5, &LONG)?;
    sleep(Duration::from_secs(4)).await;
    tokio::join!(load.stop(), held.pings.stop());
    let counts = load.counts();
    assert!(counts.sent >= 40, "{counts:#?}");
    assert_eq!(counts.failures.get(&FailureKind::Refused), Some(&counts.sent), "{counts:#?}");
    let pings = held.pings.counts();
    assert_eq!(pings.answered, 0, "{pings:#?}");
    assert!(pings.lost > 0);
    scene.observer.look().await?;
    let drops = scene.observer.status().context("no status")?.drops.clone();
    assert!(!drops.is_empty(), "nothing was counted");
    scene.close().await
}
