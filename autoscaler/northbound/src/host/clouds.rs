//! Reads `clouds`: where instances can run.

use std::path::PathBuf;

use sluice_logic::spec::{
    AccelChoice, CloudName, CloudSpec, DockerAddress, DockerTls, ProviderKind, ProviderSpec,
};

use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::{Node, Spanned};

/// Where Debian's dockerd listens.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// What `virsh` uses as root.
const LIBVIRT_URI: &str = "qemu:///system";

pub(super) fn clouds(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Vec<CloudSpec>> {
    let Some(items) = fields.optional_list(faults, "clouds")? else {
        return Some(vec![CloudSpec::default()]);
    };
    if items.value.is_empty() {
        faults.error_with_help(
            items.span,
            "`clouds` is empty",
            "without the key there is one `netns` cloud, `local`",
        );
    }
    let read: Vec<_> = items.value.iter().map(|item| cloud(faults, item)).collect();
    let mut clouds: Vec<CloudSpec> = Vec::with_capacity(read.len());
    let mut complete = true;
    for item in read {
        let Some((name, cloud)) = item else {
            complete = false;
            continue;
        };
        if clouds.iter().any(|other| other.name == cloud.name) {
            let message = format!("the cloud `{}` comes twice", name.value);
            faults.error_with_help(name.span, message, "give each cloud a name of its own");
        }
        clouds.push(cloud);
    }
    complete.then_some(clouds)
}

fn cloud(faults: &mut Faults<'_>, node: &Node) -> Option<(Spanned<String>, CloudSpec)> {
    let mut fields = Fields::open(faults, "cloud", node)?;
    let name = fields.required(faults, &["name"], |node| value::name(32, node));
    let kind = fields.required(faults, &["provider"], |node| {
        let kinds = [ProviderKind::Netns, ProviderKind::Docker, ProviderKind::Libvirt];
        value::choice(&kinds.map(|kind| (kind.as_str(), kind)), &[], node)
    });
    let priority = fields.defaulted(faults, &["priority"], 0, |node| value::whole(0..=1_000, node));
    let capacity = fields.optional(faults, &["capacity"], |node| value::whole(1..=1_000_000, node));
    let zone = fields.optional(faults, &["zone"], |node| value::name(64, node));
    let price =
        fields.defaulted(faults, &["price_per_hour"], 0.0, |node| value::number_within(0.0..=1e6, "", node));
    // Which keys there are beside these is not known where the kind is not.
    let kind = kind?;
    let provider = match kind.value {
        ProviderKind::Netns => Some(ProviderSpec::Netns),
        ProviderKind::Docker => docker(faults, &mut fields).map(ProviderSpec::Docker),
        ProviderKind::Libvirt => libvirt(faults, &mut fields),
    };
    fields.finish(faults);
    let name = name?;
    let cloud = CloudSpec {
        name: CloudName::new(name.value.clone()),
        provider: provider?,
        priority: priority?,
        capacity: capacity?.map(|capacity| capacity.value),
        zone: zone?.map(|zone| zone.value),
        price_per_hour: price?,
    };
    Some((name, cloud))
}

fn docker(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<DockerAddress> {
    let socket = fields.optional(faults, &["socket"], value::path);
    let address = fields.optional(faults, &["address"], host_and_port);
    let tls = match fields.section(faults, "tls") {
        Section::Absent => Some(None),
        Section::Refused => None,
        Section::Open(fields) => docker_tls(faults, fields).map(Some),
    };
    match (socket?, address?, tls?) {
        (None, None, None) => Some(DockerAddress::Socket(PathBuf::from(DOCKER_SOCKET))),
        (Some(socket), None, None) => Some(DockerAddress::Socket(socket.value)),
        (None, Some(address), tls) => Some(DockerAddress::Tcp { address: address.value, tls }),
        (Some(socket), Some(_), _) => {
            let help = "a dockerd is reached by one of them";
            faults.error_with_help(socket.span, "`socket` and `address` exclude each other", help);
            None
        }
        (_, None, Some(_)) => {
            let help = "add the `address` of a dockerd, as in `docker.example.net:2376`";
            faults.error_with_help(fields.span, "`tls` is only for an `address`", help);
            None
        }
    }
}

fn docker_tls(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<DockerTls> {
    let ca = fields.required(faults, &["ca"], value::path);
    let certificate = fields.required(faults, &["certificate"], value::path);
    let key = fields.required(faults, &["key"], value::path);
    fields.finish(faults);
    Some(DockerTls { ca: ca?.value, certificate: certificate?.value, key: key?.value })
}

fn host_and_port(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let bare = text.strip_prefix("tcp://").unwrap_or(&text);
    let port = bare.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(1..) => Ok(bare.to_owned()),
        _ => Err(Complaint::with_help(
            format!("{} is not the address of a dockerd", quote(&text)),
            "give host and port, as in `docker.example.net:2376`",
        )),
    }
}

fn libvirt(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<ProviderSpec> {
    let uri = fields.defaulted(faults, &["uri"], LIBVIRT_URI.to_owned(), libvirt_uri);
    let pool = fields.optional(faults, &["pool"], value::path);
    let accel = fields.defaulted(faults, &["accel"], AccelChoice::Auto, |node| {
        let choices = [("auto", AccelChoice::Auto), ("kvm", AccelChoice::Kvm), ("tcg", AccelChoice::Tcg)];
        value::choice(&choices, &[], node)
    });
    Some(ProviderSpec::Libvirt { uri: uri?, pool: pool?.map(|pool| pool.value), accel: accel? })
}

fn libvirt_uri(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    if text.split_once("://").is_some_and(|(driver, rest)| !driver.is_empty() && !rest.is_empty()) {
        return Ok(text);
    }
    let message = format!("{} is not a libvirt URI", quote(&text));
    Err(Complaint::with_help(message, "write it as `qemu:///system` or `qemu+ssh://root@host/system`"))
}
