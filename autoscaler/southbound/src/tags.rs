//! VLAN tags that XDP on the uplink would not see.
//!
//! A frame whose tag is kept beside it is to XDP as one without a tag, so it would be balanced. What keeps tags beside frames
//! is therefore switched off: on the uplink, where that is a bond on its ports, and where it is a veth on its other end. The
//! kernel takes a tag out of a frame itself, so VLAN interfaces on the uplink work as before.
//!
//! What was switched off stands in a file of the runtime directory, a line each, until it is switched on again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use lb_userspace::net::{Link, LinkError, Links, Netns, NetnsPath, Peer, TagOffload};

/// Something that hides tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenTags {
    /// The interface that does it.
    pub interface: String,
    /// Its namespace.
    pub netns: NetnsPath,
    /// What is on there.
    pub offload: TagOffload,
    origin: Origin,
}

/// How an interface is found, from the transit namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// It is there, under this name.
    Own(String),
    /// It is the other end of the veth of this name.
    PeerOf(String),
}

/// What was switched off: a line of the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SwitchedOff {
    origin: Origin,
    offload: TagOffload,
}

/// Why tags can't be brought into the frames, or what was switched off for it not on again.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The interfaces can't be listed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The record can't be read or written.
    #[error("{}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An offload can't be switched.
    #[error("{offload} of {interface} can't be switched: {source}")]
    Switch {
        /// The interface.
        interface: String,
        /// The offload, by the kernel's name.
        offload: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A task was cancelled, as only the end of the runtime does.
    #[error("a task has failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// All that hides tags from XDP on an uplink: `links` are those of its namespace, which `netns` names.
pub(crate) fn hidden(
    transit: &Netns,
    netns: &NetnsPath,
    links: &[Link],
    uplink: &Link,
    peer: Option<&Peer>,
) -> io::Result<Vec<HiddenTags>> {
    let mut found = Vec::new();
    for link in std::iter::once(uplink).chain(ports(links, uplink)) {
        let offloads = transit.tag_offloads(&link.name, &TagOffload::RECEIVING)?;
        found.extend(offloads.into_iter().map(|offload| HiddenTags {
            interface: link.name.clone(),
            netns: netns.clone(),
            offload,
            origin: Origin::Own(link.name.clone()),
        }));
    }
    if let Some(Peer { name, netns, tags, .. }) = peer {
        found.extend(tags.iter().map(|&offload| HiddenTags {
            interface: name.clone(),
            netns: netns.clone(),
            offload,
            origin: Origin::PeerOf(uplink.name.clone()),
        }));
    }
    Ok(found)
}

/// The interfaces that receive for a bond or a team. A bridge isn't among those: it has its frames from the kernel, which has
/// taken the tags out.
fn ports<'a>(links: &'a [Link], uplink: &'a Link) -> impl Iterator<Item = &'a Link> {
    let is_joined = matches!(uplink.kind.as_deref(), Some("bond" | "team"));
    links.iter().filter(move |link| is_joined && link.master == Some(uplink.index))
}

/// What a daemon has switched off to see the tags.
#[derive(Debug, Clone)]
pub(crate) struct ShownTags {
    transit: Links,
    record: PathBuf,
}

impl ShownTags {
    /// Those of the namespace that `transit` talks to, with their record in a file whose directory is there while a daemon runs.
    pub(crate) fn new(transit: Links, record: PathBuf) -> Self {
        Self { transit, record }
    }

    /// Switches off what hides tags, as far as the interfaces let it.
    pub(crate) async fn show(&self, hidden: Vec<HiddenTags>) -> Result<(), TagError> {
        let (shown, transit) = (self.clone(), self.transit.netns().clone());
        let work = move || {
            shown.note(&hidden)?;
            for HiddenTags { interface, netns, offload, origin } in &hidden {
                let there = match origin {
                    Origin::Own(_) => Some(transit.clone()),
                    Origin::PeerOf(_) => netns.open(),
                };
                if let Some(there) = there {
                    there.set_tag_offload(interface, *offload, false).map_err(fault(interface, *offload))?;
                }
            }
            Ok(())
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// Switches on again what was switched off, as far as the interfaces are still there, and returns it.
    pub(crate) async fn restore(&self) -> Result<Vec<String>, TagError> {
        let recorded = self.recorded()?;
        if recorded.is_empty() {
            return Ok(Vec::new());
        }
        let links = self.transit.list().await?;
        let mut restored = Vec::new();
        for SwitchedOff { origin, offload } in recorded {
            let Some(link) = links.iter().find(|link| link.name == *origin.link()) else { continue };
            let place = match origin {
                Origin::Own(interface) => Some((self.transit.netns().clone(), interface)),
                Origin::PeerOf(_) => {
                    let peer = self.transit.peer(link).await?;
                    peer.and_then(|peer| Some((peer.netns.open()?, peer.name)))
                }
            };
            let Some((netns, interface)) = place else { continue };
            let named = interface.clone();
            let switched = tokio::task::spawn_blocking(move || switch_on(&netns, &named, offload)).await?;
            if switched.map_err(fault(&interface, offload))? {
                restored.push(format!("{} off on {interface}", offload.name()));
            }
        }
        fs::remove_file(&self.record).map_err(|source| self.fault(source))?;
        Ok(restored)
    }

    /// Before anything is switched off: a daemon that is killed then has recorded too much, which does no harm.
    fn note(&self, hidden: &[HiddenTags]) -> Result<(), TagError> {
        let recorded = self.recorded()?;
        let new: BTreeSet<_> =
            hidden.iter().map(SwitchedOff::of).filter(|new| !recorded.contains(new)).collect();
        let lines: Vec<String> = new.iter().map(ToString::to_string).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let append = || {
            let mut record = OpenOptions::new().append(true).create(true).open(&self.record)?;
            record.write_all((lines.join("\n") + "\n").as_bytes())
        };
        append().map_err(|source| self.fault(source))
    }

    fn recorded(&self) -> Result<BTreeSet<SwitchedOff>, TagError> {
        match fs::read_to_string(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(source) => Err(self.fault(source)),
            // A line that a crash has cut is of something that wasn't switched off yet.
            Ok(text) => Ok(text.lines().filter_map(SwitchedOff::read).collect()),
        }
    }

    fn fault(&self, source: io::Error) -> TagError {
        TagError::Record { path: self.record.clone(), source }
    }
}

#[cfg(test)]
impl HiddenTags {
    /// Those that an interface of a namespace `transit` hides.
    pub(crate) fn on(interface: &str, offload: TagOffload) -> Self {
        let origin = Origin::Own(interface.to_owned());
        Self {
            interface: interface.to_owned(),
            netns: NetnsPath::Name("transit".to_owned()),
            offload,
            origin,
        }
    }
}

impl Origin {
    /// The link of the transit namespace.
    fn link(&self) -> &String {
        match self {
            Self::Own(name) | Self::PeerOf(name) => name,
        }
    }
}

impl SwitchedOff {
    fn of(hidden: &HiddenTags) -> Self {
        Self { origin: hidden.origin.clone(), offload: hidden.offload }
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (origin, link, offload) = (words.next()?, words.next()?.to_owned(), words.next()?);
        let origin = match origin {
            "own" => Origin::Own(link),
            "peer-of" => Origin::PeerOf(link),
            _ => return None,
        };
        Some(Self { origin, offload: TagOffload::named(offload)? })
    }
}

impl fmt::Display for SwitchedOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Own(_) => "own",
            Origin::PeerOf(_) => "peer-of",
        };
        write!(f, "{origin} {} {}", self.origin.link(), self.offload.name())
    }
}

/// Whether it was off.
fn switch_on(netns: &Netns, interface: &str, offload: TagOffload) -> io::Result<bool> {
    if !netns.tag_offloads(interface, &[offload])?.is_empty() {
        return Ok(false);
    }
    netns.set_tag_offload(interface, offload, true).map(|()| true)
}

fn fault(interface: &str, offload: TagOffload) -> impl FnOnce(io::Error) -> TagError {
    let (interface, offload) = (interface.to_owned(), offload.name());
    move |source| TagError::Switch { interface, offload, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_read_as_it_was_written_and_a_cut_line_is_none() {
        let all = [
            SwitchedOff { origin: Origin::Own("up0".to_owned()), offload: TagOffload::Received },
            SwitchedOff { origin: Origin::PeerOf("up0".to_owned()), offload: TagOffload::SentProvider },
        ];
        for line in &all {
            let text = line.to_string();
            assert_eq!(SwitchedOff::read(&text).as_ref(), Some(line));
            assert_eq!(SwitchedOff::read(&text[..text.len() - 1]), None);
        }
        assert_eq!(SwitchedOff::read(""), None);
    }
}
