use tempfile::TempDir;

use super::*;

/// A directory tree in the place of a cgroup filesystem, and a mount table that says so.
struct Host {
    root: TempDir,
    mounts: String,
}

impl Host {
    fn new(mounts: &[(&str, &str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let mut table = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n".to_owned();
        for (path, kind, options) in mounts {
            let path = root.path().join(path);
            fs::create_dir_all(&path).expect("a directory");
            let path = path.display();
            let line = format!("31 23 0:28 / {path} rw shared:7 - {kind} {kind} {options}\n");
            table.push_str(&line);
        }
        Self { root, mounts: table }
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).expect("a file")
    }

    fn hierarchies(&self) -> Hierarchies {
        Hierarchies::of_mounts(&self.mounts).expect("hierarchies")
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().expect("CPUs").get()
}

#[test]
fn version_2_alone() {
    let host = Host::new(&[("all", "cgroup2", "rw,nsdelegate")]);
    host.put("all/cgroup.controllers", "cpuset cpu io memory pids\n");
    let found = host.hierarchies();
    assert_eq!(found, Hierarchies::Unified { root: host.root.path().join("all") });
    let group = found.group("sluice/a-00000001".into());
    group.ensure(0.5).expect("made");
    assert_eq!(host.text("all/sluice/a-00000001/cpu.max"), "10000 20000");
    assert_eq!(host.text("all/sluice/a-00000001/cpu.weight"), "50");
    assert_eq!(host.text("all/sluice/cpu.weight"), (100 * cpus()).min(10_000).to_string());
    assert!(!host.root.path().join("all/cpu.weight").exists(), "the root is not ours");
    assert!(host.text("all/cgroup.subtree_control").contains('+'));
    assert!(host.text("all/sluice/cgroup.subtree_control").contains('+'));
    assert!(!host.root.path().join("all/sluice/a-00000001/cgroup.subtree_control").exists());

    host.put("all/sluice/a-00000001/cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
    host.put("all/sluice/a-00000001/memory.current", "4096\n");
    host.put("all/sluice/a-00000001/cgroup.procs", "12\n34\n");
    assert_eq!(group.cpu_time().expect("read"), Duration::from_micros(1500));
    assert_eq!(group.memory(), Some(4096));
    assert_eq!(group.processes().expect("read"), [12, 34]);
    assert_eq!(found.children(Path::new("sluice")).expect("listed"), ["a-00000001"]);
}

#[test]
fn version_1_with_controllers_mounted_together() {
    let host = Host::new(&[("both", "cgroup", "rw,cpu,cpuacct"), ("memory", "cgroup", "rw,memory")]);
    let found = host.hierarchies();
    let both = host.root.path().join("both");
    let memory = Some(host.root.path().join("memory"));
    assert_eq!(found, Hierarchies::Legacy { cpu: both.clone(), cpuacct: both, memory });
    assert_eq!(found.roots().len(), 2);
    let group = found.group("sluice/a-00000001".into());
    group.ensure(2.0).expect("made");
    assert_eq!(host.text("both/sluice/a-00000001/cpu.cfs_quota_us"), "40000");
    assert_eq!(host.text("both/sluice/a-00000001/cpu.cfs_period_us"), "20000");
    assert_eq!(host.text("both/sluice/a-00000001/cpu.shares"), "2048");
    assert_eq!(host.text("both/sluice/cpu.shares"), (1024 * cpus()).min(262_144).to_string());
    host.put("both/sluice/a-00000001/cpuacct.usage", "1500000\n");
    assert_eq!(group.cpu_time().expect("read"), Duration::from_micros(1500));
    assert_eq!(group.memory(), None);
}

#[test]
fn version_1_with_an_empty_version_2_beside_it() {
    let host = Host::new(&[
        ("cpu", "cgroup", "rw,cpu"),
        ("cpuacct", "cgroup", "rw,cpuacct"),
        ("systemd", "cgroup", "rw,name=systemd"),
        ("unified", "cgroup2", "rw"),
    ]);
    host.put("unified/cgroup.controllers", "hugetlb\n");
    let found = host.hierarchies();
    let at = |name| host.root.path().join(name);
    assert_eq!(found, Hierarchies::Legacy { cpu: at("cpu"), cpuacct: at("cpuacct"), memory: None });
    let group = found.group("sluice/a-00000001".into());
    group.ensure(1.0).expect("made");
    // A process may die between the two.
    host.put("cpu/sluice/a-00000001/cgroup.procs", "12\n");
    host.put("cpuacct/sluice/a-00000001/cgroup.procs", "12\n13\n");
    assert_eq!(group.processes().expect("read"), [12, 13]);
    assert!(!host.root.path().join("unified/sluice").exists());
}

#[test]
fn a_limit_of_memory_leaves_no_swap_beside_it() {
    let host = Host::new(&[("all", "cgroup2", "rw")]);
    host.put("all/cgroup.controllers", "cpu memory\n");
    for file in ["memory.max", "memory.swap.max"] {
        host.put(&format!("all/x/{file}"), "max\n");
    }
    let found = host.hierarchies();
    found.group("x".into()).limit_memory(Some(1 << 20)).expect("limited");
    assert_eq!(
        (host.text("all/x/memory.max"), host.text("all/x/memory.swap.max")),
        ("1048576".into(), "0".into())
    );
    assert_eq!(host.text("all/x/memory.oom.group"), "1", "all of it ends");

    let host = Host::new(&[("both", "cgroup", "rw,cpu,cpuacct"), ("memory", "cgroup", "rw,memory")]);
    let files =
        ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|file| format!("memory/x/{file}"));
    for file in &files {
        host.put(file, "-1\n");
    }
    let found = host.hierarchies();
    let group = found.group("x".into());
    group.limit_memory(Some(1 << 20)).expect("limited");
    assert_eq!(files.each_ref().map(|file| host.text(file)), ["1048576", "1048576"]);
    group.limit_memory(None).expect("lifted");
    assert_eq!(files.each_ref().map(|file| host.text(file)), ["-1", "-1"]);
}

#[test]
fn a_host_without_the_controller_is_told_how_to_get_it() {
    let host = Host::new(&[("unified", "cgroup2", "rw"), ("cpuset", "cgroup", "rw,cpuset")]);
    host.put("unified/cgroup.controllers", "memory pids\n");
    let error = Hierarchies::of_mounts(&host.mounts).expect_err("no cpu controller");
    assert!(error.to_string().contains("mount -t cgroup2"), "{error}");
}

#[test]
fn what_the_kernel_would_not_write_is_an_error() {
    let host = Host::new(&[("all", "cgroup2", "rw")]);
    host.put("all/cgroup.controllers", "cpu\n");
    host.put("all/x/cpu.stat", "nothing\n");
    host.put("all/x/cgroup.procs", "twelve\n");
    let found = host.hierarchies();
    let group = found.group("x".into());
    assert!(group.cpu_time().expect_err("no usage").to_string().contains("cpu.stat"));
    assert!(group.processes().expect_err("no number").to_string().contains("twelve"));
}

#[test]
fn shares_are_what_the_kernel_takes() {
    let limit = |cores| {
        let limit = CpuLimit::of_cores(cores);
        (limit.quota, limit.period)
    };
    assert_eq!(limit(1.0), (20_000, 20_000));
    assert_eq!(limit(0.05), (1_000, 20_000));
    assert_eq!(limit(0.04), (4_000, 100_000));
    assert_eq!(limit(0.0), (1_000, 100_000));
    assert_eq!(limit(f64::NAN), (1_000, 100_000));
}

/// The group of a test on the real kernel; removed with the value.
struct Scratch<'a>(Cgroup<'a>);

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("{error}");
        }
    }
}

