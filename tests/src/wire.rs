//! Whole frames on an interface.

use std::io;

use anyhow::{Context as _, Result};
use lb_userspace::net::{FrameSender, Links, MacAddr, Netns};

/// Sends frames as they are on one interface of a namespace. It hears nothing.
#[derive(Debug)]
pub struct Wire {
    sender: FrameSender,
    index: u32,
    mac: MacAddr,
}

impl Wire {
    /// Opens the interface.
    pub async fn open(netns: &Netns, interface: &str) -> Result<Self> {
        let links = Links::open(netns)?.list().await?;
        let link = links.into_iter().find(|link| link.name == interface);
        let link = link.with_context(|| format!("no interface {interface}"))?;
        let mac = link.mac.with_context(|| format!("{interface} has no Ethernet address"))?;
        Ok(Self { sender: FrameSender::open(netns)?, index: link.index, mac })
    }

    /// The interface's Ethernet address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Sends a frame. Whether there was room for it.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match self.sender.send(self.index, frame) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            sent => sent.map(|()| true),
        }
    }
}
