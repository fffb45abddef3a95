//! What keeps packets from coming in, or answers from leaving, by the uplink, and the command that mends it.
//!
//! Reverse-path filters are not among it: what is balanced never meets them.

use std::collections::BTreeSet;
use std::io;

use lb_userspace::net::{Framing, Link, LinkError, Links, NetnsPath, Offloads, Peer, XdpAttached};

use crate::tags::{self, HiddenTags};

/// The MTU up to which a veth, and most cards, take native XDP without fragments; a page has room for about 3,500 bytes.
const NATIVE_MTU: u32 = 1500;

/// Why an uplink can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// Its namespace's interfaces or routes can't be read.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its offloads can't be read.
    #[error("the offloads of the uplink `{uplink}` can't be read: {source}")]
    Offloads {
        /// The uplink.
        uplink: String,
        /// Why.
        source: io::Error,
    },
}

/// What was found of the uplink at one moment.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// The transit namespace, as commands in it begin.
    pub netns: NetnsPath,
    /// The interface; `None` where there is none of that name.
    pub link: Option<Link>,
    /// The name of the bridge, bond or team that it is a port of.
    pub master: Option<String>,
    /// The interfaces by which the namespace has a default route, by name.
    pub default_routes: BTreeSet<String>,
    /// The other end of a veth, where it is in a namespace of this host.
    pub peer: Option<Peer>,
    /// What hides VLAN tags from the programs.
    pub hidden_tags: Vec<HiddenTags>,
}

/// Something that is wrong with the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkFault {
    /// What, and what that does.
    pub what: String,
    /// What mends it.
    pub way_out: String,
}

impl Uplink {
    /// Looks at an uplink. Nothing is changed.
    pub async fn observe(transit: &Links, netns: NetnsPath, name: &str) -> Result<Self, ObserveError> {
        let links = transit.list().await?;
        let named =
            |index: &u32| links.iter().find(|link| link.index == *index).map(|link| link.name.clone());
        let link = links.iter().find(|link| link.name == name).cloned();
        let routes = transit.default_routes().await?;
        let peer = match &link {
            Some(link) => transit.peer(link).await?,
            None => None,
        };
        let hidden_tags = match &link {
            Some(link) => tags::hidden(transit.netns(), &netns, &links, link, peer.as_ref())
                .map_err(|source| ObserveError::Offloads { uplink: name.to_owned(), source })?,
            None => Vec::new(),
        };
        Ok(Self {
            name: name.to_owned(),
            netns,
            hidden_tags,
            master: link.as_ref().and_then(|link| named(&link.master?)),
            default_routes: routes.interfaces.iter().filter_map(named).collect(),
            link,
            peer,
        })
    }

