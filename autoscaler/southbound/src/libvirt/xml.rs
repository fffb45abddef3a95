//! libvirt's documents: <https://libvirt.org/format.html>.

use serde::{Deserialize, Serialize};

use super::connection::Fault;

/// The namespace of our element in a domain's metadata.
pub(super) const NAMESPACE: &str = "urn:sluice:instance:1";

/// A document as text. It has no NUL, which the library takes for its end.
pub(super) fn text<T: Serialize>(root: &str, document: &T) -> Result<String, Fault> {
    let text = quick_xml::se::to_string_with_root(root, document)
        .map_err(|error| Fault::Other(format!("<{root}> can't be written: {error}")))?;
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return Err(Fault::Other(format!("<{root}> would have a control character, which XML can't have")));
    }
    Ok(text)
}

/// An element with text and nothing else.
#[derive(Debug, Serialize)]
pub(super) struct Text<T> {
    #[serde(rename = "$text")]
    pub(super) value: T,
}

/// An element that means something by being there.
#[derive(Debug, Default, Serialize)]
pub(super) struct Empty {}

/// A number with its unit.
#[derive(Debug, Serialize)]
pub(super) struct Bytes {
    #[serde(rename = "@unit")]
    unit: &'static str,
    #[serde(rename = "$text")]
    value: u64,
}

impl Bytes {
    pub(super) fn of(value: u64) -> Self {
        Self { unit: "bytes", value }
    }
}

/// `<domain>`: <https://libvirt.org/formatdomain.html>.
#[derive(Debug, Serialize)]
pub(super) struct Domain {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) metadata: Metadata,
    pub(super) memory: Bytes,
    pub(super) vcpu: Text<u32>,
    pub(super) os: Os,
    pub(super) features: Features,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu: Option<Cpu>,
    pub(super) on_poweroff: &'static str,
    pub(super) on_reboot: &'static str,
    pub(super) on_crash: &'static str,
    pub(super) devices: Devices,
}

#[derive(Debug, Serialize)]
pub(super) struct Metadata {
    #[serde(rename = "sluice:instance")]
    pub(super) instance: Label,
}

/// Our label.
#[derive(Debug, Serialize)]
pub(super) struct Label {
    #[serde(rename = "@xmlns:sluice")]
    pub(super) namespace: &'static str,
    #[serde(rename = "@scope")]
    pub(super) scope: String,
    #[serde(rename = "$text")]
    pub(super) spec: String,
}

/// Our label as libvirt gives it back.
#[derive(Debug, Deserialize)]
pub(super) struct ReadLabel {
    #[serde(rename = "@scope")]
    pub(super) scope: String,
    #[serde(rename = "$text", default)]
    pub(super) spec: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Os {
    #[serde(rename = "type")]
    pub(super) kind: OsType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) initrd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cmdline: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct OsType {
    #[serde(rename = "@machine", skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<String>,
    #[serde(rename = "$text")]
    pub(super) value: &'static str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Features {
    acpi: Empty,
    apic: Empty,
}

#[derive(Debug, Serialize)]
pub(super) struct Cpu {
    #[serde(rename = "@mode")]
    pub(super) mode: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Devices {
    pub(super) disk: Vec<Disk>,
    pub(super) interface: Vec<Interface>,
    pub(super) controller: Vec<Controller>,
    pub(super) serial: Serial,
    pub(super) rng: Rng,
    pub(super) memballoon: Balloon,
}

#[derive(Debug, Serialize)]
pub(super) struct Disk {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@device")]
    device: &'static str,
    driver: DiskDriver,
    source: DiskSource,
    target: DiskTarget,
    #[serde(skip_serializing_if = "Option::is_none")]
    readonly: Option<Empty>,
}

#[derive(Debug, Serialize)]
struct DiskDriver {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "@type")]
    format: &'static str,
}

#[derive(Debug, Serialize)]
struct DiskSource {
    #[serde(rename = "@file")]
    file: String,
}

#[derive(Debug, Serialize)]
struct DiskTarget {
    #[serde(rename = "@dev")]
    device: &'static str,
    #[serde(rename = "@bus")]
    bus: &'static str,
}

