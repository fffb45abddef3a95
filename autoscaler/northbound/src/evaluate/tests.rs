//! The examples, and what is refused.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use sluice_logic::samples::Rejected;

use super::{Answer, parse};

fn answer(text: &str) -> Answer {
    parse("q.json", text).unwrap_or_else(|faults| panic!("{faults:#?}")).answer()
}

/// Each example says what it shows in a file beside it: the number before and after, and the reason.
#[test]
fn the_examples_are_answered_as_they_say() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/evaluate");
    let mut questions: Vec<PathBuf> = fs::read_dir(directory)
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    questions.sort();
    assert!(questions.len() >= 5, "{questions:?}");
    let mut answers = String::new();
    for question in questions {
        let Answer { from, to, reason, samples, .. } =
            answer(&fs::read_to_string(&question).expect("readable"));
        let name = question.file_name().expect("a file").to_string_lossy();
        writeln!(answers, "{name}: {from} to {to}, {} samples taken\n  {reason}", samples.taken)
            .expect("written");
        for refused in &samples.explained {
            writeln!(answers, "  refused: {refused}").expect("written");
        }
    }
    insta::assert_snapshot!(answers);
}

const QUESTION: &str = r#"{
  "time": "2026-11-25T08:00:00Z",
  "group": {"min": 1, "max": 20, "instances": 3},
  "policies": [{"reactive": {"threshold": "60%"}}],
  "samples": [SAMPLES]
}"#;

#[test]
fn what_is_no_sample_is_counted_and_explained_and_never_an_action() {
    let bad = r#"{"metric": "cpu", "value": "NaN"}, {"metric": "cpu", "value": "inf"}, {"metric": "cpu", "value": -1},
        {"metric": "cpu", "value": 9.0, "at": "+1m"}"#;
    let text = QUESTION.replace("SAMPLES", bad);
    let found = answer(&text);
    assert_eq!((found.from, found.to, found.samples.taken), (3, 3, 0));
    let refused = &found.samples.refused;
    let counts = [Rejected::NotANumber, Rejected::Negative, Rejected::Future].map(|why| refused.of(why));
    assert_eq!(counts, [6, 3, 3]);
    assert_eq!(
        found.samples.explained[0],
        "line 5: cpu of i-1 at 2026-11-25T08:00:00Z, NaN: not a finite number"
    );

    let late = r#"{"metric": "cpu", "value": "60%"}, {"metric": "cpu", "value": "90%"},
        {"metric": "cpu", "value": "90%", "at": "-1m"}"#;
    let found = answer(&QUESTION.replace("SAMPLES", late));
    assert_eq!((found.to, found.samples.taken), (3, 3), "what came first counts");
    assert_eq!([Rejected::Duplicate, Rejected::Late].map(|why| found.samples.refused.of(why)), [3, 3]);
}

