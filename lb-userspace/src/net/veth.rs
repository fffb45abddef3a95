//! Pairs of virtual Ethernet links, each end made in its namespace at once.

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::error::LinkError;
use super::link::{Link, Links, MTU, Mark};
use super::mac::MacAddr;

/// One end of a veth.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// The namespace it is in.
    pub links: &'a Links,
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; `None` lets the kernel choose one.
    pub mac: Option<MacAddr>,
    /// The index of the bridge it is a port of. Only for the first end.
    pub master: Option<u32>,
}

impl Links {
    /// Makes a veth, or finds ours, and returns both ends, neither of them set up.
    ///
    /// Both ends are made where they belong by one message, so no half of it is ever in another namespace. What
    /// an earlier attempt left and does not fit (one end alone, or two that are no pair) is made anew; an
    /// interface with another group or alias than the mark's is an error and is not touched.
    pub async fn ensure_veth(
        &self,
        mark: &Mark,
        end: &VethEnd<'_>,
        peer: &VethEnd<'_>,
    ) -> Result<(Link, Link), LinkError> {
        if !self.make_veth(mark, end, peer).await? {
            let here = end.existing(mark).await?;
            let there = peer.existing(mark).await?;
            match (&here, &there) {
                (Some(a), Some(b)) if are_pair(a, b) => {
                    end.repair(a).await?;
                    peer.repair(b).await?;
                }
                _ => {
                    end.links.delete_ours(mark.group, end.name).await?;
                    peer.links.delete_ours(mark.group, peer.name).await?;
                    self.make_veth(mark, end, peer).await?;
                }
            }
        }
        end.links.set_alias(end.name, &mark.alias).await?;
        peer.links.set_alias(peer.name, &mark.alias).await?;
        Ok((end.links.get(end.name).await?, peer.links.get(peer.name).await?))
    }

    /// Whether the pair was made; `false` when one of the names is taken.
    async fn make_veth(&self, mark: &Mark, end: &VethEnd<'_>, peer: &VethEnd<'_>) -> Result<bool, LinkError> {
        let inner = peer.dress(LinkUnspec::new_with_name(peer.name), mark).build();
        let message = end
            .dress(LinkMessageBuilder::<LinkVeth>::new(end.name, peer.name), mark)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inner)))
            .build();
        match self.handle.link().add(message).execute().await {
            Ok(()) => Ok(true),
            Err(error) => match self.error("making veth", end.name, error) {
                error if error.errno() == Some(libc::EEXIST) => Ok(false),
                error => Err(error),
            },
        }
    }
}

impl VethEnd<'_> {
    fn dress<T>(&self, message: LinkMessageBuilder<T>, mark: &Mark) -> LinkMessageBuilder<T> {
        let mut message =
            message.setns_by_fd(self.links.netns().as_fd().as_raw_fd()).mtu(MTU).link_group(mark.group);
        if let Some(mac) = self.mac {
            message = message.address(mac.0.to_vec());
        }
        if let Some(master) = self.master {
            message = message.controller(master);
        }
        message
    }

    /// The end that is there, if any, and it is ours.
    async fn existing(&self, mark: &Mark) -> Result<Option<Link>, LinkError> {
        let found = self.links.find(self.name).await?;
        if let Some(link) = &found {
            self.links.check_ours(mark, "veth", link)?;
        }
        Ok(found)
    }

    /// Makes an end that was found what was asked for.
    async fn repair(&self, found: &Link) -> Result<(), LinkError> {
        if let Some(mac) = self.mac.filter(|mac| found.mac != Some(*mac)) {
            self.links.set_mac(self.name, mac).await?;
        }
        if let Some(master) = self.master.filter(|master| found.master != Some(*master)) {
            self.links.set_master(self.name, master).await?;
        }
        Ok(())
    }
}

fn are_pair(a: &Link, b: &Link) -> bool {
    a.peer == Some(b.index) && b.peer == Some(a.index)
}