impl Disk {
    /// A file as a virtio disk.
    pub(super) fn of_file(file: String, format: &'static str, device: &'static str, read_only: bool) -> Self {
        Self {
            kind: "file",
            device: "disk",
            driver: DiskDriver { name: "qemu", format },
            source: DiskSource { file },
            target: DiskTarget { device, bus: "virtio" },
            readonly: read_only.then(Empty::default),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Interface {
    #[serde(rename = "@type")]
    kind: &'static str,
    mac: MacElement,
    source: BridgeSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<Port>,
    target: InterfaceTarget,
    model: Model,
    rom: Rom,
}

#[derive(Debug, Serialize)]
struct MacElement {
    #[serde(rename = "@address")]
    address: String,
}

#[derive(Debug, Serialize)]
struct BridgeSource {
    #[serde(rename = "@bridge")]
    bridge: String,
}

#[derive(Debug, Serialize)]
struct Port {
    #[serde(rename = "@isolated")]
    isolated: &'static str,
}

#[derive(Debug, Serialize)]
struct InterfaceTarget {
    #[serde(rename = "@dev")]
    device: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    #[serde(rename = "@type")]
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct Rom {
    #[serde(rename = "@enabled")]
    enabled: &'static str,
}

impl Interface {
    /// A port of a bridge. An isolated one exchanges frames with ports that are not, and with the host.
    pub(super) fn of_bridge(bridge: String, mac: String, device: String, isolated: bool) -> Self {
        Self {
            kind: "bridge",
            mac: MacElement { address: mac },
            source: BridgeSource { bridge },
            port: isolated.then_some(Port { isolated: "yes" }),
            target: InterfaceTarget { device },
            model: Model { kind: "virtio" },
            rom: Rom { enabled: "no" },
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Controller {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@model")]
    model: &'static str,
}

impl Controller {
    /// No USB: a server has no use for it, and its probing takes time at each boot.
    pub(super) fn no_usb() -> Self {
        Self { kind: "usb", model: "none" }
    }
}

/// What `virsh console` shows.
#[derive(Debug, Serialize)]
pub(super) struct Serial {
    #[serde(rename = "@type")]
    kind: &'static str,
}

impl Default for Serial {
    fn default() -> Self {
        Self { kind: "pty" }
    }
}

/// Without it a guest's first boot may wait for randomness.
#[derive(Debug, Serialize)]
pub(super) struct Rng {
    #[serde(rename = "@model")]
    model: &'static str,
    backend: RngBackend,
}

#[derive(Debug, Serialize)]
struct RngBackend {
    #[serde(rename = "@model")]
    model: &'static str,
    #[serde(rename = "$text")]
    source: &'static str,
}

impl Default for Rng {
    fn default() -> Self {
        Self { model: "virtio", backend: RngBackend { model: "random", source: "/dev/urandom" } }
    }
}

/// By which the guest says how much memory it uses.
#[derive(Debug, Serialize)]
pub(super) struct Balloon {
    #[serde(rename = "@model")]
    model: &'static str,
    stats: BalloonStats,
}

#[derive(Debug, Serialize)]
struct BalloonStats {
    #[serde(rename = "@period")]
    seconds: u32,
}

impl Default for Balloon {
    fn default() -> Self {
        Self { model: "virtio", stats: BalloonStats { seconds: 2 } }
    }
}

/// `<pool>`: <https://libvirt.org/formatstorage.html>.
#[derive(Debug, Serialize)]
pub(super) struct Pool {
    #[serde(rename = "@type")]
    kind: &'static str,
    name: String,
    target: Target,
}

#[derive(Debug, Serialize)]
struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Model>,
}

impl Pool {
    /// A directory.
    pub(super) fn of_directory(name: &str, path: &str) -> Self {
        Self {
            kind: "dir",
            name: name.to_owned(),
            target: Target { path: Some(path.to_owned()), format: None },
        }
    }
}

/// A pool as libvirt describes it.
#[derive(Debug, Deserialize)]
pub(super) struct ReadPool {
    pub(super) target: ReadTarget,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReadTarget {
    pub(super) path: String,
}

/// `<volume>`: a file in a pool.
#[derive(Debug, Serialize)]
pub(super) struct Volume {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Bytes>,
    target: Target,
    #[serde(rename = "backingStore", skip_serializing_if = "Option::is_none")]
    backing: Option<Backing>,
}

#[derive(Debug, Serialize)]
struct Backing {
    path: String,
    format: Model,
}

impl Volume {
    /// An image of which only what differs from another is stored.
    pub(super) fn overlay(name: &str, image: &str, format: &'static str, size: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            capacity: size.map(Bytes::of),
            target: Target { path: None, format: Some(Model { kind: "qcow2" }) },
            backing: Some(Backing { path: image.to_owned(), format: Model { kind: format } }),
        }
    }

    /// A file of a size.
    pub(super) fn raw(name: &str, size: u64) -> Self {
        Self {
            name: name.to_owned(),
            capacity: Some(Bytes::of(size)),
            target: Target { path: None, format: Some(Model { kind: "raw" }) },
            backing: None,
        }
    }
}
