//! Building `lb-ebpf` for the kernel.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::find::Toolchain;

/// The object that balances: the name of its file, and of the binary of `lb-ebpf` it is built from.
pub const OBJECT: &str = "sluice-lb";

/// The object that watches the one that balances, likewise.
pub const WATCH_OBJECT: &str = "sluice-lb-watch";

/// The object that keeps the host from the tenants' bridges, likewise.
pub const BRIDGE_OBJECT: &str = "sluice-lb-bridge";

/// The object that is measured, likewise.
pub const BENCH_OBJECT: &str = "sluice-lb-bench";

/// The workspace's profile for the object.
const PROFILE: &str = "bpf";

/// The instruction set. v3 has 32-bit jumps and came with Linux 5.1; v4 needs Linux 6.6, later than the oldest
/// kernel supported.
const BPF_CPU: &str = "v3";

/// The machine whose kernel runs the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// As in `target_arch`, such as `x86_64` or `aarch64`.
    pub arch: String,
    /// Whether its bytes are in big-endian order.
    pub big_endian: bool,
}

impl Machine {
    /// The machine this code runs on.
    #[must_use]
    pub fn host() -> Self {
        Self { arch: env::consts::ARCH.to_owned(), big_endian: cfg!(target_endian = "big") }
    }

    /// Inside a build script: the machine the crate is built for. `None` outside one.
    #[must_use]
    pub fn of_build_script() -> Option<Self> {
        let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
        Some(Self { arch, big_endian: env::var("CARGO_CFG_TARGET_ENDIAN").ok()? == "big" })
    }

    /// Rust's name of the BPF target with the machine's byte order.
    #[must_use]
    pub fn target(&self) -> &'static str {
        if self.big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
    }
}

/// What to build and where.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// [`OBJECT`], [`WATCH_OBJECT`], [`BRIDGE_OBJECT`] or [`BENCH_OBJECT`].
    pub object: &'a str,
    /// The folder of the workspace's Cargo.toml.
    pub workspace: &'a Path,
    /// cargo's target folder for this build. Not the one of a cargo that is running: they would wait for each
    /// other.
    pub target_dir: &'a Path,
    /// The machine whose kernel is to run the object.
    pub machine: &'a Machine,
}

/// Why there is no object.
#[derive(Debug)]
pub enum BuildError {
    /// cargo didn't start.
    Start {
        /// The program.
        cargo: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// cargo or the compiler failed; it has printed its reason on standard error.
    Failed {
        /// How cargo ended.
        status: ExitStatus,
        /// Its program and arguments.
        command: String,
    },
    /// cargo succeeded, but there is no object where it should be.
    NoObject {
        /// Where it should be.
        expected: PathBuf,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { cargo, source } => write!(f, "cannot run {}: {source}", cargo.display()),
            Self::Failed { status, command } => {
                write!(
                    f,
                    "building the BPF object failed ({status}); the compiler's errors are above. The command was: {command}"
                )
            }
            Self::NoObject { expected } => {
                write!(
                    f,
                    "cargo succeeded, but there is no {}; does lb-ebpf still have a binary of that name?",
                    expected.display()
                )
            }
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. } => Some(source),
            Self::Failed { .. } | Self::NoObject { .. } => None,
        }
    }
}

/// Builds the BPF object and returns its path. The compiler's messages go to standard error; standard output, on
/// which cargo reads a build script's instructions, stays clean.
///
/// Nothing of the environment that an outer cargo makes for its build scripts reaches the inner one.
///
/// # Errors
/// cargo didn't start or failed, or made no object.
pub fn build(toolchain: &Toolchain, build: &Build<'_>) -> Result<PathBuf, BuildError> {
    let mut command = command(toolchain, build);
    let status =
        command.status().map_err(|source| BuildError::Start { cargo: toolchain.cargo.clone(), source })?;
    if !status.success() {
        return Err(BuildError::Failed { status, command: shown(&command) });
    }
    let object = build.target_dir.join(build.machine.target()).join(PROFILE).join(build.object);
    if object.is_file() { Ok(object) } else { Err(BuildError::NoObject { expected: object }) }
}

