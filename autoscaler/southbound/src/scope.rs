//! The names of everything a daemon makes on the host, and how it knows its own again.

use std::hash::Hasher;
use std::path::PathBuf;

use fnv::FnvHasher;
use lb_userspace::net::{MacAddr, Mark};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{ProviderKind, TenantName};

/// The kernel's limit for an interface's alias, in bytes (`IFALIASZ` less its end).
const ALIAS_MAX: usize = 255;

/// What the names of the tenants' interfaces in the transit namespace begin with, and no other there.
pub(crate) const TENANT_INTERFACES: &str = "slt-";

/// What the name of the cgroup of an instance's supervisor ends with.
pub(crate) const SUPERVISORS: &str = ".supervisor";

/// What the name of an interface begins with.
mod prefix {
    pub(super) const BRIDGE: &str = "slb";
    pub(super) const TRANSIT: &str = "slt";
    pub(super) const BRIDGE_PORT: &str = "slp";
    pub(super) const INSTANCE_PORT: &str = "sli";
    pub(super) const MANAGEMENT_BRIDGE: &str = "slm";
    pub(super) const MANAGEMENT_PORT: &str = "slq";
}

/// The name of a daemon, from which the names of all that it makes follow.
///
/// 1 to 16 of `a–z`, `0–9` and `_`, the first a letter. There is no `-` in it, so that in `<name>-<instance id>`
/// it is plain where the name ends, and no daemon takes another's things for its own.
///
/// | thing | name |
/// | --- | --- |
/// | an instance's namespace | `<name>-<instance id>` |
/// | an instance's cgroup, and its supervisor's | `<name>/<instance id>`, with `.supervisor` |
/// | an instance's libvirt domain, and its files in the storage pool | `<name>-<instance id>`, with `.qcow2`, `.seed` |
/// | the storage pool | `<name>` |
/// | a DHCP server's namespace, its bridge port, its files | `<name>.dhcp-` and `sld-` + 8 hex digits, `/run/<name>/dhcp/` |
/// | an instance's label, its output, how far that was kept, how it ended | `/run/<name>/instances/<instance id>.json`, `.log`, `.log.1`, `.kept`, `.exit` |
/// | a network's bridge, its port towards the transit namespace, and that veth's other end | `slb-`, `slp-`, `slt-` + 8 hex digits |
/// | an instance's bridge ports, one for each network | `sli-` + 8 hex digits |
/// | a container, and what of it stands in no label | `<name>-<instance id>`, `/run/<name>/containers/<instance id>.json` |
/// | the table of outbound connections, of nftables in the transit namespace | `sluice_<name>` |
/// | the management network's bridge, its port, and the namespace behind it | `slm-`, `slq-` + 8 hex digits, `<name>.management` |
///
/// The digits are a hash of the daemon's name with the tenant's and network's, or the instance's. What is ours is
/// told by the interface group, not by the name: see [`Mark`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    name: String,
}

/// Why a text is not the name of a [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can't be a daemon's name: 1 to 16 of a-z, 0-9 and `_`, the first a letter")]
pub struct BadScopeName(String);

/// The interfaces of one network of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkLinks {
    /// The bridge, in the daemon's namespace.
    pub bridge: String,
    /// The bridge's port towards the transit namespace, in the daemon's namespace.
    pub port: String,
    /// The other end of that port, in the transit namespace: it has the gateway's address.
    pub transit: String,
}

/// The parts of the management network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementLinks {
    /// The bridge, in the daemon's namespace.
    pub bridge: String,
    /// The bridge's port towards the network's own namespace, in the daemon's namespace.
    pub port: String,
    /// The network's own namespace.
    pub netns: String,
}

/// What a link's alias says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labelled {
    /// It belongs to a tenant's network of that name.
    Network(TenantName, String),
    /// It belongs to an instance of a cloud of that kind.
    Instance(ProviderKind, TenantName, InstanceId),
}

/// How a link's alias calls an instance of a kind of cloud: its driver alone knows whether the instance exists.
const INSTANCE_WORDS: [(ProviderKind, &str); 3] = [
    (ProviderKind::Netns, "instance"),
    (ProviderKind::Docker, "container"),
    (ProviderKind::Libvirt, "machine"),
];

