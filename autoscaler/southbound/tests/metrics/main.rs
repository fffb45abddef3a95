//! Metric sources: exporters, one of which hangs, and a real Prometheus server.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use lb_userspace::net::Netns;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Exporter, MetricSource, PromQuery};
use sluice_southbound::metrics::{Quota, SourceError, Target, read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

mod agreement;
mod prometheus;

use self::prometheus::Prometheus;

const PAGE: &str = "# TYPE queue_length gauge\nqueue_length{queue=\"in\"} 7\nqueue_length{queue=\"out\"} 2\n";

/// An address of this machine that no other test uses.
fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, 3, last)
}

fn target(last: u8) -> Target {
    Target { id: InstanceId::from_label(format!("demo-{last}")), address: host(last), management: None }
}

fn exporter(port: u16) -> MetricSource {
    let labels = BTreeMap::from([("queue".to_owned(), "in".to_owned())]);
    MetricSource::Exporter(Exporter {
        port,
        path: "/metrics".to_owned(),
        series: "queue_length".to_owned(),
        labels,
        rate: false,
    })
}

/// An exporter at that address; `answers` is what it says to every request, after which it closes.
async fn serve(tasks: &mut JoinSet<()>, address: SocketAddr, answers: Option<String>) -> u16 {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    let port = listener.local_addr().expect("it is bound").port();
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(page) = &answers else {
                // Held open, and never answered.
                open.push(stream);
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                page.len()
            );
            let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn an_exporter_that_hangs_holds_up_no_other() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let mut tasks = JoinSet::new();
    let port = serve(&mut tasks, (host(2), 0).into(), None).await;
    serve(&mut tasks, (host(3), port).into(), Some(PAGE.to_owned())).await;
    serve(&mut tasks, (host(4), port).into(), Some("something_else 1\n".to_owned())).await;
    let targets = [target(2), target(3), target(4), target(5)];
    let here = Netns::current().unwrap();
    let mut found =
        read(&exporter(port), &Quota::default(), None, &here, &targets, TIMEOUT).await.into_iter();
    let hangs = found.next().unwrap().unwrap_err();
    assert!(matches!(&hangs, SourceError::TimedOut { target, .. } if target.contains("demo-2")), "{hangs}");
    assert_eq!(found.next().unwrap().unwrap().value.to_bits(), 7.0_f64.to_bits());
    let other = found.next().unwrap().unwrap_err().to_string();
    assert!(other.contains("demo-4") && other.contains("queue_length{queue=\"in\"}"), "{other}");
    let nobody = found.next().unwrap().unwrap_err().to_string();
    assert!(nobody.contains("demo-5") && nobody.contains("refused"), "{nobody}");
}

fn query(port: u16, query: &str, by: Option<&str>) -> MetricSource {
    MetricSource::Prometheus(PromQuery {
        url: format!("http://127.0.0.1:{port}"),
        query: query.to_owned(),
        by: by.map(str::to_owned),
    })
}

#[tokio::test]
async fn a_prometheus_server_is_asked() {
    const PATIENCE: Duration = Duration::from_mins(1);
    const TIMEOUT: Duration = Duration::from_secs(5);
    let mut tasks = JoinSet::new();
    let exporter_port = serve(&mut tasks, (host(6), 0).into(), Some(PAGE.to_owned())).await;
    let port = StdListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
    let scraped = SocketAddr::from((host(6), exporter_port));
    let jobs = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n  - job_name: test\n    \
         static_configs: [{{targets: ['{scraped}']}}]\n"
    );
    let _server = Prometheus::start(port, &jobs);
    let here = Netns::current().unwrap();
    let ask = async |source: MetricSource| {
        read(&source, &Quota::default(), None, &here, &[target(6)], TIMEOUT).await.remove(0)
    };

    let begin = Instant::now();
    let sum = loop {
        match ask(query(port, "sum(queue_length)", None)).await {
            Ok(reading) => break reading,
            Err(error) if begin.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    assert_eq!((sum.instance, sum.value.to_bits()), (None, 9.0_f64.to_bits()));
    let by_instance = ask(query(port, "queue_length{queue='out'}", Some("instance"))).await.unwrap();
    assert_eq!((by_instance.instance, by_instance.value.to_bits()), (Some(target(6).id), 2.0_f64.to_bits()));
    for (wrong, fragment) in
        [("queue_length", "2 series"), ("sum(", "parse error"), ("nothing_of_that", "finds nothing")]
    {
        let error = ask(query(port, wrong, None)).await.unwrap_err().to_string();
        assert!(error.contains(fragment), "{wrong}: {error}");
    }
    let nobody = ask(query(1, "1", None)).await.unwrap_err().to_string();
    assert!(nobody.contains("http://127.0.0.1:1") && nobody.contains("refused"), "{nobody}");
}
