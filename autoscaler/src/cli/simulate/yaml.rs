//! A policy as a tenant file.

use std::fmt::Write;
use std::time::Duration;

use jiff::SignedDuration;
use sluice_logic::simulate::Contender;
use sluice_logic::spec::{
    Aggregation, Amount, Direction, MissingData, Pace, PolicySpec, Proactive, RateLimit, ScaleInControl,
    Scope, Select, Signal, TargetTracking, Tolerance,
};

/// A tenant with this group's limits and policies: those of the kinds that are tuned. Its network and service are
/// examples, as a policy has none.
pub(super) fn tenant_file(contender: &Contender, trace: &str) -> String {
    let mut text = format!(
        "# Found by `sluice tune` on {}. Put `policies`, and the pace of `group`, into your own tenant file.\n\
         tenant: tuned\n\
         networks:\n  - {{name: tuned_nw, subnet: 10.99.0.0/24}}\n\
         services:\n  - {{vip: 192.0.2.1, protocol: tcp}}\n\
         group: {{min: {}, max: {}, buffer_time: {}, cool_down: {}{}}}\n\
         policies:\n",
        trace.replace(|c: char| c.is_control(), " "),
        contender.group.min,
        contender.group.max,
        time(contender.group.buffer_time),
        time(contender.group.cool_down),
        pace(&contender.group.pace),
    );
    for policy in &contender.policies {
        match policy {
            PolicySpec::Proactive(policy) => proactive(&mut text, policy),
            PolicySpec::TargetTracking(policy) => target_tracking(&mut text, policy),
            _ => {}
        }
    }
    text
}

/// What of a pace is not the default, as further keys of the group.
fn pace(pace: &Pace) -> String {
    let Pace { warm_up, out, r#in, scale_in_control } = pace;
    let mut text = String::new();
    if !warm_up.is_zero() {
        let _ = write!(text, ", warm_up: {}", time(*warm_up));
    }
    for (name, direction) in [("out", out), ("in", r#in)] {
        if *direction != Direction::default() {
            let Direction { stabilization, limits, select, buffer_time } = direction;
            let limit =
                |limit: &RateLimit| format!("{{most: {}, per: {}}}", amount(limit.most), time(limit.period));
            let limits: Vec<String> = limits.iter().map(limit).collect();
            let select = match select {
                Select::Max => "max",
                Select::Min => "min",
                Select::Disabled => "disabled",
            };
            let (stabilization, limits) = (time(*stabilization), limits.join(", "));
            let _ = write!(
                text,
                ", {name}: {{stabilization: {stabilization}, limits: [{limits}], select: {select}"
            );
            if let Some(buffer_time) = buffer_time {
                let _ = write!(text, ", buffer_time: {}", time(*buffer_time));
            }
            text.push('}');
        }
    }
    if let Some(ScaleInControl { most, window }) = scale_in_control {
        let _ = write!(text, ", scale_in_control: {{most: {}, window: {}}}", amount(*most), time(*window));
    }
    text
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::Count(count) => count.to_string(),
        Amount::Percent(percent) => format!("{percent}%"),
    }
}

fn proactive(text: &mut String, policy: &Proactive) {
    let Proactive { signal, threshold, margin, shortage_cost, change_cost } = policy;
    let mut keys = Keys::begin(text, "proactive", signal);
    keys.put("threshold", bound(signal, *threshold));
    keys.put("margin", time(*margin));
    keys.put("shortage_cost", shortage_cost);
    keys.put("change_cost", change_cost);
}

fn target_tracking(text: &mut String, policy: &TargetTracking) {
    let TargetTracking { signal, target, disable_scale_in, warm_up, tolerance, missing } = policy;
    let mut keys = Keys::begin(text, "target_tracking", signal);
    keys.put("target", bound(signal, *target));
    keys.put("disable_scale_in", disable_scale_in);
    if let Some(warm_up) = warm_up {
        keys.put("warm_up", time(*warm_up));
    }
    let Tolerance { out, r#in } = tolerance;
    keys.put("tolerance", format!("{{out: {}, in: {}}}", tolerated(*out), tolerated(*r#in)));
    keys.put("missing", if *missing == MissingData::Hold { "hold" } else { "assume" });
}

/// The keys of one policy.
struct Keys<'a>(&'a mut String);

impl<'a> Keys<'a> {
    fn begin(text: &'a mut String, kind: &str, signal: &Signal) -> Self {
        let mut keys = Self(text);
        // Writing to a text can't fail.
        let _ = writeln!(keys.0, "  - {kind}:");
        keys.put("metric", &signal.metric);
        match signal.scope {
            Scope::Instances { statistic } => keys.put("statistic", statistic),
            Scope::Group { per_instance } => {
                keys.put("of", "group");
                keys.put("per_instance", per_instance);
            }
        }
        keys.put("aggregation", aggregation(signal.aggregation));
        keys.put("window", time(signal.window));
        if let Some(grain) = signal.grain {
            keys.put("grain", time(grain));
        }
        keys
    }

    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "      {key}: {value}");
    }
}

fn aggregation(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Average => "average",
        Aggregation::Minimum => "minimum",
        Aggregation::Maximum => "maximum",
        Aggregation::Total => "total",
        Aggregation::Last => "last",
        Aggregation::Count => "count",
    }
}

fn bound(signal: &Signal, value: f64) -> String {
    if signal.is_share() { percent(value) } else { value.to_string() }
}

/// None is the number 0: a percentage has to be above it.
fn tolerated(share: f64) -> String {
    if share > 0.0 { percent(share) } else { "0".to_owned() }
}

/// With as many digits as read back as the same number.
fn percent(share: f64) -> String {
    let percent = (share * 100.0 * 1e9).round() / 1e9;
    format!("{percent}%")
}

/// Milliseconds are the finest that a tenant file says.
fn time(duration: Duration) -> String {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    let signed = SignedDuration::try_from(whole).unwrap_or(SignedDuration::MAX);
    format!("{signed:#}").replace(' ', "")
}

#[cfg(test)]
mod tests {
    use sluice_logic::simulate::{candidates, lineup};
    use sluice_northbound::tenant;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let base = lineup::dynamic(&lineup::plain(2, 40), 0.8);
        for candidate in candidates() {
            let tuned = candidate.apply(&base);
            let text = tenant_file(&tuned, "a trace");
            let read =
                tenant::parse("tuned.yml", &text).unwrap_or_else(|faults| panic!("{text}\n{faults:?}"));
            assert_eq!(read.spec.policies, tuned.policies, "{text}");
            assert_eq!(read.spec.group, tuned.group, "{text}");
        }
    }

    #[test]
    fn the_groups_pace_is_written_with_its_policies() {
        let mut base = lineup::dynamic(&lineup::plain(2, 40), 0.8);
        let limit = |most| RateLimit { most, period: Duration::from_secs(90) };
        base.group.pace = Pace {
            warm_up: Duration::from_mins(1),
            out: Direction {
                limits: vec![limit(Amount::Count(4)), limit(Amount::Percent(10))],
                ..Direction::default()
            },
            r#in: Direction {
                stabilization: Duration::from_hours(1),
                select: Select::Min,
                buffer_time: Some(Duration::from_mins(10)),
                ..Direction::default()
            },
            scale_in_control: Some(ScaleInControl {
                most: Amount::Percent(10),
                window: Duration::from_mins(20),
            }),
        };
        let text = tenant_file(&base, "a trace");
        let read = tenant::parse("tuned.yml", &text).unwrap_or_else(|faults| panic!("{text}\n{faults:?}"));
        assert_eq!(read.spec.group, base.group, "{text}");
    }
}
