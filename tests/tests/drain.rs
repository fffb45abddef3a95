//! What the clients of an instance hear when it is shut down, and what it is given until then.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use sluice_demo::observer::Observer;
use sluice_demo::report;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::HostSettings;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile, lb};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Of each service, so many connections are idle.
const IDLE: usize = 24;
/// A client hears of the end of its instance within this.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that waits for what comes.
struct Idle {
    /// Who answered it.
    instance: InstanceId,
    /// When and how its connection has ended.
    ended: JoinHandle<(Timestamp, String)>,
}

/// Opens a connection, and learns who is at its other end.
async fn open(vip: Ipv4Addr) -> Result<(InstanceId, BufStream<TcpStream>)> {
    let opened = async {
        let mut stream = BufStream::new(TcpStream::connect(SocketAddrV4::new(vip, 80)).await?);
        stream.write_all(b"hello\n").await?;
        stream.flush().await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        let instance = answer.split_whitespace().next().context("no answer")?;
        Ok((InstanceId::from_label(instance), stream))
    };
    timeout(Duration::from_secs(5), opened).await.context("no answer in time")?
}

async fn idle(vip: Ipv4Addr) -> Result<Idle> {
    let (instance, mut stream) = open(vip).await?;
    let ended = tokio::spawn(async move {
        // What is left of the answer, and then nothing until the end.
        let end = stream.read_to_end(&mut Vec::new()).await;
        (Timestamp::now(), format!("{end:?}"))
    });
    Ok(Idle { instance, ended })
}

/// Connections that say nothing, by the instance that has them.
async fn idlers(scene: &Scene, vip: Ipv4Addr) -> Result<BTreeMap<InstanceId, Vec<Idle>>> {
    let mut by_instance = BTreeMap::<_, Vec<Idle>>::new();
    for _ in 0..IDLE {
        let idle = scene.clients.handle().spawn(idle(vip)).await??;
        by_instance.entry(idle.instance.clone()).or_default().push(idle);
    }
    Ok(by_instance)
}

/// When the instance was told to stop: the load balancer has taken that in by then, or does so at once.
async fn terminating(scene: &mut Scene, id: &InstanceId) -> Result<Timestamp> {
    let found = |seen: &Observer| {
        let is_it = |event: &&sluice_northbound::api::Event| {
            event.kind == EventKind::Terminating && event.instance.as_ref() == Some(id)
        };
        seen.events().iter().find(is_it).map(|event| event.at)
    };
    scene.observer.until(&format!("the end of {id}"), PATIENCE, |seen| found(seen).is_some()).await?;
    found(&scene.observer).context("it is there")
}

/// Each of the clients hears of the end soon after `since`.
async fn all_hear(clients: Vec<Idle>, since: Timestamp, within: Duration) -> Result<()> {
    ensure!(!clients.is_empty(), "nobody to hear it");
    for (nth, client) in clients.into_iter().enumerate() {
        let heard = timeout(2 * within, client.ended).await;
        let (at, end) =
            heard.with_context(|| format!("client {nth} of {} hears nothing", client.instance))??;
        let after = at.duration_since(since);
        ensure!(
            Duration::try_from(after).is_ok_and(|after| after <= within),
            "client {nth}: {end} after {after}"
        );
    }
    Ok(())
}

