//! One tenant attacks, from the uplink's link and from an instance of its own; the other holds its connections and
//! pings, its slots move, and none of them breaks, moves or is forgotten. Meanwhile it gets new clients, each of
//! which is served.
//!
//! `SLUICE_FLOOD_SECONDS` is how long each flood takes, 2 by default.

mod flood;
mod inside;
mod newcomers;
mod outside;
mod victim;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flood::Flood;
use lb_userspace::net::Netns;
use newcomers::Newcomers;
use sluice_demo::world::{CLIENT_LINK, HostSettings};
use sluice_logic::spec::TenantName;
use sluice_northbound::api::EventKind;
use sluice_tests::{Scene, Wire, map_memory, number, resident_memory};
use victim::Victim;

const WORLD: &str = "slt_host";
/// The world's uplink, in the transit namespace.
const UPLINK: &str = "up0";
/// The tenant that is attacked. Its policy adds instances when there are more flows than there are in truth.
const VICTIM: &str = "\
tenant: victim
networks: [{name: victim-net, subnet: 10.232.80.0/24}]
services:
  - {vip: 198.51.100.80, protocol: icmp}
  - {vip: 198.51.100.80, protocol: tcp, port: 80}
template: {cpus: 1, request_cost: 0s}
group: {min: 2, max: 8, buffer_time: 1s, cool_down: 1h}
policies:
  - target_tracking: {metric: live_flows, target: 450, window: 2s, disable_scale_in: true}
";
/// The one that attacks, with as many addresses in its network as fill the kernel's table of neighbours four times.
const ATTACKER: &str = "\
tenant: attacker
networks: [{name: attacker-net, subnet: 10.233.0.0/20}]
services:
  - {vip: 198.51.100.81, protocol: icmp}
  - {vip: 198.51.100.81, protocol: tcp, port: 80}
  - {vip: 198.51.100.81, protocol: udp, ports: {53: 80}}
template: {cpus: 1, request_cost: 0s}
group: {min: 1, max: 2, buffer_time: 1s, cool_down: 12s}
";
/// The service of each that TCP connections go to.
const VICTIM_TCP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 80), 80);
const ATTACKER_TCP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 81), 80);

/// Room for the victim's flows in what is guaranteed to its services, and little enough for the floods to fill the rest.
const MAX_FLOWS: u32 = 8_192;
/// The daemon may grow by so much: it keeps samples, decisions and events meanwhile.
const DAEMON_GROWTH: u64 = 48 << 20;
/// The maps may grow by the memory of a full flow table, an entry of which takes this much at most, and by what their
/// other tables were not yet given.
const ENTRY: u64 = 256;
const MAPS_GROWTH: u64 = MAX_FLOWS as u64 * ENTRY + (4 << 20);

/// Both tenants, and the attacker's places.
struct Arena {
    scene: Scene,
    victim: Victim,
    newcomers: Newcomers,
    outside: Wire,
    inside: Wire,
    /// The attacker's instance on the management network.
    managed: Wire,
    /// The namespace of the attacker's instance.
    attacker: Netns,
}

impl Arena {
    async fn open() -> Result<Self> {
        let settings = HostSettings { max_flows: MAX_FLOWS, ..HostSettings::default() };
        let mut scene = Scene::open(WORLD, &settings, &[]).await?;
        route_to_all(scene.world.network().transit())?;
        let (victim, attacker) = (tenant("victim")?, tenant("attacker")?);
        scene.world.write_tenant("victim.yml", VICTIM)?;
        scene.world.write_tenant("attacker.yml", ATTACKER)?;
        scene.settled(&victim, 2).await?;
        scene.settled(&attacker, 1).await?;
        let victim = Victim::hold(&mut scene, victim).await?;
        let outside = Wire::open(scene.world.network().client(), CLIENT_LINK).await?;
        let instance = scene.in_service(&attacker).pop().context("no instance of the attacker")?;
        let netns = Netns::open(&format!("{WORLD}-{instance}"))?;
        let (inside, managed) = (Wire::open(&netns, "eth0").await?, Wire::open(&netns, "eth1").await?);
        let newcomers = Newcomers::arrive(&scene, [victim.name(), &attacker]).await?;
        Ok(Self { scene, victim, newcomers, outside, inside, managed, attacker: netns })
    }

    /// Lets a flood of frames come while slots of the victim move, and looks what has become of it.
    async fn endure(&mut self, flood: Flood, wire: fn(&Self) -> &Wire) -> Result<()> {
        let (name, counted) = (flood.name, flood.counted);
        self.endure_all(name, counted, |arena, time| flood.send(wire(arena), time)).await
    }

