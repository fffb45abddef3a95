//! Reads single values: each reader takes a node and says what it expected when that is not there.

mod addresses;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use jiff::fmt::friendly::SpanParser;
use sluice_logic::spec::{BadMetric, Metric};

use crate::diagnostic::quote;
use crate::reader::{listed, nearest};
use crate::yaml::{Kind, Node};

pub(crate) use self::addresses::{ipv4, netmask, subnet, vip};

/// No wait of a group may be longer: 30 days.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_hours(30 * 24);

/// Why a value is not what its key wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Complaint {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(crate) fn with_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }

    fn expected(what: &str, node: &Node) -> Self {
        Self::new(format!("expected {what}, found {}", describe(node)))
    }
}

/// A node as a message names it.
pub(crate) fn describe(node: &Node) -> String {
    match &node.kind {
        _ if node.is_null() => "nothing".to_owned(),
        Kind::Scalar { text, .. } => quote(text),
        Kind::Sequence(_) => "a list".to_owned(),
        Kind::Mapping(_) => "a mapping".to_owned(),
    }
}

fn scalar<'n>(what: &str, node: &'n Node) -> Result<&'n str, Complaint> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => Ok(text),
        _ => Err(Complaint::expected(what, node)),
    }
}

/// Any text, also one that looks like a number.
pub(crate) fn text(node: &Node) -> Result<String, Complaint> {
    scalar("a text", node).map(str::to_owned)
}

/// One of several words. `later` are words that will have a meaning.
pub(crate) fn choice<T: Copy>(
    choices: &[(&'static str, T)],
    later: &[&str],
    node: &Node,
) -> Result<T, Complaint> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let expected = listed(&names);
    let word = scalar(&expected, node)?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
        return Ok(*value);
    }
    if later.contains(&word) {
        let message = format!("{} comes later; today it can be {expected}", quote(word));
        return Err(Complaint::new(message));
    }
    let meant = nearest(word, &names).map(|name| format!("did you mean `{name}`?"));
    let later = (!later.is_empty()).then(|| format!("later it can also be {}", listed(later)));
    let help: Vec<String> = meant.into_iter().chain(later).collect();
    Err(Complaint {
        message: format!("expected {expected}, found {}", quote(word)),
        help: (!help.is_empty()).then(|| help.join(" ")),
    })
}

/// A metric, built in or of the tenant's own.
pub(crate) fn metric(node: &Node) -> Result<Metric, Complaint> {
    let word = scalar("a metric", node)?;
    word.parse().map_err(|error: BadMetric| {
        let names = Metric::BUILT_IN.map(|metric| metric.to_string());
        let meant = nearest(word, &names.each_ref().map(String::as_str));
        Complaint { message: error.to_string(), help: meant.map(|name| format!("did you mean `{name}`?")) }
    })
}

/// `true`, `false`, `1` or `0`.
pub(crate) fn boolean(node: &Node) -> Result<bool, Complaint> {
    match scalar("`true` or `false`", node)? {
        "true" | "True" | "TRUE" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "0" => Ok(false),
        word => {
            let meant = match word.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => Some("true"),
                "no" | "off" | "n" => Some("false"),
                _ => None,
            };
            let help = meant.map(|meant| format!("did you mean `{meant}`?"));
            Err(Complaint { help, ..Complaint::expected("`true` (1) or `false` (0)", node) })
        }
    }
}

/// A number that is not in quotes and is finite.
pub(crate) fn number(node: &Node) -> Result<f64, Complaint> {
    let text = scalar("a number", node)?;
    let Some(value) = parse_number(text) else {
        return Err(Complaint { help: why_no_number(text), ..Complaint::expected("a number", node) });
    };
    if matches!(node.kind, Kind::Scalar { plain: false, .. }) {
        return Err(Complaint::with_help("expected a number, found a text", "remove the quotes"));
    }
    Ok(value)
}

/// Rust's own parser takes `inf`, `nan` and `1e999` too, and `010`, which is 8 for others.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && !begins_with_zero(text))
}

/// Whether a number is written as in C or YAML 1.1 one to the base of eight is.
fn begins_with_zero(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit()
}

