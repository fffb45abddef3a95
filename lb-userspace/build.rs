//! Builds the BPF objects and puts them where `object.rs` embeds them.
//!
//! Without a BPF toolchain the crate still builds, so that everything but the data plane can be worked on: the
//! object is empty then, a warning says so, and loading it is an error. With a toolchain, an object that doesn't
//! compile fails the build. `SLUICE_BPF=skip` builds no object whatever there is, for quick checks of the rest.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use bpf_toolchain::{BRIDGE_OBJECT, Build, Machine, OBJECT, Toolchain, WATCH_OBJECT};

/// What decides whether the object is built.
const SWITCH: &str = "SLUICE_BPF";

/// All that goes into the object; relative to the workspace.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

fn main() -> Result<(), Box<dyn Error>> {
    // Where the crate is now: a copy of the workspace may have this program from where it was built.
    let crate_dir = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?;
    let workspace = Path::new(&crate_dir).parent().ok_or("this crate is not in a workspace")?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    watch(workspace);

    let switch = env::var(SWITCH).unwrap_or_default();
    let toolchain = match switch.as_str() {
        "skip" => None,
        "" => bpf_toolchain::find()
            .inspect_err(|missing| {
                println!("cargo::warning=the BPF object is not built and `sluice` can't balance: run `cargo xtask setup`");
                for part in &missing.parts {
                    println!("cargo::warning={part}");
                }
            })
            .ok(),
        other => return Err(format!("{SWITCH}={other}: it is `skip` or not set").into()),
    };
    for object in [OBJECT, WATCH_OBJECT, BRIDGE_OBJECT] {
        let embedded = out_dir.join(format!("{object}.o"));
        match &toolchain {
            None => fs::write(embedded, [])?,
            Some(toolchain) => {
                let built = build(toolchain, object, workspace, &out_dir)?;
                // A copy of the target folder may share its files with the original, which must not be written into.
                if embedded.exists() {
                    fs::remove_file(&embedded)?;
                }
                fs::copy(built, embedded)?;
            }
        }
    }
    Ok(())
}

/// Tells cargo when to run this script again.
fn watch(workspace: &Path) {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    for path in bpf_toolchain::watched_paths() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-env-changed={SWITCH}");
}

fn build(
    toolchain: &Toolchain,
    object: &str,
    workspace: &Path,
    out_dir: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    let machine = Machine::of_build_script().ok_or("cargo sets CARGO_CFG_TARGET_ARCH for build scripts")?;
    let target_dir = shared_target_dir(out_dir);
    let order = Build { object, workspace, target_dir: &target_dir, machine: &machine };
    Ok(bpf_toolchain::build(toolchain, &order)?)
}

/// A folder for the inner cargo that all profiles and `cargo xtask build-ebpf` share, so that `core` is built once:
/// `bpf` in the target folder, which cargo marks with a tag. A folder of its own, because the outer cargo holds the
/// lock of the profile's.
fn shared_target_dir(out_dir: &Path) -> PathBuf {
    let tagged = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    tagged.unwrap_or(out_dir).join("bpf")
}
