//! `images`: what instances are made of, for the tests, the demo and a first try.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sluice_machines::Image;

use crate::build::{cargo_command, target_dir};
use crate::plan::Purpose;
use crate::setup;

/// Makes the images and says where they are, as a template names them.
pub(crate) fn run(yes: bool) -> Result<()> {
    setup::ensure(Purpose::Machines, yes)?;
    let image = machine()?;
    println!("kernel: {}", image.kernel.display());
    println!("initrd: {}", image.initrd.display());
    println!("command_line: {}", Image::COMMAND_LINE);
    Ok(())
}

/// Makes the virtual machine's image from this workspace's responder.
pub(crate) fn machine() -> Result<Image> {
    let mut command = cargo_command(&["build", "--package", "sluice-southbound", "--example", "responder"]);
    let status = command.status()?;
    if !status.success() {
        bail!("building the responder failed ({status}); the compiler's errors are above");
    }
    Image::make(&folder(), &target_dir().join("debug/examples/responder"))
}

/// Where the images are.
fn folder() -> PathBuf {
    target_dir().join("images")
}
