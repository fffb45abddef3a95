//! Why networks can't be made, compared or removed.

use std::io;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use lb_userspace::net::{LinkError, MacAddr};
use sluice_logic::spec::VipFault;

use crate::neighbour_table::NeighbourTableError;
use crate::outbound::OutboundError;
use crate::tags::TagError;
use crate::uplink::ObserveError;

/// Why a network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A namespace can't be entered.
    #[error("{what}: {source}")]
    Netns {
        /// Which, and for what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A link is not as it should be.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its addresses are another interface's already.
    #[error(
        "the subnet {subnet} overlaps {there} on the interface `{interface}` of the transit namespace; a network that is \
         being removed goes when no instance is on it any more, anything else needs another subnet"
    )]
    InUse {
        /// The network's addresses.
        subnet: Ipv4Net,
        /// The address that is there.
        there: IpNet,
        /// Whose it is.
        interface: String,
    },
    /// Outbound connections can't be set up or ended.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The uplink can't be looked at.
    #[error(transparent)]
    Uplink(#[from] ObserveError),
    /// What hides VLAN tags can't be switched.
    #[error(transparent)]
    Tags(#[from] TagError),
    /// The kernel's table of neighbours can't be made larger, or what it was.
    #[error(transparent)]
    NeighbourTable(#[from] NeighbourTableError),
    /// There is nothing behind which connections could be masqueraded.
    #[error("outbound connections need an IPv4 address on the uplink `{0}` that is no tenant's VIP")]
    NoSource(String),
    /// An address can't be a VIP on this host.
    #[error("{0}; give the service an address that no machine has")]
    Vip(#[from] VipFault),
    /// Another machine has a VIP.
    #[error(
        "another machine on the link of `{uplink}`, {mac}, answers for {vip}: it is not taken from it; take the address off \
         that machine, or give the service another one"
    )]
    Taken {
        /// The address.
        vip: Ipv4Addr,
        /// The Ethernet address of the machine.
        mac: MacAddr,
        /// The uplink, on whose link the machine is.
        uplink: String,
    },
    /// The link can't be asked who has an address.
    #[error("the link of `{uplink}` can't be asked who has {vip}: {source}")]
    Arp {
        /// The address.
        vip: Ipv4Addr,
        /// The uplink.
        uplink: String,
        /// Why.
        source: io::Error,
    },
    /// The filter of a bridge can't be attached.
    #[error("the filter of `{interface}` can't be attached: {source}")]
    Filter {
        /// The bridge, or an interface on it.
        interface: String,
        /// Why.
        source: Box<lb_userspace::lb::Error>,
    },
    /// A setting of an interface can't be made.
    #[error("network setting: {0}")]
    Setting(#[source] io::Error),
}