    /// The same of whatever `flood` sends in that time; it returns how much that was.
    async fn endure_all(
        &mut self,
        name: &str,
        counted: Option<&str>,
        flood: impl FnOnce(&Self, Duration) -> Result<u64>,
    ) -> Result<()> {
        let before = self.drops(counted)?;
        self.victim.move_slots(&self.scene)?;
        let seconds = Duration::from_secs(number("SLUICE_FLOOD_SECONDS", 2).into());
        let keeping = self.newcomers.keep_new();
        let sent = tokio::task::block_in_place(|| flood(self, seconds))?;
        ensure!(!keeping.is_finished(), "new clients are known already: {:?}", keeping.await);
        keeping.abort();
        self.newcomers.check(seconds).await.with_context(|| format!("after {name}"))?;
        self.victim.check(&mut self.scene).await.with_context(|| format!("after {name}"))?;
        let dropped = self.drops(counted)? - before;
        eprintln!("{name}: {sent} frames, {dropped} counted as {}", counted.unwrap_or("nothing"));
        ensure!(
            counted.is_none() || dropped >= sent / 2,
            "{name}: of {sent} frames {dropped} are counted as {}",
            counted.unwrap_or_default()
        );
        Ok(())
    }

    /// What is counted under a reason; 0 without one.
    fn drops(&self, reason: Option<&str>) -> Result<u64> {
        let counts = victim::look(&self.scene)?.drops()?;
        Ok(counts.iter().filter(|count| Some(count.reason) == reason).map(|count| count.packets).sum())
    }

    /// Of the daemon and of the load balancer's maps, in bytes.
    fn memory(&self) -> Result<(u64, u64)> {
        Ok((resident_memory(&self.scene.world)?, map_memory(&self.scene.world)?))
    }

    async fn close(mut self) -> Result<()> {
        self.scene.observer.look().await?;
        for kind in [EventKind::ScaleOut, EventKind::ScaleIn, EventKind::InstanceFailed] {
            ensure!(self.scene.observer.count(kind) == 0, "{kind:?}: {:#?}", self.scene.observer.events());
        }
        ensure!(self.drops(Some("inconsistent"))? == 0, "tables of the load balancer contradict each other");
        self.newcomers.leave().await?;
        self.victim.close(&self.scene).await?;
        drop((self.outside, self.inside, self.managed, self.attacker));
        self.scene.close().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_flood_of_a_tenant_harms_another() -> Result<()> {
    let room = inside::room_for_neighbours()?;
    let mut arena = Arena::open().await?;
    let (daemon, maps) = arena.memory()?;
    let target = outside::Target::of(&arena).await?;
    for flood in target.floods() {
        arena.endure(flood, |arena| &arena.outside).await?;
    }
    let target = inside::Target::of(&arena)?;
    for flood in target.floods() {
        arena.endure(flood, |arena| &arena.inside).await?;
    }
    for flood in target.managed_floods(arena.managed.mac()) {
        arena.endure(flood, |arena| &arena.managed).await?;
    }
    // Where the daemon can't make room, the kernel's table is too small for what its own kernel is asked for.
    if let Some(room) = inside::room_for_neighbours()? {
        assert!(room >= 1 << 18, "there is room for {room} neighbours");
        let name = "questions of the attacker's kernel, which is the host's";
        arena.endure_all(name, None, |arena, time| inside::ask_for_all(&arena.attacker, time)).await?;
    }
    let (daemon_after, maps_after) = arena.memory()?;
    eprintln!("memory: the daemon {daemon} → {daemon_after}, maps {maps} → {maps_after} bytes");
    assert!(daemon_after < daemon + DAEMON_GROWTH, "the daemon: {daemon} → {daemon_after} bytes");
    assert!(maps_after < maps + MAPS_GROWTH, "maps: {maps} → {maps_after} bytes");
    arena.close().await?;
    assert_eq!(inside::room_for_neighbours()?, room, "the daemon has put it back");
    Ok(())
}

fn tenant(name: &str) -> Result<TenantName> {
    Ok(TenantName::try_from(name.to_owned())?)
}

/// Answers to any source leave by the uplink, as they do on a host with a default route; the clients' namespace drops them.
fn route_to_all(transit: &Netns) -> Result<()> {
    let add = || Command::new("ip").args(["route", "add", "default", "via", "198.51.100.2"]).status();
    ensure!(transit.run(add)??.success(), "no default route");
    Ok(())
}