/// What in a text that looks like a number keeps it from being one.
fn why_no_number(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    match text {
        _ if begins_with_zero(text) => {
            Some("some read a number that begins with 0 to the base of eight: leave the 0 out".to_owned())
        }
        _ if plain != text && parse_number(&plain).is_some() => Some(format!("write `{plain}`")),
        _ => None,
    }
}

/// A number within a range; `unit` follows the numbers of a message.
pub(crate) fn number_within(range: RangeInclusive<f64>, unit: &str, node: &Node) -> Result<f64, Complaint> {
    let value = number(node)?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(out_of_range(value, range.start(), range.end(), unit))
    }
}

/// A whole number within a range.
pub(crate) fn whole(range: RangeInclusive<u32>, node: &Node) -> Result<u32, Complaint> {
    let value = number(node)?;
    if value.fract() != 0.0 {
        return Err(Complaint::expected("a whole number", node));
    }
    if value < f64::from(*range.start()) || value > f64::from(*range.end()) {
        return Err(out_of_range(value, range.start(), range.end(), ""));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within u32")]
    Ok(value as u32)
}

/// A TCP port.
pub(crate) fn port(node: &Node) -> Result<u16, Complaint> {
    let value = whole(1..=u32::from(u16::MAX), node)?;
    u16::try_from(value).map_err(|_| Complaint::expected("a port", node))
}

fn out_of_range(value: f64, lowest: impl fmt::Display, highest: impl fmt::Display, unit: &str) -> Complaint {
    Complaint::new(format!("{value} is out of range: {lowest} to {highest}{unit}"))
}

/// A number of bytes within a range: `64MiB`, `2GiB`, `500MB`; a bare number is in bytes.
pub(crate) fn size(range: RangeInclusive<u64>, node: &Node) -> Result<u64, Complaint> {
    const HOW: &str = "write it as `64MiB`, `2GiB` or `500MB`; a bare number is in bytes";
    let text = scalar("a size", node)?;
    let Ok(ByteSize(bytes)) = text.parse::<ByteSize>() else {
        return Err(Complaint::with_help(format!("expected a size, found {}", describe(node)), HOW));
    };
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    let [bytes, least, most] =
        [bytes, *range.start(), *range.end()].map(|bytes| ByteSize(bytes).display().iec());
    Err(Complaint::with_help(format!("{bytes} is out of range: {least} to {most}"), HOW))
}

/// A duration within a range: `120s`, `5m`, `2m30s`, `500ms`; a bare number is in seconds.
pub(crate) fn duration(range: RangeInclusive<Duration>, node: &Node) -> Result<Duration, Complaint> {
    const HOW: &str = "write it as `90s`, `5m`, `2h30m` or `500ms`; a bare number is in seconds";
    let text = scalar("a duration", node)?.trim();
    let value = match text.parse::<f64>() {
        Ok(_) if begins_with_zero(text) => None,
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => SpanParser::new().parse_unsigned_duration(text).ok(),
    };
    let Some(value) = value else {
        let message = format!("expected a duration, found {}", describe(node));
        return Err(Complaint::with_help(message, HOW));
    };
    if range.contains(&value) {
        return Ok(value);
    }
    let message =
        format!("{} is out of range: {} to {}", shown(value), shown(*range.start()), shown(*range.end()));
    Err(Complaint::with_help(message, HOW))
}

/// A long duration within a range: `35d`, `2w`, or as [`duration`] takes it.
pub(crate) fn age(range: RangeInclusive<Duration>, node: &Node) -> Result<Duration, Complaint> {
    let text = scalar("a duration", node)?.trim();
    let days = |suffix, days| Some(u64::from(text.strip_suffix(suffix)?.trim().parse::<u32>().ok()?) * days);
    let Some(days) = days('d', 1).or_else(|| days('w', 7)) else { return duration(range, node) };
    let value = Duration::from_hours(24 * days);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Complaint::new(format!(
        "{text} is out of range: {} to {}",
        shown(*range.start()),
        shown(*range.end())
    )))
}

/// A duration as people write it.
fn shown(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(_) if duration > LONGEST_WAIT => format!("{:.0} days", duration.as_secs_f64() / 86_400.0),
        Ok(_) if duration == LONGEST_WAIT => "30 days".to_owned(),
        Ok(signed) => format!("{signed:#}"),
        Err(_) => format!("{duration:?}"),
    }
}

