//! Central logs and metrics of a tenant's own, from the namespaces of real instances.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_userspace::net::{Links, Netns};
use nix::sys::signal::{Signal, kill};
use sluice_demo::observer::Observer;
use sluice_demo::world::{CLIENT_LINK, GATEWAY, HostSettings, World};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::{Event, EventKind, EventQuery, TenantStatus};
use sluice_tests::frames::{Ends, Macs, udp};
use sluice_tests::{Wire, logs, number, processes_in, sluice};

/// Lines that come each second: as many as the daemon is to take in for a minute, which `SLUICE_LOG_SECONDS` makes of these
/// few.
const RATE: u64 = 10_000;
/// The daemon's address on the management network.
const MANAGER: &str = "198.19.0.1:5514";
const PATIENCE: Duration = Duration::from_secs(40);

fn tenant(name: &str, subnet: u8, more: &str) -> String {
    format!(
        "t_name: {name}\nnw_name: {name}-net\nsubnet: 10.232.{subnet}.0/24\npublic_ip: \
         198.51.100.{subnet}\nmin_instances: 1\nmax_instances: 2\npolicy: none\n{more}"
    )
}

/// Sends lines over TCP, a tenth of a second's at a time.
fn send_lines(gateway: SocketAddr, lines: u64) -> Result<BufWriter<TcpStream>> {
    const BATCH: u64 = RATE / 10;
    let (mut tcp, begin) = (BufWriter::new(TcpStream::connect(gateway)?), Instant::now());
    for number in 0..lines {
        let message = format!("<13>1 2026-11-25T10:00:00Z web app 1 - - line {number}");
        write!(tcp, "{} {message}", message.len())?;
        if number % BATCH == BATCH - 1 {
            tcp.flush()?;
            let due = begin + Duration::from_millis((number + 1) / BATCH * 100);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(tcp)
}

/// Runs in an instance's namespace, which is named after the world and the instance.
fn inside<T: Send>(world: &str, instance: &InstanceId, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let netns = Netns::open(&format!("{world}-{instance}")).context("the instance's namespace")?;
    netns.run(work)?
}

fn instance(seen: &Observer, tenant: &str) -> Option<InstanceId> {
    let found = seen.status()?.tenants.iter().find(|group: &&TenantStatus| group.name.as_str() == tenant)?;
    let serving = found.instances.iter().find(|i| i.state == sluice_logic::group::InstanceState::InService);
    serving.map(|instance| instance.id.clone())
}

/// The last number of an address that a line came from.
fn address(csv: &str, network: &str) -> Result<u8> {
    let (_, rest) = csv.split_once(&format!(",{network}")).context("nothing came from there")?;
    Ok(rest.split(',').next().unwrap_or_default().parse()?)
}

/// Sends syslog from the clients' side to the uplink's own address as if it came from these.
async fn forge(world: &World, sources: &[String]) -> Result<()> {
    let transit = world.network().transit();
    for interface in ["all", "up0"] {
        // Not left to a setting of the host's.
        transit.set_sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    let wire = Wire::open(world.network().client(), CLIENT_LINK).await?;
    let uplink = Links::open(transit)?.get("up0").await?;
    let macs = Macs { source: wire.mac(), destination: uplink.mac.context("no Ethernet")? };
    for source in sources {
        let ends =
            Ends { from: SocketAddrV4::new(source.parse()?, 514), to: SocketAddrV4::new(GATEWAY, 5514) };
        wire.send(&udp(macs, ends, b"<13>not by an instance"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_instances_log_is_kept_by_tenant() -> Result<()> {
    const WORLD: &str = "slt_logs";
    let settings = HostSettings { syslog: Some("0.0.0.0:5514".parse()?), ..HostSettings::default() };
    let mut world = World::create(WORLD, &sluice()?, &settings).await?;
    world.write_tenant("loud.yml", &tenant("loud", 91, ""))?;
    world.write_tenant("quiet.yml", &tenant("quiet", 92, "should_log: 0\n"))?;
    let client = world.start_daemon().await?;
    let mut observer = Observer::new(client.clone()).await?;
    let both = |seen: &Observer| instance(seen, "loud").is_some() && instance(seen, "quiet").is_some();
    observer.until("both instances", PATIENCE, both).await?;
    let loud = instance(&observer, "loud").context("loud")?;
    let quiet = instance(&observer, "quiet").context("quiet")?;

    let (begin, lines) = (Instant::now(), RATE * u64::from(number("SLUICE_LOG_SECONDS", 2)));
    inside(WORLD, &loud, || {
        let gateway: SocketAddr = "10.232.91.1:5514".parse()?;
        let mut tcp = send_lines(gateway, lines)?;
        tcp.write_all(b"no syslog\n")?;
        tcp.flush()?;
        UdpSocket::bind("0.0.0.0:0")?.send_to(b"<11>Oct 11 22:14:15 web app: =1+1", gateway)?;
        TcpStream::connect(MANAGER)?.write_all(b"<11>Oct 11 22:14:16 web app: managed\n")?;
        Ok(())
    })?;
    inside(WORLD, &quiet, || {
        let mut tcp = TcpStream::connect("10.232.92.1:5514")?;
        Ok(tcp.write_all(b"<13>secret\n")?)
    })?;
    let all = |seen: &Observer| {
        let logs = seen.status().and_then(|status| status.logs);
        logs.is_some_and(|logs| logs.kept == lines + 3 && logs.declined == 1)
            && seen.count(EventKind::LogsMalformed) == 1
    };
    observer.until("every line", PATIENCE, all).await?;
    eprintln!("{lines} lines were kept after {:?}", begin.elapsed());
    let count = observer.status().and_then(|status| status.logs).context("logs")?;
    assert_eq!((count.malformed, count.lost, count.unknown, count.refused), (1, 0, 0, 0));

    let csv = logs(&world, &["--tenant", "loud"])?;
    let last = format!("line {},false", lines - 1);
    assert_eq!(
        csv.lines().count() as u64,
        lines + 4,
        "a header, every line, one that is no syslog, one by UDP, one by management"
    );
    assert!(
        csv.contains(&format!(",loud,{loud},198.19.")),
        "the instance is known by its management address"
    );
    assert!(csv.starts_with("received,tenant,instance,from,time,") && csv.contains(&last), "{}", &csv[..400]);
    assert!(csv.contains(&format!(",loud,{loud},10.232.91.")) && csv.contains(",'=1+1,false"), "no formula");
    assert!(csv.contains(",no syslog,true"));
    assert!(!logs(&world, &[])?.contains("secret"), "should_log: 0 keeps nothing");

    forge(
        &world,
        &[
            format!("10.232.91.{}", address(&csv, "10.232.91.")?),
            format!("198.19.0.{}", address(&csv, "198.19.0.")?),
        ],
    )
    .await?;
    inside(WORLD, &loud, || {
        Ok(TcpStream::connect("10.232.91.1:5514")?.write_all(b"<13>after what was forged\n")?)
    })?;
    let after = |seen: &Observer| {
        seen.status().and_then(|status| status.logs).is_some_and(|logs| logs.kept == lines + 4)
    };
    observer.until("a line after the forged ones", PATIENCE, after).await?;
    let csv = logs(&world, &["--tenant", "loud"])?;
    assert!(csv.contains("after what was forged") && !csv.contains("not by an instance"));
    let count = observer.status().and_then(|status| status.logs).context("logs")?;
    assert_eq!(
        count.unknown, 1,
        "of two one comes as far as the listener, where no instance has its address"
    );

    // The end of a daemon, and a kill, leave what was written; it is read without one, too.
    world.kill_daemon()?;
    let config = world.host_file().display().to_string();
    assert_eq!(logs(&world, &["--tenant", "loud", "--config", &config])?, csv);
    world.start_daemon().await?;
    assert_eq!(logs(&world, &["--tenant", "loud"])?, csv);
    // Whoever can reach the new one is known to it.
    inside(WORLD, &loud, || {
        TcpStream::connect(MANAGER)?.write_all(b"<13>to the next daemon\n")?;
        Ok(TcpStream::connect("10.232.91.1:5514")?.write_all(b"<13>to the next daemon\n")?)
    })?;
    let heard =
        |seen: &Observer| seen.status().and_then(|status| status.logs).is_some_and(|logs| logs.kept == 2);
    observer.until("lines for the next daemon", PATIENCE, heard).await?;
    let count = observer.status().and_then(|status| status.logs).context("logs")?;
    assert_eq!((count.lost, count.unknown), (0, 0));
    let remains = world.remove().await?;
    ensure!(remains.is_empty(), "{remains:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_of_an_instance_are_its_tenants() -> Result<()> {
    const WORLD: &str = "slt_words";
    let settings = HostSettings { syslog: Some("0.0.0.0:5514".parse()?), ..HostSettings::default() };
    let mut world = World::create(WORLD, &sluice()?, &settings).await?;
    world.write_tenant("ends.yml", &tenant("ends", 94, ""))?;
    world.write_tenant("grows.yml", &tenant("grows", 95, "should_log: 0\n"))?;
    let client = world.start_daemon().await?;
    let mut observer = Observer::new(client.clone()).await?;
    let both = |seen: &Observer| instance(seen, "ends").is_some() && instance(seen, "grows").is_some();
    observer.until("both instances", PATIENCE, both).await?;
    let ends = instance(&observer, "ends").context("ends")?;

    let processes = processes_in(&format!("{WORLD}-{ends}"))?;
    inside(WORLD, &ends, || {
        UdpSocket::bind("0.0.0.0:0")?.send_to(b"<11>last words by udp", MANAGER)?;
        Ok(TcpStream::connect(MANAGER)?.write_all(b"<11>last words by tcp\n")?)
    })?;
    processes.into_iter().try_for_each(|process| kill(process, Signal::SIGKILL))?;
    let gone = |seen: &Observer| seen.count(EventKind::Terminated) == 1;
    observer.until("the end of the instance", PATIENCE, gone).await?;
    // Its address would be the next one's.
    client.scale(&TenantName::try_from("grows".to_owned())?, 2).await?;
    let kept =
        |seen: &Observer| seen.status().and_then(|status| status.logs).is_some_and(|logs| logs.kept == 2);
    observer.until("its last words", PATIENCE, kept).await?;
    let csv = logs(&world, &["--tenant", "ends"])?;
    for way in ["udp", "tcp"] {
        let line = csv.lines().find(|line| line.contains(&format!("last words by {way}")));
        assert!(line.is_some_and(|line| line.contains(&format!(",ends,{ends},198.19."))), "{csv}");
    }
    let remains = world.remove().await?;
    ensure!(remains.is_empty(), "{remains:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_an_instance_ended_and_what_it_said_are_told() -> Result<()> {
    const WORLD: &str = "slt_said";
    let mut world = World::create(WORLD, &sluice()?, &HostSettings::default()).await?;
    let folder = tempfile::tempdir()?;
    let flag = folder.path().join("end");
    let script = format!(
        "echo at work; {} responder & while ! test -e {}; do sleep .1; done; echo PANIC: out of cheese >&2; kill %1; exit 9",
        sluice()?.display(),
        flag.display()
    );
    world.write_tenant("said.yml", &tenant("said", 97, &format!("command: [bash, -c, \"{script}\"]\n")))?;
    let client = world.start_daemon().await?;
    let mut observer = Observer::new(client).await?;
    observer.until("the instance", PATIENCE, |seen| instance(seen, "said").is_some()).await?;
    let said = instance(&observer, "said").context("said")?;

    // The next daemon is not its parent, and knows all the same.
    world.kill_daemon()?;
    let client = world.start_daemon().await?;
    let mut observer = Observer::new(client.clone()).await?;
    observer.until("the instance", PATIENCE, |seen| instance(seen, "said").is_some()).await?;
    let config = world.host_file().display().to_string();
    let shown = |world: &World| {
        let shown = world.sluice(&["logs", "said", "--instance", said.as_str(), "--config", &config])?;
        anyhow::Ok(String::from_utf8(shown.stdout)?)
    };
    let asked = Instant::now();
    while !shown(&world)?.contains("at work") {
        ensure!(asked.elapsed() < PATIENCE, "what it says is not there while it runs");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fs::write(&flag, "")?;
    observer.until("its end", PATIENCE, |seen| seen.count(EventKind::Terminated) > 0).await?;
    // The next one ends so too, and nothing has come to work since.
    let status = world.sluice(&["status", "said", "--config", &config])?;
    let status = String::from_utf8(status.stdout)?;
    let told = status.lines().find(|line| line.starts_with("failed: "));
    assert!(told.is_some_and(|line| line.contains("exit code 9")), "{status}");
    fs::remove_file(&flag)?;
    let events = client.events(&EventQuery { limit: Some(1_000), ..EventQuery::default() }).await?.events;
    let is_end =
        |event: &&Event| event.kind == EventKind::InstanceFailed && event.instance.as_ref() == Some(&said);
    let failed = events.iter().find(is_end).context("its end is an event")?;
    assert!(failed.message.contains("exit code 9") && failed.message.contains("out of cheese"), "{failed:?}");
    assert_eq!(failed.details["code"], 9, "{failed:?}");
    assert!(failed.details["last_lines"].to_string().contains("out of cheese"), "{failed:?}");

    // With a daemon, and without.
    let text = shown(&world)?;
    assert!(text.contains(said.as_str()) && text.contains("PANIC: out of cheese"), "{text}");
    world.kill_daemon()?;
    assert_eq!(shown(&world)?, text);
    let remains = world.remove().await?;
    ensure!(remains.is_empty(), "{remains:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_may_have_as_many_connections_as_it_can_ask_for() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let stingy = directory.path().join("sluice");
    fs::write(&stingy, format!("#!/bin/sh\nulimit -S -n 512\nexec '{}' \"$@\"\n", sluice()?.display()))?;
    fs::set_permissions(&stingy, fs::Permissions::from_mode(0o755))?;
    let mut world = World::create("slt_files", &stingy, &HostSettings::default()).await?;
    let pid = world.start_daemon().await?.status().await?.daemon.pid;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit")?;
    let mut values = files.split_whitespace();
    let (soft, hard) = (values.next().context("a soft limit")?, values.next().context("a hard limit")?);
    assert!(soft == hard && soft != "512", "{files}");
    let remains = world.remove().await?;
    ensure!(remains.is_empty(), "{remains:?}");
    Ok(())
}

/// Answers each request with that page, in the instance's namespace, at its address on the management network alone.
fn exporter(world: &str, instance: &InstanceId, page: &'static str) -> Result<()> {
    let listener = inside(world, instance, || {
        let shown = Command::new("ip").args(["-4", "-o", "address", "show", "dev", "eth1"]).output()?;
        let shown = String::from_utf8(shown.stdout)?;
        let net = shown.split_whitespace().nth(3).context("it is on the management network")?;
        let (address, _) = net.split_once('/').context("an address with its prefix")?;
        Ok(std::net::TcpListener::bind((address, 9100))?)
    })?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
            let _ = stream.write_all(format!("{head}{page}").as_bytes());
        }
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exporter_in_the_instance_moves_the_group() -> Result<()> {
    const WORLD: &str = "slt_source";
    const TENANT: &str = "\
tenant: busy
networks: [{name: busy_nw, subnet: 10.232.93.0/24}]
services: [{vip: 198.51.100.93, protocol: tcp, port: 80}]
template: {cpus: 1, request_cost: 0s}
group: {min: 1, max: 2, buffer_time: 1s, cool_down: 2s}
metrics:
  - {name: queue, interval: 1s, exporter: {port: 9100, series: queue_length}}
  - {name: hangs, interval: 1s, timeout: 500ms, prometheus: {url: 'http://127.0.0.1:9', query: up}}
policies:
  - reactive: {metric: custom/queue, threshold: 10, window: 1m}
";
    let mut world = World::create(WORLD, &sluice()?, &HostSettings::default()).await?;
    world.write_tenant("busy.yml", TENANT)?;
    let client = world.start_daemon().await?;
    let mut observer = Observer::new(client.clone()).await?;
    observer.until("the instance", PATIENCE, |seen| instance(seen, "busy").is_some()).await?;
    let busy = TenantName::try_from("busy".to_owned())?;

    // Nothing to be had yet: it says so, and decides nothing.
    let problem = |seen: &Observer| {
        let group = seen.status().and_then(|status| status.tenants.first());
        group
            .and_then(|group| group.problem.as_ref())
            .is_some_and(|said| said.contains("queue") && said.contains("hangs"))
    };
    observer.until("both sources' faults", PATIENCE, problem).await?;
    let explained = client.explain(&busy).await?;
    assert_eq!(explained.desired, 1);
    assert!(explained.why_not_more.iter().any(|why| why.contains("queue")));

    let first = instance(&observer, "busy").context("the instance")?;
    exporter(WORLD, &first, "# TYPE queue_length gauge\nqueue_length 20\n")?;
    let grown = |seen: &Observer| seen.status().is_some_and(|status| status.tenants[0].desired == 2);
    observer.until("a second instance", PATIENCE, grown).await?;
    let remains = world.remove().await?;
    ensure!(remains.is_empty(), "{remains:?}");
    Ok(())
}
