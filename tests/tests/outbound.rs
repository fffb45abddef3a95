//! Instances reach the outside where their tenant asks for it, and nothing else.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::net::{Links, Netns};
use sluice_demo::observer::Observer;
use sluice_demo::traffic::{ClientThread, PingSettings, Pings, Sources};
use sluice_demo::world::HostSettings;
use sluice_northbound::api::{EventKind, InstanceStatus};
use sluice_tests::{Scene, TenantFile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

const WORLD: &str = "slt_out";
const LONG: std::ops::RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_mins(5);
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// Who does not answer within this isn't reached.
const PATIENCE: Duration = Duration::from_secs(2);

/// The uplink's own address.
const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The setting whether it forwards.
const FORWARDING: &str = "ipv4/conf/up0/forwarding";
/// Outside, in the clients' namespace.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 9_000);
/// On this host, in the transit namespace, on every address.
const HOST_PORT: u16 = 9_001;

/// Tells everybody who connects from where, and then echoes.
async fn serve(place: &ClientThread, address: SocketAddrV4) -> Result<()> {
    let listener = place.handle().spawn(TcpListener::bind(address)).await??;
    place.handle().spawn(async move {
        while let Ok((mut stream, from)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(format!("{}\n", from.ip()).as_bytes()).await;
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Ok(())
}

/// A tenant's first instance, seen from inside.
struct Inside {
    thread: ClientThread,
    address: Ipv4Addr,
}

impl Inside {
    fn of(scene: &Scene, tenant: &TenantFile) -> Result<Self> {
        let group = scene.group(&tenant.name()).context("no group")?;
        let InstanceStatus { id, address, .. } = &group.instances[0];
        let netns = Netns::open(&format!("{WORLD}-{id}"))?;
        // Ping sockets are for nobody by default, not even for root.
        netns.set_sysctl("ipv4/ping_group_range", "0 2147483647")?;
        Ok(Self { thread: ClientThread::enter(&netns)?, address: *address })
    }

    async fn connect(&self, address: Ipv4Addr, port: u16) -> Result<Option<TcpStream>> {
        let connect = async move { timeout(PATIENCE, TcpStream::connect((address, port))).await };
        Ok(self.thread.handle().spawn(connect).await?.ok().and_then(Result::ok))
    }

    /// A connection to the server outside, and the address that it comes from.
    async fn outside(&self) -> Result<Option<(TcpStream, String)>> {
        let Some(mut stream) = self.connect(*SERVER.ip(), SERVER.port()).await? else { return Ok(None) };
        let source = line(&mut stream).await?;
        Ok(Some((stream, source)))
    }

    /// Whether a datagram from there to its own address arrives.
    async fn hears(&self, place: &ClientThread) -> Result<bool> {
        let own = SocketAddr::from((self.address, HOST_PORT));
        let receiver = self.thread.handle().spawn(UdpSocket::bind(own)).await??;
        let send = async move { UdpSocket::bind("0.0.0.0:0").await?.send_to(b"x", own).await };
        place.handle().spawn(send).await??;
        Ok(timeout(PATIENCE, receiver.recv(&mut [0; 8])).await.is_ok_and(|read| read.is_ok()))
    }

    /// How many of some pings to the server outside are answered, and how many are lost.
    async fn pings(&self) -> Result<(u64, u64)> {
        let settings = PingSettings {
            target: *SERVER.ip(),
            count: 3,
            lifetime: LONG,
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(1),
            sources: Sources::new([self.address])?,
        };
        let pings = Pings::start(&self.thread, settings);
        sleep(PATIENCE).await;
        pings.stop().await;
        let counts = pings.counts();
        Ok((counts.answered, counts.lost))
    }
}

async fn line(stream: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    while text.last() != Some(&b'\n') {
        text.push(timeout(PATIENCE, stream.read_u8()).await.context("no answer")??);
    }
    Ok(String::from_utf8(text)?.trim().to_owned())
}

async fn echoes(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"hello\n").await?;
    ensure!(line(stream).await? == "hello");
    Ok(())
}

/// Whether the uplink forwards, and the packet filter of the transit namespace.
fn forwarding(scene: &Scene) -> Result<(String, String)> {
    let transit = scene.world.network().transit();
    let filter = transit.run(|| Command::new("nft").args(["list", "ruleset"]).output())??;
    Ok((transit.sysctl(FORWARDING)?, String::from_utf8(filter.stdout)?))
}

/// Waits until that is so.
async fn becomes(scene: &Scene, wanted: &(String, String)) -> Result<()> {
    let waiting = async {
        while forwarding(scene)? != *wanted {
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    let outcome = timeout(SEEN_WITHIN, waiting).await;
    outcome.with_context(|| format!("it is {:?}", forwarding(scene)))?
}

/// Empties the packet filter of the transit namespace, as who loads another one does.
fn flush(scene: &Scene) -> Result<()> {
    let flush = || Command::new("nft").args(["flush", "ruleset"]).status();
    ensure!(scene.world.network().transit().run(flush)??.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_reach_the_outside_where_their_tenant_asks_for_it() -> Result<()> {
    let nat = TenantFile::structured("web", 80, 2, 2).with("outbound: nat\n");
    let shop = TenantFile::structured("shop", 81, 1, 1);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&nat, &shop]).await?;
    scene.settled(&nat.name(), 2).await?;
    scene.settled(&shop.name(), 1).await?;
    let host = ClientThread::enter(scene.world.network().transit())?;
    serve(&scene.clients, SERVER).await?;
    serve(&host, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, HOST_PORT)).await?;
    let (ours, theirs) = (Inside::of(&scene, &nat)?, Inside::of(&scene, &shop)?);

    // What isn't asked for doesn't come in because something else goes out.
    assert!(ours.hears(&host).await?, "the check is blind");
    for instance in [&ours, &theirs] {
        assert!(!instance.hears(&scene.clients).await?, "a client has reached an instance without the VIP");
    }
    // From here on no answer finds its way to an instance's own address: who is answered has another one.
    let nobody = Ipv4Addr::new(198, 51, 100, 66);
    Links::open(scene.world.network().client())?.set_route("cl0", "10.232.0.0/16".parse()?, nobody).await?;

    // Its service has every TCP port, those of its own connections too.
    let held = scene.hold(nat.vip(), 20, 5, &LONG)?;
    held.open(20, 5).await?;
    let (mut stream, source) = ours.outside().await?.context("the outside is out of reach")?;
    assert_eq!(source, UPLINK.to_string());
    echoes(&mut stream).await?;
    let (answered, lost) = ours.pings().await?;
    assert!(answered >= 3 && lost == 0, "{answered} answered, {lost} lost");

    assert!(theirs.outside().await?.is_none(), "without being asked for");
    assert_eq!(theirs.pings().await?.0, 0, "without being asked for");

    let gateway = |third| Ipv4Addr::new(10, 232, third, 1);
    assert!(
        ours.connect(gateway(80), HOST_PORT).await?.is_none(),
        "its own gateway, where that port is not open"
    );
    assert!(ours.connect(theirs.address, 80).await?.is_none(), "another tenant's instance");
    assert!(ours.connect(gateway(81), HOST_PORT).await?.is_none(), "another tenant's gateway");
    for address in [UPLINK, nat.vip(), shop.vip()] {
        assert!(ours.connect(address, HOST_PORT).await?.is_none(), "this host at {address}");
    }
    assert!(theirs.connect(ours.address, 80).await?.is_none(), "from another tenant");

    // A packet filter that somebody loads anew takes nothing away for long.
    let whole = forwarding(&scene)?;
    flush(&scene)?;
    becomes(&scene, &whole).await?;
    echoes(&mut stream).await?;

    scene.world.kill_daemon()?;
    echoes(&mut stream).await?;
    scene.world.start_daemon().await?;
    scene.settled(&nat.name(), 2).await?;
    echoes(&mut stream).await?;
    held.close(&scene.observer).await?;
    drop((stream, ours, theirs, host));
    scene.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_takes_is_there_while_a_tenant_asks_for_it() -> Result<()> {
    let web = TenantFile::structured("web", 80, 1, 2);
    let nat = web.clone().with("outbound: nat\n");
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    // A new namespace forwards where the host does.
    scene.world.network().transit().set_sysctl(FORWARDING, "0")?;
    let before = ("0".to_owned(), String::new());
    assert_eq!(forwarding(&scene)?, before);
    serve(&scene.clients, SERVER).await?;
    let ours = Inside::of(&scene, &web)?;
    let mut whole = before.clone();
    let edits = [(&nat, true), (&web, false), (&nat, true), (&web, false), (&nat, true)];
    for (times, (file, reached)) in (1..).zip(edits) {
        if times == 4 {
            // Somebody removes it just before it is to go.
            flush(&scene)?;
        }
        scene.world.write_tenant(&file.file(), &file.text())?;
        let changed = |seen: &Observer| seen.count(EventKind::TenantChanged) == times;
        scene.observer.until("the change", SEEN_WITHIN, changed).await?;
        // Answered when the round is over that follows the change.
        scene.scale(&web.name(), 1).await?;
        assert_eq!(ours.outside().await?.is_some(), reached);
        let now = forwarding(&scene)?;
        if reached {
            assert!(now.0 == "1" && now.1.contains("masquerade"), "{now:?}");
            whole = now;
        } else {
            assert_eq!(now, before);
        }
    }
    let remains = scene.world.remains().await?;
    assert!(remains.iter().any(|thing| thing.starts_with("table")), "the check is blind: {remains:#?}");
    drop(ours);

    // Nobody sees when it is removed, and then nobody needs it any more.
    scene.world.kill_daemon()?;
    flush(&scene)?;
    scene.world.write_tenant(&web.file(), &web.text())?;
    scene.world.start_daemon().await?;
    becomes(&scene, &before).await?;
    scene.world.write_tenant(&nat.file(), &nat.text())?;
    becomes(&scene, &whole).await?;
    scene.world.kill_daemon()?;
    flush(&scene)?;
    assert_eq!(forwarding(&scene)?.0, "1", "the test is blind");
    scene.world.down()?;
    assert_eq!(forwarding(&scene)?, before);
    scene.close().await
}
