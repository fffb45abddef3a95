//! VLAN tags that are kept beside a frame: by a card that takes them out of what it receives, or by a veth that does not put
//! them into what it sends. XDP sees such a frame as one without a tag.

use std::collections::BTreeSet;
use std::io;

use super::device::{any_socket, run_ethtool};
use super::netns::Netns;

/// `ETHTOOL_GSTRINGS`, `ETHTOOL_GSSET_INFO`, `ETHTOOL_GFEATURES` and `ETHTOOL_SFEATURES` of `linux/ethtool.h`.
const GET_STRINGS: u32 = 0x1b;
const GET_SET_SIZE: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;

/// `ETH_SS_FEATURES`: the names of features.
const NAMES_OF_FEATURES: u32 = 4;

/// How many features there is room for; Linux 6.18 has 64.
const MOST: usize = 256;
const BLOCKS: usize = MOST / 32;

/// What keeps tags beside frames, as `ethtool -k` lists it: of a VLAN (802.1Q), or of a provider's (802.1ad).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagOffload {
    /// Tags are taken out of what is received.
    Received,
    /// The same, of a provider's tags.
    ReceivedProvider,
    /// Tags are left to the card when something is sent.
    Sent,
    /// The same, of a provider's tags.
    SentProvider,
}

impl TagOffload {
    /// Those that hide tags from who receives by the interface.
    pub const RECEIVING: [Self; 2] = [Self::Received, Self::ReceivedProvider];
    /// Those that hide tags from the other end of a veth.
    pub const SENDING: [Self; 2] = [Self::Sent, Self::SentProvider];

    /// The kernel's name, which `ethtool -K` takes too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "rx-vlan-hw-parse",
            Self::ReceivedProvider => "rx-vlan-stag-hw-parse",
            Self::Sent => "tx-vlan-hw-insert",
            Self::SentProvider => "tx-vlan-stag-hw-insert",
        }
    }

    /// The offload that the kernel calls so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::RECEIVING.into_iter().chain(Self::SENDING).find(|offload| offload.name() == name)
    }
}

impl Netns {
    /// Which of these offloads are on, on an interface of this namespace.
    pub fn tag_offloads(&self, interface: &str, among: &[TagOffload]) -> io::Result<BTreeSet<TagOffload>> {
        self.run(|| read(interface, among))?
    }

    /// Switches an offload on or off. The interface may leave it as it was; [`tag_offloads`](Self::tag_offloads) tells.
    pub fn set_tag_offload(&self, interface: &str, offload: TagOffload, on: bool) -> io::Result<()> {
        self.run(|| set(interface, offload, on))?
    }
}

/// `struct ethtool_sset_info`, with room for one size.
#[repr(C)]
struct SetSize {
    command: u32,
    reserved: u32,
    mask: u64,
    size: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    command: u32,
    set: u32,
    length: u32,
    data: [[u8; 32]; MOST],
}

/// `struct ethtool_get_features_block`: a bit for each of 32 features.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Block {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    command: u32,
    length: u32,
    blocks: [Block; BLOCKS],
}

/// `struct ethtool_set_features_block`: which features change, and what they become.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Change {
    valid: u32,
    requested: u32,
}

/// `struct ethtool_sfeatures`.
#[repr(C)]
struct Changes {
    command: u32,
    length: u32,
    blocks: [Change; BLOCKS],
}

pub(super) fn read(interface: &str, among: &[TagOffload]) -> io::Result<BTreeSet<TagOffload>> {
    let names = names(interface)?;
    let mut features = Features {
        command: GET_FEATURES,
        length: u32::try_from(BLOCKS).map_err(io::Error::other)?,
        blocks: [Block::default(); BLOCKS],
    };
    run_ethtool(&any_socket()?, interface, &mut features)?;
    let is_on = |offload: &TagOffload| {
        place(&names, *offload).is_some_and(|(block, bit)| features.blocks[block].active & bit != 0)
    };
    Ok(among.iter().copied().filter(is_on).collect())
}