impl Scope {
    /// The scope of a daemon of that name.
    pub fn new(name: &str) -> Result<Self, BadScopeName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
        if starts_well && name.len() <= 16 && name.chars().all(allowed) {
            Ok(Self { name: name.to_owned() })
        } else {
            Err(BadScopeName(name.to_owned()))
        }
    }

    /// The daemon's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface group of all links of this daemon: never 0, which is everybody's, nor negative for those
    /// who read it as a signed number.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.hash(&["group"]) & 0x7fff_ffff | 0x4000_0000
    }

    /// The namespace of an instance.
    #[must_use]
    pub fn netns(&self, id: &InstanceId) -> String {
        format!("{}-{id}", self.name)
    }

    /// The instance whose namespace has that name, if it is one of ours.
    #[must_use]
    pub fn instance_of_netns(&self, netns: &str) -> Option<InstanceId> {
        instance_id(netns.strip_prefix(&self.name)?.strip_prefix('-')?)
    }

    /// The libvirt domain of an instance.
    #[must_use]
    pub fn domain(&self, id: &InstanceId) -> String {
        self.netns(id)
    }

    /// The instance whose libvirt domain has that name, if it is one of ours.
    #[must_use]
    pub fn instance_of_domain(&self, domain: &str) -> Option<InstanceId> {
        self.instance_of_netns(domain)
    }

    /// The namespace of the DHCP server of a network whose interfaces have these digits in their names. It is no
    /// instance's: there is no `-` after the daemon's name.
    #[must_use]
    pub fn dhcp_netns(&self, digits: &str) -> String {
        format!("{}.dhcp-{digits}", self.name)
    }

    /// The mark of a DHCP server's link.
    #[must_use]
    pub fn dhcp_mark(&self, digits: &str) -> Mark {
        self.mark(format!("{} dhcp={digits}", self.name))
    }

    /// The cgroup below which the instances' are, relative to a hierarchy's root.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }

    /// The cgroup of an instance's supervisor, beside the instance's own.
    #[must_use]
    pub fn supervisor_cgroup(&self, id: &InstanceId) -> PathBuf {
        self.cgroup().join(format!("{id}{SUPERVISORS}"))
    }

    /// The directory of what must not survive a boot, like all that it describes.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from("/run").join(&self.name)
    }

    /// The file that names the uplink while that forwards because of the daemon.
    #[must_use]
    pub fn forwarding_mark(&self) -> PathBuf {
        self.run_dir().join("forwarding_was_off")
    }

    /// The file that names what was switched off on the uplink so that XDP sees VLAN tags.
    #[must_use]
    pub fn tags_record(&self) -> PathBuf {
        self.run_dir().join("tags_were_hidden")
    }

    /// The file that says what limits the kernel's table of neighbours had.
    #[must_use]
    pub fn neighbours_record(&self) -> PathBuf {
        self.run_dir().join("neighbours_were")
    }

    /// The directory of labels and logs.
    #[must_use]
    pub fn instances_dir(&self) -> PathBuf {
        self.run_dir().join("instances")
    }

    /// The directory of what is known of containers and stands in none of their labels.
    #[must_use]
    pub fn containers_dir(&self) -> PathBuf {
        self.run_dir().join("containers")
    }

    /// The bridge port of an instance on its tenant's first network, in the daemon's namespace.
    #[must_use]
    pub fn instance_port(&self, id: &InstanceId) -> String {
        self.nic_port(id, 0)
    }

    /// The bridge port of an instance's NIC, counted from 0, in the daemon's namespace.
    #[must_use]
    pub fn nic_port(&self, id: &InstanceId, nic: usize) -> String {
        let hash = match nic {
            0 => self.hash(&["instance", id.as_str()]),
            nic => self.hash(&["instance", id.as_str(), &nic.to_string()]),
        };
        format!("{}-{hash:08x}", prefix::INSTANCE_PORT)
    }

    /// The container of an instance.
    #[must_use]
    pub fn container(&self, id: &InstanceId) -> String {
        format!("{}-{id}", self.name)
    }

    /// The interfaces of a network.
    #[must_use]
    pub fn network_links(&self, tenant: &TenantName, network: &str) -> NetworkLinks {
        NetworkLinks::of_digits(&format!("{:08x}", self.network_hash(tenant, network)))
    }

    /// The Ethernet addresses of a network's bridge and of its transit end: the same each time they are made, so
    /// that what instances have learned stays true.
    #[must_use]
    pub fn network_macs(&self, tenant: &TenantName, network: &str) -> (MacAddr, MacAddr) {
        let [a, b, c, d] = self.network_hash(tenant, network).to_be_bytes();
        (MacAddr([0x02, 0x53, a, b, c, d]), transit_mac(self.network_hash(tenant, network)))
    }

    /// The Ethernet address at which instances on a bridge of ours find their gateway, or the daemon; `None` where the
    /// bridge has another name than ours have.
    #[must_use]
    pub fn gateway_mac(&self, bridge: &str) -> Option<MacAddr> {
        if bridge == self.management_links().bridge {
            return Some(self.management_macs().1);
        }
        NetworkLinks::of_link(bridge)?;
        let (_, digits) = bridge.split_once('-')?;
        Some(transit_mac(u32::from_str_radix(digits, 16).ok()?))
    }

    /// The parts of the management network. Its namespace is no instance's: there is no `-` after the daemon's name.
    #[must_use]
    pub fn management_links(&self) -> ManagementLinks {
        let digits = format!("{:08x}", self.hash(&["management"]));
        ManagementLinks {
            bridge: format!("{}-{digits}", prefix::MANAGEMENT_BRIDGE),
            port: format!("{}-{digits}", prefix::MANAGEMENT_PORT),
            netns: format!("{}.management", self.name),
        }
    }

    /// The Ethernet addresses of the management network's bridge and of its own namespace.
    #[must_use]
    pub fn management_macs(&self) -> (MacAddr, MacAddr) {
        let [a, b, c, d] = self.hash(&["management"]).to_be_bytes();
        (MacAddr([0x02, 0x55, a, b, c, d]), MacAddr([0x02, 0x56, a, b, c, d]))
    }

    /// The mark of the management network's links.
    #[must_use]
    pub fn management_mark(&self) -> Mark {
        self.mark(format!("{} management", self.name))
    }

    /// The mark of a network's links.
    #[must_use]
    pub fn network_mark(&self, tenant: &TenantName, network: &str) -> Mark {
        self.mark(format!("{} tenant={tenant} network={network}", self.name))
    }

    /// The mark of an instance's links.
    #[must_use]
    pub fn instance_mark(&self, kind: ProviderKind, tenant: &TenantName, id: &InstanceId) -> Mark {
        let word = INSTANCE_WORDS.iter().find(|(of, _)| *of == kind).map_or("instance", |(_, word)| word);
        self.mark(format!("{} tenant={tenant} {word}={id}", self.name))
    }

    /// Reads an alias that this daemon wrote.
    #[must_use]
    pub fn read_alias(&self, alias: &str) -> Option<Labelled> {
        let (tenant, what) = alias.strip_prefix(&self.name)?.strip_prefix(" tenant=")?.split_once(' ')?;
        let tenant = TenantName::try_from(tenant.to_owned()).ok()?;
        match what.split_once('=')? {
            ("network", name) => Some(Labelled::Network(tenant, name.to_owned())),
            (word, id) => {
                let (kind, _) = INSTANCE_WORDS.iter().find(|(_, known)| *known == word)?;
                Some(Labelled::Instance(*kind, tenant, instance_id(id)?))
            }
        }
    }

    fn mark(&self, mut alias: String) -> Mark {
        alias.truncate(alias.floor_char_boundary(ALIAS_MAX));
        Mark { group: self.group(), alias }
    }

    fn network_hash(&self, tenant: &TenantName, network: &str) -> u32 {
        self.hash(&["network", tenant.as_str(), network])
    }

    /// FNV-1a of the daemon's name and `parts`, its halves folded together. It must never change: it names what
    /// an older daemon has left.
    fn hash(&self, parts: &[&str]) -> u32 {
        let mut hasher = FnvHasher::default();
        for part in [self.name.as_str()].iter().chain(parts) {
            hasher.write(part.as_bytes());
            hasher.write(&[0]);
        }
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        high ^ low
    }
}

