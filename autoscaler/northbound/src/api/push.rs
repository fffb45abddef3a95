//! Metrics of a tenant's own.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{MetricName, TenantName};

/// A sample of a custom metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// The metric's name, without `custom/`.
    pub metric: MetricName,
    /// In the metric's own unit. JSON has no NaN and no infinity: they are refused all the same, and counted, where they
    /// come as a text.
    #[serde(with = "number")]
    pub value: f64,
    /// Whose; left out: the group's as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// When it was taken; left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// The sample was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// Whose.
    pub tenant: TenantName,
    /// Of what, as policies name it: `custom/<name>`.
    pub metric: String,
    /// Of when.
    pub at: Timestamp,
}

mod number {
    use super::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Text(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.collect_str(value) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(value),
            Written::Text(text) => {
                text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a number")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PushRequest, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn what_is_no_number_comes_through_to_be_counted() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.5, 3.0] {
            let metric = "queue".parse().unwrap();
            let sent = PushRequest { metric, value, instance: None, at: None };
            let taken = read(&serde_json::to_string(&sent).unwrap()).unwrap().value;
            assert_eq!(taken.to_bits(), value.to_bits(), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, fragment) in [
            (r#"{"metric": "Queue", "value": 1}"#, "`Queue` is not a metric's name"),
            (r#"{"metric": "queue", "value": "many"}"#, "`many` is not a number"),
            (r#"{"metric": "queue", "value": 1, "when": 5}"#, "unknown field `when`"),
            (r#"{"metric": "queue"}"#, "missing field `value`"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
    }
}
