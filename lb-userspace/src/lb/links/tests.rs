use aya::programs::SchedClassifier;

use super::{Ebpf, EbpfLoader, attach_clsact, clsact, object, program};
use crate::net::Netns;

/// How many programs an interface's ingress has, as `tc` of older kernels knows them.
fn filters(netns: &Netns) -> usize {
    let output = netns.run(|| {
        std::process::Command::new("tc")
            .args(["filter", "show", "dev", "lo", "ingress"])
            .output()
            .expect("tc runs")
    });
    let text = String::from_utf8_lossy(&output.expect("the namespace").stdout).into_owned();
    text.lines().filter(|line| line.contains("answer")).count()
}

fn loaded() -> Ebpf {
    let object = object().expect("the BPF object; run `cargo xtask setup`");
    let mut ebpf = EbpfLoader::new().map_max_entries("flows", 1).load(object).expect("the object loads");
    let answer: &mut SchedClassifier = program(&mut ebpf, "answer").expect("the program");
    answer.load().expect("the program loads");
    ebpf
}

#[test]
fn a_filter_outlives_its_process_and_is_replaced_by_the_next() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: it makes a namespace and loads BPF programs"
    );
    let name = format!("slclsact{}", std::process::id());
    let netns = Netns::create(&name).expect("a namespace");
    for _ in 0..3 {
        let mut ebpf = loaded();
        attach_clsact(program(&mut ebpf, "answer").expect("the program"), "answer", &netns, "lo")
            .expect("attached");
        drop(ebpf);
        assert_eq!(filters(&netns), 1);
    }
    for _ in 0..2 {
        netns.run(|| clsact::detach("lo")).expect("the namespace");
        assert_eq!(filters(&netns), 0);
    }
    Netns::delete(&name).expect("the namespace goes");
}
