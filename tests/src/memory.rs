//! How much memory a world's daemon and its load balancer have.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_common::abi::VERSION;
use serde_json::Value;
use sluice_demo::world::World;

/// The memory of the daemon that is in RAM, in bytes.
pub fn resident_memory(world: &World) -> Result<u64> {
    let id = world.daemon_id().context("no daemon runs")?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).context("the daemon's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// The memory of the load balancer's maps, the parts of its flow table among them, in bytes, as the kernel counts it.
pub fn map_memory(world: &World) -> Result<u64> {
    let pins = Path::new("/sys/fs/bpf").join(world.name()).join(format!("v{VERSION}"));
    let mut memory = 0;
    for entry in fs::read_dir(&pins).with_context(|| format!("{}", pins.display()))? {
        let path = entry?.path();
        // Links are in a folder beside the maps.
        if path.is_dir() {
            continue;
        }
        let pin = path.to_str().context("a path in UTF-8")?;
        memory += bytes_of(&["pinned", pin])?;
        if path.ends_with("flows") {
            let parts = bpftool(&["map", "dump", "pinned", pin])?;
            for part in parts.as_array().context("a list of parts")? {
                memory += part_memory(part)?;
            }
        }
    }
    Ok(memory)
}

/// bpftool prints a map's id in a map of maps as its four bytes.
fn part_memory(part: &Value) -> Result<u64> {
    let bytes = part["value"].as_array().or_else(|| part["inner_map_id"].as_array());
    let bytes = bytes.with_context(|| format!("not a map of maps: {part}"))?;
    let byte = |value: &Value| u8::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok();
    let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
    let id = u32::from_ne_bytes(bytes.try_into().ok().with_context(|| format!("no id in {part}"))?);
    bytes_of(&["id", &id.to_string()])
}

fn bytes_of(map: &[&str]) -> Result<u64> {
    let shown = bpftool(&[&["map", "show"], map].concat())?;
    shown["bytes_memlock"].as_u64().with_context(|| format!("no memory of {map:?}: {shown}"))
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let done = Command::new("bpftool").arg("--json").args(arguments).output();
    let done = done.context("bpftool can't be run: `./x setup` installs it")?;
    ensure!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stdout));
    Ok(serde_json::from_slice(&done.stdout)?)
}
