//! Answers of Prometheus's HTTP API (`/api/v1/query`): pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Reading, Target};

#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

/// Seconds, and the value as a text, as JSON has no NaN.
#[derive(Debug, Deserialize)]
struct Point(#[expect(dead_code, reason = "the time of the query, which is now")] f64, String);

#[derive(Debug, Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: Point,
}

/// What the answer says of each target by the label `by`; without one, of the group.
pub(super) fn readings(answer: &str, by: Option<&str>, targets: &[Target]) -> Result<Vec<Reading>, String> {
    let answer =
        serde_json::from_str(answer).map_err(|error| format!("what is no answer to a query: {error}"))?;
    let data = match answer {
        Answer::Success { data } => data,
        Answer::Error { error } => return Err(format!("that it can't do that: {error}")),
    };
    match (data.result_type.as_str(), by) {
        ("scalar", None) => {
            let point: Point = content(data.result)?;
            Ok(vec![Reading { instance: None, value: number(&point)? }])
        }
        ("scalar", Some(label)) => Err(format!("one number without labels, and none is `{label}`")),
        ("vector", None) => of_group(&content::<Vec<Series>>(data.result)?),
        ("vector", Some(label)) => of_instances(&content::<Vec<Series>>(data.result)?, label, targets),
        (other, _) => {
            Err(format!("a {other}, which is neither a number nor a vector: ask for values of now"))
        }
    }
}

fn content<T: DeserializeOwned>(result: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(result).map_err(|error| format!("what is no answer to a query: {error}"))
}

fn of_group(series: &[Series]) -> Result<Vec<Reading>, String> {
    match series {
        [one] => Ok(vec![Reading { instance: None, value: number(&one.value)? }]),
        [] => Err("no series: the query finds nothing".to_owned()),
        all => Err(format!(
            "{} series: make them one with `sum(…)`, or name with `by` the label that names an instance",
            all.len()
        )),
    }
}

fn of_instances(series: &[Series], label: &str, targets: &[Target]) -> Result<Vec<Reading>, String> {
    let mut found = Vec::new();
    for one in series {
        let named = one.metric.get(label);
        let target = named.and_then(|name| targets.iter().find(|target| is_named(target, name)));
        if let Some(target) = target {
            found.push(Reading { instance: Some(target.id.clone()), value: number(&one.value)? });
        }
    }
    if found.is_empty() && !targets.is_empty() {
        let names: Vec<&str> =
            series.iter().filter_map(|one| Some(one.metric.get(label)?.as_str())).take(5).collect();
        return Err(format!(
            "{} series, none with an instance's address or id as `{label}`: {names:?}",
            series.len()
        ));
    }
    Ok(found)
}

fn is_named(target: &Target, name: &str) -> bool {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let is_address = host.parse().is_ok_and(|host| host == target.address || target.management == Some(host));
    is_address || name == target.id.as_str()
}

fn number(point: &Point) -> Result<f64, String> {
    point.1.parse().map_err(|_| format!("`{}`, which is no number", point.1))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sluice_logic::group::InstanceId;

    use super::*;

    fn targets() -> Vec<Target> {
        let target = |host| Target {
            id: InstanceId::from_label(format!("demo-{host}")),
            address: Ipv4Addr::new(19, 0, 0, host),
            management: Some(Ipv4Addr::new(198, 19, 0, host)),
        };
        vec![target(2), target(3)]
    }

    fn vector(series: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    }

    #[test]
    fn one_value_is_the_groups() {
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000.1,"42"]}}"#;
        let one = vector(r#"{"metric":{},"value":[1700000000,"42"]}"#);
        for answer in [scalar, &one] {
            assert_eq!(readings(answer, None, &[]), Ok(vec![Reading { instance: None, value: 42.0 }]));
        }
        assert!(
            readings(&vector(r#"{"metric":{},"value":[1,"NaN"]}"#), None, &[]).unwrap()[0].value.is_nan()
        );
    }

    #[test]
    fn a_label_names_the_instance_by_address_or_id() {
        let answer = vector(
            r#"{"metric":{"instance":"19.0.0.2:9100"},"value":[1,"0.5"]},
               {"metric":{"instance":"demo-3"},"value":[1,"1.5"]},
               {"metric":{"instance":"10.0.0.1:9100"},"value":[1,"9"]},
               {"metric":{"job":"x"},"value":[1,"9"]}"#,
        );
        let found = readings(&answer, Some("instance"), &targets()).unwrap();
        let found: Vec<(&str, f64)> = found
            .iter()
            .map(|reading| (reading.instance.as_ref().unwrap().as_str(), reading.value))
            .collect();
        assert_eq!(found, [("demo-2", 0.5), ("demo-3", 1.5)]);
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        let two = vector(r#"{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"2"]}"#);
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error at char 3"}"#;
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        for (answer, by, fragment) in [
            (two.as_str(), None, "2 series: make them one with `sum(…)`"),
            (&two, Some("instance"), "none with an instance's address"),
            (&vector(""), None, "finds nothing"),
            (refused, None, "parse error at char 3"),
            (matrix, None, "a matrix, which is neither a number nor a vector"),
            ("<html>", None, "no answer to a query"),
            (&vector(r#"{"metric":{},"value":[1,"many"]}"#), None, "`many`, which is no number"),
        ] {
            let error = readings(answer, by, &targets()).unwrap_err();
            assert!(error.contains(fragment), "`{fragment}` is not in `{error}`");
        }
    }
}
