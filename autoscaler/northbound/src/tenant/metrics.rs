//! `metrics`: what a tenant measures of its own, and where it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_logic::spec::{Exporter, MetricName, MetricSource, MetricSpec, PromQuery};

use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section, listed};
use crate::value::{self, Complaint};
use crate::yaml::{Kind, Node, Spanned};

/// A source is read so often where its file doesn't say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
/// The longest wait for an answer where the file doesn't say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Samples that may be lost before data count as missing: two are a hiccup, three a fault.
const STALE_INTERVALS: u32 = 3;
/// Where a metric can come from.
const SOURCES: [&str; 3] = ["push", "exporter", "prometheus"];

/// Reads the list. `None` has been reported.
pub(super) fn metrics(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Vec<MetricSpec>> {
    let Some(items) = fields.optional_list(faults, "metrics")? else { return Some(Vec::new()) };
    let read: Vec<_> = items.value.iter().map(|item| metric(faults, item)).collect();
    let mut places: BTreeMap<MetricName, usize> = BTreeMap::new();
    for (name, _) in read.iter().flatten() {
        if let Some(line) = places.get(&name.value) {
            let message = format!("the metric `{}` comes twice: see line {line}", name.value.as_str());
            faults.error_with_help(name.span, message, "give each metric a name of its own");
        }
        places.entry(name.value.clone()).or_insert(name.span.line);
    }
    read.into_iter().map(|metric| metric.map(|(_, spec)| spec)).collect()
}

fn metric(faults: &mut Faults<'_>, node: &Node) -> Option<(Spanned<MetricName>, MetricSpec)> {
    let mut fields = Fields::open(faults, "metric", node)?;
    let name = fields.required(faults, &["name"], |node| {
        value::text(node)?.parse::<MetricName>().map_err(|error| Complaint::new(error.to_string()))
    });
    let source = source(faults, &mut fields, node);
    let duration =
        |range: std::ops::RangeInclusive<Duration>| move |node: &Node| value::duration(range.clone(), node);
    let seconds = Duration::from_secs;
    let default = if matches!(source, Some(MetricSource::Push)) { seconds(60) } else { DEFAULT_INTERVAL };
    let interval = fields.defaulted(faults, &["interval"], default, duration(seconds(1)..=seconds(3600)));
    let most = interval.unwrap_or(seconds(60)).min(seconds(60));
    let timeout = fields.defaulted(
        faults,
        &["timeout"],
        DEFAULT_TIMEOUT.min(most),
        duration(Duration::from_millis(10)..=most),
    );
    let stale_after = fields.defaulted(
        faults,
        &["stale_after"],
        interval.unwrap_or(default).saturating_mul(STALE_INTERVALS),
        duration(interval.unwrap_or(default)..=seconds(24 * 3600)),
    );
    fields.finish(faults);
    let name = name?;
    let spec = MetricSpec {
        name: name.value.clone(),
        source: source?,
        interval: interval?,
        timeout: timeout?,
        stale_after: stale_after?,
    };
    Some((name, spec))
}

/// Exactly one of the sources.
fn source(faults: &mut Faults<'_>, fields: &mut Fields<'_>, node: &Node) -> Option<MetricSource> {
    let push = fields.optional(faults, &["push"], |node| {
        if value::boolean(node)? {
            Ok(())
        } else {
            Err(Complaint::with_help("`push: false` says nothing", "leave the key out"))
        }
    });
    let exporter = match fields.section(faults, "exporter") {
        Section::Open(section) => Some(exporter(faults, section)),
        Section::Refused => Some(None),
        Section::Absent => None,
    };
    let prometheus = match fields.section(faults, "prometheus") {
        Section::Open(section) => Some(prometheus(faults, section)),
        Section::Refused => Some(None),
        Section::Absent => None,
    };
    let pushed = match push {
        Some(None) => None,
        Some(Some(_)) => Some(Some(MetricSource::Push)),
        None => Some(None),
    };
    let mut given = [pushed, exporter, prometheus].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => source,
        (None, _) => {
            let help = format!("it can be {}", listed(&SOURCES));
            faults.error_with_help(node.span, "the metric says not where it comes from", help);
            None
        }
        (Some(_), Some(_)) => {
            let help = format!("give one of {}", listed(&SOURCES));
            faults.error_with_help(node.span, "the metric comes from more than one source", help);
            None
        }
    }
}

fn exporter(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<MetricSource> {
    let port = fields.required(faults, &["port"], value::port);
    let path = fields.defaulted(faults, &["path"], "/metrics".to_owned(), http_path);
    let series = fields.required(faults, &["series"], series);
    let labels = fields.defaulted(faults, &["labels"], BTreeMap::new(), labels);
    let rate = fields.defaulted(faults, &["rate"], false, value::boolean);
    fields.finish(faults);
    Some(MetricSource::Exporter(Exporter {
        port: port?.value,
        path: path?,
        series: series?.value,
        labels: labels?,
        rate: rate?,
    }))
}

fn prometheus(faults: &mut Faults<'_>, mut fields: Fields<'_>) -> Option<MetricSource> {
    let url = fields.required(faults, &["url"], url);
    let query = fields.required(faults, &["query"], value::text);
    let by = fields.optional(faults, &["by"], series);
    fields.finish(faults);
    Some(MetricSource::Prometheus(PromQuery {
        url: url?.value,
        query: query?.value,
        by: by?.map(|label| label.value),
    }))
}

fn http_path(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    if text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Ok(text);
    }
    Err(Complaint::with_help(format!("`{text}` is not the path of a URL"), "write it as `/metrics`"))
}

fn url(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let bare = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match bare {
        Some(host) if !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace()) => {
            Ok(format!("http://{host}"))
        }
        _ => Err(Complaint::with_help(
            format!("`{text}` is not the URL of a Prometheus server"),
            "write it as `http://127.0.0.1:9090`; https is not spoken",
        )),
    }
}

/// The name of a series or a label (<https://prometheus.io/docs/concepts/data_model>): since Prometheus 3 it may have any
/// characters. Those by which a series is written with its labels are a mistake all the same.
fn series(node: &Node) -> Result<String, Complaint> {
    const HELP: &str = "write the name alone here, and labels as `labels: {code: \"200\"}`";
    let text = value::text(node)?;
    let begins_badly = text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && text.is_ascii();
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "{}()[]\"'=,#".contains(c);
    if text.is_empty() || begins_badly || text.contains(is_odd) {
        let message = format!("{} is not a name as Prometheus has them", quote(&text));
        return Err(Complaint::with_help(message, HELP));
    }
    Ok(text)
}

fn labels(node: &Node) -> Result<BTreeMap<String, String>, Complaint> {
    let Kind::Mapping(pairs) = &node.kind else {
        return Err(Complaint::with_help("expected labels", "write them as `{mode: user}`"));
    };
    pairs.iter().map(|(name, value)| Ok((series(name)?, value::text(value)?))).collect()
}
