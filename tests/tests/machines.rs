//! Virtual machines behind one address: out and in, a daemon and a libvirtd that are killed, and nothing left. QEMU
//! emulates, so a machine takes its time to boot.

use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::HostSettings;
use sluice_logic::group::InstanceId;
use sluice_northbound::api::{Event, EventKind};
use sluice_tests::{Inventory, Machines, Scene, TenantFile, inventory, links, logs, number, processes_about};
use tokio::time::sleep;

/// Longer than the test: no flow ends in it.
const LIFETIME: RangeInclusive<Duration> = Duration::from_mins(15)..=Duration::from_mins(15);
/// Shorter than a drain: every flow ends in it.
const SHORT: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(4);
/// Some machines boot, on a host with other work.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_serve_drain_and_outlive_daemon_and_libvirtd() -> Result<()> {
    let most = number("SLUICE_MACHINES", 3);
    let machines = Machines::start("slt_vm")?;
    let web = TenantFile::structured("web", 80, 1, most).with(&machines.template());
    let mut scene = open("slt_vm", &machines, &web).await?;
    scene.settled(&web.name(), 1).await?;
    let with_one = counted(&scene, &machines).await?;
    let held = scene.hold(web.vip(), 20, 6, &LIFETIME)?;
    held.open(20, 6).await?;

    scene.scale(&web.name(), most).await?;
    let with_most = counted(&scene, &machines).await?;
    eprintln!("with one: {with_one:?}\nwith {most}: {with_most:?}");
    for kind in ["answers", "backends", "domains", "leases", "links", "volumes"] {
        assert!(with_most[kind] > with_one[kind], "{kind}");
    }
    let serving = scene.in_service(&web.name());
    side_by_side(scene.observer.events(), usize::try_from(most)?)?;
    let arrivals = Arrivals::default();
    let load = scene.load(web.vip(), 15.0, &arrivals)?;
    let brief = scene.hold(web.vip(), 12, 4, &SHORT)?;
    all_answer(&arrivals, &serving).await?;
    all_log(&scene, &serving).await?;

    let launched = scene.observer.count(EventKind::Launch);
    scene.world.kill_daemon()?;
    sleep(Duration::from_secs(2)).await;
    scene.world.start_daemon().await?;
    scene.settled(&web.name(), serving.len()).await?;
    assert_eq!(scene.in_service(&web.name()), serving, "the same instances");
    assert_eq!(scene.observer.count(EventKind::Adopted), serving.len());
    assert_eq!(scene.observer.count(EventKind::Launch), launched, "none was made anew");

    machines.libvirtd.kill_daemon()?;
    sleep(Duration::from_secs(8)).await;
    held.unharmed()?;
    scene.settled(&web.name(), serving.len()).await?;
    assert_eq!(scene.in_service(&web.name()), serving, "the same instances");
    for kind in [EventKind::Terminating, EventKind::InstanceFailed] {
        assert_eq!(scene.observer.count(kind), 0, "{:#?}", scene.observer.events());
    }

    // By a libvirtd that has not made them.
    scene.scale(&web.name(), 1).await?;
    assert_eq!(scene.observer.count(EventKind::Terminated), serving.len() - 1);
    load.stop().await;
    let counts = load.counts();
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{counts:#?} {:#?}", load.failures());
    brief.close(&scene.observer).await?;
    held.close(&scene.observer).await?;
    assert_eq!(counted(&scene, &machines).await?, with_one);
    nothing_left(scene, &machines).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_while_it_scales_machines_is_repaired() -> Result<()> {
    let machines = Machines::start("slt_vmkill")?;
    let web = TenantFile::structured("web", 80, 1, 2).with(&machines.template());
    let mut scene = open("slt_vmkill", &machines, &web).await?;
    scene.settled(&web.name(), 1).await?;
    let held = scene.hold(web.vip(), 10, 4, &LIFETIME)?;
    held.open(10, 4).await?;
    // The making of a machine and the beginning of its boot.
    let span = Duration::from_secs(3);
    scene.kill_while_scaling(&web.name(), [2, 1], span, number("SLUICE_KILLS", 2)).await?;
    held.close(&scene.observer).await?;
    nothing_left(scene, &machines).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_made_is_said_and_the_next_cloud_is_used() -> Result<()> {
    const URI: &str = "qemu+unix:///system?socket=/no/such/socket";
    let machines = Machines::start("slt_vmfault")?;
    let blank = machines.blank_disk("blank.img")?;
    let template = |image: &str, format: &str| {
        format!(
            "template: {{cpus: 1, memory: 64MiB, request_cost: 0s, start_timeout: 15s, netns: {{}}, libvirt: {{image: \
             {image}, format: {format}, shutdown_timeout: 1s}}}}\n"
        )
    };
    let missing =
        TenantFile::structured("missing", 80, 1, 2).with(&template("/no/such/image.qcow2", "qcow2"));
    let mute = TenantFile::structured("mute", 81, 1, 2).with(&template(&blank.display().to_string(), "raw"));
    let others = format!(
        ", {{name: away, provider: libvirt, priority: 5, uri: '{URI}'}}, {{name: spare, provider: netns}}"
    );
    let mut scene = Scene::open("slt_vmfault", &machines.settings(&others), &[&missing, &mute]).await?;
    scene.patience = PATIENCE;
    // What may be on a cloud that is away can't be removed: for the end it has to have left the host file, which the daemon
    // has read.
    let host = fs::read_to_string(scene.world.host_file())?;
    fs::write(scene.world.host_file(), host.replace(&others, ", {name: spare, provider: netns}"))?;
    for (tenant, said) in [(&missing, "/no/such/image.qcow2"), (&mute, "took no connection within")] {
        scene.settled(&tenant.name(), 1).await?;
        let group = scene.group(&tenant.name()).context("the group")?;
        assert_eq!(group.instances[0].cloud.as_str(), "spare");
        let failed = scene.observer.events().iter().find(|event| {
            event.kind == EventKind::InstanceFailed && event.tenant.as_ref() == Some(&tenant.name())
        });
        let message = &failed.context("a failed instance")?.message;
        ensure!(message.contains(said) && message.contains("`machines`"), "{message}");
    }
    let clouds = scene.world.sluice(&["clouds"])?;
    let clouds = String::from_utf8_lossy(&clouds.stdout).into_owned();
    ensure!(clouds.contains("away does not answer") && clouds.contains(URI), "{clouds}");
    nothing_left(scene, &machines).await
}

async fn open(name: &str, machines: &Machines, web: &TenantFile) -> Result<Scene> {
    let settings = HostSettings { syslog: Some("0.0.0.0:514".parse()?), ..machines.settings("") };
    let mut scene = Scene::open(name, &settings, &[web]).await?;
    scene.patience = PATIENCE;
    Ok(scene)
}

/// The last machines were all launched before the first of them served. Prints how long each took.
fn side_by_side(events: &[Event], most: usize) -> Result<()> {
    let of = |kind| {
        let found = events.iter().filter(move |event| event.kind == kind);
        found.filter_map(|event| Some((event.instance.clone()?, event.at)))
    };
    let scaled = events.iter().find(|event| event.kind == EventKind::ManualScale).context("a scale-out")?;
    let later = |(_, at): &(InstanceId, Timestamp)| *at >= scaled.at;
    let launched: Vec<(InstanceId, Timestamp)> = of(EventKind::Launch).filter(later).collect();
    let serving: Vec<(InstanceId, Timestamp)> = of(EventKind::InService).filter(later).collect();
    ensure!(launched.len() == most - 1 && serving.len() == most - 1, "{launched:?} {serving:?}");
    for (id, at) in &serving {
        eprintln!("{id} serves {:.1} s after the scale-out", at.duration_since(scaled.at).as_secs_f64());
    }
    let last_launch = launched.iter().map(|(_, at)| *at).max();
    let first_serving = serving.iter().map(|(_, at)| *at).min();
    ensure!(last_launch < first_serving, "one after the other: {launched:?} {serving:?}");
    Ok(())
}

async fn all_answer(arrivals: &Arrivals, instances: &[InstanceId]) -> Result<()> {
    let waiting = async {
        while !instances.iter().all(|id| arrivals.first_answer(id).is_some()) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    outcome.with_context(|| format!("not all of {instances:?} answer: {:?}", arrivals.flows()))
}

/// Each machine's own log comes over the management network, to where DHCP says.
async fn all_log(scene: &Scene, instances: &[InstanceId]) -> Result<()> {
    let said = |csv: &str, id: &InstanceId| {
        let its_own = format!(",web,{id},198.19.");
        csv.lines().any(|line| line.contains(&its_own) && line.contains(&format!("{id} is up")))
    };
    let mut csv = String::new();
    let waiting = async {
        while !instances.iter().all(|id| said(&csv, id)) {
            sleep(Duration::from_millis(500)).await;
            csv = logs(&scene.world, &["--tenant", "web"])?;
        }
        Ok(())
    };
    let outcome = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    outcome.unwrap_or_else(|_| bail!("not all of {instances:?} have logged:\n{csv}"))
}

async fn counted(scene: &Scene, machines: &Machines) -> Result<Inventory> {
    let mut found = inventory(&scene.world).await?;
    machines.count(&mut found)?;
    Ok(found)
}

/// Takes everything down, and sees that it is so: domains, volumes, taps, leases, map entries, processes.
async fn nothing_left(scene: Scene, machines: &Machines) -> Result<()> {
    let name = scene.world.name().to_owned();
    scene.close().await?;
    machines.empty()?;
    assert_eq!(links(&name).await?, [""; 0], "links");
    let dhcp = processes_about(&format!("/run/{name}/"))?;
    ensure!(dhcp.is_empty(), "left: {dhcp:?}");
    Ok(())
}
