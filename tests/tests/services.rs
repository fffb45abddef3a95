//! What a tenant can say of its services, end to end: UDP, translated ports, and what `sluice lb` shows of them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sluice_demo::world::HostSettings;
use sluice_logic::spec::TenantName;
use sluice_tests::{Scene, lb};

const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 90);

/// The responder listens on port 80, TCP and UDP: clients never address that one.
const TENANT: &str = "\
tenant: dns
networks: [{name: dns-net, subnet: 10.232.90.0/24}]
services:
  - {vip: 198.51.100.90, protocol: icmp}
  - {vip: 198.51.100.90, protocol: udp, ports: {53: 80}, slow_start: 1s}
  - {vip: 198.51.100.90, protocol: tcp, port: 8080, target_port: 80, spread: by_cloud}
template: {cpus: 1, request_cost: 0s}
group: {min: 2, max: 4, buffer_time: 1s, cool_down: 12s}
";

/// A client's UDP flow: the kernel gives it only what comes from where it sends to.
struct Flow(UdpSocket);

impl Flow {
    fn new(scene: &Scene, port: u16) -> Result<Self> {
        let socket = scene.world.network().client().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        socket.connect(SocketAddrV4::new(VIP, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self(socket))
    }

    /// The instance that answers.
    fn ask(&self) -> Result<String> {
        self.0.send(b"who?")?;
        let mut answer = [0; 128];
        let length = self.0.recv(&mut answer).context("no answer")?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let name = answer.strip_suffix(" who?").with_context(|| format!("another answer: {answer}"))?;
        Ok(name.to_owned())
    }
}

/// The body of an HTTP answer.
fn get(scene: &Scene, port: u16) -> Result<String> {
    let mut stream =
        scene.world.network().client().run(|| {
            TcpStream::connect_timeout(&SocketAddrV4::new(VIP, port).into(), Duration::from_secs(5))
        })??;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_flows_and_translated_ports_reach_instances_and_stay_there() -> Result<()> {
    let dns = TenantName::try_from("dns".to_owned())?;
    let mut scene = Scene::open("slt_udp", &HostSettings::default(), &[]).await?;
    scene.world.write_tenant("dns.yml", TENANT)?;
    scene.settled(&dns, 2).await?;
    let flows = (0..40).map(|_| Flow::new(&scene, 53)).collect::<Result<Vec<_>>>()?;
    let owners = flows.iter().map(Flow::ask).collect::<Result<Vec<_>>>()?;
    let serving: BTreeSet<String> = scene.in_service(&dns).iter().map(ToString::to_string).collect();
    assert_eq!(owners.iter().cloned().collect::<BTreeSet<_>>(), serving, "40 flows meet both instances");
    let answered: BTreeSet<String> = (0..40).map(|_| get(&scene, 8080)).collect::<Result<_>>()?;
    assert_eq!(answered, serving);

    looks(&scene, &flows[0], &owners[0])?;

    // Two more, which come up slowly, and one of the first away: no flow moves until its instance is gone.
    scene.scale(&dns, 4).await?;
    let drained = &owners[0];
    let done = scene.world.sluice(&["drain", drained, "--decrement"])?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (flow, owner) in flows.iter().zip(&owners) {
        assert_eq!(&flow.ask()?, owner);
    }
    for _ in 0..40 {
        assert_ne!(&Flow::new(&scene, 53)?.ask()?, drained, "a new flow to a draining instance");
    }
    scene.close().await
}

/// What `sluice lb` shows of them, with the daemon and without.
fn looks(scene: &Scene, flow: &Flow, owner: &str) -> Result<()> {
    let names = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|service| service["service"].as_str().map(str::to_owned)).collect()
    };
    let services = lb(&scene.world, &["services"])?;
    assert_eq!(names(&services), ["198.51.100.90/icmp", "198.51.100.90:8080/tcp", "198.51.100.90:53/udp"]);
    assert_eq!(services[2]["active"], 2);
    let backends = lb(&scene.world, &["backends"])?;
    assert_eq!(backends.as_array().map(Vec::len), Some(2));
    let local = flow.0.local_addr()?;
    let listed = lb(
        &scene.world,
        &["flows", "--service", "198.51.100.90:53/udp", "--client", &local.ip().to_string()],
    )?;
    let listed = listed["flows"].as_array().context("no list")?.clone();
    let mine = listed.iter().find(|listed| listed["client_port"] == local.port()).context("not listed")?;
    let explained = lb(&scene.world, &["explain", &local.to_string(), "198.51.100.90:53/udp"])?;
    assert_eq!(explained[0]["chosen_by"], "flow", "{explained:#}");
    assert_eq!(explained[0]["same_program"], true, "{explained:#}");
    let status = scene.observer.status().context("no status")?;
    let instances = status.tenants.iter().flat_map(|tenant| &tenant.instances);
    let instance =
        instances.into_iter().find(|instance| instance.id.as_str() == owner).context("no instance")?;
    let address = instance.address.to_string();
    assert_eq!(mine["backend"].as_str(), Some(address.as_str()));
    assert_eq!(explained[0]["outcome"]["to"].as_str(), Some(format!("{address}:80").as_str()));
    Ok(())
}
