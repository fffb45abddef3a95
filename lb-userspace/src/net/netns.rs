//! Network namespaces, by the same names as `ip netns`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::{device, mounts};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// Where the kernel shows the network settings of the namespace of the thread that looks.
const SYSCTL: &str = "/proc/sys/net";

/// A network namespace, held open: it lives at least as long as this.
///
/// Displayed as in errors: ``namespace `transit` ``, or `the namespace of this process`.
#[derive(Debug, Clone)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    /// As errors call it.
    called: String,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::at(Path::new("/proc/thread-self/ns/net"), "the namespace of this process".to_owned())
    }

    /// A namespace that exists, by its name.
    pub fn open(name: &str) -> io::Result<Self> {
        let path = path_of(name)?;
        if !is_namespace(&path) {
            let reason = format!("no network namespace `{name}`: `ip netns add {name}` makes it");
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        Self::at(&path, format!("namespace `{name}`"))
    }

    /// The namespace of a process. Whose number it is now is for the caller to know.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        Self::at(Path::new(&format!("/proc/{pid}/ns/net")), format!("the namespace of process {pid}"))
    }

    fn at(path: &Path, called: String) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner { file: File::open(path)?, called })))
    }

    /// Makes a namespace with that name, `lo` up in it, or opens the one there is. A name that a crash left
    /// without a namespace behind it is taken over.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = path_of(name)?;
        if is_namespace(&path) {
            return Self::open(name);
        }
        fs::create_dir_all(NAMES)?;
        mounts::share(Path::new(NAMES))?;
        File::create(&path)?;
        in_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            // Before the name: whoever finds the namespace finds it complete.
            device::set_up("lo")?;
            // A namespace lives while something holds it: the mount does, after this thread has ended.
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        })?;
        Self::open(name)
    }

    /// Removes the name; the namespace ends when nothing holds it any more. No such name is a success.
    ///
    /// So it does where somebody has mounted the directory of names over itself since the name was made, as
    /// `ip netns add` does where it is not mounted yet.
    pub fn delete(name: &str) -> io::Result<()> {
        let path = path_of(name)?;
        // Two processes that made the same name at once have mounted twice.
        while is_namespace(&path) {
            match umount2(&path, MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                mounts::release_hidden(Path::new(NAMES), name)?;
                fs::remove_file(&path)
            }
            done => done,
        }
    }

    /// The names there are, also those without a namespace behind them.
    pub fn names() -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(NAMES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Runs `work` in this namespace, on a thread of its own, so that the caller's thread never changes its
    /// namespace. Sockets, netlink handles and BPF links made inside belong to the namespace for good.
    ///
    /// Blocks the caller until `work` is done; about 50 µs on top of it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_new_thread(|| {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }

    /// Sets a network setting of this namespace. `key` is its path below `/proc/sys/net`, with slashes, as
    /// interface names may have dots: `ipv4/conf/eth0.5/forwarding`.
    pub fn set_sysctl(&self, key: &str, value: &str) -> io::Result<()> {
        let result = self.run(|| fs::write(Path::new(SYSCTL).join(key), value))?;
        result.map_err(|error| self.sysctl_error(key, &error))
    }

    /// A network setting of this namespace, without the line's end.
    pub fn sysctl(&self, key: &str) -> io::Result<String> {
        let text = self.run(|| fs::read_to_string(Path::new(SYSCTL).join(key)))?;
        text.map(|text| text.trim_end().to_owned()).map_err(|error| self.sysctl_error(key, &error))
    }

    /// Turns transmit checksum offload and segmentation offloads (TSO, GSO) off on an interface of this
    /// namespace.
    ///
    /// An XDP frame carries no checksum metadata: what a local client behind a veth sends into an XDP uplink
    /// must have its checksums on the wire, or ping works and TCP does not.
    pub fn disable_offloads(&self, interface: &str) -> io::Result<()> {
        self.run(|| device::disable_offloads(interface))?.map_err(|error| {
            let reason = format!("offloads of {interface} in {self} can't be turned off: {error}");
            io::Error::new(error.kind(), reason)
        })
    }

    /// Whether an interface of this namespace is a veth whose frames fit a page, so that native XDP may run on it.
    pub fn is_short_veth(&self, interface: &str) -> io::Result<bool> {
        self.run(|| Ok(device::driver(interface)? == "veth" && device::mtu(interface)? <= super::link::MTU))?
    }

    /// Whether an interface of this namespace is a veth's end.
    pub fn is_veth(&self, interface: &str) -> io::Result<bool> {
        self.run(|| Ok(device::driver(interface)? == "veth"))?
    }

    /// Whether the frames of an interface of this namespace are Ethernet's.
    pub fn is_ethernet(&self, interface: &str) -> io::Result<bool> {
        self.run(|| device::is_ethernet(interface))?
    }

    fn sysctl_error(&self, key: &str, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{SYSCTL}/{key} in {self}: {error}"))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.called)
    }
}

/// A name must stay below [`NAMES`].
fn path_of(name: &str) -> io::Result<PathBuf> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let reason = format!("`{name}` can't be the name of a network namespace");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(Path::new(NAMES).join(name))
}

/// Whether a namespace is mounted on `path`; an empty file is what a crash between the two steps leaves.
fn is_namespace(path: &Path) -> bool {
    use nix::sys::statfs::{FsType, statfs};
    /// `NSFS_MAGIC` of `linux/magic.h`.
    const NSFS: FsType = FsType(0x6e73_6673);
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

fn in_new_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
