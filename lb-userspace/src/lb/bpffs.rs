//! The file system in which maps and links are pinned.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

use super::Error;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const MAGIC: FsType = FsType(0xcafe_4a11);
/// Without it the kernel makes the root world-writable (1777), and whoever may load programs could pin theirs below
/// our names.
const MODE: &str = "mode=0700";
/// Where a bpffs belongs: systemd mounts one there, a host without it may have none.
const USUAL_PLACE: &str = "/sys/fs/bpf";

/// Mounts a bpffs where pins are to be, if there is none and the place is the usual one. Whether it had to.
///
/// # Errors
///
/// [`Error::NoBpffs`] for another place without one; [`Error::File`] where the kernel refuses.
pub fn provide_bpffs(pin_root: &Path) -> Result<bool, Error> {
    let existing = pin_root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = statfs(existing).map_err(|error| Error::file("looking at", existing)(error.into()))?;
    if found.filesystem_type() == MAGIC {
        return Ok(false);
    }
    if !pin_root.starts_with(USUAL_PLACE) {
        return Err(Error::NoBpffs { pin_root: pin_root.to_owned(), usual: USUAL_PLACE });
    }
    mount(Some("bpf"), USUAL_PLACE, Some("bpf"), MsFlags::empty(), Some(MODE))
        .map_err(|error| Error::file("mounting a bpffs on", USUAL_PLACE)(error.into()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::{fs, thread};

    use nix::mount::{MntFlags, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn nobody_else_can_write_in_it() {
        // In a mount namespace of its own, which ends with the thread.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("this test needs root");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
            while umount2(USUAL_PLACE, MntFlags::MNT_DETACH).is_ok() {}
            let pins = Path::new(USUAL_PLACE).join("sluice");
            assert!(provide_bpffs(&pins).expect("mounted"), "there was none");
            assert!(!provide_bpffs(&pins).expect("found"), "there is one");
            fs::metadata(USUAL_PLACE).expect("a directory").mode()
        });
        assert_eq!(made.join().expect("mounted") & 0o777, 0o700);
    }
}
