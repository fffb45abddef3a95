//! Finds the compiler and the linker for the BPF target, and builds `lb-ebpf` with them.
//!
//! Rust has no ready-made `core` for the BPF targets, so it takes a compiler that may build `core` from source,
//! that source, and `bpf-linker`, which turns LLVM bitcode into an object the kernel loads. Two compilers do:
//! Debian's (`rustc-web`, `cargo-web`, `rust-web-src`), allowed to use unstable options by `RUSTC_BOOTSTRAP=1`,
//! and a rustup nightly with the component `rust-src`. Debian's is called by its full path and so lives beside
//! any rustup. [`find()`] looks for both, [`build()`] runs the build, [`Missing`] says what is not there.
//!
//! Build scripts depend on this crate: it uses nothing but `std`.

mod build;
mod find;
mod missing;

pub use build::{
    BENCH_OBJECT, BRIDGE_OBJECT, Build, BuildError, Machine, OBJECT, WATCH_OBJECT, build, lint_command,
};
pub use find::{Origin, Toolchain, find, is_new_enough, linker, watched_paths};
pub use missing::{Absent, Missing};
