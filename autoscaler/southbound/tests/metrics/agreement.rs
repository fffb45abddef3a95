//! The same pages, read by a real Prometheus server and by us: where it has a sum, ours is the same or an error; where
//! it refuses a page, so do we.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener as StdListener;
use std::time::{Duration, SystemTime};

use lb_userspace::net::Netns;
use serde_json::Value;
use sluice_logic::spec::{Exporter, MetricSource};
use sluice_southbound::metrics::{Quota, SourceError, read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::prometheus::Prometheus;
use super::{host, target};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Pages made by chance, beside those below.
const RANDOM: usize = 120;

/// Pages whose sum has to be the same, not only no other. `NOW` stands for a time just past.
const READ: [&str; 20] = [
    "x 1\n",
    "x 1",
    "x{} 1\nx{a=\"1\"} 2\n",
    "# HELP x Some \\n help \"with\" {braces}\n# TYPE x counter\n\
     x{route=\"/\",code=\"200\"} 100\nx{route=\"/users/{id}\",code=\"200\"} 98000\n",
    "x{q=\"a, b\"} 3\nx{q=\"a=b\"} 4\nx{q=\"say \\\"hi\\\"\"} 5\nx{q=\"C:\\\\dir\\\\\"} 6\nx{q=\"two\\nlines\"} 7\n",
    "x {q=\"x\"} 6\n",
    "x\t{q=\"x\"}\t6\t\n",
    "x{ q=\"x\" } 6\n",
    "x{q = \"x\"} 6\n",
    "x{q=\"x\" , } 6\n",
    "x:y:z 9\nx_y 8\nx 7\ny{x=\"1\"} 6\n",
    "x{a=\"ä\u{1F600}\"} 1.5e3\nx{a=\"}\"} +2\nx{a=\"#\"} -.5\n",
    "x{a=\"1\"} 40\nx{a=\"2\"} NaN\n",
    "x{a=\"1\"} +Inf\nx{a=\"2\"} 1\n",
    "\n\n#\n# x\n#TYPE\n   \nx 1\n",
    "x{a=\"1\"} 3 NOW\nx{a=\"2\"} 4\n",
    "x{b=\"1\",a=\"2\"} 3\nx{a=\"2\",b=\"1\"} 3\n",
    "x{quantity=\"1\",less=\"2\"} 3\nx_sum 5\nx_count 6\n",
    "x{a=\"\"} 5\nx{a=\"1\"} 6\n",
    "x{a=\"\\d\"} 5\n",
];

/// The same in `OpenMetrics`; `NOW` is in seconds.
const READ_OPEN_METRICS: [&str; 4] = [
    "# TYPE x gauge\nx{a=\"1\"} 3 NOW\nx{a=\"2\"} 4\n# EOF\n",
    "# TYPE x unknown\n# UNIT x_seconds seconds\n# HELP x with \\\"quotes\\\"\nx 4\n# EOF\n",
    "# TYPE y counter\ny_total 9 # {trace_id=\"} 5\"} 0.67\nx{a=\"}#\"} 2 NOW\n# EOF\n",
    "x 1\n# EOF",
];

/// Pages in which something can't be read.
const REFUSED: [&str; 14] = [
    "x 1\nbroken{line\n",
    "x 1\r\n",
    "x 1,5\n",
    "x 0x10\n",
    "x 1_000\n",
    "x 1e400\n",
    "x 1 1.5\n",
    "x 1 2 3\n",
    "x{a=\"1\",a=\"2\"} 1\n",
    "x{a=\"1} 1\n",
    "x{a=1} 1\n",
    "{a=\"1\"} 1\n",
    "<html><body>x</body></html>\n",
    "x 1 # {a=\"b\"} 1\n",
];

/// Whatever number comes next; the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("it is below a number of that type")
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn line(&mut self) -> String {
        let mut line = self.of(&["x", "x", "x", "y", "x_total", "x:y", "# HELP x ", "#"]).to_owned();
        if self.below(3) > 0 {
            line += self.of(&["{", "{", "{", " {", "{ "]);
            for _ in 0..self.below(3) {
                line += self.of(&["a", "b", "le", "_c"]);
                line += self.of(&["=", "=", "=", "=", "=", "=", " = ", ""]);
                line += "\"";
                line += self.of(&["", "1", "a=\\\"b\\\"", "}", ",", "\\\\", "\\n", "\\d", "ä", " "]);
                line += self.of(&["\"", "\"", "\"", "\"", "\"", "\"", "\"", "\"", "\" ", "\\"]);
                line += self.of(&[",", ",", ",", ",", " ,", ""]);
            }
            line += self.of(&["}", "}", "}", "}", "}", " }", ""]);
        }
        line += self.of(&[" ", " ", " ", " ", "\t", ""]);
        line += self.of(&["1", "2.5", "-3", "+4e2", "NaN", "Inf", "-inf", ".5", "5.", "7", "8", "9", "1e"]);
        line += self.of(&["", "", "", "", " NOW", " NOW", " ", " # 1"]);
        line
    }

    fn page(&mut self) -> String {
        let lines: Vec<String> = (0..=self.below(3)).map(|_| self.line()).collect();
        lines.join("\n") + self.of(&["\n", "\n", ""])
    }
}

