//! Namespaces to measure in: a client's, the transit one and a backend's, joined by lanes.
//!
//! ```text
//! client  cl0 ══ up0  transit  slt0 ══ be0  backend
//!         cl1 ══ up1           slt1 ══ be1
//! ```
//!
//! What is compared runs on a lane of its own, all lanes alike, so that nothing is attached or detached between runs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net};
use lb_userspace::lb::{
    FlowTimeouts, Ipv4Subnet, Limits, LoadBalancer, OpenPorts, Settings, TenantLink, provide_bpffs,
};
use lb_userspace::net::{Address, Links, MacAddr, Mark, Netns, VethEnd};
use lb_userspace::service::{Backend, BackendState, Protocol, Reach, Service, ServiceKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

/// Begins the name of everything made here; the process's number follows.
const PREFIX: &str = "slbench-";
/// The namespaces of a bed.
const PARTS: [&str; 3] = ["client", "transit", "backend"];
const BPFFS: &str = "/sys/fs/bpf";
/// How many backends answer for the VIP.
pub(crate) const BACKENDS: u8 = 8;

/// A lane, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane(pub(crate) u8);

impl Lane {
    /// The client's end.
    pub(crate) fn client(self) -> String {
        format!("cl{}", self.0)
    }

    /// The transit namespace's end towards the client.
    pub(crate) fn uplink(self) -> String {
        format!("up{}", self.0)
    }

    /// The transit namespace's end towards the backend.
    pub(crate) fn tenant(self) -> String {
        format!("slt{}", self.0)
    }

    /// The backend's end.
    pub(crate) fn backend(self) -> String {
        format!("be{}", self.0)
    }

    /// What clients address (RFC 5737).
    pub(crate) fn vip(self) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, self.0)
    }

    /// An address on the client's side; benchmarks have 198.18.0.0/15 for themselves (RFC 2544, C.2.2).
    pub(crate) fn client_address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, last)
    }

    /// An address on the backend's side: 1 is the gateway.
    fn tenant_address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.0, last)
    }

    /// The backends.
    pub(crate) fn backend_addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (0..BACKENDS).map(move |place| self.tenant_address(2 + place))
    }

    /// One of them.
    pub(crate) fn first_backend(self) -> Ipv4Addr {
        self.tenant_address(2)
    }

    /// The MAC address of the uplink.
    pub(crate) fn uplink_mac(self) -> MacAddr {
        MacAddr([0x02, 0x51, 0xbe, self.0, 0, 1])
    }

    fn tenant_mac(self) -> MacAddr {
        MacAddr([0x02, 0x51, 0xbe, self.0, 0, 2])
    }

    fn backend_mac(self) -> MacAddr {
        MacAddr([0x02, 0x51, 0xbe, self.0, 0, 3])
    }
}

/// The three namespaces; removed when dropped, and the load balancer's pins with them.
pub(crate) struct Bed {
    name: String,
    pub(crate) client: Netns,
    pub(crate) transit: Netns,
    pub(crate) backend: Netns,
}

