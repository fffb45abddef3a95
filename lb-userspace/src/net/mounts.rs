//! The mounts that hold the names of network namespaces: what `ip netns` does about them, and what it takes to undo a
//! name after somebody has mounted the directory of names over itself.
//!
//! `ip netns add` mounts `/run/netns` over itself the first time, so that names can be shared between mount
//! namespaces. That mount is recursive: names that were mounted on the plain directory are copied onto the upper one,
//! and the lower ones stay, out of reach of any path. Such a lower mount holds its namespace, and its name can't be
//! unlinked (`EBUSY`).

use std::ffi::CString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// `ip netns` holds its lock for microseconds. Anyone may hold it for ever, as anyone may open the directory; so
/// after this the mount is made without it, as `ip netns` does where locking fails.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(1);

/// Makes the directory of names a shared mount, unless it is one, in the order and under the lock of `ip netns add`
/// (`netns_add` in iproute2's `ip/ipnetns.c`). To be called before a name is made in it.
pub(super) fn share(directory: &Path) -> io::Result<()> {
    let lock = File::open(directory)?;
    take(&lock)?;
    let shared = match make_shared(directory) {
        // It is no mount point.
        Err(Errno::EINVAL) => {
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(directory), directory, None::<&str>, bind, None::<&str>)
                .and_then(|()| make_shared(directory))
        }
        shared => shared,
    };
    shared.map_err(|errno| {
        let error = io::Error::from(errno);
        let reason = format!("{} can't be made a shared mount: {error}", directory.display());
        io::Error::new(error.kind(), reason)
    })
}

fn make_shared(directory: &Path) -> nix::Result<()> {
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    mount(None::<&str>, directory, None::<&str>, shared, None::<&str>)
}

/// Locks the directory until `lock` is dropped, where that can be had in time.
fn take(lock: &File) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) | Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Releases the mounts of one name that lie below a mount of its directory, so that the name can be unlinked. Other
/// names are not touched. What can't be reached stays, without an error: unlinking the name tells.
pub(super) fn release_hidden(directory: &Path, name: &str) -> io::Result<()> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let path = directory.join(name);
    let hidden = table.lines().filter_map(Mount::parse).filter(|found| found.is_namespace_at(&path));
    for parent in hidden.map(|found| found.parent) {
        let Some(below) = below(directory, parent)? else { continue };
        // From there the path leads to what is mounted there, whatever covers the directory.
        let path = format!("/proc/thread-self/fd/{}/{name}", below.as_raw_fd());
        match umount2(path.as_str(), MntFlags::MNT_DETACH) {
            // Another one has released it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A line of `/proc/<pid>/mountinfo`, see `proc_pid_mountinfo(5)`.
struct Mount<'a> {
    parent: u64,
    point: &'a str,
    filesystem: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (fixed, optional) = line.split_once(" - ")?;
        let mut fields = fixed.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let point = fields.nth(2)?;
        Some(Self { parent, point, filesystem: optional.split(' ').next()? })
    }

    fn is_namespace_at(&self, path: &Path) -> bool {
        self.filesystem == "nsfs" && self.point.as_bytes() == escaped(path)
    }
}

/// A path as mountinfo shows it.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(byte),
        }
    }
    text
}

/// The directory as it is on the mount `parent`, below what is mounted over it. `None` where that mount can't be
/// reached: it is covered itself.
///
/// No path leads there, but a file handle does: it is opened on a mount that the caller holds, here that of the
/// directory above.
fn below(directory: &Path, parent: u64) -> io::Result<Option<OwnedFd>> {
    let Some(above) = directory.parent() else { return Ok(None) };
    let above = File::open(above)?;
    if mount_of(&above)? != Some(parent) {
        return Ok(None);
    }
    Handle::of(directory)?.open(&above).map(Some)
}

/// The id of the mount that a file was opened on.
fn mount_of(file: &File) -> io::Result<Option<u64>> {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd()))?;
    Ok(info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}

/// `struct file_handle` of `open_by_handle_at(2)`, with room for the longest (`MAX_HANDLE_SZ`).
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    content: [u8; Self::LONGEST],
}

impl Handle {
    const LONGEST: usize = 128;

    fn of(directory: &Path) -> io::Result<Self> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mut handle = Self { bytes: 128, kind: 0, content: [0; Self::LONGEST] };
        let mut mount: libc::c_int = 0;
        // SAFETY: the path ends with a zero, the handle says how much room it has, and the kernel writes no more than
        // that and one int.
        let done = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                path.as_ptr(),
                &raw mut handle,
                &raw mut mount,
                0,
            )
        };
        Errno::result(done)?;
        Ok(handle)
    }

    fn open(&self, on: &File) -> io::Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: the descriptor is open and the handle is a complete one, only read by the kernel.
        let opened =
            unsafe { libc::syscall(libc::SYS_open_by_handle_at, on.as_raw_fd(), &raw const *self, flags) };
        let descriptor = i32::try_from(Errno::result(opened)?).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made it, and nothing else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_whatever_optional_fields() {
        let line = "98 30 0:4 net:[4026532] /run/netns/a\\040b rw shared:5 master:1 - nsfs nsfs rw";
        let found = Mount::parse(line).expect("a mount");
        assert_eq!((found.parent, found.filesystem), (30, "nsfs"));
        assert!(found.is_namespace_at(Path::new("/run/netns/a b")));
        assert!(!found.is_namespace_at(Path::new("/run/netns/a")));
        let plain = Mount::parse("30 27 0:25 / /run rw - tmpfs tmpfs rw").expect("a mount");
        assert!(!plain.is_namespace_at(Path::new("/run")));
        assert!(Mount::parse("98 30 0:4 / /run").is_none());
    }
}
