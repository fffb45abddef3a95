//! Names of namespaces beside other people's `ip netns`, on the real kernel. Each test has a mount namespace of its own,
//! in which `/run/netns` is a plain directory at first. Needs root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lb_userspace::net::Netns;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread that sees a fresh `/run`, and whose mounts nobody else sees.
fn with_plain_run(work: impl FnOnce() + Send + 'static) {
    let isolated = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: this test needs root");
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        // The host's own is no mount of this test's.
        while umount2("/run/netns", MntFlags::MNT_DETACH).is_ok() {}
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a fresh /run");
        work();
    };
    if let Err(panic) = thread::spawn(isolated).join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip netns …`, in the calling thread's mount namespace; what it prints.
fn ip_netns(arguments: &[&str]) -> String {
    let output = Command::new("ip").arg("netns").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "ip netns {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A name as it is made by programs that don't share the directory.
fn name_on_plain_directory(name: &str) {
    let path = path(name);
    fs::create_dir_all("/run/netns").expect("the directory");
    File::create(&path).expect("the name");
    let made = thread::spawn(move || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    made.join().expect("the thread").expect("a namespace");
}

fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// How many mounts there are on a path, hidden ones too.
fn mounts_on(path: &str) -> usize {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    table.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
}

#[test]
fn a_name_goes_after_another_has_mounted_the_directory_over_it() {
    with_plain_run(|| {
        name_on_plain_directory("ours");
        name_on_plain_directory("foreign");
        ip_netns(&["add", "other"]);
        assert_eq!(mounts_on("/run/netns/ours"), 2, "one is hidden");

        Netns::delete("ours").expect("it goes");
        assert!(!path("ours").exists() && mounts_on("/run/netns/ours") == 0);
        assert_eq!(mounts_on("/run/netns/foreign"), 2, "what is another's stays as it is");
        ip_netns(&["exec", "foreign", "true"]);
        ip_netns(&["exec", "other", "true"]);
        Netns::delete("ours").expect("it goes again");
    });
}

#[test]
fn a_name_goes_where_run_itself_is_shared() {
    with_plain_run(|| {
        // As systemd sets it up: what is mounted below the directory and above it is the same then.
        mount(None::<&str>, "/run", None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("a shared /run");
        name_on_plain_directory("ours");
        name_on_plain_directory("foreign");
        ip_netns(&["add", "other"]);
        Netns::delete("ours").expect("it goes");
        assert!(!path("ours").exists() && mounts_on("/run/netns/ours") == 0);
        Netns::create("ours").expect("it comes again");
        ip_netns(&["exec", "ours", "true"]);
        Netns::delete("ours").expect("it goes again");
        ip_netns(&["exec", "foreign", "true"]);
        ip_netns(&["exec", "other", "true"]);
    });
}

#[test]
fn a_name_goes_whose_upper_mount_has_gone_already() {
    with_plain_run(|| {
        name_on_plain_directory("ours");
        ip_netns(&["add", "other"]);
        umount2("/run/netns/ours", MntFlags::MNT_DETACH).expect("the upper one goes");
        Netns::delete("ours").expect("it goes");
        assert!(!path("ours").exists() && mounts_on("/run/netns/ours") == 0);
    });
}

#[test]
fn the_directory_is_a_shared_mount_before_the_first_name() {
    with_plain_run(|| {
        Netns::create("ours").expect("a namespace");
        let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
        let directory = table.lines().find(|line| line.contains(" /run/netns ")).expect("a mount");
        assert!(directory.contains(" shared:"), "{directory}");

        ip_netns(&["add", "other"]);
        assert_eq!((mounts_on("/run/netns"), mounts_on("/run/netns/ours")), (1, 1));
        ip_netns(&["exec", "ours", "true"]);
        ip_netns(&["del", "other"]);
        Netns::delete("ours").expect("it goes");
        assert!(!path("ours").exists() && mounts_on("/run/netns/ours") == 0);
    });
}

#[test]
fn many_at_once_mount_the_directory_once() {
    with_plain_run(|| {
        thread::scope(|scope| {
            for number in 0..8 {
                scope.spawn(move || Netns::create(&format!("ours{number}")).expect("a namespace"));
                scope.spawn(move || ip_netns(&["add", &format!("other{number}")]));
            }
        });
        assert_eq!(mounts_on("/run/netns"), 1);
        for number in 0..8 {
            Netns::delete(&format!("ours{number}")).expect("it goes");
            ip_netns(&["del", &format!("other{number}")]);
        }
        assert_eq!(Netns::names().expect("names"), Vec::<String>::new());
    });
}

#[test]
fn the_directory_is_not_mounted_while_another_has_its_lock() {
    with_plain_run(|| {
        fs::create_dir_all("/run/netns").expect("the directory");
        let held = File::open("/run/netns").expect("it opens");
        held.lock().expect("locked");
        let begun = Instant::now();
        let creating = thread::spawn(|| Netns::create("ours").map(drop));
        thread::sleep(Duration::from_millis(200));
        let mounts = mounts_on("/run/netns");
        // It waits for a second at most.
        assert!(mounts == 0 || begun.elapsed() > Duration::from_millis(900), "another is about to mount it");
        drop(held);
        creating.join().expect("the thread").expect("a namespace");
        assert_eq!(mounts_on("/run/netns"), 1);
        Netns::delete("ours").expect("it goes");
    });
}

#[test]
fn a_lock_that_another_never_gives_back_delays_but_does_not_stop() {
    with_plain_run(|| {
        fs::create_dir_all("/run/netns").expect("the directory");
        let held = File::open("/run/netns").expect("it opens");
        held.lock().expect("locked");
        Netns::create("ours").expect("a namespace");
        Netns::delete("ours").expect("it goes");
    });
}