impl Bed {
    /// Makes the namespaces and so many lanes.
    pub(crate) fn new(runtime: &Runtime, lanes: u8) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let netns = |part: &str| {
            let name = format!("{name}-{part}");
            Netns::create(&name).with_context(|| format!("cannot make the network namespace {name}"))
        };
        let (client, transit, backend) = (netns("client")?, netns("transit")?, netns("backend")?);
        let bed = Self { name, client, transit, backend };
        bed.transit.set_sysctl("ipv4/ip_forward", "1")?;
        bed.transit.set_sysctl("ipv4/conf/all/rp_filter", "0")?;
        for netns in [&bed.client, &bed.transit, &bed.backend] {
            without_ipv6(netns)?;
        }
        runtime.block_on(async {
            let ends = [Links::open(&bed.client)?, Links::open(&bed.transit)?, Links::open(&bed.backend)?];
            for number in 0..lanes {
                bed.make_lane(Lane(number), &ends).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(bed)
    }

    async fn make_lane(&self, lane: Lane, [client, transit, backend]: &[Links; 3]) -> Result<()> {
        let mark = Mark { group: 0x51be, alias: format!("{} benchmark", self.name) };
        let end = |links, name, mac| VethEnd { links, name, mac, master: None };
        let (cl, up, slt, be) = (lane.client(), lane.uplink(), lane.tenant(), lane.backend());
        transit
            .ensure_veth(&mark, &end(transit, &up, Some(lane.uplink_mac())), &end(client, &cl, None))
            .await?;
        let tenant = end(transit, &slt, Some(lane.tenant_mac()));
        transit.ensure_veth(&mark, &tenant, &end(backend, &be, Some(lane.backend_mac()))).await?;
        for (links, name) in [(client, &cl), (transit, &up), (transit, &slt), (backend, &be)] {
            links.set_up(name).await?;
        }
        self.transit.set_sysctl(&format!("ipv4/conf/{up}/rp_filter"), "0")?;
        let addresses = lane.backend_addresses().map(|address| (backend, &be, address));
        let own = [
            (client, &cl, lane.client_address(2)),
            (transit, &up, lane.client_address(1)),
            (transit, &slt, lane.tenant_address(1)),
        ];
        for (links, name, address) in own.into_iter().chain(addresses) {
            links.add_address(name, &Address { net: IpNet::V4(within(address)?), protocol: 0 }).await?;
        }
        let gateway = lane.client_address(1);
        client.set_neighbour(&cl, IpAddr::V4(gateway), lane.uplink_mac()).await?;
        client.set_route(&cl, Ipv4Net::new(lane.vip(), 32)?, gateway).await?;
        client.set_route(&cl, Ipv4Net::new(lane.tenant_address(0), 24)?, gateway).await?;
        backend.set_route(&be, Ipv4Net::new(lane.client_address(0), 24)?, lane.tenant_address(1)).await?;
        for address in lane.backend_addresses() {
            transit.set_neighbour(&slt, IpAddr::V4(address), lane.backend_mac()).await?;
        }
        Ok(())
    }

    /// The index of an interface of one of the namespaces.
    pub(crate) fn index(netns: &Netns, interface: &str) -> Result<u32> {
        netns.run(|| nix::net::if_::if_nametoindex(interface))?.with_context(|| format!("no {interface}"))
    }

    /// Where the maps of the load balancer on a lane are pinned.
    pub(crate) fn pins(&self, lane: Lane) -> PathBuf {
        self.pin_root(lane).join(format!("v{}", lb_common::abi::VERSION))
    }

    fn pin_root(&self, lane: Lane) -> PathBuf {
        Path::new(BPFFS).join(&self.name).join(lane.uplink())
    }

    /// Opens a load balancer on a lane's uplink.
    pub(crate) fn load_balancer(&self, lane: Lane, limits: Limits) -> Result<LoadBalancer> {
        let settings = Settings {
            pin_root: self.pin_root(lane),
            transit: self.transit.clone(),
            uplink: lane.uplink(),
            limits,
            timeouts: FlowTimeouts::default(),
            open_ports: OpenPorts::default(),
        };
        provide_bpffs(&settings.pin_root)?;
        Ok(LoadBalancer::open(&settings)?)
    }

    /// Starts the way back on a lane.
    pub(crate) fn attach_tenant(&self, balancer: &mut LoadBalancer, lane: Lane) -> Result<()> {
        Ok(balancer.attach_tenant(&TenantLink {
            interface: lane.tenant(),
            peer: lane.backend(),
            peer_netns: self.backend.clone(),
            ipv4: Some(Ipv4Subnet {
                net: within(lane.tenant_address(0))?,
                gateway: lane.tenant_address(1),
                outbound: false,
            }),
            ipv6: None,
        })?)
    }

    /// Gives a lane's backends to a service.
    pub(crate) fn serve(&self, balancer: &mut LoadBalancer, lane: Lane, key: ServiceKey) -> Result<()> {
        self.apply(balancer, lane, key, |_| BackendState::Active)
    }

    /// As [`serve`](Self::serve), every slot having moved to another backend than its flows had before.
    pub(crate) fn serve_moved(&self, balancer: &mut LoadBalancer, lane: Lane, key: ServiceKey) -> Result<()> {
        let first = |place: u8| place < BACKENDS / 2;
        let half = |is_in: bool| if is_in { BackendState::Active } else { BackendState::Draining };
        self.apply(balancer, lane, key, |place| half(first(place)))?;
        self.apply(balancer, lane, key, |place| half(!first(place)))
    }

    /// A service of so many backends, of which one may be draining. They have no instances behind them.
    pub(crate) fn large_service(
        &self,
        lane: Lane,
        key: ServiceKey,
        backends: u16,
        draining: Option<u16>,
    ) -> Result<Service> {
        let reach = self.reach(lane)?;
        let backend = |number: u16| {
            let [high, low] = number.to_be_bytes();
            let state = if draining == Some(number) { BackendState::Draining } else { BackendState::Active };
            Backend { address: IpAddr::V4(Ipv4Addr::new(198, 19, 128 + high, low)), reach, weight: 1, state }
        };
        Ok(Service { key, target_port: None, closing: false, backends: (0..backends).map(backend).collect() })
    }

    /// How the backends of a lane are reached.
    fn reach(&self, lane: Lane) -> Result<Reach> {
        Ok(Reach::Link {
            interface: Self::index(&self.transit, &lane.tenant())?,
            source_mac: lane.tenant_mac(),
            mac: lane.backend_mac(),
        })
    }

    fn apply(
        &self,
        balancer: &mut LoadBalancer,
        lane: Lane,
        key: ServiceKey,
        state: impl Fn(u8) -> BackendState,
    ) -> Result<()> {
        let reach = self.reach(lane)?;
        let backend = |(place, address)| Backend {
            address: IpAddr::V4(address),
            reach,
            weight: 1,
            state: state(place),
        };
        let backends = (0..BACKENDS).zip(lane.backend_addresses()).map(backend).collect();
        Ok(balancer.apply(&Service { key, target_port: None, closing: false, backends })?)
    }
}

/// The TCP service at an address: of one port, or of all.
pub(crate) fn tcp(vip: Ipv4Addr, port: Option<u16>) -> ServiceKey {
    ServiceKey { vip: IpAddr::V4(vip), protocol: Protocol::Tcp, port }
}

/// The ICMP echo service at an address.
pub(crate) fn icmp(vip: Ipv4Addr) -> ServiceKey {
    ServiceKey { vip: IpAddr::V4(vip), protocol: Protocol::Icmp, port: None }
}

/// IPv6 sends packets of its own when a link comes up, which would be counted.
fn without_ipv6(netns: &Netns) -> Result<()> {
    match netns.set_sysctl("ipv6/conf/default/disable_ipv6", "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => Ok(result?),
    }
}

fn within(address: Ipv4Addr) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(address, 24)?)
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("warning: {error:#}; the next run tries again");
        }
    }
}