fn set(interface: &str, offload: TagOffload, on: bool) -> io::Result<()> {
    let names = names(interface)?;
    // A kernel that doesn't know of it has nothing to change.
    let Some((block, bit)) = place(&names, offload) else { return Ok(()) };
    let mut changes = Changes {
        command: SET_FEATURES,
        length: u32::try_from(names.len().div_ceil(32)).map_err(io::Error::other)?,
        blocks: [Change::default(); BLOCKS],
    };
    changes.blocks[block] = Change { valid: bit, requested: if on { bit } else { 0 } };
    run_ethtool(&any_socket()?, interface, &mut changes)
}

/// The block of a feature, and its bit there.
fn place(names: &[[u8; 32]], offload: TagOffload) -> Option<(usize, u32)> {
    let is_its = |name: &[u8; 32]| name.split(|byte| *byte == 0).next() == Some(offload.name().as_bytes());
    names.iter().position(is_its).map(|place| (place / 32, 1 << (place % 32)))
}

/// The names of the kernel's features, in their order.
fn names(interface: &str) -> io::Result<Vec<[u8; 32]>> {
    let socket = any_socket()?;
    let mut size = SetSize { command: GET_SET_SIZE, reserved: 0, mask: 1 << NAMES_OF_FEATURES, size: 0 };
    run_ethtool(&socket, interface, &mut size)?;
    let length = usize::try_from(size.size).map_err(io::Error::other)?;
    // The kernel writes as many as it has, whatever room there is.
    if length > MOST {
        return Err(io::Error::other(format!(
            "the kernel has {length} features, and there is room for {MOST}"
        )));
    }
    let data = [[0; 32]; MOST];
    let mut answer = Box::new(Strings { command: GET_STRINGS, set: NAMES_OF_FEATURES, length: 0, data });
    run_ethtool(&socket, interface, &mut *answer)?;
    Ok(answer.data[..length].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_found_by_its_whole_name() {
        let name = |text: &str| {
            let mut name = [0; 32];
            name[..text.len()].copy_from_slice(text.as_bytes());
            name
        };
        let mut names = vec![name("rx-vlan-hw-parse-not"); 40];
        assert_eq!(place(&names, TagOffload::Received), None);
        names[33] = name("rx-vlan-hw-parse");
        assert_eq!(place(&names, TagOffload::Received), Some((1, 2)));
        assert_eq!(TagOffload::named("tx-vlan-stag-hw-insert"), Some(TagOffload::SentProvider));
        assert_eq!(TagOffload::named("tx-vlan"), None);
    }

    #[tokio::test]
    async fn offloads_go_off_and_on_again() {
        let name = format!("slnet-tags-{}", std::process::id());
        let netns = Netns::create(&name).expect("a namespace: this test needs root");
        let links = crate::net::Links::open(&netns).expect("netlink");
        let mark = crate::net::Mark { group: 7, alias: "tag test".to_owned() };
        let end = |name| crate::net::VethEnd { links: &links, name, mac: None, master: None };
        links.ensure_veth(&mark, &end("va"), &end("vb")).await.expect("a veth");
        let all = [TagOffload::RECEIVING, TagOffload::SENDING].concat();
        let seen = || netns.tag_offloads("va", &all).expect("read");
        let before = seen();
        netns.set_tag_offload("va", TagOffload::SentProvider, false).expect("off");
        let after = seen();
        netns.set_tag_offload("va", TagOffload::SentProvider, true).expect("on");
        let again = seen();
        let fixed = netns.set_tag_offload("lo", TagOffload::Received, true);
        let of_lo = netns.tag_offloads("lo", &all);
        let unknown = netns.tag_offloads("nope", &all);
        Netns::delete(&name).expect("deleted");
        assert_eq!(before, all.iter().copied().collect(), "a veth has them all");
        assert_eq!(before.difference(&after).collect::<Vec<_>>(), [&TagOffload::SentProvider]);
        assert_eq!(again, before);
        assert!(fixed.is_ok() && of_lo.expect("read").is_empty(), "what can't be changed stays");
        assert!(unknown.is_err());
    }
}
