//! The data plane as tables for people.

use std::net::{IpAddr, SocketAddr};

use comfy_table::{Cell, CellAlignment, Color};
use lb_userspace::lb::look::{BackendView, DropCount, FlowList, FlowState, FlowView, ServiceView, Share};
use lb_userspace::service::BackendState;

use super::super::output::{self, QUIET, or_dash};
use super::TableView;

pub(super) fn services(services: &[ServiceView]) {
    if services.is_empty() {
        output::say!("no services: no tenant has instances yet");
        return;
    }
    let header = [
        "SERVICE",
        "ACTIVE",
        "DRAINING",
        "DOWN",
        "LIVE FLOWS",
        "NEW FLOWS",
        "ENTRIES",
        "QUOTA",
        "REFUSED",
        "PACKETS",
        "BYTES",
        "REPLY PACKETS",
        "REPLY BYTES",
    ];
    let mut table = output::table(&header);
    for service in services {
        let (counters, usage) = (&service.counters, &service.flow_use);
        let mut row = vec![Cell::new(&service.service)];
        row.push(number(u64::from(service.active)));
        row.push(draining(service));
        row.push(number(u64::from(service.down)));
        row.extend(
            [
                counters.live_flows,
                counters.new_flows,
                usage.flow_entries,
                usage.flow_quota,
                usage.flows_refused,
                counters.packets,
                counters.bytes,
                counters.reply_packets,
                counters.reply_bytes,
            ]
            .map(number),
        );
        table.add_row(row);
    }
    output::say!("{table}");
}

pub(super) fn tables(tables: &[TableView]) {
    let mut shown = output::table(&["TABLE", "USED", "ROOM", "FULL"]);
    for TableView { table, used, room } in tables {
        let percent = used.saturating_mul(100) / (*room).max(1);
        shown.add_row(vec![Cell::new(table), number(*used), number(*room), Cell::new(format!("{percent}%"))]);
    }
    output::say!("{shown}");
}

pub(super) fn backends(backends: &[BackendView]) {
    if backends.is_empty() {
        output::say!("no backends: no instance is in service");
        return;
    }
    let header = ["BACKEND", "STATE", "LIVE FLOWS", "NEW FLOWS", "PACKETS", "BYTES", "SHARE OF NEW FLOWS"];
    let mut table = output::table(&header);
    for backend in backends {
        let counters = &backend.counters;
        let mut row = vec![Cell::new(backend.address), state(backend)];
        row.extend([counters.live_flows, counters.new_flows, counters.packets, counters.bytes].map(number));
        row.push(Cell::new(backend.services.iter().map(share).collect::<Vec<_>>().join("  ")));
        table.add_row(row);
    }
    output::say!("{table}");
}

pub(super) fn flows(list: &FlowList) {
    if list.flows.is_empty() {
        output::say!("no such flow is known");
        return;
    }
    let mut table = output::table(&["CLIENT", "SERVICE", "VIP PORT", "BACKEND", "STATE", "IDLE"]);
    for flow in &list.flows {
        table.add_row(vec![
            Cell::new(client(flow)),
            Cell::new(flow.service.as_deref().unwrap_or("gone")),
            Cell::new(or_dash(flow.vip_port, |port| port.to_string())),
            Cell::new(or_dash(flow.backend, |backend| backend.to_string())),
            flow_state(flow.state),
            number_with(flow.idle, "s"),
        ]);
    }
    output::say!("{table}");
    if !list.complete {
        let shown = list.flows.len();
        output::say!("{QUIET}{shown} of more: `--limit` shows more, a filter fewer{QUIET:#}");
    }
}

pub(super) fn drops(drops: &[DropCount]) {
    if drops.is_empty() {
        output::say!("no packet was dropped");
        return;
    }
    let mut table = output::table(&["REASON", "PACKETS"]);
    for drop in drops {
        table.add_row(vec![Cell::new(drop.reason), number(drop.packets)]);
    }
    output::say!("{table}");
}

/// A client's end; an echo's identifier is no port, and is told apart.
fn client(flow: &FlowView) -> String {
    match (flow.vip_port, flow.client) {
        (Some(_), client) => SocketAddr::new(client, flow.client_port).to_string(),
        (None, IpAddr::V4(client)) => format!("{client} id {}", flow.client_port),
        (None, IpAddr::V6(client)) => format!("{client} id {}", flow.client_port),
    }
}

fn share(share: &Share) -> String {
    format!("{} {:.1}%", share.service, share.share * 100.0)
}

/// How many drain; marked where they take the new flows, as none is active.
fn draining(service: &ServiceView) -> Cell {
    if service.draining_serve {
        return number_with(service.draining, " (serving)").fg(Color::Yellow);
    }
    number(u64::from(service.draining))
}

fn state(backend: &BackendView) -> Cell {
    let takes_new_flows = backend.services.iter().any(|share| share.slots > 0);
    let (name, colour) = match backend.state {
        BackendState::Active => ("active", Color::Green),
        BackendState::Draining if takes_new_flows => ("draining (serving)", Color::Yellow),
        BackendState::Draining => ("draining", Color::Yellow),
        BackendState::Stopping => ("stopping", Color::Yellow),
        BackendState::Down => ("down", Color::Red),
    };
    Cell::new(name).fg(colour)
}

fn flow_state(state: FlowState) -> Cell {
    let (name, colour) = match state {
        FlowState::Open => ("open", Color::Green),
        FlowState::ClosedByClient => ("closed by client", Color::Yellow),
        FlowState::ClosedByBackend => ("closed by backend", Color::Yellow),
        FlowState::Suspect => ("suspect", Color::Yellow),
        FlowState::Closed => ("closed", Color::DarkGrey),
        FlowState::Lost => ("lost", Color::Red),
    };
    Cell::new(name).fg(colour)
}

fn number(value: u64) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

fn number_with(value: u32, unit: &str) -> Cell {
    Cell::new(format!("{value}{unit}")).set_alignment(CellAlignment::Right)
}