#[test]
fn a_number_of_the_past_above_the_maximum_is_one_that_it_was_raised_to() {
    let text = QUESTION.replace("SAMPLES", "").replace("\"instances\": 3", "\"instances\": 25");
    assert_eq!(answer(&text).to, 20, "the maximum must have been edited");
    let raised = text.replace("\"samples\"", r#""history": [{"at": "-2m", "recommended": 25}], "samples""#);
    assert_eq!(answer(&raised).to, 25, "nobody goes while the load is not known");
}

/// A question of the HPA, and what it answers.
#[test]
fn what_the_hpa_may_be_asked_is_answered_as_by_it() {
    let ask = |group: &str, policy: &str, metric: &str, value: &str, history: &str| {
        answer(&format!(
            r#"{{"time": "2026-11-25T08:00:00Z", "group": {{"min": 1, "max": 200, "buffer_time": "0s", {group}}},
            "policies": [{{"target_tracking": {{"metric": "{metric}", {policy}}}}}],
            "samples": [{{"metric": "{metric}", "value": {value}}}], "history": [{history}]}}"#
        ))
    };
    let stabilized = |history: &str| {
        let group = r#""instances": 10, "in": {"stabilization": "5m"}"#;
        ask(group, r#""target": "50%""#, "cpu", "\"15%\"", history)
    };
    assert_eq!(stabilized(r#"{"at": "-9m", "recommended": 9}"#).to, 3, "from before the window");
    assert_eq!(stabilized(r#"{"at": "-5m", "recommended": 9}"#).to, 3, "at the edge of the window");
    assert_eq!(stabilized(r#"{"at": "-4m", "recommended": 9}"#).to, 9, "within the window");
    let both = r#"{"at": "-9m", "recommended": 9}, {"at": "-4m", "recommended": 5}"#;
    assert_eq!(stabilized(both).to, 5, "each is of its own time");

    let tolerance = r#""target": 100, "tolerance": {"out": "200%", "in": "10%"}"#;
    for (value, expected) in [("190", 3), ("300", 3), ("310", 10), ("80", 3), ("60", 2)] {
        let found = ask(r#""instances": 3"#, tolerance, "custom/x", value, "");
        assert_eq!(found.to, expected, "{value}: {}", found.reason);
    }

    let limits = r#""instances": 100, "out": {"limits": [{"most": "10000%", "per": "60s"}]}"#;
    assert_eq!(ask(limits, r#""target": "10%""#, "cpu", "\"50%\"", "").to, 200);

    let unready = r#""desired": 5, "instances":
        [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d", "state": "pending"}, {"id": "e", "state": "pending"}]"#;
    let assume = r#""target": "50%", "tolerance": "10%", "missing": "assume""#;
    assert_eq!(ask(unready, assume, "cpu", "\"30%\"", "").to, 2);
}

#[test]
fn faults_have_their_place_and_a_way_out() {
    let table = [
        (QUESTION.replace("reactive", "reactiv"), 4, "did you mean `reactive`?"),
        (QUESTION.replace("\"time\"", "\"tim\""), 2, "did you mean `time`?"),
        (QUESTION.replace("2026-11-25T08:00:00Z", "noon"), 2, "2026-11-25T08:00:00Z"),
        (QUESTION.replace("\"instances\": 3", "\"instances\": \"x\""), 3, "write their number"),
        (QUESTION.replace("\"max\": 20", "\"max\": 0"), 3, "the min can't be more than the max"),
        (QUESTION.replace("SAMPLES", r#"{"metric": "cpu", "value": "a lot"}"#), 5, "expected a number"),
        (QUESTION.replace("SAMPLES", r#"{"metric": "cpu"}"#), 5, "the key `value` is missing"),
        (QUESTION.replace("SAMPLES", r#"{"metric": "cpu", "value": 1, "at": "-x"}"#), 5, "`-5m`"),
        (QUESTION.replace("SAMPLES]", ""), 6, "not valid YAML"),
        (QUESTION.replace("\"min\": 1", "\"min\": 0"), 3, "the smallest is 1"),
        (
            QUESTION.replace("\"max\": 20", "\"max\": 20, \"scale_in_control\": {\"most\": \"101%\"}"),
            3,
            "no more than 100% to go",
        ),
    ];
    for (text, line, fragment) in table {
        let text = text.replace("SAMPLES", "");
        let faults = parse("q.json", &text).expect_err(fragment);
        let found = faults.iter().any(|fault| {
            let help = fault.help.as_deref().unwrap_or_default();
            fault.line == line && (fault.message.contains(fragment) || help.contains(fragment))
        });
        assert!(found, "`{fragment}` on line {line} not in {faults:#?}");
    }
}

#[test]
fn an_answer_is_json_and_always_the_same() {
    let text = QUESTION.replace("SAMPLES", r#"{"metric": "cpu", "value": "80%"}"#);
    let json = serde_json::to_string(&answer(&text)).expect("plain data");
    assert_eq!(json, serde_json::to_string(&answer(&text)).expect("plain data"));
    assert!(json.contains(r#""action":"out","from":3,"to":4"#), "{json}");
    assert!(json.contains(r#""window":"5m""#), "{json}");
}

/// Three at 85 %, and one more than that since an action six minutes ago with a cooldown of five.
const COOLING: &str = r#"{
  "time": "2026-11-25T08:00:00Z",
  "group": {"min": 1, "max": 20, "buffer_time": "0s", "desired": 4, "instances":
    [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d", STATE}]},
  "policies": [{"simple": {"when": "above", "threshold": "60%", "change": 1, "cooldown": "5m"}}],
  "history": [{"at": "-6m", "from": 3, "to": 4, "cooldown": "5m"}],
  "samples": [{"metric": "cpu", "value": "85%"}]
}"#;

#[test]
fn a_cooldown_begins_when_what_was_begun_is_there() {
    for (state, to, reason) in [
        (r#""state": "pending", "since": "-6m""#, 4, "its cooldown has not begun"),
        (r#""since": "-2m""#, 4, "it cools down until 2026-11-25T08:03:00Z"),
        (r#""since": "-5m30s""#, 5, "CPU is 85.0 %"),
        (r#""state": "terminated", "since": "-6m""#, 5, "CPU is 85.0 %"),
        (r#""state": "draining", "since": "-1m""#, 5, "CPU is 85.0 %"),
    ] {
        let found = answer(&COOLING.replace("STATE", state));
        assert_eq!(found.to, to, "{state}: {}", found.reason);
        assert!(found.reason.contains(reason), "{state}: {}", found.reason);
    }
}

#[test]
fn an_outlook_is_all_that_a_forecast_says() {
    let question = |outlook: &str| {
        let policies = r#""policy": "dynamic", "threshold": "60%", "outlooks": [{"policy": 1, OUTLOOK}]"#;
        let text = QUESTION.replace(r#""policies": [{"reactive": {"threshold": "60%"}}]"#, policies);
        let sample = r#"{"metric": "cpu", "value": "55%"}"#;
        text.replace("OUTLOOK", outlook).replace("SAMPLES", sample)
    };
    for (outlook, to, reason) in [
        (r#""demand": 2.0, "ahead": 4.2, "kept": 3.0"#, 7, "expected soon after"),
        (r#""demand": 0.5, "kept": 1.7"#, 3, "kept for what comes"),
        (r#""silent": "too little was seen""#, 3, "the forecast is silent: too little was seen"),
    ] {
        let found = answer(&question(outlook));
        assert_eq!(found.decision.policies.len(), 2, "the default policies");
        assert_eq!(found.to, to, "{outlook}: {}", found.reason);
        let said = &found.decision.policies[0].reason;
        assert!(said.contains(reason), "{outlook}: {said}");
    }
    for (outlook, fragment) in [
        (r#""silent": "why", "demand": 1"#, "unknown key `demand`"),
        (r#""ahead": 1"#, "the key `demand` is missing"),
        (r#""demand": 1, "kept": -1"#, "`kept`"),
    ] {
        let faults = parse("q.json", &question(outlook)).expect_err(fragment);
        assert!(faults.iter().any(|fault| fault.message.contains(fragment)), "{fragment}: {faults:#?}");
    }
    let both = question(r#""demand": 1"#).replace(r#""outlooks""#, r#""policies": [], "outlooks""#);
    let faults = parse("q.json", &both).expect_err("both");
    assert!(faults[0].message.contains("exclude each other"), "{faults:#?}");
}

#[test]
fn what_is_counted_is_not_in_percent() {
    let counted = r#"{"threshold": 5, "statistic": "count"}"#;
    let text = QUESTION.replace(r#"{"threshold": "60%"}"#, counted);
    let found = answer(&text.replace("SAMPLES", r#"{"metric": "cpu", "value": "80%"}"#));
    assert!(
        found.reason.contains("count CPU is 3.0 over 5m on 3 in service, threshold 5.0"),
        "{}",
        found.reason
    );
}