/// A command's program and arguments. Its `Debug` form would begin with every variable that it sets or removes.
fn shown(command: &Command) -> String {
    let words = iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn command(toolchain: &Toolchain, build: &Build<'_>) -> Command {
    let mut command = clean_command(&toolchain.cargo, toolchain, build);
    command.arg("build");
    add_arguments(&mut command, build);
    command
}

/// The command that lints `lb-ebpf` for the BPF target with the toolchain's own clippy, and takes warnings for
/// errors; `None` where the toolchain has no clippy.
///
/// clippy on the host can't stand in: it knows neither BPF's registers nor the compiler's unstable features.
#[must_use]
pub fn lint_command(toolchain: &Toolchain, build: &Build<'_>) -> Option<Command> {
    // Called by its path: `cargo clippy` would take the one in cargo's folder of programs, which is rustup's.
    let mut command = clean_command(&toolchain.clippy()?, toolchain, build);
    command.arg("clippy").env("CARGO", &toolchain.cargo);
    add_arguments(&mut command, build);
    command.args(["--", "--deny", "warnings"]);
    Some(command)
}

/// What to compile and for which target, for cargo and clippy alike.
fn add_arguments(command: &mut Command, build: &Build<'_>) {
    command
        .args(["--quiet", "--locked", "--package", "lb-ebpf", "--bin", build.object, "--profile", PROFILE])
        .args(["-Z", "build-std=core", "--target", build.machine.target(), "--target-dir"])
        .arg(build.target_dir);
}

/// A program of the toolchain with the environment for the BPF target and nothing of an outer cargo's.
fn clean_command(program: &Path, toolchain: &Toolchain, build: &Build<'_>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if belongs_to_outer_cargo(&name) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(build.workspace)
        .env("RUSTC", &toolchain.rustc)
        // Lets a stable compiler build core for a target that has none ready-made.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&toolchain.linker, build.machine).join("\x1f"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn rustflags(linker: &Path, machine: &Machine) -> Vec<String> {
    vec![
        // aya-ebpf reads registers and kernel types by it.
        format!("--cfg=bpf_target_arch=\"{}\"", machine.arch),
        format!("-Clinker={}", linker.display()),
        format!("-Ctarget-cpu={BPF_CPU}"),
        // Headers behind an Ethernet header stand at odd multiples of two; without this each word of them is read byte
        // by byte. The kernel allows it where the CPU does.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
        // BTF gives maps their key and value types; it is made from debug information.
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
    ]
}

/// Whether a variable is one that cargo sets for build scripts or that chooses the outer build's compiler and flags.
fn belongs_to_outer_cargo(name: &OsStr) -> bool {
    const EXACT: &[&str] = &[
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_PRIMARY_PACKAGE",
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    // Of CARGO_*, what says where cargo is at home and how it reaches its registry stays.
    const PREFIXES: &[&str] = &[
        "CARGO_BIN_",
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_CRATE_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
        "DEP_",
        "RUSTC_",
    ];
    let name = name.to_string_lossy();
    EXACT.contains(&name.as_ref()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find::Origin;

    fn toolchain() -> Toolchain {
        Toolchain {
            rustc: "/usr/bin/rustc".into(),
            cargo: "/usr/bin/cargo".into(),
            linker: "/opt/bpf-linker".into(),
            release: "1.96.0".to_owned(),
            llvm_major: 22,
            origin: Origin::Distribution,
        }
    }

    #[test]
    fn the_outer_cargos_choices_do_not_reach_the_inner_one() {
        for name in
            ["RUSTC", "RUSTFLAGS", "CARGO_PKG_NAME", "RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR", "TARGET"]
        {
            assert!(belongs_to_outer_cargo(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_way_to_the_registry_stays() {
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_CAINFO",
            "CARGO_NET_OFFLINE",
            "PATH",
            "SSL_CERT_FILE",
            "RUST_BACKTRACE",
        ] {
            assert!(!belongs_to_outer_cargo(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_target_has_the_machines_byte_order() {
        let machine = |big_endian| Machine { arch: "any".to_owned(), big_endian };
        assert_eq!(machine(false).target(), "bpfel-unknown-none");
        assert_eq!(machine(true).target(), "bpfeb-unknown-none");
    }

    #[test]
    fn the_command_names_compiler_linker_and_architecture() {
        let machine = Machine { arch: "aarch64".to_owned(), big_endian: false };
        let build = Build {
            object: OBJECT,
            workspace: Path::new("/w"),
            target_dir: Path::new("/w/target/bpf"),
            machine: &machine,
        };
        let command = command(&toolchain(), &build);
        let env = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == OsStr::new(name));
            found.and_then(|(_, value)| value).map(|value| value.to_string_lossy().into_owned())
        };
        assert_eq!(command.get_program(), OsStr::new("/usr/bin/cargo"));
        assert_eq!(env("RUSTC").as_deref(), Some("/usr/bin/rustc"));
        let flags = env("CARGO_ENCODED_RUSTFLAGS").expect("flags are set");
        assert!(
            flags.contains("--cfg=bpf_target_arch=\"aarch64\"") && flags.contains("/opt/bpf-linker"),
            "{flags}"
        );
        let shown = shown(&command);
        assert!(shown.starts_with("/usr/bin/cargo build --quiet"), "{shown}");
        assert!(shown.ends_with("--target-dir /w/target/bpf"), "{shown}");
    }
}