async fn gone(scene: &mut Scene, tenant: &TenantName, id: &InstanceId) -> Result<()> {
    let is_gone = |seen: &Observer| {
        let group =
            seen.status().and_then(|status| status.tenants.iter().find(|group| group.name == *tenant));
        group.is_none_or(|group| group.instances.iter().all(|instance| instance.id != *id))
    };
    scene.observer.until(&format!("{id} is gone"), PATIENCE, is_gone).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_clients_hear_of_the_end_of_a_cool_down_and_of_a_tenant() -> Result<()> {
    let web = TenantFile::new("web", 80, 1, 2)
        .with("policy: none\nbuffer_time: 1s\ncool_down: 4s\ncpus: 1\nrequest_cost: 0s\n");
    let mut scene = Scene::open("slt_bye", &HostSettings::default(), &[&web]).await?;
    scene.scale(&web.name(), 2).await?;
    let mut clients = idlers(&scene, web.vip()).await?;
    ensure!(clients.len() == 2, "both have some");
    let arrivals = Arrivals::default();
    let load = scene.load(web.vip(), 50.0, &arrivals)?;

    let asked = scene.world.sluice(&["scale", "web", "1"])?;
    ensure!(asked.status.success(), "{asked:?}");
    let drains = |seen: &Observer| seen.drains().len() == 1;
    scene.observer.until("a drain", PATIENCE, drains).await?;
    let leaves = scene.observer.drains().into_keys().next().context("a drain")?;
    let heard = clients.remove(&leaves).context("it has clients")?;
    let since = terminating(&mut scene, &leaves).await?;
    all_hear(heard, since, HEARD_WITHIN).await?;
    gone(&mut scene, &web.name(), &leaves).await?;
    scene.settled(&web.name(), 1).await?;
    load.stop().await;
    ensure!(load.counts().failed == 0, "{:#?}", load.failures());
    ensure!(
        report::strays(&scene.observer, &arrivals) == 0,
        "a flow began at an instance that drains or stops"
    );
    let (stays, others) = clients.pop_first().context("the other instance's")?;
    ensure!(others.iter().all(|client| !client.ended.is_finished()), "no other connection has ended");

    scene.world.remove_tenant(&web.file())?;
    let since = terminating(&mut scene, &stays).await?;
    all_hear(others, since, HEARD_WITHIN).await?;
    gone(&mut scene, &web.name(), &stays).await?;
    scene.close().await
}

/// It takes connections, and answers on them, until it is killed.
const STUBBORN: &str = "tenant: web
networks: [{name: web-net, subnet: 10.232.80.0/24}]
services: [{vip: 198.51.100.80, protocol: tcp}]
group: {min: 1, max: 2, buffer_time: 1s, cool_down: 3s}
template:
  cpus: 1
  stop_timeout: 10s
  netns:
    command: [sh, -c, 'trap \"\" TERM; exec busybox nc -ll -p $SLUICE_PORT -e sh -c \"echo $SLUICE_INSTANCE; exec cat\"']
";

async fn is_answered(stream: &mut BufStream<TcpStream>) -> bool {
    let answered = async {
        stream.write_all(b"still there?\n").await?;
        stream.flush().await?;
        let mut answer = String::new();
        while !answer.ends_with("there?\n") && stream.read_line(&mut answer).await? > 0 {}
        std::io::Result::Ok(answer.ends_with("there?\n"))
    };
    matches!(timeout(Duration::from_secs(1), answered).await, Ok(Ok(true)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stops_keeps_its_flows_and_gets_no_other_also_over_a_crash() -> Result<()> {
    let (web, vip) = (TenantName::try_from("web".to_owned())?, Ipv4Addr::new(198, 51, 100, 80));
    let mut scene = Scene::open("slt_stubborn", &HostSettings::default(), &[]).await?;
    scene.world.write_tenant("web.yml", STUBBORN)?;
    scene.settled(&web, 1).await?;
    let stays = scene.in_service(&web).pop().context("one serves")?;
    scene.scale(&web, 2).await?;
    let leaves = scene.in_service(&web).into_iter().find(|id| *id != stays).context("another one")?;
    let mut clients = idlers(&scene, vip).await?;
    let begun = async || scene.clients.handle().spawn(open(vip)).await?;
    let mut known = loop {
        let (instance, stream) = begun().await?;
        if instance == leaves {
            break stream;
        }
    };

    let asked = scene.world.sluice(&["scale", "web", "1"])?;
    ensure!(asked.status.success(), "{asked:?}");
    let told = terminating(&mut scene, &leaves).await?;
    sleep(Duration::from_millis(500)).await;
    let backends = lb(&scene.world, &["backends"])?;
    let states: Vec<_> = backends.as_array().into_iter().flatten().map(|backend| &backend["state"]).collect();
    ensure!(states.iter().any(|state| **state == "stopping"), "{backends:#}");
    scene.world.kill_daemon()?;
    ensure!(
        is_answered(&mut known).await,
        "a known flow goes on while the instance stops, also without a daemon"
    );
    scene.client = scene.world.start_daemon().await?;
    let killed = told + Duration::from_secs(10);
    let (until, mut rounds) = (Instant::now() + Duration::from_secs(2), 0);
    // A second before, as the last question may take one.
    while Instant::now() < until && Timestamp::now() < killed - SignedDuration::from_secs(1) {
        rounds += 1;
        let (instance, _) = scene.clients.handle().spawn(open(vip)).await??;
        ensure!(instance == stays, "{instance} is stopping, and has a new flow");
        ensure!(is_answered(&mut known).await, "a known flow goes on while the instance stops");
        sleep(Duration::from_millis(50)).await;
    }
    ensure!(
        rounds > 0,
        "the machine is too busy: the daemon took longer to start than the instance has to stop"
    );

    // It is killed when its time is over, which the restart has not put off, and its kernel says so.
    let heard = clients.remove(&leaves).context("it has clients")?;
    for client in heard {
        let (at, end) = timeout(PATIENCE, client.ended).await.context("a client hears nothing")??;
        ensure!(at >= killed - SignedDuration::from_millis(100), "{end} at {at}, before its time was over");
        ensure!(at <= killed + HEARD_WITHIN, "{end} at {at}, and it was killed at {killed}");
    }
    gone(&mut scene, &web, &leaves).await?;
    ensure!(
        clients.values().flatten().all(|client| !client.ended.is_finished()),
        "no other connection has ended"
    );
    ensure!(scene.in_service(&web) == [stays], "the other one serves");
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_clients_hear_when_all_is_taken_down() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 2);
    let mut scene = Scene::open("slt_alldown", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let clients = idlers(&scene, web.vip()).await?;
    let since = Timestamp::now();
    scene.world.down()?;
    for clients in clients.into_values() {
        all_hear(clients, since, PATIENCE).await?;
    }
    scene.close().await
}
