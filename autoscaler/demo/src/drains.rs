//! When instances that drain were to take no new flow, by the daemon's events: pure.

use jiff::Timestamp;
use serde::Deserialize as _;
use sluice_logic::group::InstanceId;
use sluice_northbound::api::{Event, EventKind};

/// A time in which an instance was to take no new flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) instance: InstanceId,
    pub(crate) from: Timestamp,
    /// Until it took new flows again, as none was in service.
    pub(crate) until: Option<Timestamp>,
}

/// All of these times, in their order.
pub(crate) fn closed(events: &[Event]) -> Vec<Closed> {
    let mut times: Vec<Closed> = Vec::new();
    for event in events {
        let open = |time: &&mut Closed, id: &InstanceId| time.instance == *id && time.until.is_none();
        match (event.kind, &event.instance) {
            (EventKind::Draining, Some(id)) if !times.iter_mut().any(|time| open(&time, id)) => {
                times.push(Closed { instance: id.clone(), from: event.at, until: None });
            }
            (EventKind::DrainingServes, _) => {
                let serving = serving(event);
                let served = times.iter_mut().filter(|time| serving.iter().any(|id| open(time, id)));
                served.for_each(|time| time.until = Some(event.at));
            }
            _ => {}
        }
    }
    times
}

/// Since when an instance that drains was last to take no new flow, as far as events say: `Err` where it takes some.
pub(crate) fn last_closed(events: &[Event], id: &InstanceId) -> Result<Option<Timestamp>, Serves> {
    let last = closed(events).into_iter().rfind(|time| time.instance == *id);
    match last {
        Some(Closed { until: Some(_), .. }) => Err(Serves),
        last => Ok(last.map(|time| time.from)),
    }
}

/// An instance drains and takes new flows, as none is in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serves;

/// Whether it is an event by which that instance takes new flows again.
pub(crate) fn opens(event: &Event, id: &InstanceId) -> bool {
    event.kind == EventKind::DrainingServes && serving(event).contains(id)
}

fn serving(event: &Event) -> Vec<InstanceId> {
    event.details.get("instances").and_then(|ids| Vec::deserialize(ids).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a timestamp")
    }

    fn event(second: i64, kind: EventKind, instance: Option<&str>, details: Value) -> Event {
        let instance = instance.map(InstanceId::from_label);
        Event { seq: 0, at: at(second), kind, tenant: None, instance, message: String::new(), details }
    }

    #[test]
    fn an_instance_is_closed_but_while_it_serves_as_the_last_one() {
        let (a, b) = (InstanceId::from_label("a"), InstanceId::from_label("b"));
        let mut events = vec![
            event(1, EventKind::Draining, Some("a"), Value::Null),
            event(2, EventKind::Draining, Some("b"), Value::Null),
            event(5, EventKind::DrainingServes, None, json!({ "instances": ["a"] })),
        ];
        assert!(opens(&events[2], &a) && !opens(&events[2], &b) && !opens(&events[0], &a));
        assert_eq!(last_closed(&events, &a), Err(Serves));
        assert_eq!(last_closed(&events, &b), Ok(Some(at(2))));
        assert_eq!(last_closed(&events, &InstanceId::from_label("c")), Ok(None));
        events.push(event(9, EventKind::Draining, Some("a"), Value::Null));
        assert_eq!(last_closed(&events, &a), Ok(Some(at(9))));
        let time = |instance: &InstanceId, from, until: Option<i64>| Closed {
            instance: instance.clone(),
            from: at(from),
            until: until.map(at),
        };
        assert_eq!(closed(&events), [time(&a, 1, Some(5)), time(&b, 2, None), time(&a, 9, None)]);
    }
}