#[test]
fn the_real_kernel_counts_and_limits() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let hierarchies = Hierarchies::of_host().expect("a cgroup hierarchy: this test needs root");
    let name = format!("sltcg{}", std::process::id());
    let group = Scratch(hierarchies.group(name.into()));
    let group = &group.0;
    assert!(!group.exists());
    assert_eq!(group.processes().expect("none"), Vec::<i32>::new());
    group.ensure(0.2).expect("made: this test needs root");
    group.ensure(0.1).expect("made again");

    // The shell enters when it is told that it is in the group, then uses all CPU it gets for half a second.
    let mut shell = Command::new("sh")
        .args([
            "-c",
            "read go; end=$(($(date +%s%N) + 500000000)); while [ $(date +%s%N) -lt $end ]; do :; done",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    for mut entrance in group.entrances().expect("open") {
        entrance.write_all(shell.id().to_string().as_bytes()).expect("in");
    }
    assert_eq!(group.processes().expect("one"), [shell.id().cast_signed()]);
    let begin = std::time::Instant::now();
    shell.stdin.take().expect("piped").write_all(b"go\n").expect("go");
    shell.wait().expect("ended");
    let used = group.cpu_time().expect("read");
    let allowed = begin.elapsed().mul_f64(0.1) + Duration::from_millis(50);
    assert!(used > Duration::from_millis(10) && used < allowed, "{used:?} of {:?}", begin.elapsed());
    assert_eq!(group.processes().expect("none"), Vec::<i32>::new());
}

#[test]
fn the_real_kernel_takes_the_weights() {
    let hierarchies = Hierarchies::of_host().expect("a cgroup hierarchy: this test needs root");
    let (root, file, one) = match &hierarchies {
        Hierarchies::Unified { root } => (root, "cpu.weight", 100),
        Hierarchies::Legacy { cpu, .. } => (cpu, "cpu.shares", 1024),
    };
    let name = PathBuf::from(format!("sltcw{}", std::process::id()));
    let above = Scratch(hierarchies.group(name.clone()));
    let group = Scratch(hierarchies.group(name.join("a-00000001")));
    for (cores, weight) in [(0.5, one / 2), (3.0, 3 * one)] {
        group.0.ensure(cores).expect("made: this test needs root");
        let weight_of = |group: &Cgroup<'_>| {
            let text = fs::read_to_string(root.join(&group.path).join(file)).expect("a weight");
            text.trim().parse::<usize>().expect("a number")
        };
        assert_eq!(weight_of(&group.0), weight);
        assert_eq!(weight_of(&above.0), one * cpus());
    }
    drop(group);
    drop(above);
}
