//! The services of the structured form.

use std::time::Duration;

use sluice_logic::spec::{Protocol, Spread};

use super::draft::{self, ServiceDraft};
use crate::diagnostic::Faults;
use crate::reader::Fields;
use crate::value::{self, Complaint, describe};
use crate::yaml::{Kind, Node, Spanned};

/// Reads an item of `services`: one service, or one for each of its `ports`.
pub(super) fn read(faults: &mut Faults<'_>, node: &Node) -> Option<Vec<ServiceDraft>> {
    let mut fields = Fields::open(faults, "service", node)?;
    let service = ServiceDraft {
        vip: fields.required(faults, &["vip"], value::vip),
        protocol: fields.required(faults, &["protocol"], protocol),
        port: fields.optional(faults, &["port"], value::port),
        target_port: fields.optional(faults, &["target_port"], value::port),
        spread: fields.defaulted(faults, &["spread"], Spread::default(), draft::spread),
        slow_start: fields.defaulted(faults, &["slow_start"], Duration::ZERO, draft::slow_start),
    };
    let ports = fields.take(faults, &["ports"]);
    fields.finish(faults);
    let Some(ports) = ports else { return Some(vec![service]) };
    let single = [service.port, service.target_port].into_iter().flatten().flatten().next();
    if let Some(single) = single {
        let message = format!("the service has `ports` on line {} and a single one too", ports.span.line);
        faults.error_with_help(single.span, message, "put it into `ports`, and remove it here");
    }
    let pairs = pairs(faults, ports)?;
    let of_pair = |(port, target): (Spanned<u16>, Spanned<u16>)| ServiceDraft {
        port: Some(Some(port)),
        target_port: Some(Some(target).filter(|target| target.value != port.value)),
        ..service
    };
    Some(pairs.into_iter().map(of_pair).collect())
}

fn protocol(node: &Node) -> Result<Protocol, Complaint> {
    value::choice(&[("icmp", Protocol::Icmp), ("tcp", Protocol::Tcp), ("udp", Protocol::Udp)], &[], node)
}

/// Reads `{443: 8443, 80: 80}`: the VIP's port and the instances'. What is wrong is reported and left out.
fn pairs(faults: &mut Faults<'_>, ports: Spanned<&Node>) -> Option<Vec<(Spanned<u16>, Spanned<u16>)>> {
    const HOW: &str = "write the VIP's port and the instances': `{443: 8443}`";
    let Kind::Mapping(entries) = &ports.value.kind else {
        let message = format!("`ports`: expected a mapping, found {}", describe(ports.value));
        faults.error_with_help(ports.span, message, HOW);
        return None;
    };
    if entries.is_empty() {
        faults.error_with_help(ports.span, "`ports` is empty", HOW);
    }
    let port = |faults: &mut Faults<'_>, node: &Node| match value::port(node) {
        Ok(port) => Some(Spanned::new(port, node.span)),
        Err(Complaint { message, help }) => {
            let help = help.unwrap_or_else(|| HOW.to_owned());
            faults.error_with_help(node.span, format!("`ports`: {message}"), help);
            None
        }
    };
    let read: Vec<_> = entries.iter().map(|(key, value)| (port(faults, key), port(faults, value))).collect();
    Some(read.into_iter().filter_map(|(port, target)| Some((port?, target?))).collect())
}