/// Removes what carries a bed's name.
fn remove(name: &str) -> Result<()> {
    LoadBalancer::remove_pins(&Path::new(BPFFS).join(name))?;
    for part in PARTS {
        let name = format!("{name}-{part}");
        Netns::delete(&name).with_context(|| format!("cannot remove the network namespace {name}"))?;
    }
    Ok(())
}

/// Removes what a killed run has left: names with the number of a process that is gone.
pub(crate) fn remove_leftovers() -> Result<()> {
    for name in Netns::names()? {
        let Some(bed) = name.rsplit_once('-').map(|(bed, _)| bed) else { continue };
        if process_of(bed).is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            for part in PARTS {
                end_processes(&format!("{bed}-{part}"))?;
            }
            remove(bed)?;
        }
    }
    Ok(())
}

/// Ends what still runs in a namespace of ours, and keeps it alive: the iperf3 of a killed run.
fn end_processes(name: &str) -> Result<()> {
    let Ok(netns) = Netns::open(name) else { return Ok(()) };
    let of = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let namespace = netns.run(|| of(Path::new("/proc/thread-self/ns/net")))?;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if namespace.is_some() && of(&entry.path().join("ns/net")) == namespace {
            // It may just have ended by itself.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// The process that made a bed.
fn process_of(bed: &str) -> Option<&str> {
    bed.strip_prefix(PREFIX)?.split_once('-').map(|(process, _)| process)
}

#[cfg(test)]
mod tests {
    use super::process_of;

    #[test]
    fn a_bed_names_its_process() {
        assert_eq!(process_of("slbench-4711-0"), Some("4711"));
        assert_eq!(process_of("slbed4711-0"), None);
    }
}
