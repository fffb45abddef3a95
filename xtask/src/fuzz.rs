//! `fuzz`: random packets through the real program and a model of it, for as long as one likes.

use anyhow::{Result, bail};

use crate::build::cargo_command;
use crate::tools::Purpose;
use crate::{host, setup};

/// Runs the comparison on so many packets. Without a seed it takes one that no run had before; it is printed either way.
pub(crate) fn run(packets: u64, seed: Option<u64>, yes: bool) -> Result<()> {
    host::require_root("fuzz")?;
    setup::ensure(Purpose::Test, yes)?;
    let seed = seed.unwrap_or_else(unused_seed);
    eprintln!("==> {packets} packets from seed {seed}");
    let mut command = cargo_command(&[
        "test",
        "--release",
        "--package",
        "lb-userspace",
        "--test",
        "model",
        "--",
        "--nocapture",
    ]);
    command.env("SLUICE_FUZZ_PACKETS", packets.to_string()).env("SLUICE_FUZZ_SEED", seed.to_string());
    if !command.status()?.success() {
        bail!(
            "the program differs from the model, above; again: cargo xtask fuzz --packets {packets} --seed {seed}"
        );
    }
    Ok(())
}

/// The time in seconds, far enough from the next second's: each batch of packets counts one on.
fn unused_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 24
}
