//! `syslog`: whether instances and hosts can send syslog, and how much of it is kept.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::diagnostic::Faults;
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::{Kind, Node};

const DAY: Duration = Duration::from_hours(24);

/// Central logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsConfig {
    /// Where syslog is taken, over UDP and TCP, in the transit namespace; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Hosts that may send too, beside the instances.
    pub hosts: Vec<IpNet>,
    /// What came is kept for so long.
    pub keep: Duration,
    /// Most of all that, bytes.
    pub max_size: u64,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { listen: None, hosts: Vec::new(), keep: 30 * DAY, max_size: 4 << 30 }
    }
}

/// Reads the section. `None` has been reported.
pub(super) fn logs(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<LogsConfig> {
    let default = LogsConfig::default();
    let mut fields = match fields.section(faults, "syslog") {
        Section::Open(fields) => fields,
        Section::Absent => return Some(default),
        Section::Refused => return None,
    };
    let listen = fields.optional(faults, &["listen"], address);
    let hosts = fields.defaulted(faults, &["hosts"], Vec::new(), nets);
    let keep = fields.defaulted(faults, &["keep"], default.keep, |node| value::age(DAY..=400 * DAY, node));
    let max_size = fields
        .defaulted(faults, &["max_size"], default.max_size, |node| value::size((1 << 20)..=(1 << 44), node));
    fields.finish(faults);
    Some(LogsConfig {
        listen: listen?.map(|listen| listen.value),
        hosts: hosts?,
        keep: keep?,
        max_size: max_size?,
    })
}

fn address(node: &Node) -> Result<SocketAddr, Complaint> {
    let text = value::text(node)?;
    text.parse().map_err(|_| {
        Complaint::with_help(
            format!("`{text}` is not an address with a port"),
            "write it as `0.0.0.0:514`, or with the address of one interface",
        )
    })
}

fn nets(node: &Node) -> Result<Vec<IpNet>, Complaint> {
    let wrong = |text: &str| {
        let message = format!("`{text}` is not a network or an address");
        Complaint::with_help(message, "write a list such as `[192.0.2.0/24, 198.51.100.7]`")
    };
    let Kind::Sequence(items) = &node.kind else { return Err(wrong(&value::text(node).unwrap_or_default())) };
    let net = |item: &Node| {
        let text = value::text(item)?;
        let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(one).ok_or_else(|| wrong(&text))
    };
    items.iter().map(net).collect()
}