/// A share of a whole, more than 0 and up to all of it.
///
/// One rule everywhere: a number up to 1 is a fraction (`0.3` is 30 %), a number above 1 is percent (`60` is
/// 60 %), and a text with `%` is percent (`0.5%`).
pub(crate) fn share(node: &Node) -> Result<f64, Complaint> {
    let share = percentage(node)?;
    if share > 1.0 {
        let message = format!("{} is more than 100 %", describe(node));
        return Err(Complaint::with_help(message, HOW_TO_SHARE));
    }
    Ok(share)
}

const HOW_TO_SHARE: &str =
    "a number up to 1 is a fraction (0.3 is 30 %), above 1 it is percent (60 is 60 %); `0.5%` is percent";

/// A share as [`share`] reads it that may be more than the whole. One by which its author may mean one thing or a hundred
/// times that is refused.
pub(crate) fn percentage(node: &Node) -> Result<f64, Complaint> {
    let text = scalar("a number or a percentage", node)?.trim();
    let percent = text.strip_suffix('%').map(str::trim_end);
    let Some(number) = parse_number(percent.unwrap_or(text)) else {
        let message = format!("expected a number or a percentage, found {}", describe(node));
        let help = why_no_number(percent.unwrap_or(text)).unwrap_or_else(|| HOW_TO_SHARE.to_owned());
        return Err(Complaint::with_help(message, help));
    };
    if number <= 0.0 {
        let message = format!("{} is not more than 0", quote(text));
        return Err(Complaint::with_help(message, HOW_TO_SHARE));
    }
    if percent.is_none() && number > 1.0 && number < 2.0 {
        let message = format!("{} may be {number} % or {} %", quote(text), (number * 1e4).round() / 100.0);
        return Err(Complaint::with_help(message, format!("write `{number}%`, or the other one")));
    }
    Ok(if percent.is_some() || number > 1.0 { number / 100.0 } else { number })
}

/// Whether a share is a bare 1, which is 100 % here and may be meant as 1 %.
pub(crate) fn is_bare_one(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, .. } if parse_number(text.trim()) == Some(1.0))
}

/// A name of 1 to `longest` ASCII letters, digits, `-` and `_` that begins with a letter or digit.
pub(crate) fn name(longest: usize, node: &Node) -> Result<String, Complaint> {
    let text = scalar("a name", node)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(plain)
    {
        return Ok(text.to_owned());
    }
    let message = format!(
        "{} is not a name: 1 to {longest} of letters, digits, `-` and `_`, the first a letter or digit",
        quote(text)
    );
    Err(Complaint::new(message))
}

/// An absolute path.
pub(crate) fn path(node: &Node) -> Result<PathBuf, Complaint> {
    let text = scalar("an absolute path", node)?;
    if text.starts_with('/') && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        Err(Complaint::expected("an absolute path", node))
    }
}

/// A command as a list of words, the first of which is the program.
pub(crate) fn command(node: &Node) -> Result<Vec<String>, Complaint> {
    const HOW: &str = "write it as a list: `[/usr/bin/server, --port, \"80\"]`";
    let Kind::Sequence(items) = &node.kind else {
        return Err(Complaint::with_help(format!("expected a list of words, found {}", describe(node)), HOW));
    };
    let words = items.iter().map(text).collect::<Result<Vec<String>, _>>()?;
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(Complaint::with_help("the command is empty", HOW));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Complaint::new("a word of a command can't have a NUL character in it"));
    }
    Ok(words)
}

/// A mapping of words to texts.
pub(crate) fn words(node: &Node) -> Result<BTreeMap<String, String>, Complaint> {
    let Kind::Mapping(pairs) = &node.kind else {
        let message = format!("expected a mapping, found {}", describe(node));
        return Err(Complaint::with_help(message, "write it as `name: value` lines"));
    };
    let mut words = BTreeMap::new();
    for (name, value) in pairs {
        let name = scalar("a name", name)?.to_owned();
        let value = scalar(&format!("a text for {}", quote(&name)), value)?.to_owned();
        if words.insert(name.clone(), value).is_some() {
            return Err(Complaint::new(format!("{} comes twice", quote(&name))));
        }
    }
    Ok(words)
}
