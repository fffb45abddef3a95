//! VIPs beside the host's own addresses and other machines on the link.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_userspace::net::{Address, Links};
use sluice_demo::observer::Observer;
use sluice_demo::traffic::Arrivals;
use sluice_demo::world::{CLIENT_LINK, GATEWAY, HostSettings};
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, TenantFile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A refused VIP is tried again within so long.
const RETRIED: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vip_that_is_the_hosts_own_address_is_refused_and_the_host_goes_on() -> Result<()> {
    let web = TenantFile::new("web", 1, 2, 4);
    assert_eq!(web.vip(), GATEWAY, "this test's tenant asks for the host's address");
    let mut scene = Scene::open("slt_ownvip", &HostSettings::default(), &[]).await?;
    let ssh = scene.world.network().transit().run(|| TcpListener::bind((GATEWAY, 22)))??;
    let session = Session::begin(&scene, ssh.try_clone()?)?;
    scene.world.write_tenant(&web.file(), &web.text())?;
    scene.settled(&web.name(), 2).await?;
    let (problem, checked) = (
        problem(&scene, &web),
        scene.world.sluice(&[
            "check",
            scene.world.host_file().to_str().context("a path")?,
            scene.world.tenant_path(&web.file()).to_str().context("a path")?,
        ])?,
    );
    assert!(problem.contains("198.51.100.1 is an address of the host itself"), "{problem}");
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("of the host itself, on its interface `up0`"), "{said}");
    let connect =
        scene.clients.handle().spawn(timeout(Duration::from_secs(3), TcpStream::connect((GATEWAY, 22))));
    connect.await??.context("the host's own service is cut off")?;
    assert!(session.end().await? > 100, "too few answers to judge by");
    drop(ssh);
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vip_of_another_machine_is_left_to_it_until_it_is_free() -> Result<()> {
    let (web, shop) = (TenantFile::new("web", 80, 2, 4), TenantFile::new("shop", 81, 1, 2));
    let mut scene = Scene::open("slt_takenvip", &HostSettings::default(), &[]).await?;
    let other = Links::open(scene.world.network().client())?;
    let taken = Address { net: "198.51.100.80/32".parse()?, protocol: 0 };
    other.add_address(CLIENT_LINK, &taken).await?;
    let mac = other.get(CLIENT_LINK).await?.mac.context("an Ethernet address")?;
    for tenant in [&web, &shop] {
        scene.world.write_tenant(&tenant.file(), &tenant.text())?;
    }
    scene.settled(&web.name(), 2).await?;
    let refused = |seen: &Observer| {
        let tenants = seen.status().map_or(&[][..], |status| &status.tenants);
        let problems = tenants.iter().filter_map(|tenant| tenant.problem.as_ref());
        problems.into_iter().any(|problem| problem.contains(&mac.to_string()))
    };
    scene.observer.until("a refusal of the VIP with the machine's address", RETRIED, refused).await?;
    assert!(scene.observer.count(EventKind::StepFailed) > 0);
    assert!(!has_vip(&scene, web.vip()).await?, "it was taken from the other machine");
    scene.settled(&shop.name(), 1).await?;
    until_has_vip(&scene, shop.vip()).await.context("another tenant's VIP has to wait")?;

    other.remove_address(CLIENT_LINK, taken.net).await?;
    until_has_vip(&scene, web.vip()).await.context("it is not taken when it is free")?;
    let load = scene.load(web.vip(), 20.0, &Arrivals::default())?;
    sleep(Duration::from_secs(1)).await;
    load.stop().await;
    let counts = load.counts();
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{:#?}", load.failures());
    scene.observer.look().await?;
    assert_eq!(problem(&scene, &web), "");

    // The other machine takes it while no daemon runs: it stays for its flows, and that is said as long as it is so.
    scene.world.kill_daemon()?;
    other.add_address(CLIENT_LINK, &taken).await?;
    scene.client = scene.world.start_daemon().await?;
    scene.observer.until("a VIP that two have", RETRIED, refused).await?;
    assert!(has_vip(&scene, web.vip()).await?, "it was taken from its flows");
    other.remove_address(CLIENT_LINK, taken.net).await?;
    let solved = |seen: &Observer| {
        let tenants = seen.status().map_or(&[][..], |status| &status.tenants);
        !tenants.is_empty() && tenants.iter().all(|tenant| tenant.problem.is_none())
    };
    scene.observer.until("the VIP of one alone", RETRIED, solved).await?;
    scene.close().await
}

/// A connection of a client to a process of the host itself, over which something goes all the time.
struct Session {
    ended: Arc<AtomicBool>,
    client: JoinHandle<Result<usize>>,
}

impl Session {
    fn begin(scene: &Scene, listener: TcpListener) -> Result<Self> {
        let echo = move || {
            let (mut stream, _) = listener.accept()?;
            io::copy(&mut stream.try_clone()?, &mut stream)
        };
        thread::Builder::new().spawn(echo)?;
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = ended.clone();
        let client = scene.clients.handle().spawn(async move {
            let mut stream = TcpStream::connect((GATEWAY, 22)).await?;
            let mut answers = 0;
            while !is_ended.load(Ordering::Relaxed) {
                stream.write_all(b"x").await?;
                stream.read_exact(&mut [0]).await?;
                answers += 1;
                sleep(Duration::from_millis(1)).await;
            }
            Ok(answers)
        });
        Ok(Self { ended, client })
    }

    /// How many answers there were; an error where it was cut.
    async fn end(self) -> Result<usize> {
        self.ended.store(true, Ordering::Relaxed);
        timeout(Duration::from_secs(10), self.client).await??.context("the host's own connection is cut off")
    }
}

fn problem(scene: &Scene, tenant: &TenantFile) -> String {
    let group = scene.group(&tenant.name());
    group.and_then(|group| group.problem.clone()).unwrap_or_default()
}

async fn until_has_vip(scene: &Scene, vip: Ipv4Addr) -> Result<()> {
    let waiting = async {
        while !has_vip(scene, vip).await? {
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    timeout(RETRIED, waiting).await?
}

async fn has_vip(scene: &Scene, vip: Ipv4Addr) -> Result<bool> {
    let addresses = Links::open(scene.world.network().transit())?.all_addresses().await?;
    Ok(addresses.iter().any(|(_, address)| address.net.addr() == vip))
}
