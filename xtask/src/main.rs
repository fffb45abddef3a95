//! Sluice's tasks: `cargo xtask setup`, `build-ebpf`, `demo`, `test`, `bench`, `check`.

mod build;

fn main() -> anyhow::Result<()> {
    build::object()?;
    Ok(())
}
