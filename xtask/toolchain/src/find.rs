//! Where the BPF toolchain is.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::missing::{Absent, Missing};

/// Debian installs its compiler here; rustup's shims are elsewhere on `PATH`.
const DEBIAN_BIN: &str = "/usr/bin";

/// `rust-version` in the workspace's Cargo.toml.
const OLDEST_COMPILER: &str = env!("CARGO_PKG_RUST_VERSION");

/// Below a compiler's sysroot: the source of the standard library.
const LIBRARY_SOURCE: &str = "lib/rustlib/src/rust/library";

/// A linker with LLVM linked in is larger than this; one that loads `libLLVM` is a few megabytes.
const LARGEST_DYNAMIC_LINKER: u64 = 64 << 20;

/// Who installed the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The distribution: a stable compiler that needs `RUSTC_BOOTSTRAP=1`.
    Distribution,
    /// rustup's nightly.
    Nightly,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Distribution => "of the distribution",
            Self::Nightly => "rustup's nightly",
        })
    }
}

/// A complete toolchain for the BPF target; every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo that belongs to it.
    pub cargo: PathBuf,
    /// `bpf-linker`, known to run.
    pub linker: PathBuf,
    /// The compiler's version, such as `1.96.0`.
    pub release: String,
    /// The major version of the compiler's LLVM.
    pub llvm_major: u32,
    /// Who installed the compiler.
    pub origin: Origin,
}

impl Toolchain {
    /// The program `cargo-clippy` that belongs to the compiler, if it is installed.
    #[must_use]
    pub fn clippy(&self) -> Option<PathBuf> {
        let clippy = self.rustc.with_file_name("cargo-clippy");
        (clippy.is_file() && clippy.with_file_name("clippy-driver").is_file()).then_some(clippy)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({}, LLVM {}), {}",
            self.rustc.display(),
            self.release,
            self.origin,
            self.llvm_major,
            self.linker.display()
        )
    }
}

/// A compiler that can build for the BPF target, but for the linker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
    release: String,
    llvm_major: u32,
    origin: Origin,
}

/// Finds a complete toolchain: Debian's compiler, else rustup's nightly; `bpf-linker` on `PATH`, else where cargo
/// installs programs.
///
/// Runs `rustc -vV` and `bpf-linker --version`, changes nothing.
///
/// # Errors
/// All parts that are missing or don't fit, at once.
pub fn find() -> Result<Toolchain, Missing> {
    let compiler = find_compiler();
    let llvm_major = compiler.as_ref().ok().map(|compiler| compiler.llvm_major);
    match (compiler, find_linker(llvm_major)) {
        (Ok(compiler), Ok(linker)) => Ok(Toolchain {
            rustc: compiler.rustc,
            cargo: compiler.cargo,
            linker,
            release: compiler.release,
            llvm_major: compiler.llvm_major,
            origin: compiler.origin,
        }),
        (compiler, linker) => {
            Err(Missing { parts: [compiler.err(), linker.err()].into_iter().flatten().collect() })
        }
    }
}

/// What a build script watches to run again when a part of the toolchain comes or goes.
///
/// cargo takes a watched path that doesn't exist for changed, at every build; so for a part that is not there this
/// names the folder it will appear in.
#[must_use]
pub fn watched_paths() -> Vec<PathBuf> {
    let parts = [
        Some(Path::new(DEBIAN_BIN).join("rustc")),
        Some(Path::new("/usr").join(LIBRARY_SOURCE).join("core/Cargo.toml")),
        linker().or_else(|| cargo_home().map(|home| home.join("bin/bpf-linker"))),
        // rustup keeps a file for each toolchain here.
        home_folder("RUSTUP_HOME", ".rustup").map(|home| home.join("update-hashes")),
    ];
    parts.into_iter().flatten().filter_map(present).collect()
}

/// A path, or the folder it would be in, whichever exists.
fn present(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    path.parent().filter(|folder| folder.is_dir()).map(Path::to_path_buf)
}

/// The `bpf-linker` that would be used, whether it runs or not.
#[must_use]
pub fn linker() -> Option<PathBuf> {
    let on_path =
        env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let in_cargo = cargo_home().map(|home| home.join("bin"));
    on_path
        .chain(in_cargo)
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_absolute() && candidate.is_file())
}

fn find_compiler() -> Result<Compiler, Absent> {
    let debian = compiler_in(Path::new(DEBIAN_BIN), Origin::Distribution);
    if let Some(Ok(compiler)) = debian {
        return Ok(compiler);
    }
    let nightly = nightly_sysroot().and_then(|sysroot| compiler_in(&sysroot.join("bin"), Origin::Nightly));
    match (nightly, debian) {
        (Some(Ok(compiler)), _) => Ok(compiler),
        (Some(Err(fault)), _) | (None, Some(Err(fault))) => Err(fault),
        (None, _) => Err(Absent::Compiler),
    }
}

