//! What instances say, and how they end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn how_it_ended_and_what_it_said_outlives_the_daemon() {
    let host = Host::new();
    let spec = started(&host, 21, "echo one; echo 'PANIC: out of cheese' >&2; exit 9", None).await;
    // Another daemon asks, which is not its parent.
    let next = host.restarted();
    let ended = ending(&host, &next, &spec.id).await;
    assert_eq!((ended.code, ended.signal, ended.out_of_memory), (Some(9), None, false));
    assert_eq!(ended.last_lines, ["one", "PANIC: out of cheese"]);
    let [output] = next.output(None).await.expect("output").try_into().expect("one instance's");
    assert_eq!((&output.spec.id, output.lines.len()), (&spec.id, 2));
    next.output_kept(&output).await.expect("kept");
    assert_eq!(host.restarted().output(None).await.expect("output"), [], "it does not come again");
    host.provider.delete(&spec.id).await.expect("deleted");

    let spec = started(&host, 22, "kill -KILL $$", None).await;
    assert_eq!(ending(&host, &next, &spec.id).await.signal, Some(9));
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_bounded_and_holds_nobody_up() {
    let host = Host::new();
    let script = "timeout 3 yes 'a line of output that nobody will ever read'; echo done; sleep 60";
    let spec = started(&host, 23, script, None).await;
    let size = || {
        let files = fs::read_dir(host.scope.instances_dir()).expect("files");
        files.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>()
    };
    let begin = Instant::now();
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "done") {
        assert!(begin.elapsed() < PATIENCE, "it is held up: {:?}", lines.last());
        assert!(size() < 3 << 20, "{}", size());
        for output in host.provider.output(Some(&spec.id)).await.expect("output") {
            host.provider.output_kept(&output).await.expect("kept");
            lines.extend(output.lines);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(lines.iter().any(|line| line.contains("bytes of output were dropped")), "{}", lines.len());
    host.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_templates_ends_it_and_is_the_reason() {
    let host = Host::new();
    let script = "exec python3 -c 'import time; x = bytearray(256 << 20); time.sleep(60)'";
    let spec = started(&host, 24, script, Some(32 << 20)).await;
    let ended = ending(&host, &host.provider, &spec.id).await;
    assert!(ended.out_of_memory, "{ended:?}");
    assert!(ended.to_string().contains("out of memory"), "{ended}");
    host.down().await;
}

async fn ending(host: &Host, provider: &NetnsProvider, id: &InstanceId) -> Ending {
    wait_until_exited(host, id).await;
    provider.ending(id).await.expect("an answer").expect("it has ended")
}

/// An instance of that script, started, with that memory.
async fn started(host: &Host, subnet: u8, script: &str, memory: Option<u64>) -> InstanceSpec {
    let network = host.network("demo", subnet).await;
    let mut spec = instance_spec(&network, 1);
    spec.template.netns = Some(runs(&["bash", "-c", script]));
    spec.template.memory = memory;
    host.provider.create(&spec).await.expect("created");
    host.provider.start(&spec.id).await.expect("started");
    spec
}
