//! An operator looks inside with `bpftool`: keys and values come with the names of their fields.

mod bed;

use std::process::Command;

use bed::{Bed, TCP_80};
use lb_common::abi::VERSION;
use lb_userspace::service::BackendState::Active;

/// The first entry of a pinned map, as `bpftool` prints it.
fn dump(bed: &Bed, map: &str) -> String {
    let path = bed.settings.pin_root.join(format!("v{VERSION}")).join(map);
    let output =
        Command::new("bpftool").args(["map", "dump", "pinned"]).arg(path).output().expect(
            "bpftool runs; Debian has it in the package `bpftool`, which `cargo xtask setup` installs",
        );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn maps_show_named_fields() {
    let mut bed = Bed::new();
    let backend = bed.backend(2, Active);
    bed.apply(TCP_80, &[backend]);
    for (map, fields) in [
        ("services", ["address", "port\": 80", "protocol\": 6", "incarnation"]),
        ("backends", ["mac", "source_mac", "state\": 1", "weight\": 1"]),
        ("answers", ["vip", "service", "backend", "index"]),
        ("control", ["clock", "uplink", "tcp_timeout\": 350", "closed_timeout"]),
        ("backend_counters", ["packets", "bytes", "new_flows", "cpu"]),
        ("backend_live_flows", ["live", "counting", "key", "value"]),
    ] {
        let text = dump(&bed, map);
        for field in fields {
            assert!(
                text.contains(field),
                "{map} shows no {field}:\n{}",
                text.chars().take(600).collect::<String>()
            );
        }
    }
}