/// The compiler in a folder, if there are `rustc` and `cargo` in it that run.
fn compiler_in(bin: &Path, origin: Origin) -> Option<Result<Compiler, Absent>> {
    let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
    if !cargo.is_file() {
        return None;
    }
    let (release, llvm_major) = version(&rustc)?;
    if !is_new_enough(&release) {
        return Some(Err(Absent::OldCompiler { rustc, has: release, needs: OLDEST_COMPILER.to_owned() }));
    }
    let sysroot = answer(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join(LIBRARY_SOURCE);
    Some(if source.join("core/Cargo.toml").is_file() {
        Ok(Compiler { rustc, cargo, release, llvm_major, origin })
    } else {
        Err(Absent::LibrarySource { rustc, expected: source })
    })
}

fn nightly_sysroot() -> Option<PathBuf> {
    let sysroot = answer(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
    Some(PathBuf::from(sysroot.trim()))
}

fn find_linker(llvm_major: Option<u32>) -> Result<PathBuf, Absent> {
    let path = linker().ok_or(Absent::Linker { llvm_major })?;
    let broken = |fault: String| Absent::BrokenLinker { path: path.clone(), fault, llvm_major };
    let output = Command::new(&path).arg("--version").output().map_err(|err| broken(err.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(broken(said.lines().next().unwrap_or("it gives no reason").to_owned()));
    }
    // LLVM reads bitcode of its own and of older versions only.
    match (linked_llvm(&path), llvm_major) {
        (Some(has), Some(needs)) if has < needs => Err(Absent::OldLinker { path, has, needs }),
        _ => Ok(path),
    }
}

/// The LLVM whose shared library a program loads, from the name in its dynamic section; `None` where LLVM is linked
/// in.
fn linked_llvm(program: &Path) -> Option<u32> {
    if fs::metadata(program).ok()?.len() > LARGEST_DYNAMIC_LINKER {
        return None;
    }
    llvm_in(&fs::read(program).ok()?)
}

fn llvm_in(program: &[u8]) -> Option<u32> {
    // Debian's and LLVM's own name, and the one before LLVM 18.
    [b"libLLVM.so.".as_slice(), b"libLLVM-".as_slice()].into_iter().find_map(|name| {
        let at = program.windows(name.len()).position(|window| window == name)?;
        leading_number(&program[at + name.len()..])
    })
}

fn leading_number(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

/// A compiler's release and the major version of its LLVM.
fn version(rustc: &Path) -> Option<(String, u32)> {
    parse_version(&answer(Command::new(rustc).arg("-vV"))?)
}

fn parse_version(said: &str) -> Option<(String, u32)> {
    let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let llvm_major = leading_number(field("LLVM version:")?.as_bytes())?;
    Some((field("release:")?.to_owned(), llvm_major))
}

/// Whether a compiler of this release is as new as the workspace needs; takes a Debian package's version too.
#[must_use]
pub fn is_new_enough(release: &str) -> bool {
    release_numbers(release) >= release_numbers(OLDEST_COMPILER)
}

/// Major and minor number of a release such as `1.96.0` or `1.97.0-nightly`.
fn release_numbers(release: &str) -> (u32, u32) {
    let mut numbers = release.split('.').map(|part| leading_number(part.as_bytes()).unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What a program prints, if it runs and succeeds.
fn answer(command: &mut Command) -> Option<String> {
    // Inside a build script cargo's RUSTUP_TOOLCHAIN would choose another toolchain than the one asked for.
    let output = command.env_remove("RUSTUP_TOOLCHAIN").env("RUSTUP_AUTO_INSTALL", "0").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cargo_home() -> Option<PathBuf> {
    home_folder("CARGO_HOME", ".cargo")
}

/// The folder a variable names, or one in the user's home.
fn home_folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(in_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_and_llvm_are_read_from_what_rustc_says() {
        let said = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(said), Some(("1.96.0".to_owned(), 22)));
    }

    #[test]
    fn a_compiler_that_does_not_name_its_llvm_is_none() {
        assert_eq!(parse_version("rustc 1.96.0\nrelease: 1.96.0\n"), None);
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(release_numbers("1.100.0") > release_numbers("1.95"));
        assert!(!is_new_enough("1.85.0+dfsg3-1~deb12u3"));
        assert_eq!(release_numbers("1.97.0-nightly"), (1, 97));
    }

    #[test]
    fn what_is_not_there_is_watched_by_its_folder() {
        assert_eq!(present("/proc/self/no-such-file".into()), Some("/proc/self".into()));
        assert_eq!(present("/no-such-folder/file".into()), None);
    }

    #[test]
    fn the_llvm_is_read_from_both_names_of_its_library() {
        assert_eq!(llvm_in(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(llvm_in(b"\0libLLVM-17.so.1\0"), Some(17));
        assert_eq!(llvm_in(b"\0libc.so.6\0"), None);
    }
}