struct Case {
    page: String,
    kind: &'static str,
    /// Prometheus is known to have a sum of it, or known to refuse it.
    is_read: Option<bool>,
}

fn cases() -> Vec<Case> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs() - 2;
    let case = |page: &str, kind, is_read| {
        let now = if kind == OPEN_METRICS { format!("{now}.25") } else { format!("{now}250") };
        Case { page: page.replace("NOW", &now), kind, is_read }
    };
    let mut cases: Vec<Case> = READ.iter().map(|page| case(page, TEXT, Some(true))).collect();
    cases.extend(READ_OPEN_METRICS.iter().map(|page| case(page, OPEN_METRICS, Some(true))));
    cases.extend(REFUSED.iter().map(|page| case(page, TEXT, Some(false))));
    cases.push(case("x 1\n", OPEN_METRICS, Some(false)));
    cases.push(case("x 1 # {a=\"b\"} 1\n# EOF\n", OPEN_METRICS, Some(false)));
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    cases.extend((0..RANDOM).map(|_| case(&chance.page(), TEXT, None)));
    cases
}

/// The page whose number is the path.
async fn serve(listener: TcpListener, cases: Vec<(String, &'static str)>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap_or_default();
        let request = String::from_utf8_lossy(&request[..read]).into_owned();
        let number =
            request.strip_prefix("GET /").and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        let Some((page, kind)) = number.and_then(|number| cases.get(number)) else { continue };
        let length = page.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
    }
}

/// What Prometheus has by job for a query.
async fn ask(port: u16, query: &str) -> BTreeMap<usize, f64> {
    let mut answer = String::new();
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    if asked.await.is_err() {
        return BTreeMap::new();
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let one = |series: &Value| {
        let job = series["metric"]["job"].as_str()?.parse().ok()?;
        Some((job, series["value"][1].as_str()?.parse().ok()?))
    };
    series.iter().filter_map(one).collect()
}

async fn ours(port: u16, number: usize) -> Result<f64, SourceError> {
    let exporter = Exporter {
        port,
        path: format!("/{number}"),
        series: "x".to_owned(),
        labels: BTreeMap::new(),
        rate: false,
    };
    let (source, here) =
        (MetricSource::Exporter(exporter), Netns::current().expect("a thread has a namespace"));
    let timeout = Duration::from_secs(10);
    let mut readings = read(&source, &Quota::default(), None, &here, &[target(8)], timeout).await;
    readings.remove(0).map(|reading| reading.value)
}

#[tokio::test]
async fn a_sum_is_the_one_that_prometheus_has() {
    const PATIENCE: Duration = Duration::from_mins(1);
    let cases = cases();
    let listener = TcpListener::bind((host(8), 0)).await.expect("the address is free");
    let scraped = listener.local_addr().expect("it is bound");
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, cases.iter().map(|case| (case.page.clone(), case.kind)).collect()));
    let mut jobs = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
    for number in 0..cases.len() {
        let _ = writeln!(
            jobs,
            "  - {{job_name: '{number}', metrics_path: /{number}, static_configs: [{{targets: ['{scraped}']}}]}}"
        );
    }
    let port =
        StdListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    let _server = Prometheus::start(port, &jobs);

    let begin = Instant::now();
    let up = loop {
        let up = ask(port, "up").await;
        if up.len() == cases.len() && begin.elapsed() > Duration::from_secs(2) {
            break up;
        }
        assert!(begin.elapsed() < PATIENCE, "Prometheus has scraped {} of {} pages", up.len(), cases.len());
        sleep(Duration::from_millis(200)).await;
    };
    let sums = ask(port, "sum%20by%20(job)%20(x)").await;
    let (mut same, mut wrong) = (0, Vec::new());
    for (number, Case { page, is_read, .. }) in cases.iter().enumerate() {
        let is_up = up.get(&number) == Some(&1.0);
        if is_read.is_some_and(|expected| expected != is_up) {
            wrong.push(format!("{page:?}: Prometheus reads it: {is_up}"));
        }
        match (sums.get(&number).filter(|_| is_up), ours(scraped.port(), number).await) {
            (Some(theirs), Ok(ours)) if theirs.to_bits() == ours.to_bits() => same += 1,
            (Some(theirs), Ok(ours)) if theirs.is_nan() && ours.is_nan() => same += 1,
            (Some(_), Err(_)) if is_read.is_none() => {}
            (None, Err(_)) => {}
            (theirs, ours) => wrong.push(format!("{page:?}: Prometheus has {theirs:?}, we have {ours:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same >= READ.len() + READ_OPEN_METRICS.len() + RANDOM / 8, "only {same} pages were read by both");
}
