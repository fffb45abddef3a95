//! `transit.open_to_clients` and `transit.open_to_instances`: at which ports this host's own processes answer.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, nearest};
use crate::value::{self, Complaint};
use crate::yaml::Node;

/// The load balancer has room for 256 ports; two such lists and the daemon's own syslog are fewer.
const MOST: usize = 100;

/// A port of this host's own processes, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenPort {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
}

impl fmt::Display for OpenPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "{port}/tcp"),
            Self::Udp(port) => write!(f, "{port}/udp"),
        }
    }
}

/// Reads one of the lists. `None` has been reported.
pub(super) fn open_ports(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
) -> Option<BTreeSet<OpenPort>> {
    let Some(items) = fields.optional_list(faults, key)? else { return Some(BTreeSet::new()) };
    let (mut ports, mut complete) = (BTreeSet::new(), true);
    for item in items.value {
        match open_port(item) {
            Ok(port) if ports.insert(port) => {}
            Ok(port) => {
                let message = format!("`{key}`: {port} comes twice");
                faults.error_with_help(item.span, message, "remove one of the two");
            }
            Err(complaint) => {
                faults.complain(item.span, key, complaint);
                complete = false;
            }
        }
    }
    if let Some(first) = items.value.get(MOST) {
        let message = format!("`{key}`: {} ports are too many: at most {MOST}", items.value.len());
        faults.error(first.span, message);
    }
    complete.then_some(ports)
}

fn open_port(node: &Node) -> Result<OpenPort, Complaint> {
    let text = value::text(node)?;
    let parts = text.split_once('/');
    let parts = parts.filter(|(port, _)| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()));
    let Some((port, protocol)) = parts else {
        let message = format!("{} is not a port with its protocol", quote(&text));
        return Err(Complaint::with_help(message, "write it as `22/tcp` or `53/udp`"));
    };
    let open: fn(u16) -> OpenPort = match protocol {
        "tcp" => OpenPort::Tcp,
        "udp" => OpenPort::Udp,
        _ => {
            let message = format!("expected `tcp` or `udp` after the port, found {}", quote(protocol));
            let meant = nearest(protocol, &["tcp", "udp"]).unwrap_or("tcp");
            return Err(Complaint::with_help(message, format!("write it as `{port}/{meant}`")));
        }
    };
    match port.parse() {
        Ok(port @ 1..) => Ok(open(port)),
        _ => Err(Complaint::new(format!("{port} is out of range: 1 to 65535"))),
    }
}
