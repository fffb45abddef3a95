//! What the BPF toolchain lacks, in words a person can act on.

use std::fmt;
use std::path::PathBuf;

/// One part of the toolchain that is not there or does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// No compiler with its library source: neither Debian's nor a rustup nightly.
    Compiler,
    /// A compiler older than the workspace's `rust-version`.
    OldCompiler {
        /// The compiler.
        rustc: PathBuf,
        /// Its release.
        has: String,
        /// The oldest release that does.
        needs: String,
    },
    /// A compiler without the source of its library, which `-Z build-std=core` needs.
    LibrarySource {
        /// The compiler that was found.
        rustc: PathBuf,
        /// Where the source would be.
        expected: PathBuf,
    },
    /// No `bpf-linker`, neither on `PATH` nor in cargo's folder of programs.
    Linker {
        /// The LLVM of the compiler, which the linker must have too; `None` where there is no compiler either.
        llvm_major: Option<u32>,
    },
    /// A `bpf-linker` that doesn't run, most likely for want of its `libLLVM`.
    BrokenLinker {
        /// The program.
        path: PathBuf,
        /// What it or the system said.
        fault: String,
        /// The LLVM of the compiler.
        llvm_major: Option<u32>,
    },
    /// A `bpf-linker` with an LLVM older than the compiler's: it can't read the bitcode.
    OldLinker {
        /// The program.
        path: PathBuf,
        /// Its LLVM.
        has: u32,
        /// The compiler's LLVM.
        needs: u32,
    },
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => f.write_str(
                "no compiler for the BPF target. Debian: `apt-get install rustc-web cargo-web rust-web-src`; \
                 elsewhere: `rustup toolchain install nightly --profile minimal --component rust-src`",
            ),
            Self::OldCompiler { rustc, has, needs } => write!(
                f,
                "{} is {has}, {needs} or newer is needed. Debian: its security updates have a newer one, \
                 `apt-get update && apt-get install rustc-web cargo-web rust-web-src`; elsewhere: `rustup toolchain \
                 install nightly --profile minimal --component rust-src`",
                rustc.display()
            ),
            Self::LibrarySource { rustc, expected } => write!(
                f,
                "{} has no library source at {}. Debian: `apt-get install rust-web-src`; rustup: \
                 `rustup component add rust-src --toolchain nightly`",
                rustc.display(),
                expected.display()
            ),
            Self::Linker { llvm_major } => write!(f, "no bpf-linker. {}", linker_remedy(*llvm_major)),
            Self::BrokenLinker { path, fault, llvm_major } => {
                write!(f, "{} does not run ({fault}). {}", path.display(), linker_remedy(*llvm_major))
            }
            Self::OldLinker { path, has, needs } => write!(
                f,
                "{} has LLVM {has}, the compiler has LLVM {needs}. {}",
                path.display(),
                linker_remedy(Some(*needs))
            ),
        }
    }
}

/// How to get a linker whose LLVM fits the compiler's.
fn linker_remedy(llvm_major: Option<u32>) -> String {
    let Some(major) = llvm_major else {
        return "It has to match the compiler: install that first, then `cargo xtask setup` knows the rest"
            .to_owned();
    };
    format!(
        "Debian: `apt-get install llvm-{major}-dev libpolly-{major}-dev zlib1g-dev libzstd-dev`, then \
         `LLVM_PREFIX=/usr/lib/llvm-{major} cargo install bpf-linker --no-default-features --features llvm-{major}`"
    )
}

/// Why [`find()`](crate::find()) found no toolchain: each part that lacks, never an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The parts.
    pub parts: Vec<Absent>,
}

impl Missing {
    /// Whether it is the compiler or its library's source, not only the linker.
    #[must_use]
    pub fn lacks_compiler(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Absent::Compiler | Absent::OldCompiler { .. } | Absent::LibrarySource { .. } => true,
            Absent::Linker { .. } | Absent::BrokenLinker { .. } | Absent::OldLinker { .. } => false,
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the BPF toolchain is incomplete; `cargo xtask setup` installs it")?;
        for part in &self.parts {
            write!(f, "\n  - {part}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_linker_names_the_packages_for_the_compilers_llvm() {
        let text = Absent::Linker { llvm_major: Some(22) }.to_string();
        for needed in ["llvm-22-dev", "libpolly-22-dev", "--features llvm-22", "LLVM_PREFIX=/usr/lib/llvm-22"]
        {
            assert!(text.contains(needed), "{needed} is not in: {text}");
        }
    }

    #[test]
    fn every_part_is_named_with_the_command_that_repairs_all() {
        let missing = Missing { parts: vec![Absent::Compiler, Absent::Linker { llvm_major: None }] };
        let text = missing.to_string();
        for needed in ["cargo xtask setup", "rust-web-src", "rust-src", "bpf-linker"] {
            assert!(text.contains(needed), "{needed} is not in: {text}");
        }
    }
}
