//! Policies of every kind: the example, and each fault with its place.

use std::collections::BTreeSet;

use sluice_logic::spec::{Metric, PolicySpec, TenantSpec};

use super::faults::marked;
use super::{GROUP, NET, TCP, faults, spec, structured};
use crate::diagnostic::{Diagnostic, Faults, Severity, Source};

const EXAMPLE: &str = include_str!("../../../../../examples/tenants/policies.yml");

#[test]
fn the_example_has_every_kind_and_every_key() {
    let mut all = Faults::new(Source { label: "policies.yml", text: EXAMPLE });
    let node = crate::yaml::parse(EXAMPLE).expect("YAML");
    super::super::structured::read(&mut all, &node).expect("a tenant");
    // A key that one item has is shown, whichever others do without it; so is one of a signal in the first policy. The
    // keys of other sections are in structured.yml.
    let shown = |absent: &&String| {
        let key = absent.rsplit(' ').next().unwrap();
        !EXAMPLE.contains(&format!("{key}: "))
    };
    let absent: BTreeSet<&String> = all.absent.iter().filter(shown).collect();
    let elsewhere =
        |key: &String| ["the tenant", "network", "service", "group"].iter().any(|of| key.starts_with(of));
    let missing: Vec<&&String> = absent.iter().filter(|key| !elsewhere(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let kinds: BTreeSet<&str> = spec(EXAMPLE).policies.iter().map(PolicySpec::kind).collect();
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    assert_eq!(faults(EXAMPLE), []);
}

#[test]
fn what_was_read_survives_its_json() {
    let read = spec(EXAMPLE);
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<TenantSpec>(&text).unwrap(), read, "{text}");
}

#[test]
fn a_policy_of_the_first_version_is_read_from_its_json() {
    let old = r#"{"kind":"reactive","metric":"cpu","threshold":0.3,"window":{"secs":300,"nanos":0}}"#;
    let read: PolicySpec = serde_json::from_str(old).unwrap();
    assert_eq!(read, super::reactive(Metric::Cpu, 0.3));
}

/// Each row: a list of policies, with a mark where the fault is, and a part of its message or help.
#[track_caller]
fn expect(severity: Severity, table: &[(&str, &str)]) {
    for (policies, fragment) in table {
        let (text, line, column) = marked(&structured(NET, TCP, &format!("{GROUP}\npolicies: {policies}")));
        let found = faults(&text);
        let matches = |fault: &Diagnostic| {
            let help = fault.help.as_deref().unwrap_or_default();
            (fault.line, fault.column, fault.severity) == (line, column, severity)
                && (fault.message.contains(fragment) || help.contains(fragment))
        };
        let all: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(matches),
            "{line}:{column} `{fragment}` not in\n{}\nof\n{text}",
            all.join("\n")
        );
    }
}

#[test]
fn what_a_policy_looks_at() {
    expect(
        Severity::Error,
        &[
            ("[{reactive: {threshold: ».nan}}]", "expected a number or a percentage"),
            ("[{reactive: {threshold: »-1}}]", "not more than 0"),
            ("[{reactive: {threshold: ».inf, metric: packets}}]", "expected a number"),
            ("[{target_tracking: {target: »-5, metric: packets}}]", "-5 is not more than 0"),
            ("[{target_tracking: {targt: 5, »targt2: 5}}]", "did you mean `target`?"),
            ("[{target_tracking: {target: 5, metric: »queue}}]", "custom/<name> for one of your own"),
            ("[{target_tracking: {target: 5, metric: »custom/Queue}}]", "is not a metric's name"),
            ("[{target_tracking: {target: 50%, statistic: »p0}}]", "a percentile such as p95"),
            ("[{target_tracking: {target: 50%, statistic: »mean}}]", "expected average, min"),
            ("[{target_tracking: {target: 50%, aggregation: »averge}}]", "did you mean `average`?"),
            (
                "[{target_tracking: {target: 5, of: group, metric: custom/q, statistic: »max}}]",
                "of: instances",
            ),
            ("[{target_tracking: {target: 5, metric: custom/q, per_instance: »true}}]", "of: group"),
            ("[{target_tracking: {target: 50%, window: 1m, grain: »5m}}]", "longer than the window"),
            (
                "[{reactive: {threshold: »300%, aggregation: total}}]",
                "a total or a count of `cpu` is not in percent",
            ),
            (
                "[{reactive: {threshold: »60%, statistic: count}}]",
                "a total or a count of `cpu` is not in percent",
            ),
            ("[{reactive: {threshold: »60%, metric: packets}}]", "only `cpu` and `memory`"),
            ("[{target_tracking: {target: 50%, tolerance: »100%}}]", "it would never go in"),
            ("[{target_tracking: {target: 50%, warm_up: »2h}}]", "0s to 1h"),
            ("[{target_tracking: {target: 50%, missing: »zero}}]", "expected `hold` or `assume`"),
            ("[{predictive: {target: 50%, scheduling_buffer: »1h}}]", "out of range"),
            ("[{predictive: {target: 50%, mode: »forecast}}]", "expected `forecast_only`"),
            ("[{proactive: {threshold: 50%, shortage_cost: »-1}}]", "out of range"),
        ],
    );
}

