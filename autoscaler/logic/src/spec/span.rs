//! Durations in JSON as people write them: `5m`, `2h 30m`, `500ms`.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::friendly::SpanParser;
use serde::{Deserialize, Deserializer, Serializer, de};

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let signed = SignedDuration::try_from(*duration).unwrap_or(SignedDuration::MAX);
    serializer.collect_str(&format_args!("{signed:#}"))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Words(text) => SpanParser::new().parse_unsigned_duration(&text).map_err(de::Error::custom),
        Written::Parts(duration) => Ok(duration),
    }
}

/// State files of the first version have seconds and nanoseconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Words(String),
    Parts(Duration),
}

/// Of a duration that may be missing.
pub(super) mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes the field")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Present(#[serde(with = "super")] Duration);
        Ok(Option::<Present>::deserialize(deserializer)?.map(|present| present.0))
    }
}
