//! Control groups: an instance's CPU share, its CPU time and memory, and which processes are its own.
//!
//! Three layouts exist in the field: version 2 alone, version 1 alone, and version 1 with a version 2 hierarchy
//! beside it that has no controllers. What decides is where the `cpu` controller is. Sources:
//! `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`, `scheduler/sched-bwc.rst` of Linux.

mod cpu;
mod files;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::cpu::CpuLimit;
use self::files::{Mount, failed, is_gone, number, optional, read, write};

/// The weight of a process outside of all groups, and of a group, where nothing else is said: `cpu.shares` of version 1.
const SHARES_OF_A_PROCESS: u32 = 1024;

/// The same for `cpu.weight` of version 2.
const WEIGHT_OF_A_PROCESS: u32 = 100;

/// Why a control group can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy has the controllers.
    #[error(
        "no cgroup hierarchy with a `cpu` controller is mounted (looked for v2 with `cpu` in its \
         cgroup.controllers, and for v1 `cpu` and `cpuacct`); mount one: \
         `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    NoController,
    /// Memory can't be limited here.
    #[error(
        "the template has a `memory`, and no cgroup hierarchy has a `memory` controller: boot with \
         `cgroup_enable=memory`, or leave the key out"
    )]
    NoMemory,
    /// The kernel refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was asked, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the kernel has another form than documented.
    #[error("{} reads `{text}`", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
}

/// The hierarchies of this host in which instances are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// Version 2: one directory for all controllers.
    Unified {
        /// Where it is mounted.
        root: PathBuf,
    },
    /// Version 1: a directory in each controller's hierarchy.
    Legacy {
        /// Where `cpu` is mounted.
        cpu: PathBuf,
        /// Where `cpuacct` is mounted; often the same place.
        cpuacct: PathBuf,
        /// Where `memory` is mounted.
        memory: Option<PathBuf>,
    },
}

/// A group of processes: one directory in each hierarchy.
#[derive(Debug, Clone)]
pub struct Cgroup<'a> {
    hierarchies: &'a Hierarchies,
    path: PathBuf,
}

impl Hierarchies {
    /// Those of this host.
    pub fn of_host() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(path).map_err(|error| failed("reading", path, error))?;
        Self::of_mounts(&mounts)
    }

    /// Those of a mount table in the form of `/proc/self/mountinfo`.
    pub fn of_mounts(mountinfo: &str) -> Result<Self, CgroupError> {
        let mounts: Vec<_> = mountinfo.lines().filter_map(Mount::parse).collect();
        let legacy = |controller: &str| {
            let has = |mount: &&Mount| mount.version == 1 && mount.options.iter().any(|o| o == controller);
            mounts.iter().find(has).map(|mount| mount.path.clone())
        };
        if let (Some(cpu), Some(cpuacct)) = (legacy("cpu"), legacy("cpuacct")) {
            return Ok(Self::Legacy { cpu, cpuacct, memory: legacy("memory") });
        }
        let has_cpu = |mount: &&Mount| {
            let controllers = fs::read_to_string(mount.path.join("cgroup.controllers"));
            mount.version == 2 && controllers.is_ok_and(|list| list.split_whitespace().any(|c| c == "cpu"))
        };
        let unified = mounts.iter().find(has_cpu).ok_or(CgroupError::NoController)?;
        Ok(Self::Unified { root: unified.path.clone() })
    }

    /// The group at `path`, relative to the root; it need not exist.
    #[must_use]
    pub fn group(&self, path: PathBuf) -> Cgroup<'_> {
        Cgroup { hierarchies: self, path }
    }

    /// The names of the groups right below `path`, in any hierarchy.
    pub fn children(&self, path: &Path) -> Result<Vec<String>, CgroupError> {
        let mut names = Vec::new();
        for directory in self.roots().iter().map(|root| root.join(path)) {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|error| failed("listing", &directory, error))?,
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The hierarchies' roots, each once; the first is where processes are looked for.
    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::Unified { root } => vec![root],
            Self::Legacy { cpu, cpuacct, memory } => {
                let mut roots = vec![cpu.as_path()];
                for root in [Some(cpuacct), memory.as_ref()].into_iter().flatten() {
                    if !roots.contains(&root.as_path()) {
                        roots.push(root);
                    }
                }
                roots
            }
        }
    }
}

