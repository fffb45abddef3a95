//! Answers of Prometheus's HTTP API (`/api/v1/query`): pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_logic::group::InstanceId;

use super::{Reading, Target, shown};

/// So many names that are no instance's stand in a message.
const MOST_NAMED: usize = 5;

/// What is kept of an answer is text in the answer itself: a tree of it would be many times as large.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    status: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Seconds, and the value as a text, as JSON has no NaN.
#[derive(Debug, Deserialize)]
struct Point<'a>(
    #[expect(dead_code, reason = "the time of the query, which is now")] f64,
    #[serde(borrow)] Cow<'a, str>,
);

#[derive(Debug, Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    metric: &'a RawValue,
    #[serde(borrow)]
    value: Point<'a>,
}

/// What the answer says of each target by the label `by`; without one, of the group. An error of one target is its own.
pub(super) fn readings(
    answer: &[u8],
    by: Option<&str>,
    targets: &[Target],
) -> Result<Vec<Result<Reading, String>>, String> {
    let answer: Answer<'_> = serde_json::from_slice(answer).map_err(|error| no_answer(&error))?;
    let ("success", Some(data)) = (&*answer.status, answer.data) else {
        let error = answer.error.unwrap_or_default();
        return Err(format!("that it can't do that: {}", shown(&error)));
    };
    match (data.result_type.as_str(), by) {
        ("scalar", None) => {
            let point: Point<'_> = content(data.result)?;
            Ok(vec![Ok(Reading { instance: None, value: number(&point)?, at: None })])
        }
        ("scalar", Some(label)) => Err(format!("one number without labels, and none is `{label}`")),
        ("vector", None) => {
            of_group(&content::<Vec<Series<'_>>>(data.result)?).map(|reading| vec![Ok(reading)])
        }
        ("vector", Some(label)) => of_instances(&content::<Vec<Series<'_>>>(data.result)?, label, targets),
        (other, _) => Err(format!(
            "a result of the kind {}, which is neither a number nor a vector: ask for values of now",
            shown(other)
        )),
    }
}

fn content<'a, T: Deserialize<'a>>(result: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(result.get()).map_err(|error| no_answer(&error))
}

fn no_answer(error: &serde_json::Error) -> String {
    format!("what is no answer to a query: {}", shown(&error.to_string()))
}

fn of_group(series: &[Series<'_>]) -> Result<Reading, String> {
    match series {
        [one] => Ok(Reading { instance: None, value: number(&one.value)?, at: None }),
        [] => Err("no series: the query finds nothing".to_owned()),
        all => Err(format!(
            "{} series: make them one with `sum(…)`, or name with `by` the label that names an instance",
            all.len()
        )),
    }
}

fn of_instances(
    series: &[Series<'_>],
    label: &str,
    targets: &[Target],
) -> Result<Vec<Result<Reading, String>>, String> {
    let mut found: BTreeMap<&InstanceId, Result<f64, String>> = BTreeMap::new();
    let mut names = Vec::new();
    for one in series {
        let mut labels: BTreeMap<String, String> = content(one.metric)?;
        let Some(name) = labels.remove(label) else { continue };
        let Some(target) = targets.iter().find(|target| is_named(target, &name)) else {
            names.extend((names.len() < MOST_NAMED).then_some(name));
            continue;
        };
        let several =
            || format!("several series with {} as `{label}`: make them one, as with `sum by`", shown(&name));
        found
            .entry(&target.id)
            .and_modify(|before| *before = Err(several()))
            .or_insert_with(|| number(&one.value));
    }
    if found.is_empty() && !targets.is_empty() {
        let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
        return Err(format!(
            "{} series, none with an instance's address or id as `{label}`: [{}]",
            series.len(),
            names.join(", ")
        ));
    }
    let reading = |(id, value): (&InstanceId, Result<f64, String>)| {
        value.map(|value| Reading { instance: Some(id.clone()), value, at: None })
    };
    Ok(found.into_iter().map(reading).collect())
}

fn is_named(target: &Target, name: &str) -> bool {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let is_address = host.parse().is_ok_and(|host| host == target.address || target.management == Some(host));
    is_address || name == target.id.as_str()
}

fn number(point: &Point<'_>) -> Result<f64, String> {
    point.1.parse().map_err(|_| format!("{}, which is no number", shown(&point.1)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn readings(
        answer: &str,
        by: Option<&str>,
        targets: &[Target],
    ) -> Result<Vec<Result<Reading, String>>, String> {
        super::readings(answer.as_bytes(), by, targets)
    }

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
            let expected = Reading { instance: None, value: 42.0, at: None };
            assert_eq!(readings(answer, None, &[]), Ok(vec![Ok(expected)]));
        }
        let nan = readings(&vector(r#"{"metric":{},"value":[1,"NaN"]}"#), None, &[]).unwrap().remove(0);
        assert!(nan.unwrap().value.is_nan());
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
            .map(|reading| reading.as_ref().unwrap())
            .map(|reading| (reading.instance.as_ref().unwrap().as_str(), reading.value))
            .collect();
        assert_eq!(found, [("demo-2", 0.5), ("demo-3", 1.5)]);
    }

    #[test]
    fn an_instance_that_comes_twice_has_no_value() {
        let answer = vector(
            r#"{"metric":{"instance":"19.0.0.2:9100","a":"1"},"value":[1,"0.5"]},
               {"metric":{"instance":"19.0.0.2:9100","a":"2"},"value":[1,"1.5"]},
               {"metric":{"instance":"demo-3"},"value":[1,"2"]}"#,
        );
        let found = readings(&answer, Some("instance"), &targets()).unwrap();
        assert!(found[0].as_ref().unwrap_err().contains("several series with `19.0.0.2:9100`"), "{found:?}");
        assert_eq!(found[1].as_ref().map(|reading| reading.value), Ok(2.0));
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
            (matrix, None, "`matrix`, which is neither a number nor a vector"),
            ("<html>", None, "no answer to a query"),
            (&vector(r#"{"metric":{},"value":[1,"many"]}"#), None, "`many`, which is no number"),
        ] {
            let error = readings(answer, by, &targets()).unwrap_err();
            assert!(error.contains(fragment), "`{fragment}` is not in `{error}`");
        }
    }
}
