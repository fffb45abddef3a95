//! What may be typed after `sluice lb`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use lb_userspace::service::{ServiceKey, ServiceSelector};

const EXAMPLES: &str = "\
Examples:
  sluice lb services                          what clients address, and what it has counted
  sluice lb backends                          who answers, and the share each has of new flows
  sluice lb tables                            how full the flow table is
  sluice lb flows --client 198.51.100.0/24    whose flow is where
  sluice lb drops                             why packets were dropped
  sluice lb explain 198.51.100.7:40000 45.45.45.45:80/tcp
                                              which backend a packet would go to, and why
  sluice lb watch --service 45.45.45.45:80/tcp --every 100
                                              which backend each hundredth packet goes to, as it happens
";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LbArgs {
    /// Where the data plane is pinned, instead of what the host file says: its `pins`.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(crate) pins: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: LbCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LbCommand {
    /// Show the services: backends, flows, what each has of the flow table, packets, bytes.
    ///
    /// A service may have as many entries of the flow table as its quota says. REFUSED counts flows that weren't
    /// recorded since the quota or the table was full: they may break when the service's backends change.
    Services,
    /// Show the backends: state, the share of each service's new flows, flows, packets, bytes.
    Backends,
    /// Show how full the flow table is. What each service has of it is among `services`.
    Tables,
    /// Show flows that the flow tables know.
    ///
    /// A TCP flow is there from its second packet on. Packets aren't stopped while the tables are read.
    Flows(FlowsArgs),
    /// Show how many packets were dropped, and why.
    Drops(DropsArgs),
    /// Tell which backend a packet would go to, and why.
    ///
    /// The program itself is asked, on copies of all that it would write: nothing is counted and no flow begins. Of TCP
    /// both are told: what becomes of a SYN, and of any other packet of the same flow.
    Explain(ExplainArgs),
    /// Show what becomes of packets, and why, as it happens; until Ctrl-C.
    ///
    /// The uplink's program hands packets to one of the watcher's, which does the same on the same maps, and tells of it: for
    /// as long as the watcher runs, and at no cost before and after. One can watch at a time. The way back, from backends to
    /// clients, isn't shown.
    Watch(WatchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FlowsArgs {
    /// Only of this service, as in 45.45.45.45:80/tcp, or of all services at a VIP.
    #[arg(long)]
    pub(crate) service: Option<ServiceSelector>,
    /// Only of the backend with this address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) backend: Option<IpAddr>,
    /// Only from this client, or from all in a subnet.
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = client)]
    pub(crate) client: Option<IpNet>,
    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DropsArgs {
    /// Reasons without a packet too.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only packets to this service, as in 45.45.45.45:80/tcp, or to this VIP.
    #[arg(long)]
    pub(crate) service: Option<ServiceSelector>,
    /// Only from this client, or from all in a subnet.
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = client)]
    pub(crate) client: Option<IpNet>,
    /// Of the packets that each CPU gets, one in so many.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) every: u32,
    /// End after so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Also packets to addresses that aren't VIPs, which are the kernel's.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The client with its port; for ICMP its address, or with the echo identifier in the port's place.
    #[arg(value_name = "CLIENT", value_parser = client_end)]
    pub(crate) client: ClientEnd,
    /// Where it sends to, as in 45.45.45.45:80/tcp or 45.45.45.45/icmp.
    pub(crate) to: ServiceKey,
}

/// A client, with its port where one was given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientEnd {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
}

fn client_end(text: &str) -> Result<ClientEnd, String> {
    let end = |end: SocketAddr| ClientEnd { address: end.ip(), port: Some(end.port()) };
    let bare = |address| ClientEnd { address, port: None };
    let wrong = || format!("`{text}` is no client: write it as 198.51.100.7:40000 or [2001:db8::7]:40000");
    text.parse().map(end).or_else(|_| text.parse().map(bare)).map_err(|_| wrong())
}

fn client(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("`{text}` is neither an address nor a subnet like 198.51.100.0/24");
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(|_| wrong())
}