impl Cgroup<'_> {
    /// Makes the group, and gives its processes together at most `cpus` cores. Idempotent; a group that is there
    /// gets the new limit.
    ///
    /// On a host that is busy with other things, the groups above it are given as much as one process on each CPU,
    /// and share it among their groups by these groups' `cpus`. That is how Kubernetes weighs its pods.
    pub fn ensure(&self, cpus: f64) -> Result<(), CgroupError> {
        for directory in self.directories() {
            if let Hierarchies::Unified { root } = self.hierarchies {
                self.delegate(root)?;
            }
            fs::create_dir_all(&directory).map_err(|error| failed("making", &directory, error))?;
        }
        self.weigh(cpus)?;
        let limit = CpuLimit::of_cores(cpus);
        match self.hierarchies {
            Hierarchies::Unified { root } => {
                let value = format!("{} {}", limit.quota, limit.period);
                write(&root.join(&self.path).join("cpu.max"), &value)
            }
            Hierarchies::Legacy { cpu, .. } => {
                let directory = cpu.join(&self.path);
                // The kernel takes each at once and never a quota above the parent's share of it: no limit while
                // the period changes.
                write(&directory.join("cpu.cfs_quota_us"), "-1")?;
                write(&directory.join("cpu.cfs_period_us"), &limit.period.to_string())?;
                write(&directory.join("cpu.cfs_quota_us"), &limit.quota.to_string())
            }
        }
    }

    /// Makes the group, without any limit. Idempotent.
    pub fn make(&self) -> Result<(), CgroupError> {
        for directory in self.directories() {
            fs::create_dir_all(&directory).map_err(|error| failed("making", &directory, error))?;
        }
        Ok(())
    }

    /// Takes this process into the group.
    pub fn enter(&self) -> Result<(), CgroupError> {
        self.directories().iter().try_for_each(|directory| write(&directory.join("cgroup.procs"), "0"))
    }

    /// Lets the group's processes together use so many bytes of memory, and no swap beside them; `None` lifts the limit.
    /// Beyond it the kernel ends them: see [`was_out_of_memory`](Self::was_out_of_memory).
    ///
    /// # Errors
    /// [`CgroupError::NoMemory`] where there is a limit to set and no hierarchy that has the controller.
    pub fn limit_memory(&self, bytes: Option<u64>) -> Result<(), CgroupError> {
        let Some(directory) = self.memory_directory() else {
            return bytes.map_or(Ok(()), |_| Err(CgroupError::NoMemory));
        };
        match self.hierarchies {
            Hierarchies::Unified { .. } => {
                let limit = bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
                write(&directory.join("memory.max"), &limit)?;
                // All of an instance ends, and not the one process that asked last. Kernels before 4.19 lack it.
                let _ = write(&directory.join("memory.oom.group"), if bytes.is_some() { "1" } else { "0" });
                let swap = if bytes.is_some() { "0" } else { "max" };
                optional(&directory.join("memory.swap.max"), swap)
            }
            Hierarchies::Legacy { .. } => {
                let (plain, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
                let limit = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
                // The second is never below the first; the kernel has it only where swap is accounted for.
                optional(&directory.join(both), "-1")?;
                write(&directory.join(plain), &limit)?;
                optional(&directory.join(both), &limit)
            }
        }
    }

    /// Whether the kernel has ended a process of the group for the memory that it used.
    #[must_use]
    pub fn was_out_of_memory(&self) -> bool {
        let Some(directory) = self.memory_directory() else { return false };
        let file = match self.hierarchies {
            Hierarchies::Unified { .. } => "memory.events",
            Hierarchies::Legacy { .. } => "memory.oom_control",
        };
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
    }

    /// Where the group's memory is limited; `None` where no controller is.
    fn memory_directory(&self) -> Option<PathBuf> {
        match self.hierarchies {
            Hierarchies::Unified { root } => {
                let directory = root.join(&self.path);
                directory.join("memory.max").exists().then_some(directory)
            }
            Hierarchies::Legacy { memory, .. } => memory.as_ref().map(|memory| memory.join(&self.path)),
        }
    }

    /// Gives the group the weight of `cpus` processes.
    ///
    /// The groups above it get that of as many processes as there are CPUs. Their own default is that of a single
    /// process on the whole host, whatever their groups are allowed: ten compilers beside them would leave all
    /// instances together a few percent of each CPU.
    fn weigh(&self, cpus: f64) -> Result<(), CgroupError> {
        let (root, file, one, range) = match self.hierarchies {
            Hierarchies::Unified { root } => (root, "cpu.weight", WEIGHT_OF_A_PROCESS, 1..=10_000),
            Hierarchies::Legacy { cpu, .. } => (cpu, "cpu.shares", SHARES_OF_A_PROCESS, 2..=262_144),
        };
        let put = |group: &Path, processes: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float cast saturates, and what the kernel takes is minded"
            )]
            let weight = (processes * f64::from(one)).round() as u32;
            let weight = weight.clamp(*range.start(), *range.end());
            write(&root.join(group).join(file), &weight.to_string())
        };
        put(&self.path, cpus)?;
        // As many as this process may use, as instances inherit that from it.
        let available = std::thread::available_parallelism().map_or(1, NonZero::get);
        let available = f64::from(u32::try_from(available).unwrap_or(u32::MAX));
        let mut above = self.path.ancestors().skip(1).filter(|group| !group.as_os_str().is_empty());
        above.try_for_each(|group| put(group, available))
    }

    /// Opens the files through which a process enters the group by writing `0`. They are closed by an exec.
    pub fn entrances(&self) -> Result<Vec<File>, CgroupError> {
        let open = |directory: PathBuf| {
            let path = directory.join("cgroup.procs");
            OpenOptions::new().write(true).open(&path).map_err(|error| failed("opening", &path, error))
        };
        self.directories().into_iter().map(open).collect()
    }

    /// The processes in the group; none when there is no group.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut processes = Vec::new();
        // A process that died on its way in may be in one hierarchy only.
        for directory in self.directories() {
            let path = directory.join("cgroup.procs");
            let text = match fs::read_to_string(&path) {
                // ENODEV: removed while it was read.
                Err(error) if is_gone(&error) => continue,
                text => text.map_err(|error| failed("reading", &path, error))?,
            };
            for line in text.lines() {
                let bad = || CgroupError::Form { path: path.clone(), text: line.to_owned() };
                processes.push(line.trim().parse().map_err(|_| bad())?);
            }
        }
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }

    /// Whether there is a directory of it in any hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directories().iter().any(|directory| directory.is_dir())
    }

    /// CPU time used by all processes that were ever in it.
    pub fn cpu_time(&self) -> Result<Duration, CgroupError> {
        match self.hierarchies {
            Hierarchies::Unified { root } => {
                let path = root.join(&self.path).join("cpu.stat");
                let text = read(&path)?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                let micros = usage.and_then(|usage| usage.trim().parse().ok());
                micros.map(Duration::from_micros).ok_or(CgroupError::Form { path, text })
            }
            Hierarchies::Legacy { cpuacct, .. } => {
                number(cpuacct.join(&self.path).join("cpuacct.usage")).map(Duration::from_nanos)
            }
        }
    }

    /// Bytes of memory in use, where the memory controller is there.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let file = match self.hierarchies {
            Hierarchies::Unified { root } => root.join(&self.path).join("memory.current"),
            Hierarchies::Legacy { memory, .. } => {
                memory.as_ref()?.join(&self.path).join("memory.usage_in_bytes")
            }
        };
        number(file).ok()
    }

    /// Removes the group, which must have no processes. No such group is a success.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for directory in self.directories() {
            match fs::remove_dir(&directory) {
                Err(error) if !is_gone(&error) => return Err(failed("removing", &directory, error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.hierarchies.roots().into_iter().map(|root| root.join(&self.path)).collect()
    }

    /// A version 2 group has a controller only if every group above it passes it on.
    fn delegate(&self, root: &Path) -> Result<(), CgroupError> {
        let mut above: Vec<_> = self.path.ancestors().skip(1).map(|path| root.join(path)).collect();
        above.reverse();
        for directory in above {
            fs::create_dir_all(&directory).map_err(|error| failed("making", &directory, error))?;
            let path = directory.join("cgroup.subtree_control");
            let passed_on = fs::read_to_string(&path).unwrap_or_default();
            let missing = |controller| !passed_on.split_whitespace().any(|found| found == controller);
            if missing("cpu") {
                write(&path, "+cpu")?;
            }
            if missing("memory") && write(&path, "+memory").is_err() {
                // A host without it will do where no template limits memory.
                tracing::debug!(path = %path.display(), "no memory controller");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
