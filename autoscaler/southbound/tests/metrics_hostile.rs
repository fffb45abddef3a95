//! A tenant whose exporters say far too much, or say it far too slowly: it costs the daemon a bounded part of its memory, and
//! the runtime no time. Alone in its process, whose memory it measures.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Exporter, MetricSource, PromQuery};
use sluice_southbound::metrics::{Quota, Reading, SourceError, Target, read};
use tokio::task::JoinSet;
use tokio::time::sleep;

const EXPORTERS: u8 = 100;
/// What each would say.
const LENGTH: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the exporters say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Page {
    /// Lines of the series that is asked for, each another one.
    Series,
    /// A line without an end.
    Line,
    /// One byte each 100 ms.
    Trickle,
}

fn target(last: u8) -> Target {
    let id = InstanceId::from_label(format!("demo-{last}"));
    Target { id, address: Ipv4Addr::new(127, 77, 4, last), management: None }
}

/// Serves one answer of that length; returns the port.
fn serve(port: u16, last: u8, page: Page, length: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 77, 4, last), port)).expect("the address is free");
    let port = listener.local_addr().expect("it is bound").port();
    thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = [0; 2048];
            let _ = stream.read(&mut request);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut written = stream.write_all(head.as_bytes());
            let mut sent = 0;
            while sent < length && written.is_ok() {
                let piece = match page {
                    Page::Series => format!("x{{a=\"{sent}\",b=\"{}\"}} 1\n", "c".repeat(2000)),
                    Page::Line => "x".repeat(4096),
                    Page::Trickle => {
                        thread::sleep(Duration::from_millis(100));
                        "#".to_owned()
                    }
                };
                sent += piece.len();
                written = stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
            }
            let _ = stream.write_all(b"0\r\n\r\n");
        })
        .expect("a thread");
    port
}

/// The process's memory in KiB: a line of `/proc/self/status`.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let found = status.lines().find_map(|text| text.strip_prefix(line)).expect("the line is there");
    found.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What reading has cost.
struct Cost {
    /// By how many KiB the memory has grown at most.
    memory: u64,
    /// The longest time for which the runtime, which has one thread, did nothing else.
    busy: Duration,
    took: Duration,
}

async fn read_all(source: &MetricSource, targets: &[Target]) -> (Vec<Result<Reading, SourceError>>, Cost) {
    let here = Netns::current().expect("a thread has a namespace");
    // 5: the peak begins anew.
    fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
    let before = memory("VmRSS");
    let longest = Arc::new(Mutex::new(Duration::ZERO));
    let noted = Arc::clone(&longest);
    let mut ticker = JoinSet::new();
    ticker.spawn(async move {
        loop {
            let tick = Instant::now();
            sleep(Duration::from_millis(1)).await;
            let mut longest = noted.lock().expect("nobody panics with it");
            *longest = longest.max(tick.elapsed());
        }
    });
    let begin = Instant::now();
    let readings = read(source, &Quota::default(), None, &here, targets, TIMEOUT).await;
    let took = begin.elapsed();
    let busy = *longest.lock().expect("nobody panics with it");
    (readings, Cost { memory: memory("VmHWM").saturating_sub(before), busy, took })
}

fn exporter(port: u16) -> MetricSource {
    let (path, series) = ("/metrics".to_owned(), "x".to_owned());
    MetricSource::Exporter(Exporter { port, path, series, labels: BTreeMap::new(), rate: false })
}

#[tokio::test]
async fn a_hostile_tenant_costs_little() {
    for (page, expected) in [
        (Page::Series, "with more than 1 MiB"),
        (Page::Line, "line 1 has more than 64 KiB"),
        (Page::Trickle, "too slowly"),
    ] {
        let count = if page == Page::Trickle { 32 } else { EXPORTERS };
        let port = serve(0, 1, page, LENGTH);
        for last in 2..=count {
            serve(port, last, page, LENGTH);
        }
        let targets: Vec<Target> = (1..=count).map(target).collect();
        let (readings, Cost { memory, busy, took }) = read_all(&exporter(port), &targets).await;
        for reading in readings {
            let error = reading.expect_err("it is too much").to_string();
            assert!(error.contains(expected) && error.len() < 400, "{page:?}: {error}");
        }
        println!("{page:?}: {memory} KiB, busy for {busy:?}, took {took:?}");
        // The servers of this test take some of both.
        assert!(memory < 24 << 10, "{page:?}: {memory} KiB");
        assert!(busy < Duration::from_millis(500), "{page:?}: the runtime was busy for {busy:?}");
        assert!(took < TIMEOUT, "{page:?}: {took:?}");
    }
    let url = format!("http://127.77.4.1:{}", serve(0, 1, Page::Line, LENGTH));
    let source = MetricSource::Prometheus(PromQuery { url, query: "x".to_owned(), by: None });
    let (mut readings, Cost { memory, .. }) = read_all(&source, &[]).await;
    let error = readings.remove(0).expect_err("it is too much").to_string();
    assert!(error.contains("with more than 1 MiB"), "{error}");
    assert!(memory < 8 << 10, "{memory} KiB");
}
