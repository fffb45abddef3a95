//! Where the programs are attached. Every link is pinned, so that it outlives the process that made it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as AyaMode};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::{Interface, if_nameindex, if_nametoindex};
use serde::{Deserialize, Serialize};

use super::{Error, TenantLink, clsact};
use crate::net::Netns;
use crate::object::object;

/// How an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver, before a socket buffer is made.
    Native,
    /// After it: works with any driver, and is several times slower.
    Generic,
}

/// What the names of the uplink's pinned links begin with.
pub(super) const UPLINK: &str = "uplink-";
/// What the name of the pinned link of `transmit` begins with.
const TRANSMIT: &str = "transmit-";

/// The folder of the pinned links.
pub(super) fn folder(pins: &Path) -> PathBuf {
    pins.join("links")
}

impl XdpMode {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    fn aya(self) -> AyaMode {
        match self {
            Self::Native => AyaMode::Driver,
            Self::Generic => AyaMode::Skb,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The index of an interface in a namespace.
pub(super) fn interface_index(netns: &Netns, interface: &str) -> Result<u32, Error> {
    let index = netns
        .run(|| if_nametoindex(interface))
        .map_err(Error::file("entering the namespace of", interface))?;
    index.map_err(|error| Error::File { what: "no interface", path: interface.into(), source: error.into() })
}

/// A namespace's interfaces: their indexes, by their names.
pub(super) fn interfaces(netns: &Netns) -> Result<BTreeMap<String, u32>, Error> {
    let named = |interface: &Interface| (interface.name().to_string_lossy().into_owned(), interface.index());
    let listed = || if_nameindex().map(|listed| listed.iter().map(named).collect());
    let listed = netns.run(listed).map_err(Error::file("entering", netns.to_string()))?;
    listed.map_err(|error| Error::file("listing the interfaces of", netns.to_string())(error.into()))
}

/// Whether the links that hold the programs on the uplink are pinned.
pub(super) fn holds_uplink(pins: &Path, interface: &str, mode: XdpMode, hands_over: bool) -> bool {
    let uplink = pin_path(pins, &format!("{UPLINK}{}", mode.name()), interface);
    uplink.exists() && (!hands_over || !has_tcx() || pin_path(pins, "transmit", interface).exists())
}

/// Whether the links that hold the programs of a tenant's interface are pinned.
pub(super) fn holds_tenant(pins: &Path, link: &TenantLink) -> bool {
    let receive = pin_path(pins, "receive", &link.peer);
    receive.exists() && (!has_tcx() || pin_path(pins, "answer", &link.interface).exists())
}

/// Attaches `uplink` in the fastest mode that the driver has.
pub(super) fn attach_uplink(
    ebpf: &mut Ebpf,
    pins: &Path,
    netns: &Netns,
    interface: &str,
) -> Result<XdpMode, Error> {
    let program: &mut Xdp = program(ebpf, "uplink")?;
    let pin = |mode: XdpMode| pin_path(pins, &format!("{UPLINK}{}", mode.name()), interface);
    remove_others(pins, UPLINK, &XdpMode::ALL.map(pin))?;
    // On a veth generic mode is for want of room alone. Where there is room now, the kernel wants the one mode off before
    // the other comes on; another driver that had none before has none now, and packets must not be let through for that.
    if pin(XdpMode::Generic).exists() && netns.is_short_veth(interface).unwrap_or(false) {
        remove_pin(&pin(XdpMode::Generic))?;
    }
    for mode in XdpMode::ALL {
        if adopt_xdp(program, &pin(mode))? {
            return Ok(mode);
        }
    }
    let native = attach_xdp(program, netns, interface, XdpMode::Native, &pin(XdpMode::Native));
    let Err(error) = native else { return Ok(XdpMode::Native) };
    tracing::warn!(interface, %error, "no native XDP: falling back to generic mode, which is several times slower");
    attach_xdp(program, netns, interface, XdpMode::Generic, &pin(XdpMode::Generic))?;
    Ok(XdpMode::Generic)
}

/// Attaches `transmit` to an uplink that can't send back what XDP gives it: a veth in native mode, whose other end may run no XDP
/// program. Elsewhere XDP sends its replies itself. Whether it is attached.
pub(super) fn attach_transmit(
    ebpf: &mut Ebpf,
    pins: &Path,
    netns: &Netns,
    interface: &str,
    mode: XdpMode,
) -> Result<bool, Error> {
    let pin = pin_path(pins, "transmit", interface);
    if mode == XdpMode::Generic || !is_veth(netns, interface)? {
        remove_others(pins, TRANSMIT, &[])?;
        release_uplink(netns, interface)?;
        return Ok(false);
    }
    remove_others(pins, TRANSMIT, std::slice::from_ref(&pin))?;
    let transmit: &mut SchedClassifier = program(ebpf, "transmit")?;
    if !has_tcx() {
        attach_clsact(transmit, "transmit", netns, interface)?;
    } else if !adopt_tcx(transmit, &pin)? {
        attach_tcx(transmit, "transmit", netns, interface, &pin)?;
    }
    Ok(true)
}

/// Whether an interface is a veth's end. One whose driver doesn't tell its name is none; one that can't be asked is not known to
/// be none.
fn is_veth(netns: &Netns, interface: &str) -> Result<bool, Error> {
    match netns.is_veth(interface) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        answer => answer.map_err(Error::file("asking for the driver of", interface)),
    }
}

/// Detaches what no pin holds from an uplink: `transmit` before Linux 6.6.
pub(super) fn release_uplink(netns: &Netns, interface: &str) -> Result<(), Error> {
    if has_tcx() {
        return Ok(());
    }
    netns.run(|| clsact::detach(interface)).map_err(Error::file("entering the namespace of", interface))
}

/// Attaches `answer` to a tenant's interface, and `receive` to the other end of its veth.
pub(super) fn attach_tenant(
    ebpf: &mut Ebpf,
    pins: &Path,
    netns: &Netns,
    link: &TenantLink,
) -> Result<(), Error> {
    let receive: &mut Xdp = program(ebpf, "receive")?;
    let pin = pin_path(pins, "receive", &link.peer);
    if !adopt_xdp(receive, &pin)? {
        attach_xdp(receive, &link.peer_netns, &link.peer, XdpMode::Native, &pin)?;
    }
    let answer: &mut SchedClassifier = program(ebpf, "answer")?;
    if !has_tcx() {
        return attach_clsact(answer, "answer", netns, &link.interface);
    }
    let pin = pin_path(pins, "answer", &link.interface);
    if adopt_tcx(answer, &pin)? {
        return Ok(());
    }
    attach_tcx(answer, "answer", netns, &link.interface, &pin)
}

/// Whether the kernel has tcx: Linux 6.6 and later.
fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Unpins both, which detaches them.
pub(super) fn detach_tenant(pins: &Path, netns: &Netns, interface: &str, peer: &str) -> Result<(), Error> {
    if !has_tcx() {
        netns
            .run(|| clsact::detach(interface))
            .map_err(Error::file("entering the namespace of", interface))?;
    }
    remove_pin(&pin_path(pins, "answer", interface))?;
    remove_pin(&pin_path(pins, "receive", peer))
}

/// A veth's end that takes redirected frames, for as long as this lives.
#[derive(Debug)]
pub struct Receiver(#[expect(dead_code, reason = "held for its effect: the link ends with it")] Ebpf);

/// Lets an interface take frames that XDP sends into the other end of its veth, without which they are dropped: for
/// the client's end where a local client stands behind a veth. A network card needs nothing of the kind.
pub fn attach_receiver(netns: &Netns, interface: &str) -> Result<Receiver, Error> {
    let mut ebpf = EbpfLoader::new().map_max_entries("flows", 1).load(object().ok_or(Error::NoObject)?)?;
    let receive: &mut Xdp = program(&mut ebpf, "receive")?;
    receive.load().map_err(Error::program("receive"))?;
    let attached = netns.run(|| receive.attach(interface, AyaMode::Driver));
    attached
        .map_err(Error::file("entering the namespace of", interface))?
        .map_err(attach_error("receive", interface))?;
    Ok(Receiver(ebpf))
}

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(Error::MissingPart(name))?;
    program.try_into().map_err(Error::program(name))
}

fn pin_path(pins: &Path, kind: &str, interface: &str) -> PathBuf {
    folder(pins).join(format!("{kind}-{interface}"))
}

/// Puts the program on a link that is pinned, in place of the one that is there. False where there is no such link,
/// or its interface is gone: then its pin is removed.
fn adopt_xdp(program: &mut Xdp, pin: &Path) -> Result<bool, Error> {
    adopt(pin, |link| {
        let link = XdpLink::try_from(link)?;
        let id = program.attach_to_link(link)?;
        // Out of the program's hands, or it would be detached with it. The pin keeps it.
        program.take_link(id).map(drop)?;
        Ok(())
    })
}

fn adopt_tcx(program: &mut SchedClassifier, pin: &Path) -> Result<bool, Error> {
    adopt(pin, |link| {
        let link = SchedClassifierLink::try_from(link)?;
        let id = program.attach_to_link(link)?;
        program.take_link(id).map(drop)?;
        Ok(())
    })
}

fn adopt(pin: &Path, update: impl FnOnce(FdLink) -> Result<(), AdoptError>) -> Result<bool, Error> {
    let Ok(link) = PinnedLink::from_pin(pin) else { return Ok(false) };
    match update(link.into()) {
        Ok(()) => Ok(true),
        Err(AdoptError(error)) => {
            tracing::info!(pin = %pin.display(), %error, "the link's interface is gone: attaching anew");
            remove_pin(pin)?;
            Ok(false)
        }
    }
}

/// What the two steps of adopting a link can say.
struct AdoptError(String);

impl From<LinkError> for AdoptError {
    fn from(error: LinkError) -> Self {
        Self(error.to_string())
    }
}

impl From<ProgramError> for AdoptError {
    fn from(error: ProgramError) -> Self {
        Self(error.to_string())
    }
}

fn attach_xdp(
    program: &mut Xdp,
    netns: &Netns,
    interface: &str,
    mode: XdpMode,
    pin: &Path,
) -> Result<(), Error> {
    let attached = netns.run(|| program.attach(interface, mode.aya()));
    let id = attached
        .map_err(Error::file("entering the namespace of", interface))?
        .map_err(attach_error("XDP", interface))?;
    let link = program.take_link(id).map_err(attach_error("XDP", interface))?;
    keep(FdLink::try_from(link), "XDP", interface, pin)
}

fn attach_tcx(
    program: &mut SchedClassifier,
    name: &'static str,
    netns: &Netns,
    interface: &str,
    pin: &Path,
) -> Result<(), Error> {
    let attached = netns.run(|| {
        let options = TcAttachOptions::TcxOrder(aya::programs::LinkOrder::default());
        program.attach_with_options(interface, TcAttachType::Ingress, options)
    });
    let id = attached
        .map_err(Error::file("entering the namespace of", interface))?
        .map_err(attach_error(name, interface))?;
    let link = program.take_link(id).map_err(attach_error(name, interface))?;
    keep(FdLink::try_from(link), name, interface, pin)
}

pub(super) fn attach_clsact(
    program: &mut SchedClassifier,
    name: &'static str,
    netns: &Netns,
    interface: &str,
) -> Result<(), Error> {
    let attached = netns.run(|| clsact::attach(program, interface));
    attached
        .map_err(Error::file("entering the namespace of", interface))?
        .map_err(attach_error(name, interface))
}

/// Pins a link.
fn keep(
    link: Result<FdLink, LinkError>,
    program: &'static str,
    interface: &str,
    pin: &Path,
) -> Result<(), Error> {
    let link = link.map_err(attach_error(program, interface))?;
    if let Some(folder) = pin.parent() {
        fs::create_dir_all(folder).map_err(Error::file("creating", folder))?;
    }
    link.pin(pin).map_err(attach_error(program, interface))?;
    Ok(())
}

fn attach_error<E: std::error::Error>(program: &'static str, interface: &str) -> impl FnOnce(E) -> Error {
    move |error| Error::Attach { program, interface: interface.to_owned(), reason: with_causes(&error) }
}

/// An error with what lies beneath it: aya's outer errors name the call only.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Removes the pins of one kind that are no longer wanted: an uplink that was configured before.
fn remove_others(pins: &Path, kind: &str, wanted: &[PathBuf]) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(folder(pins)) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_kind = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
        if is_kind && !wanted.contains(&path) {
            remove_pin(&path)?;
        }
    }
    Ok(())
}

fn remove_pin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