#[test]
fn a_total_of_a_share_is_a_number() {
    let policies = "policies: [{reactive: {threshold: 300, aggregation: total}}]";
    let read = spec(&structured(NET, TCP, &format!("{GROUP}\n{policies}")));
    assert_eq!(read.policies[0].bound(), Some((&Metric::Cpu, 300.0)));
}

#[test]
fn schedules() {
    let entry = |entry: &str| format!("[{{static: {{entries: [{entry}]}}}}]");
    let rows = [
        (entry("{cron: »\"0 0 30 2 *\", duration: 1h, count: 2}"), "never fires"),
        (entry("{cron: »\"0 0 31 4 *\", duration: 1h, count: 2}"), "never fires"),
        (entry("{cron: »\"61 0 * * *\", duration: 1h, count: 2}"), "not a cron pattern of five fields"),
        (entry("{cron: »\"0 0 0 * * *\", duration: 1h, count: 2}"), "not a cron pattern of five fields"),
        (entry("{cron: »hourly, duration: 1h, count: 2}"), "not a cron pattern of five fields"),
        (entry("{at: »tomorrow, duration: 1h, count: 2}"), "2027-01-01 08:00"),
        (entry("»{duration: 1h, count: 2}"), "an entry needs its beginning"),
        (entry("{at: 2027-01-01 08:00, cron: »\"0 8 * * *\", duration: 1h, count: 2}"), "exclude each other"),
        (entry("{at: 2027-01-01 08:00, duration: »0, count: 2}"), "out of range"),
        (entry("{at: 2027-01-01 08:00, duration: 1h, count: »3}"), "above the group's max, which is 2 on line 4"),
        ("[{static: {time_zone: »Mars/Olympus, entries: [{at: 2027-01-01 08:00, duration: 1h, count: 2}]}}]".into(),
            "is not a time zone"),
        ("[{static: {»entries: []}}]".into(), "`entries` is empty"),
        ("[{custom: »{entries: [{at: 2027-01-01 08:00, duration: 1h, count: 2}]}}]".into(), "the key `dynamic` is missing"),
        ("[{custom: {entries: [{at: 2027-01-01 08:00, duration: 1h, count: 2}], dynamic: {»step: {}}}}]".into(),
            "it can be `reactive`, `proactive` or `target_tracking`"),
    ];
    let rows: Vec<(&str, &str)> = rows.iter().map(|(text, fragment)| (text.as_str(), *fragment)).collect();
    expect(Severity::Error, &rows);
    let group = "group: {min: 2, max: 3}\npolicies: [{rules: {default: {min: 1, max: »1, default: 1}}}]";
    let (text, line, column) = marked(&structured(NET, TCP, group));
    let [found] = &faults(&text)[..] else { panic!("one fault") };
    assert_eq!((found.line, found.column, found.severity), (line, column, Severity::Warning));
    assert_eq!(found.message, "the profile's max 1 is below the group's min, which is 2 on line 4");
    let low = entry("{at: 2027-01-01 08:00, duration: 1h, count: »1}");
    expect(Severity::Warning, &[(&low, "changes nothing: the group's min is 1")]);
}

