//! Links of one namespace over rtnetlink.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_route::link::{
    BridgePortState, BridgeStpState, InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached as Attached,
};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::error::LinkError;
use super::mac::MacAddr;
use super::netns::Netns;

/// The MTU of every link made here: native XDP on a veth needs frames that fit a page, so no jumbo frames.
pub(super) const MTU: u32 = 1500;

/// The kernel looks at changed carriers within milliseconds, at the worst once a second.
const FORWARDING_PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at a port.
const FORWARDING_POLL: Duration = Duration::from_micros(500);

/// What makes a link recognisable as its maker's.
///
/// The kernel takes the group in the same message that makes the link, so a link is never without it, whatever
/// crashes; the alias follows a moment later, and is for people (`ip link`) and for what a name can't say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The interface group (`ip link show group N`) of all links of one maker; not 0, the group of all others.
    pub group: u32,
    /// The alias, at most 255 bytes.
    pub alias: String,
}

/// What a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ethernet frames.
    Ethernet,
    /// Something else, such as bare IP packets.
    Other,
}

/// How an XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpAttached {
    /// In the driver, or in the hardware.
    Native,
    /// In the network stack.
    Generic,
}

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub index: u32,
    /// Its Ethernet address, if it is an Ethernet link.
    pub mac: Option<MacAddr>,
    /// Its alias.
    pub alias: Option<String>,
    /// `bridge`, `veth`, …; `None` for hardware and `lo`.
    pub kind: Option<String>,
    /// Its group; 0 unless somebody set it.
    pub group: u32,
    /// What its frames are.
    pub framing: Framing,
    /// Whether it is up.
    pub up: bool,
    /// Whether frames can pass: it is up, and so is what it leads to.
    pub carrier: bool,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// The XDP program on it, if there is one.
    pub xdp: Option<XdpAttached>,
    /// The index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Whether it is a bridge's port that carries frames.
    pub forwarding: bool,
    /// The namespace of a veth's other end, by the kernel's number for it in this one; `None` where it is the same.
    pub peer_netns: Option<i32>,
    /// The index of a veth's other end, in that one's namespace.
    pub peer: Option<u32>,
    /// Bytes that have come in by it since it was made.
    pub received: u64,
    /// Bytes that have gone out by it since it was made.
    pub sent: u64,
}

/// The links of one namespace.
///
/// Cheap to clone; all clones share a netlink socket, which a task of the runtime serves until the last clone
/// is dropped. The socket holds the namespace: it does not end before that.
#[derive(Debug, Clone)]
pub struct Links {
    pub(super) handle: rtnetlink::Handle,
    netns: Netns,
    /// Held while something is listed: the kernel refuses to begin a second list on a socket before the first is read
    /// to its end (`EBUSY`, `__netlink_dump_start` in `net/netlink/af_netlink.c`).
    listing: Arc<Mutex<()>>,
}