impl NetworkLinks {
    fn of_digits(digits: &str) -> Self {
        Self {
            bridge: format!("{}-{digits}", prefix::BRIDGE),
            port: format!("{}-{digits}", prefix::BRIDGE_PORT),
            transit: format!("{}-{digits}", prefix::TRANSIT),
        }
    }

    /// The network to which a link of that name would belong.
    #[must_use]
    pub fn of_link(name: &str) -> Option<Self> {
        let (kind, digits) = name.split_once('-')?;
        let known = [prefix::BRIDGE, prefix::BRIDGE_PORT, prefix::TRANSIT].contains(&kind);
        (known && are_eight_digits(digits)).then(|| Self::of_digits(digits))
    }
}

/// Whether a link's name is that of an instance's bridge port.
#[must_use]
pub fn is_instance_port(name: &str) -> bool {
    name.split_once('-').is_some_and(|(kind, rest)| kind == prefix::INSTANCE_PORT && are_eight_digits(rest))
}

/// Takes a text for an instance id if it has the form of one: `<tenant>-<8 hex digits>`. Only such ids become
/// part of paths.
#[must_use]
pub fn instance_id(text: &str) -> Option<InstanceId> {
    let (tenant, digits) = text.rsplit_once('-')?;
    let well_formed = are_eight_digits(digits) && TenantName::try_from(tenant.to_owned()).is_ok();
    well_formed.then(|| InstanceId::from_label(text))
}

/// The Ethernet address of the transit end of a network with that hash.
fn transit_mac(network: u32) -> MacAddr {
    let [a, b, c, d] = network.to_be_bytes();
    MacAddr([0x02, 0x54, a, b, c, d])
}

fn are_eight_digits(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
