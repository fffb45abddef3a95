//! What a group's event log says of its logs, and how often: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_logic::group::InstanceId;
use sluice_northbound::api::EventKind;
use sluice_store::logs::{LogLine, LogLoss, LogOwner};
use tokio::time::Instant;

use crate::daemon::events::NewEvent;

/// After an event the next one of its kind and tenant comes no sooner: a sender that is wrong is wrong with every line.
const PAUSE: Duration = Duration::from_mins(10);
/// So many characters of a line are shown.
const SHOWN: usize = 80;

/// What there is to say.
#[derive(Debug, Default)]
pub(super) struct Notices {
    tallies: BTreeMap<(LogOwner, Matter), Tally>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    Malformed,
    Lost,
}

/// What came since the last event.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    first: Option<First>,
    told: Option<Instant>,
}

#[derive(Debug)]
struct First {
    instance: Option<InstanceId>,
    what: String,
    details: Value,
}

impl Notices {
    /// Takes down a line that is not syslog.
    pub(super) fn malformed(&mut self, owner: &LogOwner, line: &LogLine) {
        let tally = self.tallies.entry((owner.clone(), Matter::Malformed)).or_default();
        tally.lines += 1;
        tally.first.get_or_insert_with(|| {
            let (from, beginning) = (line.from, beginning(&line.message.text));
            let fault = "begins with no priority such as `<13>`";
            First {
                instance: line.instance.clone(),
                what: format!("kept as they came; the first is from {from} and {fault}: `{beginning}`"),
                details: json!({ "from": from, "beginning": beginning }),
            }
        });
    }

    /// Takes down lines that could not be kept.
    pub(super) fn lost(&mut self, loss: LogLoss) {
        let tally = self.tallies.entry((loss.owner, Matter::Lost)).or_default();
        tally.lines += loss.lines;
        let LogLoss { reason: what, .. } = loss;
        tally.first.get_or_insert(First { instance: None, what, details: Value::Null });
    }

    /// The events for which it is time.
    pub(super) fn due(&mut self, now: Instant) -> Vec<NewEvent> {
        let is_due = |tally: &Tally| tally.told.is_none_or(|told| now.duration_since(told) >= PAUSE);
        let mut events = Vec::new();
        for ((owner, matter), tally) in &mut self.tallies {
            if is_due(tally)
                && let Some(first) = tally.first.take()
            {
                events.push(event(owner, *matter, tally.lines, first));
                *tally = Tally { told: Some(now), ..Tally::default() };
            }
        }
        // Nothing has come since the last event of these.
        self.tallies.retain(|_, tally| !is_due(tally));
        events
    }
}

fn event(owner: &LogOwner, matter: Matter, lines: u64, first: First) -> NewEvent {
    let (kind, name) = match matter {
        Matter::Malformed => (EventKind::LogsMalformed, "not syslog"),
        Matter::Lost => (EventKind::LogsLost, "logs lost"),
    };
    let unit = if lines == 1 { "line" } else { "lines" };
    let mut details = first.details;
    if let Some(details) = details.as_object_mut() {
        details.insert("lines".to_owned(), lines.into());
    }
    let event = NewEvent::new(kind, format!("{name}: {lines} {unit}, {}", first.what)).with(details);
    let event = match owner {
        LogOwner::Tenant(tenant) => event.of(tenant),
        LogOwner::Host => event,
    };
    match &first.instance {
        Some(instance) => event.about(instance),
        None => event,
    }
}

/// The beginning of a line, with nothing in it that a terminal would obey.
fn beginning(text: &str) -> String {
    let mut rest = text.chars().flat_map(char::escape_debug);
    let mut shown: String = rest.by_ref().take(SHOWN).collect();
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use sluice_store::logs::LogMessage;

    use super::*;
    use crate::daemon::testing::{at, name};

    fn owner() -> LogOwner {
        LogOwner::Tenant(name("demo"))
    }

    fn line(text: &str) -> LogLine {
        let message = LogMessage { text: text.to_owned(), malformed: true, ..LogMessage::default() };
        let instance = Some(InstanceId::new(&name("demo"), 5));
        LogLine { at: at(0), from: [19, 0, 0, 5].into(), instance, message }
    }

    #[test]
    fn the_first_line_is_told_at_once_and_what_follows_is_counted() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        notices.malformed(&owner(), &line("no\u{1b}[2Jsyslog"));
        let expected = NewEvent::new(
            EventKind::LogsMalformed,
            "not syslog: 1 line, kept as they came; the first is from 19.0.0.5 and begins with no priority such as \
             `<13>`: `no\\u{1b}[2Jsyslog`",
        );
        let details = json!({ "from": "19.0.0.5", "beginning": "no\\u{1b}[2Jsyslog", "lines": 1 });
        let expected = expected.with(details).of(&name("demo")).about(&InstanceId::new(&name("demo"), 5));
        assert_eq!(notices.due(now), [expected]);

        notices.malformed(&owner(), &line("second"));
        notices.malformed(&owner(), &line("third"));
        assert_eq!(notices.due(now + PAUSE / 2), []);
        let [next] = notices.due(now + PAUSE).try_into().unwrap();
        assert!(format!("{next:?}").contains("2 lines") && format!("{next:?}").contains("`second`"));
        assert_eq!(notices.due(now + 3 * PAUSE), []);
        assert!(notices.tallies.is_empty());
    }

    #[test]
    fn each_tenant_and_each_matter_has_its_own_pause() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        notices.malformed(&owner(), &line("x"));
        assert_eq!(notices.due(now).len(), 1);
        notices.malformed(&LogOwner::Host, &line("x"));
        notices.lost(LogLoss { owner: owner(), lines: 7, reason: "the day is full".to_owned() });
        let lost =
            NewEvent::new(EventKind::LogsLost, "logs lost: 7 lines, the day is full").of(&name("demo"));
        let events = notices.due(now);
        assert_eq!(events.len(), 2);
        assert!(events.contains(&lost));
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(beginning(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(beginning(&"\0".repeat(1_000)), format!("{}…", "\\0".repeat(40)));
    }
}
