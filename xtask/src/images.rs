//! `images`: what instances are made of, for the tests, the demo and a first try.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use sluice_machines::Image;

use crate::build::{cargo_command, target_dir};
use crate::setup;
use crate::tools::Purpose;

/// What the container image is called.
const CONTAINER: &str = "sluice/responder:latest";

/// Makes the images and says where they are, as a template names them.
pub(crate) fn run(yes: bool) -> Result<()> {
    setup::ensure(Purpose::Containers, yes)?;
    setup::ensure(Purpose::Machines, yes)?;
    println!("{CONTAINER}: docker load --input {}", container()?.display());
    let image = machine()?;
    println!("kernel: {}", image.kernel.display());
    println!("initrd: {}", image.initrd.display());
    println!("command_line: {}", Image::COMMAND_LINE);
    Ok(())
}

/// Makes the virtual machine's image from this workspace's responder.
pub(crate) fn machine() -> Result<Image> {
    Image::make(&folder(), &responder()?)
}

/// Packs the responder for `docker load`: no registry is asked.
fn container() -> Result<PathBuf> {
    let image = sluice_containers::Image::of(CONTAINER, &responder()?, &[])?;
    let file = folder().join("responder.tar");
    fs::create_dir_all(folder())?;
    fs::write(&file, image.archive()?).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Builds the responder.
fn responder() -> Result<PathBuf> {
    let mut command = cargo_command(&["build", "--package", "sluice-southbound", "--example", "responder"]);
    let status = command.status()?;
    if !status.success() {
        bail!("building the responder failed ({status}); the compiler's errors are above");
    }
    Ok(target_dir().join("debug/examples/responder"))
}

/// Where the images are.
fn folder() -> PathBuf {
    target_dir().join("images")
}