    /// All that is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<UplinkFault> {
        let Some(link) = &self.link else {
            return vec![fault(
                "there is no such interface: no packet arrives",
                "make it, or name another one as `transit.uplink`",
            )];
        };
        if link.framing != Framing::Ethernet {
            return vec![without_ethernet()];
        }
        let found = [
            self.is_down(link),
            self.is_port(),
            self.is_generic(link),
            self.leaves_checksums(link),
            self.routes_elsewhere(),
            self.hides_tags(),
        ];
        found.into_iter().flatten().collect()
    }

    fn is_down(&self, link: &Link) -> Option<UplinkFault> {
        let (name, netns) = (&self.name, &self.netns);
        if !link.up {
            return Some(fault("it is down: no packet arrives", &format!("`{netns}ip link set {name} up`")));
        }
        (!link.carrier).then(|| {
            fault(
                "it has no carrier: no packet arrives",
                "see to the cable, the switch's port, or the other end of the veth (`ip link`)",
            )
        })
    }

    fn is_port(&self) -> Option<UplinkFault> {
        let (name, netns, master) = (&self.name, &self.netns, self.master.as_ref()?);
        let what =
            format!("it is a port of `{master}`, which has the addresses then: nobody finds a VIP on it");
        Some(fault(
            &what,
            &format!("name `{master}` as `transit.uplink`, or `{netns}ip link set {name} nomaster`"),
        ))
    }

    fn is_generic(&self, link: &Link) -> Option<UplinkFault> {
        const WHAT: &str = "packets go through generic XDP, several times slower, and what arrives in one piece of several \
             segments (GRO, or a veth's segmentation offload) is dropped as `too_long`: uploads stall";
        let (name, netns) = (&self.name, &self.netns);
        if link.xdp != Some(XdpAttached::Generic) {
            return None;
        }
        let mtu = self.peer.as_ref().map_or(link.mtu, |peer| peer.mtu.max(link.mtu));
        if mtu <= NATIVE_MTU {
            let way_out = format!(
                "use a card whose driver has native XDP; until then `{netns}ethtool -K {name} gro off lro off`"
            );
            return Some(fault(&format!("its driver has no native XDP: {WHAT}"), &way_out));
        }
        let shorten = format!("`{netns}ip link set {name} mtu {NATIVE_MTU}`");
        let both = match &self.peer {
            Some(Peer { name, netns, .. }) => {
                format!("{shorten} and `{netns}ip link set {name} mtu {NATIVE_MTU}`")
            }
            None => shorten,
        };
        let what = format!("its MTU of {mtu} leaves no room for native XDP: {WHAT}");
        Some(fault(&what, &format!("{both}, then start the daemon again")))
    }

    /// An XDP frame has no place for "the checksum is still to be made", which is how a veth hands it over.
    fn leaves_checksums(&self, link: &Link) -> Option<UplinkFault> {
        let Peer { name, netns, offloads: Offloads { checksums, .. }, .. } = self.peer.as_ref()?;
        if !checksums || link.xdp == Some(XdpAttached::Generic) {
            return None;
        }
        let what = format!(
            "the other end of the veth, `{name}`, leaves checksums to a card that is not there: pings work, and TCP and UDP \
             from clients behind it are discarded by the instances"
        );
        Some(fault(&what, &format!("`{netns}ethtool -K {name} tx off`")))
    }

    /// Answers leave by the uplink. Where no route does, the kernel takes every client for a neighbour, and asks for it in
    /// vain.
    fn routes_elsewhere(&self) -> Option<UplinkFault> {
        let (name, netns) = (&self.name, &self.netns);
        if self.default_routes.contains(name) {
            return None;
        }
        let other = self.default_routes.first()?;
        let what = format!(
            "the default route is by `{other}` only: answers to clients beyond the uplink's own networks are lost, but for \
             those that a route of their own leads to"
        );
        let way_out = format!(
            "`{netns}ip route add default via ROUTER dev {name} metric 4096`, with the router on that link: answers take it, and \
             everything else the route by `{other}`"
        );
        Some(fault(&what, &way_out))
    }

    /// What can be switched off was, before this is said.
    fn hides_tags(&self) -> Option<UplinkFault> {
        let HiddenTags { interface, netns, offload, .. } = self.hidden_tags.first()?;
        let name = offload.name();
        let what = format!(
            "`{interface}` keeps VLAN tags beside frames, where XDP does not see them (`{name}`), and that could not be switched \
             off: frames of a VLAN are balanced as if they had no tag"
        );
        let way_out = format!(
            "`{netns}ethtool -K {interface} {name} off`; where the driver refuses that, have the switch send \
             frames without tags only, or use another card"
        );
        Some(fault(&what, &way_out))
    }
}

/// What to say of an uplink without Ethernet.
#[must_use]
pub fn without_ethernet() -> UplinkFault {
    fault(
        "it carries no Ethernet frames (a tunnel such as WireGuard, tun or ppp): packets from it can't be balanced",
        "name the Ethernet interface that clients' packets arrive on, or give them a tunnel with Ethernet (VXLAN, GRETAP)",
    )
}

