//! The guest's computer.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Several times what the tests take.
const PATIENCE: Duration = Duration::from_mins(15);

/// A quiet kernel that ends the guest when it panics. Mitigations cost much under emulation, and there is nobody to
/// protect.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 mitigations=off";

/// Kills the guest when it goes out of scope, if it still runs.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots a kernel with its files and hands over each line of its console, until it turns itself off.
///
/// # Errors
/// Where QEMU can't run, or the guest hasn't ended in time; then it is killed.
pub(super) fn boot(kernel: &Path, initramfs: &Path, mut line: impl FnMut(&str)) -> Result<()> {
    let mut guest = Guest(start(kernel, initramfs)?);
    let console = guest.0.stdout.take().context("QEMU has a console")?;
    let deadline = Instant::now() + PATIENCE;
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || forward(console, &sender));
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => line(text.trim_end()),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest did not end within {} min: killed", PATIENCE.as_secs() / 60);
            }
        }
    }
    let _ = reader.join();
    let status = guest.0.wait().context("cannot wait for QEMU")?;
    if status.success() { Ok(()) } else { bail!("QEMU failed ({status}); its reason is above") }
}

fn start(kernel: &Path, initramfs: &Path) -> Result<Child> {
    // `setpriv` becomes QEMU, which then ends with this task even where the task is killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        // Software emulation: the same on every host, and a host in a cloud has nothing else.
        .args(["-accel", "tcg", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", KERNEL_ARGUMENTS]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run setpriv and QEMU")
}

/// Sends each line, also one that is not UTF-8.
fn forward(console: ChildStdout, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
        if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}
