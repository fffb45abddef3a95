//! Tenant files are edited, added and removed while the daemon runs.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_demo::observer::Observer;
use sluice_demo::world::HostSettings;
use sluice_logic::spec::TenantName;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile, lb};

const SEEN_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_edit_is_refused_with_its_place_and_the_last_good_one_stays() -> Result<()> {
    let web = TenantFile::new("web", 80, 2, 3);
    let mut scene = Scene::open("slt_edit", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 2).await?;
    let before = scene.in_service(&web.name());

    let bad = web.text().replace("max_instances: 3", "max_instances: 1") + "polcy: none\n";
    scene.world.write_tenant(&web.file(), &bad)?;
    let refused = |seen: &Observer| seen.status().is_some_and(|status| !status.refused.is_empty());
    scene.observer.until("a refusal", SEEN_WITHIN, refused).await?;
    let refusals = scene.observer.status().map(|status| status.refused.clone()).unwrap_or_default();
    let faults = refusals[0].faults.join("\n");
    assert_eq!(refusals[0].tenant, Some(web.name()));
    // Both faults at once, each with line and column: min is on line 5, the unknown key on the last.
    let last_line = bad.lines().count();
    for place in ["web.yml:5:", &format!("web.yml:{last_line}:1")] {
        assert!(faults.contains(place), "no {place} in:\n{faults}");
    }
    assert!(faults.contains("policy"), "no suggestion in:\n{faults}");
    assert_eq!(scene.in_service(&web.name()), before, "the last good one stays in force");
    assert_eq!(scene.observer.count(EventKind::TenantRefused), 1);
    let checked = scene.world.sluice(&["check", &scene.world.tenant_path(&web.file()).to_string_lossy()])?;
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");

    let good = web.text().replace("min_instances: 2", "min_instances: 3");
    scene.world.write_tenant(&web.file(), &good)?;
    scene.settled(&web.name(), 3).await?;
    assert!(
        before.iter().all(|id| scene.in_service(&web.name()).contains(id)),
        "an edit of min replaces nothing"
    );
    assert!(scene.observer.status().is_some_and(|status| status.refused.is_empty()));
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_runs_and_a_deleted_one_leaves_nothing() -> Result<()> {
    let (web, shop) = (TenantFile::new("web", 80, 1, 3), TenantFile::new("shop", 81, 2, 3));
    let mut scene = Scene::open("slt_files", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;

    scene.world.write_tenant(&shop.file(), &shop.text())?;
    scene.settled(&shop.name(), 2).await?;
    let held = scene.hold(shop.vip(), 10, 2, &(Duration::from_mins(1)..=Duration::from_mins(1)))?;
    held.open(10, 2).await?;
    held.close(&scene.observer).await?;

    scene.world.remove_tenant(&shop.file())?;
    let gone = |seen: &Observer| {
        let listed = seen
            .status()
            .is_some_and(|status| status.tenants.iter().any(|tenant| tenant.name == shop.name()));
        !listed && seen.count(EventKind::TenantRemoved) == 1
    };
    scene.observer.until("the tenant's end", Duration::from_secs(40), gone).await?;
    let left: Vec<_> =
        scene.world.remains().await?.into_iter().filter(|thing| thing.contains("shop")).collect();
    assert!(left.is_empty(), "{left:#?}");
    let vip = format!("{}/", shop.vip());
    assert!(!scene.world.remains().await?.iter().any(|thing| thing.contains(&vip)), "its VIP is still there");
    scene.settled(&web.name(), 1).await?;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vip_has_one_tenant() -> Result<()> {
    let (web, thief) = (TenantFile::new("web", 80, 1, 3), TenantFile::new("thief", 80, 1, 3));
    let mut scene = Scene::open("slt_vip", &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    scene.world.write_tenant(&thief.file(), &thief.text())?;
    let refused = |seen: &Observer| seen.status().is_some_and(|status| !status.refused.is_empty());
    scene.observer.until("a refusal", SEEN_WITHIN, refused).await?;
    assert!(scene.group(&thief.name()).is_none());
    scene.settled(&web.name(), 1).await?;
    scene.close().await
}

/// A tenant file with a service of TCP for each (port, target port) at 198.51.100.`vip`, and one instance.
fn exchanging(name: &str, subnet: u8, vip: u8, ports: &[(u16, u16)]) -> String {
    let service = |&(port, target): &(u16, u16)| {
        format!("  - {{vip: 198.51.100.{vip}, protocol: tcp, port: {port}, target_port: {target}}}\n")
    };
    let services: String = ports.iter().map(service).collect();
    format!(
        "tenant: {name}\nnetworks: [{{name: {name}-net, subnet: 10.232.{subnet}.0/24}}]\nservices:\n{services}\
         template: {{cpus: 1, request_cost: 0s}}\ngroup: {{min: 1, max: 3, buffer_time: 1s, cool_down: 5s}}\n"
    )
}

/// Where the load balancer's own program sends a new connection to a port of 198.51.100.`vip`: `10.232.80.2:8081`.
fn target(scene: &Scene, vip: u8, port: u16) -> Result<Option<String>> {
    let service = format!("198.51.100.{vip}:{port}/tcp");
    let explained = lb(&scene.world, &["explain", "198.51.100.9:4711", &service])?;
    Ok(explained[0]["outcome"]["to"].as_str().map(str::to_owned))
}

/// Waits until each (vip, port) leads to where it should.
async fn leads(scene: &Scene, wanted: &[(u8, u16, &str)]) -> Result<()> {
    let deadline = Instant::now() + SEEN_WITHIN;
    loop {
        let found: Vec<_> =
            wanted.iter().map(|&(vip, port, _)| target(scene, vip, port)).collect::<Result<_>>()?;
        if found.iter().zip(wanted).all(|(found, (.., to))| found.as_deref() == Some(*to)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{wanted:?} is not so, but {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_exchanged_come_to_what_the_files_say_in_any_order() -> Result<()> {
    let web = |ports: &[(u16, u16)]| exchanging("web", 80, 80, ports);
    let mut scene = Scene::open("slt_exchange", &HostSettings::default(), &[]).await?;
    scene.world.write_tenant("web.yml", &web(&[(80, 80), (81, 8081)]))?;
    scene.world.write_tenant("shop.yml", &exchanging("shop", 81, 81, &[(80, 80)]))?;
    scene.world.write_tenant("mail.yml", &exchanging("mail", 82, 82, &[(80, 80)]))?;
    let names = ["web", "shop", "mail"].map(|name| TenantName::try_from(name.to_owned()));
    let [web_name, shop, mail] = names.map(|name| name.expect("a good name"));
    for name in [&web_name, &shop, &mail] {
        scene.settled(name, 1).await?;
    }
    leads(&scene, &[(80, 80, "10.232.80.2:80"), (80, 81, "10.232.80.2:8081")]).await?;

    scene.world.write_tenant("web.yml", &web(&[(80, 8081), (81, 80)]))?;
    leads(&scene, &[(80, 80, "10.232.80.2:8081"), (80, 81, "10.232.80.2:80")]).await?;
    // The new one comes first, and takes what another gives up for what a third gives up.
    scene.world.write_tenant("web.yml", &web(&[(443, 8081), (80, 9090), (81, 80)]))?;
    leads(&scene, &[(80, 443, "10.232.80.2:8081"), (80, 80, "10.232.80.2:9090")]).await?;
    scene.world.write_tenant("web.yml", &web(&[(80, 80)]))?;
    leads(&scene, &[(80, 80, "10.232.80.2:80")]).await?;

    // Three tenants pass their VIPs on in a ring, one file at a time: the first two wait for the third.
    let owners = [(80, ["web", "mail"]), (81, ["shop", "web"]), (82, ["mail", "shop"])];
    let asking = ask_on(&scene, &owners);
    scene.world.write_tenant("web.yml", &exchanging("web", 80, 81, &[(80, 80)]))?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.world.write_tenant("shop.yml", &exchanging("shop", 81, 82, &[(80, 80)]))?;
    let two_wait = |seen: &Observer| seen.status().is_some_and(|status| status.refused.len() == 2);
    scene.observer.until("two files that wait", SEEN_WITHIN, two_wait).await?;
    scene.world.write_tenant("mail.yml", &exchanging("mail", 82, 80, &[(80, 80)]))?;
    let ring = [(81, 80, "10.232.80.2:80"), (82, 80, "10.232.81.2:80"), (80, 80, "10.232.82.2:80")];
    leads(&scene, &ring).await?;
    let problems = |seen: &Observer| {
        seen.status().is_some_and(|s| s.refused.is_empty() && s.tenants.iter().all(|t| t.problem.is_none()))
    };
    scene.observer.until("nothing waits", SEEN_WITHIN, problems).await?;

    // A daemon that begins in the middle finds the old services beside the new files.
    scene.world.kill_daemon()?;
    scene.world.write_tenant("web.yml", &exchanging("web", 80, 82, &[(80, 80)]))?;
    scene.world.write_tenant("shop.yml", &exchanging("shop", 81, 81, &[(80, 80)]))?;
    ensure!(asking.stop()? > 20, "too few answers to judge by");
    scene.world.start_daemon().await?;
    leads(&scene, &[(82, 80, "10.232.80.2:80"), (81, 80, "10.232.81.2:80"), ring[2]]).await?;
    scene.scale(&web_name, 2).await?;
    let backends = lb(&scene.world, &["backends"])?;
    assert_eq!(backends.as_array().map(Vec::len), Some(4), "the new instance is known: {backends:#}");
    scene.close().await
}

/// Asks services for who answers, over and over, until it is stopped.
struct Asking {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

/// Asks port 80 of each 198.51.100.`vip`, which only instances of its owners may answer.
fn ask_on(scene: &Scene, owners: &[(u8, [&'static str; 2])]) -> Asking {
    let stopped = Arc::new(AtomicBool::new(false));
    let (client, owners, stop) = (scene.world.network().client().clone(), owners.to_vec(), stopped.clone());
    let thread = thread::spawn(move || {
        let mut answers = 0;
        while !stop.load(Ordering::Relaxed) {
            for (vip, owners) in &owners {
                // While a service goes from one to the other it may have nobody.
                let Ok(name) = client.run(|| who(Ipv4Addr::new(198, 51, 100, *vip)))? else { continue };
                answers += 1;
                ensure!(owners.iter().any(|owner| name.starts_with(owner)), "{name} answers for {vip}");
            }
        }
        Ok(answers)
    });
    Asking { stopped, thread }
}

impl Asking {
    /// How many answers there were; an error where one was of a tenant that may not answer.
    fn stop(self) -> Result<usize> {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the client has panicked"))?
    }
}

/// The instance that answers.
fn who(vip: Ipv4Addr) -> Result<String> {
    let timeout = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&SocketAddrV4::new(vip, 80).into(), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.lines().last().map(str::to_owned).context("an empty answer")
}
