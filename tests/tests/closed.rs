//! Clients come by the VIP alone, and instances to no process at their gateway, whatever the host forwards and has open.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::lb::look::Look;
use lb_userspace::net::Netns;
use sluice_demo::world::{CLIENT_LINK, GATEWAY, HostSettings};
use sluice_tests::{Scene, TenantFile};

const WORLD: &str = "slt_closed";
/// Where a process of the transit namespace listens on all addresses.
const PORT: u16 = 2222;
/// Of the instance's network.
const INNER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 232, 80, 1);

/// What is dropped so far, for a reason.
fn dropped(reason: &str) -> Result<u64> {
    let counts = Look::open(&Path::new("/sys/fs/bpf").join(WORLD))?.drops()?;
    Ok(counts.iter().filter(|count| count.reason == reason).map(|count| count.packets).sum())
}

fn is_reached(from: &Netns, address: impl Into<SocketAddr>) -> Result<bool> {
    let address = address.into();
    Ok(from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_by_the_vip_alone_and_instances_to_no_process_at_their_gateway() -> Result<()> {
    let web = TenantFile::new("web", 80, 1, 1);
    let mut scene = Scene::open(WORLD, &HostSettings::default(), &[&web]).await?;
    scene.settled(&web.name(), 1).await?;
    let instance = scene.group(&web.name()).and_then(|group| group.instances.first().cloned());
    let instance = instance.context("no instance")?;
    let network = scene.world.network();
    past_the_vip(network.transit(), network.client(), instance.address)?;
    let inside = Netns::open(&format!("{WORLD}-{}", instance.id))?;
    at_the_gateway(network.transit(), &inside, web.vip())?;
    scene.close().await
}

/// A neighbour on the uplink that knows the way, on a host that forwards.
fn past_the_vip(transit: &Netns, client: &Netns, instance: Ipv4Addr) -> Result<()> {
    transit.set_sysctl("ipv4/ip_forward", "1")?;
    let route = ["route", "add", "10.232.80.0/24", "via", &GATEWAY.to_string(), "dev", CLIENT_LINK];
    ensure!(client.run(|| Command::new("ip").args(route).status())??.success(), "no route");
    let before = dropped("past_vip")?;
    ensure!(!is_reached(client, (instance, 80))?, "an instance is reached by its own address");
    ensure!(dropped("past_vip")? > before, "it is not the load balancer that refuses it");
    Ok(())
}

/// An instance, to what listens on all addresses of the namespace that its gateway is in.
fn at_the_gateway(transit: &Netns, inside: &Netns, vip: Ipv4Addr) -> Result<()> {
    let at_all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let _listener = transit.run(|| TcpListener::bind(at_all))??;
    let socket = transit.run(|| UdpSocket::bind(at_all))??;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let sender = inside.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    for address in [INNER_GATEWAY, GATEWAY, vip] {
        let before = dropped("not_allowed")?;
        ensure!(!is_reached(inside, (address, PORT))?, "{address} is reached");
        sender.send_to(b"x", (address, PORT))?;
        ensure!(socket.recv(&mut [0; 8]).is_err(), "a datagram to {address} arrives");
        ensure!(dropped("not_allowed")? >= before + 2, "to {address}, and not by the load balancer");
    }
    let ping = || Command::new("ping").args(["-c1", "-W2", "-q", &INNER_GATEWAY.to_string()]).output();
    ensure!(inside.run(ping)??.status.success(), "the gateway answers no ping");
    ensure!(is_reached(transit, (INNER_GATEWAY, PORT))?, "it was for want of a listener");
    Ok(())
}
