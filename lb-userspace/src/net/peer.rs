//! The other end of a veth, in whatever namespace of this host it is.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt as _;

use futures_util::StreamExt;
use nix::sys::stat::fstat;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::device;
pub use super::device::Offloads;
use super::error::LinkError;
use super::link::{Link, Links};
use super::netns::Netns;
use super::tags::{self, TagOffload};

/// How many processes' namespaces are looked into: the other end of a container's veth is in one without a name.
const MOST_PROCESSES: usize = 4_096;

/// How a person enters a namespace; displayed as what a command begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsPath {
    /// It is that of this process.
    Here,
    /// By its name.
    Name(String),
    /// By a process in it.
    Process(i32),
}

impl fmt::Display for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => Ok(()),
            Self::Name(name) => write!(f, "ip netns exec {name} "),
            Self::Process(pid) => write!(f, "nsenter -t {pid} -n "),
        }
    }
}

/// The other end of a veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The interface.
    pub name: String,
    /// Its namespace.
    pub netns: NetnsPath,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// What it leaves to a card.
    pub offloads: Offloads,
    /// Those of [`TagOffload::SENDING`] that are on.
    pub tags: BTreeSet<TagOffload>,
}

impl Links {
    /// The other end of a veth of this namespace; `None` where the link is no veth, or its other end is in no namespace
    /// that has a name or a process on this host.
    pub async fn peer(&self, link: &Link) -> Result<Option<Peer>, LinkError> {
        let Some(index) = link.peer.filter(|_| link.kind.as_deref() == Some("veth")) else { return Ok(None) };
        let own = fstat(self.netns()).ok().map(|found| found.st_ino);
        let candidates = tokio::task::spawn_blocking(candidates).await.unwrap_or_default();
        for (path, inode) in candidates {
            let Some(netns) = path.open() else { continue };
            let same = match link.peer_netns {
                None => Some(inode) == own,
                Some(number) => self.number_of(&netns).await == Some(number),
            };
            if same {
                return Ok(peer_in(&netns, path, index).await);
            }
        }
        Ok(None)
    }

    /// The kernel's number for a namespace in this one, where it has one (`ip netns list-id`).
    async fn number_of(&self, netns: &Netns) -> Option<i32> {
        let mut question = NsidMessage::default();
        let descriptor = u32::try_from(netns.as_fd().as_raw_fd()).ok()?;
        question.attributes.push(NsidAttribute::Fd(descriptor));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
        message.header.flags = NLM_F_REQUEST;
        let mut answers = self.handle.clone().request(message).ok()?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) = answer.payload {
                return found.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(number) if *number >= 0 => Some(*number),
                    _ => None,
                });
            }
        }
        None
    }
}

impl NetnsPath {
    fn inode(&self) -> Option<u64> {
        let file = match self {
            Self::Here => "/proc/thread-self/ns/net".to_owned(),
            Self::Name(name) => format!("/run/netns/{name}"),
            Self::Process(pid) => format!("/proc/{pid}/ns/net"),
        };
        fs::metadata(file).ok().map(|found| found.ino())
    }

    /// The namespace, where it is still there.
    #[must_use]
    pub fn open(&self) -> Option<Netns> {
        match self {
            Self::Here => Netns::current().ok(),
            Self::Name(name) => Netns::open(name).ok(),
            Self::Process(pid) => Netns::of_process(*pid).ok(),
        }
    }
}

/// Every namespace that can be named to a person, with its inode; by the easiest name.
fn candidates() -> Vec<(NetnsPath, u64)> {
    let names = Netns::names().unwrap_or_default().into_iter().map(NetnsPath::Name);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let processes = pids.map(NetnsPath::Process).take(MOST_PROCESSES);
    let mut seen = BTreeSet::new();
    let paths = std::iter::once(NetnsPath::Here).chain(names).chain(processes);
    let with_inode = |path: NetnsPath| path.inode().map(|inode| (path, inode));
    paths.filter_map(with_inode).filter(|(_, inode)| seen.insert(*inode)).collect()
}

async fn peer_in(netns: &Netns, path: NetnsPath, index: u32) -> Option<Peer> {
    let links = Links::open(netns).ok()?.list().await.ok()?;
    let link = links.into_iter().find(|link| link.index == index)?;
    let read = || Ok((device::offloads(&link.name)?, tags::read(&link.name, &TagOffload::SENDING)?));
    let (offloads, tags) = netns.run(read).and_then(|read: io::Result<_>| read).ok()?;
    Some(Peer { name: link.name, netns: path, mtu: link.mtu, offloads, tags })
}
