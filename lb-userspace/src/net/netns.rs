//! Network namespaces, by the same names as `ip netns`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A network namespace, held open: it lives at least as long as this.
#[derive(Debug, Clone)]
pub struct Netns(Arc<File>);

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Ok(Self(Arc::new(File::open("/proc/thread-self/ns/net")?)))
    }

    /// A namespace that exists, by its name.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self(Arc::new(File::open(path_of(name))?)))
    }

    /// Makes a namespace with that name, or opens the one there is. A name that a crash left without a
    /// namespace behind it is taken over.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = path_of(name);
        if is_namespace(&path) {
            return Self::open(name);
        }
        fs::create_dir_all(NAMES)?;
        File::create(&path)?;
        let target = path.clone();
        in_new_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            // A namespace lives while something holds it: the mount does, after this thread has ended.
            mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        })?;
        Self::open(name)
    }

    /// Removes the name; the namespace ends when nothing holds it any more. No such name is a success.
    pub fn delete(name: &str) -> io::Result<()> {
        let path = path_of(name);
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The names there are.
    pub fn names() -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(NAMES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Runs `work` in this namespace, on a thread of its own, so that the caller's thread never changes its
    /// namespace. Sockets, netlink handles and BPF links made inside belong to the namespace for good.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_new_thread(|| {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

/// Whether a namespace is mounted on `path`; an empty file is what a crash between the two steps leaves.
fn is_namespace(path: &Path) -> bool {
    use nix::sys::statfs::{FsType, statfs};
    /// `NSFS_MAGIC` of `linux/magic.h`.
    const NSFS: FsType = FsType(0x6e73_6673);
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

fn in_new_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
