//! How an XDP program is attached to a link: the kernel's own word, whatever the daemon believes.

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use lb_userspace::net::Netns;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};
use serde::{Deserialize, Serialize};

/// How an XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver, before a socket buffer is made.
    Native,
    /// In the network stack, which works everywhere and is several times slower.
    Generic,
    /// In the network card, or several of these at once.
    Other,
}

impl XdpMode {
    /// As it is written in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Other => "other",
        }
    }
}

/// How a program is attached to `link`; `None` without one.
pub async fn xdp_mode(netns: &Netns, link: &str) -> Result<Option<XdpMode>> {
    let runtime = tokio::runtime::Handle::current();
    let (connection, handle, _) = netns.run(|| {
        let _entered = runtime.enter();
        rtnetlink::new_connection()
    })??;
    let connection = tokio::spawn(connection);
    let message = handle.link().get().match_name(link.to_owned()).execute().try_next().await?;
    connection.abort();
    let attributes = message.with_context(|| format!("no interface {link}"))?.attributes;
    Ok(attributes.iter().find_map(attached))
}

fn attached(attribute: &LinkAttribute) -> Option<XdpMode> {
    let LinkAttribute::Xdp(xdp) = attribute else { return None };
    xdp.iter().find_map(|part| match part {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(_) => Some(XdpMode::Other),
        _ => None,
    })
}