impl Links {
    /// Opens a netlink socket in the namespace. To be called on a tokio runtime.
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        let runtime = tokio::runtime::Handle::current();
        let connect = || {
            let _entered = runtime.enter();
            rtnetlink::new_connection()
        };
        let (connection, handle, _) = netns
            .run(connect)
            .and_then(std::convert::identity)
            .map_err(|source| LinkError::Socket { netns: netns.to_string(), source })?;
        tokio::spawn(connection);
        Ok(Self { handle, netns: netns.clone(), listing: Arc::default() })
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// All links.
    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let messages = self.collect(|| self.handle.link().get().execute()).await;
        let messages = messages.map_err(|error| self.error("listing", "interfaces", error))?;
        Ok(messages.into_iter().map(Link::from).collect())
    }

    /// All that the kernel lists. `begin` sends the request, so not before its turn.
    pub(super) async fn collect<T, S>(&self, begin: impl FnOnce() -> S) -> Result<Vec<T>, rtnetlink::Error>
    where
        S: Stream<Item = Result<T, rtnetlink::Error>>,
    {
        let _turn = self.listing.lock().await;
        begin().try_collect().await
    }

    /// A link, if there is one of that name.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found {
            Ok(message) => Ok(message.map(Link::from)),
            Err(error) => match self.error("looking for", name, error) {
                error if error.errno() == Some(libc::ENODEV) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// A link that must be there.
    pub async fn get(&self, name: &str) -> Result<Link, LinkError> {
        self.find(name).await?.ok_or_else(|| self.missing(name))
    }

    /// Makes a bridge, not up yet, or finds ours: no spanning tree and no forward delay, so that a port carries
    /// frames at once; ageing as the kernel has it. `mac` keeps its address from changing with its ports.
    pub async fn ensure_bridge(&self, mark: &Mark, name: &str, mac: MacAddr) -> Result<Link, LinkError> {
        let message = LinkMessageBuilder::<LinkBridge>::new(name)
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .address(mac.0.to_vec())
            .mtu(MTU)
            .link_group(mark.group)
            .build();
        match self.handle.link().add(message).execute().await {
            Ok(()) => {}
            Err(error) => match self.error("making bridge", name, error) {
                error if error.errno() == Some(libc::EEXIST) => {
                    self.check_ours(mark, "bridge", &self.get(name).await?)?;
                }
                error => return Err(error),
            },
        }
        self.set_alias(name, &mark.alias).await?;
        self.get(name).await
    }

    /// Sets a link up.
    pub async fn set_up(&self, name: &str) -> Result<(), LinkError> {
        self.change("setting up", name, LinkUnspec::new_with_name(name).up()).await
    }

    /// Makes a link a port of a bridge; 0 makes it free.
    pub async fn set_master(&self, name: &str, bridge: u32) -> Result<(), LinkError> {
        self.change("changing the bridge of", name, LinkUnspec::new_with_name(name).controller(bridge)).await
    }

    /// Seals a bridge's port: what is behind it exchanges frames with ports that are not sealed and with no others, and
    /// sends only from its own Ethernet address. Whatever it does, frames for another address don't come to it.
    pub async fn seal_port(&self, port: &str, mac: MacAddr) -> Result<(), LinkError> {
        const SEALING: &str = "sealing the port";
        let index = self.get(port).await?.index;
        // `bridge fdb replace <mac> dev <port> master static`: what a locked port may send from.
        let entry = self.handle.neighbours().add_bridge(index, &mac.0).replace();
        let entry = entry.state(NeighbourState::Noarp).flags(NeighbourFlags::Controller);
        entry.execute().await.map_err(|error| self.error(SEALING, port, error))?;
        let message = LinkBridgePort::new(index).isolated(true).locked(true).learning(false).build();
        let done = self.handle.link().set_port(message).execute().await;
        done.map_err(|error| self.error(SEALING, port, error))
    }

    /// Waits until a bridge's port carries frames, once both it and its other end are up.
    ///
    /// The kernel tells the bridge of a port's carrier from a work queue. A frame before that is lost, and if it
    /// was the first ARP request, the next one comes a second later.
    pub async fn wait_until_forwarding(&self, port: &str) -> Result<(), LinkError> {
        let deadline = Instant::now() + FORWARDING_PATIENCE;
        while !self.get(port).await?.forwarding {
            if Instant::now() >= deadline {
                return Err(LinkError::NotForwarding {
                    link: port.to_owned(),
                    netns: self.netns.to_string(),
                });
            }
            sleep(FORWARDING_POLL).await;
        }
        Ok(())
    }

    /// Sets a link's alias.
    pub async fn set_alias(&self, name: &str, alias: &str) -> Result<(), LinkError> {
        self.change("setting the alias of", name, LinkUnspec::new_with_name(name).alias(alias)).await
    }

    /// Sets a link's Ethernet address.
    pub async fn set_mac(&self, name: &str, mac: MacAddr) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_name(name).address(mac.0.to_vec());
        self.change("setting the address of", name, message).await
    }

    /// Deletes a link, whoever made it; a veth's other end goes with it. No such link is a success.
    pub async fn delete(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Ok(()) => Ok(()),
            Err(error) => match self.error("deleting", name, error) {
                error if error.errno() == Some(libc::ENODEV) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Deletes a link if it carries the group; a foreign one is an error, none is a success.
    pub async fn delete_ours(&self, group: u32, name: &str) -> Result<(), LinkError> {
        match self.find(name).await? {
            Some(link) if link.group != group => Err(self.foreign(&link)),
            Some(_) => self.delete(name).await,
            None => Ok(()),
        }
    }

    async fn change(
        &self,
        operation: &'static str,
        name: &str,
        message: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), LinkError> {
        let done = self.handle.link().change(message.build()).execute().await;
        done.map_err(|error| self.error(operation, name, error))
    }

    /// A link found under a name of ours must be what we would have made. One of our own with another alias is
    /// a collision of names, and just as much in the way; one without an alias is half made.
    pub(super) fn check_ours(&self, mark: &Mark, kind: &str, link: &Link) -> Result<(), LinkError> {
        let alias = link.alias.as_deref().unwrap_or("");
        let same = link.group == mark.group && (alias.is_empty() || alias == mark.alias);
        if same && link.kind.as_deref() == Some(kind) { Ok(()) } else { Err(self.foreign(link)) }
    }

    fn foreign(&self, link: &Link) -> LinkError {
        let kind = link.kind.as_deref().unwrap_or("hardware");
        let alias = link.alias.as_deref().unwrap_or("");
        LinkError::Foreign {
            link: link.name.clone(),
            netns: self.netns.to_string(),
            found: format!("a {kind} of group {} with alias `{alias}`", link.group),
        }
    }

    pub(super) fn missing(&self, link: &str) -> LinkError {
        LinkError::Missing { link: link.to_owned(), netns: self.netns.to_string() }
    }

    pub(super) fn error(&self, operation: &'static str, link: &str, error: rtnetlink::Error) -> LinkError {
        let (link, netns) = (link.to_owned(), self.netns.to_string());
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                LinkError::Refused { operation, link, netns, source: message.to_io() }
            }
            other => LinkError::Protocol { operation, link, netns, reason: other.to_string() },
        }
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            name: String::new(),
            index: message.header.index,
            mac: None,
            alias: None,
            kind: None,
            group: 0,
            framing: match message.header.link_layer_type {
                LinkLayerType::Ether => Framing::Ethernet,
                _ => Framing::Other,
            },
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            mtu: 0,
            xdp: None,
            master: None,
            forwarding: false,
            peer_netns: None,
            peer: None,
            received: 0,
            sent: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = address.try_into().ok().map(MacAddr),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::LinkInfo(info) => {
                    link.kind = kind_of(&info);
                    link.forwarding = is_forwarding(&info);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Xdp(xdp) => link.xdp = xdp_of(&xdp),
                LinkAttribute::LinkNetNsId(netns) => link.peer_netns = Some(netns),
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::Link(peer) => link.peer = Some(peer),
                LinkAttribute::Stats64(count) => {
                    (link.received, link.sent) = (count.rx_bytes, count.tx_bytes);
                }
                _ => {}
            }
        }
        link
    }
}

fn kind_of(info: &[LinkInfo]) -> Option<String> {
    info.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn xdp_of(xdp: &[LinkXdp]) -> Option<XdpAttached> {
    xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(Attached::None) => None,
        LinkXdp::Attached(Attached::SocketBuffer) => Some(XdpAttached::Generic),
        LinkXdp::Attached(_) => Some(XdpAttached::Native),
        _ => None,
    })
}

fn is_forwarding(info: &[LinkInfo]) -> bool {
    let state = InfoBridgePort::State(BridgePortState::Forwarding);
    info.iter().any(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(port)) => port.contains(&state),
        _ => false,
    })
}