fn fault(what: &str, way_out: &str) -> UplinkFault {
    UplinkFault { what: what.to_owned(), way_out: way_out.to_owned() }
}

#[cfg(test)]
mod tests {
    use lb_userspace::net::TagOffload;

    use super::*;

    fn link() -> Link {
        Link {
            name: "up0".to_owned(),
            index: 2,
            mac: None,
            alias: None,
            kind: Some("veth".to_owned()),
            group: 0,
            framing: Framing::Ethernet,
            up: true,
            carrier: true,
            mtu: 1500,
            xdp: Some(XdpAttached::Native),
            master: None,
            forwarding: false,
            peer_netns: None,
            peer: None,
            received: 0,
            sent: 0,
        }
    }

    fn uplink(link: Link) -> Uplink {
        let offloads = Offloads { checksums: false, segmentation: true };
        let peer = Peer {
            tags: BTreeSet::new(),
            name: "cl0".to_owned(),
            netns: NetnsPath::Name("client".to_owned()),
            mtu: link.mtu,
            offloads,
        };
        Uplink {
            name: "up0".to_owned(),
            netns: NetnsPath::Name("transit".to_owned()),
            link: Some(link),
            master: None,
            default_routes: BTreeSet::new(),
            peer: Some(peer),
            hidden_tags: Vec::new(),
        }
    }

    /// What mends the only fault.
    fn way_out(uplink: &Uplink) -> String {
        let [UplinkFault { way_out, .. }] = &uplink.faults()[..] else { panic!("{:#?}", uplink.faults()) };
        way_out.clone()
    }

    #[test]
    fn an_uplink_that_works_has_no_faults() {
        assert_eq!(uplink(link()).faults(), [], "without a default route it may be for a network of its own");
        let mut routed = uplink(link());
        routed.default_routes = ["mgmt0", "up0"].map(str::to_owned).into();
        assert_eq!(routed.faults(), []);
    }

    #[test]
    fn each_fault_names_the_command_that_mends_it() {
        let gone = Uplink { link: None, ..uplink(link()) };
        assert!(way_out(&gone).contains("transit.uplink"));
        assert!(way_out(&uplink(Link { framing: Framing::Other, ..link() })).contains("VXLAN"));
        assert_eq!(
            way_out(&uplink(Link { up: false, ..link() })),
            "`ip netns exec transit ip link set up0 up`"
        );
        assert!(way_out(&uplink(Link { carrier: false, ..link() })).contains("ip link"));
        let port = Uplink { master: Some("br0".to_owned()), ..uplink(link()) };
        assert!(way_out(&port).contains("`br0`"));
        let jumbo = uplink(Link { mtu: 9000, xdp: Some(XdpAttached::Generic), ..link() });
        assert!(way_out(&jumbo).contains("`ip netns exec client ip link set cl0 mtu 1500`"));
        let mut far = uplink(Link { xdp: Some(XdpAttached::Generic), ..link() });
        far.peer.as_mut().unwrap().mtu = 9000;
        assert!(far.faults()[0].what.contains("its MTU of 9000"), "the longer one of both ends counts");
        let generic = uplink(Link { xdp: Some(XdpAttached::Generic), ..link() });
        assert!(way_out(&generic).contains("ethtool -K up0 gro off"));
        let mut checksums = uplink(link());
        checksums.peer.as_mut().unwrap().offloads.checksums = true;
        assert_eq!(way_out(&checksums), "`ip netns exec client ethtool -K cl0 tx off`");
        let mut tagged = uplink(link());
        tagged.hidden_tags = vec![HiddenTags::on("up0", TagOffload::Received)];
        assert!(way_out(&tagged).starts_with("`ip netns exec transit ethtool -K up0 rx-vlan-hw-parse off`;"));
        let mut routed = uplink(link());
        routed.default_routes = ["mgmt0".to_owned()].into();
        assert!(way_out(&routed).contains("ip route add default via ROUTER dev up0 metric 4096"));
    }
}