#[test]
fn steps_and_rules() {
    let steps = |steps: &str| format!("[{{step: {{metric: packets, threshold: 100, steps: [{steps}]}}}}]");
    let rule =
        |rules: &str| format!("[{{rules: {{default: {{min: 1, max: 2, default: 1, rules: [{rules}]}}}}}}]");
    let rows = [
        (steps("{from: 0, to: 10, change: 1}, »{from: 20, change: 2}"), "leaves a gap to the one on line 5"),
        (steps("{from: 0, to: 10, change: 1}, »{from: 5, change: 2}"), "overlaps"),
        (steps("»{from: 0, to: 10, change: 1}"), "leave its `to` out"),
        (steps("»{from: -10, to: 0, change: -1}"), "leave its `from` out"),
        (steps("»{from: -10, to: 10, change: 1}"), "split it at 0"),
        (steps("»{from: 10, to: 0, change: 1}"), "nothing between its bounds"),
        (steps("»{from: 0, change: -1}"), "removes above the threshold"),
        (steps("»{to: 0, change: 1}"), "adds below the threshold"),
        (steps("{from: 0, change: ».nan}"), "expected a number"),
        (steps("»{from: 0, change: 0.5}"), "not a whole number of instances"),
        (steps("»{from: 0, change: 0}"), "no step changes anything"),
        ("[{step: {threshold: 50%, adjustment: exact, steps: [»{from: 0, change: -1}]}}]".into(), "fewer than 0"),
        ("[{simple: {threshold: 50%, when: above, change: »0.5}}]".into(), "not a whole number of instances"),
        ("[{simple: {threshold: 50%, when: above, change: »0}}]".into(), "changes nothing"),
        ("[{simple: {threshold: 50%, when: above, change: »0, adjustment: percent}}]".into(), "changes nothing"),
        ("[{simple: {threshold: 50%, when: above, change: »2.5, adjustment: exact}}]".into(), "not a whole number"),
        ("[{simple: {threshold: 50%, when: »over, change: 1}}]".into(), "expected `>`"),
        ("[{simple: {threshold: 50%, when: above, change: »-1}}]".into(), "removes when the load is high"),
        ("[{simple: {threshold: 50%, when: above, change: 1, min_magnitude: »2}}]".into(), "for percentages only"),
        (rule("»{when: above, threshold: 50%}"), "exactly one change"),
        (rule("»{when: above, threshold: 50%, increase: 1, decrease: 1}"), "exactly one change"),
        (rule("{when: above, threshold: 50%, increase: »0%}"), "expected 1% to 1000%"),
        ("[{rules: {default: {min: »2, max: 1, default: 1}}}]".into(), "min is above its max"),
        ("[{rules: {default: {min: 1, max: 2, default: »3}}}]".into(), "outside 1 to 2"),
        ("[{rules: {default: {min: 1, max: »9, default: 1}}}]".into(), "above the group's max"),
        ("[{rules: {default: {min: 1, max: 2, default: 1}, profiles: [»{name: a, min: 1, max: 2, default: 1}]}}]".into(),
            "a profile needs its time"),
        ("[{rules: {default: {min: 1, max: 2, default: 1}, \
            profiles: [»{name: a, cron: \"0 8 * * *\", min: 1, max: 2, default: 1}]}}]".into(), "the key `duration` is missing"),
        ("[{rules: {default: {min: 1, max: 2, default: 1}, profiles: [»{name: a, \
            from: 2027-01-01 08:00, to: 2027-01-02 08:00, duration: 1h, min: 1, max: 2, default: 1}]}}]".into(),
            "a profile needs its time"),
    ];
    let rows: Vec<(&str, &str)> = rows.iter().map(|(text, fragment)| (text.as_str(), *fragment)).collect();
    expect(Severity::Error, &rows);
    let bad = "[{rules: {default: {min: 1, max: 2, default: 1}, profiles: \
               [{name: a, cron: hourly, duration: 1h, min: 1, max: 2, default: 1}]}}]";
    let found = faults(&structured(NET, TCP, &format!("{GROUP}\npolicies: {bad}")));
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn changes_that_can_be_made() {
    let lines = [
        // AWS's own example has steps of 0.
        "{step: {metric: packets, threshold: 100, steps: [{from: 0, to: 10, change: 0}, {from: 10, change: 1}]}}",
        "{simple: {threshold: 50%, when: above, change: 0.5, adjustment: percent}}",
        "{simple: {threshold: 50%, when: below, change: 0, adjustment: exact}}",
    ];
    for line in lines {
        let text = structured(NET, TCP, &format!("{GROUP}\npolicies: [{line}]"));
        assert!(
            faults(&text).iter().all(|fault| fault.severity != Severity::Error),
            "{line}: {:#?}",
            faults(&text)
        );
    }
}

#[test]
fn policies_that_contradict_each_other() {
    expect(
        Severity::Error,
        &[
            (
                "[{simple: {when: above, threshold: 30%, change: 1}}, »{simple: {when: below, threshold: 50%, change: -1}}]",
                "fire at the same load",
            ),
            (
                "[{rules: {default: {min: 1, max: 2, default: 1, rules: [{when: above, threshold: 50%, increase: 1}, \
                 »{when: below, threshold: 60%, decrease: 1}]}}}]",
                "fire at the same load",
            ),
            (
                "[{rules: {default: {min: 1, max: 2, default: 1}}}, »{rules: {default: {min: 1, max: 2, default: 1}}}]",
                "a second `rules`",
            ),
            (
                "[{step: {threshold: 30%, steps: [{from: 0, change: 1}]}}, \
                 »{step: {threshold: 80%, steps: [{to: 0, change: -1}]}}]",
                "fire at the same load",
            ),
            (
                "[{step: {threshold: 70%, steps: [{from: 10, change: 1}]}}, \
                 »{simple: {when: at_most, threshold: 80%, window: 1m, change: -1}}]",
                "fire at the same load",
            ),
            (
                "[{simple: {when: not_equal, threshold: 50%, change: 1}}, »{simple: {when: below, threshold: 80%, change: -1}}]",
                "fire at the same load",
            ),
            (
                "[{simple: {when: above, threshold: 30%, change: 1}}, \
                 »{simple: {when: below, threshold: 80%, adjustment: exact, change: 1}}]",
                "fire at the same load",
            ),
            (
                "[{simple: {when: above, threshold: 30%, change: 1}}, »{rules: {default: {min: 1, max: 2, default: 1, rules: \
                 [{when: above, threshold: 90%, increase: 1}, {when: below, threshold: 60%, decrease: 1}]}}}]",
                "fire at the same load",
            ),
            (
                "[{rules: {default: {min: 1, max: 2, default: 1, rules: [{when: not_equal, threshold: 50%, increase: 1}, \
                 »{when: below, threshold: 40%, decrease: 1}]}}}]",
                "fire at the same load",
            ),
            (
                "[{step: {threshold: 50%, adjustment: exact, steps: [»{from: 0, change: 1}, {to: 0, change: 2}]}}]",
                "more load never needs fewer instances",
            ),
        ],
    );
    expect(
        Severity::Warning,
        &[
            (
                "[{step: {threshold: 50%, adjustment: exact, steps: [»{from: 0, change: 50}, {to: 0, change: 2}]}}]",
                "the number 50 is above the group's max, which is 2 on line 4",
            ),
            (
                "[{simple: {when: above, threshold: 50%, adjustment: exact, change: »50}}]",
                "the number 50 is above the group's max, which is 2 on line 4",
            ),
            (
                "[{step: {threshold: 50%, adjustment: exact, steps: [{from: 0, change: 2}, {to: 0, change: 1}]}}, \
                 »{simple: {when: below, threshold: 60%, change: -1}}]",
                "fire at the same load",
            ),
            (
                "[{reactive: {threshold: 50%}}, »{target_tracking: {target: 70%}}]",
                "only the lower of the two ever acts",
            ),
            ("[»{simple: {when: above, threshold: 30%, change: 1}}]", "none ever removes one"),
            (
                "[»{rules: {default: {min: 1, max: 2, default: 1, rules: [{when: above, threshold: 50%, increase: 1}]}}}]",
                "none ever removes one",
            ),
            (
                "[{target_tracking: {target: 30%, disable_scale_in: true}}, »{target_tracking: {target: 80%}}]",
                "fire at the same load",
            ),
            (
                "[{simple: {when: above, threshold: 20%, change: 1}}, »{reactive: {threshold: 60%}}]",
                "fire at the same load",
            ),
            (
                "[»{static: {entries: [{at: 2027-01-01 08:00, duration: 1h, count: 2}]}}, \
                 {rules: {default: {min: 1, max: 1, default: 1}}}]",
                "the count 2 is above the max of the rules on line 5, which is 1",
            ),
            ("[»{proactive: {metric: custom/queue, of: group, threshold: 10}}]", "is the reactive rule"),
            ("[»{proactive: {statistic: p95, threshold: 60%}}]", "is the reactive rule"),
        ],
    );
}

#[test]
fn policies_that_leave_each_other_room_are_not_reported() {
    let table = [
        "[{target_tracking: {target: 60%}}, {step: {threshold: 60%, steps: [{from: 20, change: 1}]}}]",
        "[{step: {threshold: 80%, steps: [{from: 0, change: 1}]}}, {step: {threshold: 30%, steps: [{to: 0, change: -1}]}}]",
        "[{step: {threshold: 50%, adjustment: exact, steps: [{from: 0, change: 2}, {to: 0, change: 1}]}}]",
        "[{simple: {when: above, threshold: 80%, adjustment: exact, change: 2}}, \
         {simple: {when: above, threshold: 50%, change: 1}}]",
        "[{target_tracking: {target: 80%, disable_scale_in: true}}, {target_tracking: {target: 30%}}]",
        "[{simple: {when: above, threshold: 30%, change: 1}}, \
         {simple: {metric: memory, when: below, threshold: 50%, change: -1}}]",
        "[{simple: {when: above, threshold: 30%, change: 1}}, \
         {simple: {when: below, threshold: 50, aggregation: count, change: -1}}]",
    ];
    for policies in table {
        let found = faults(&structured(NET, TCP, &format!("{GROUP}\npolicies: {policies}")));
        assert_eq!(found, [], "{policies}");
    }
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let text = include_str!("../../../../../docs/policies.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 10, "{}", blocks.len());
    for block in blocks {
        let rest = if block.starts_with("group:") {
            block.to_owned()
        } else {
            format!("group: {{min: 2, max: 40}}\npolicies:\n{block}")
        };
        let found = faults(&structured("[{name: n, subnet: 10.0.0.0/24}]", TCP, &rest));
        assert!(!crate::diagnostic::has_errors(&found), "{found:#?}\nof\n{block}");
    }
}
