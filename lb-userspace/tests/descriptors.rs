//! Alone in its process, as it counts the process's file descriptors. Needs root.

use std::fs;
use std::time::{Duration, Instant};

use lb_userspace::net::{Links, Netns};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("proc").count()
}

/// A netlink socket that stays would hold its namespace, and so every instance's for ever.
#[tokio::test]
async fn links_that_are_dropped_hold_no_namespace() {
    let name = format!("slfd{}", std::process::id());
    let before = open_descriptors();
    for _ in 0..50 {
        let netns = Netns::create(&name).expect("a namespace can be made: this test needs root");
        let links = Links::open(&netns).expect("netlink");
        let listed = links.list().await;
        Netns::delete(&name).expect("deleted");
        assert_eq!(listed.expect("list").len(), 1);
    }
    let begin = Instant::now();
    while open_descriptors() > before {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{} descriptors, {before} before",
            open_descriptors()
        );
        tokio::task::yield_now().await;
    }
}
