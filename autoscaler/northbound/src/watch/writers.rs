//! Whether somebody has a file open for writing: then what is read may be half of what is to be there.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::statfs::{FsType, fstatfs};

/// Filesystems on which a lease says nothing of who writes, since writers may be on other machines: `linux/magic.h`.
const REMOTE: [i64; 6] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x0102_1997, // 9p
    0x6573_5546, // FUSE
];

/// `fcntl(2)`: the signal that says that a lease is broken. From `asm-generic/fcntl.h`; the crate `libc` has it not.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody on this machine has the file open for writing.
///
/// The kernel gives a read lease (`F_SETLEASE`, fcntl(2)) only on a file that nobody has open for writing. Where it
/// can't be asked, as on network filesystems, the answer is no: there only a file that does not change is taken.
pub(super) fn has_writer(file: &File) -> bool {
    if fstatfs(file).is_ok_and(|stat| is_remote(stat.filesystem_type())) {
        return false;
    }
    // A writer that comes while the lease is held has it broken by a signal to this process, which by default is SIGIO
    // and would end it; SIGURG is ignored by default.
    let lease = control(file, F_SETSIG, Signal::SIGURG as libc::c_int)
        .and_then(|()| control(file, libc::F_SETLEASE, libc::F_RDLCK));
    // Without a lease there is none to give back.
    let _ = control(file, libc::F_SETLEASE, libc::F_UNLCK);
    lease == Err(Errno::EAGAIN)
}

/// `fcntl(2)` with an integer.
fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> nix::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is, and the commands of this module take an integer and touch no
    // memory of this process.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    Errno::result(done).map(drop)
}

fn is_remote(filesystem: FsType) -> bool {
    REMOTE.iter().any(|magic| i128::from(*magic) == i128::from(filesystem.0))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn network_filesystems_are_not_asked() {
        let [nfs, tmpfs] = [0x6969, 0x0102_1994].map(FsType);
        assert!(is_remote(nfs) && !is_remote(tmpfs));
    }

    #[test]
    fn a_file_has_a_writer_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yml");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"half").unwrap();
        let reader = File::open(&path).unwrap();
        assert!(has_writer(&reader));
        drop(writer);
        assert!(!has_writer(&reader));
        let appending = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(has_writer(&reader));
        drop(appending);
        assert!(!has_writer(&reader));
    }
}
