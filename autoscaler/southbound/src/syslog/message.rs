//! One message, by RFC 5424 or RFC 3164: pure.

use jiff::Timestamp;
use sluice_store::logs::LogMessage;
use syslog_loose::{Message, ProcId, Variant, decompose_pri, parse_message};

/// Reads a message. One that is not syslog is kept as it came.
#[must_use]
pub fn read(bytes: &[u8]) -> LogMessage {
    let text = String::from_utf8_lossy(bytes);
    let message = parse_message(&text, Variant::Either);
    let (Some(facility), Some(severity)) = (message.facility, message.severity) else {
        return without_header(&text);
    };
    LogMessage {
        time: message.timestamp.and_then(|at| Timestamp::from_microsecond(at.timestamp_micros()).ok()),
        facility: Some(facility.as_str().to_owned()),
        severity: Some(severity.as_str().to_owned()),
        hostname: message.hostname.map(str::to_owned),
        app: message.appname.map(str::to_owned),
        process: message.procid.as_ref().map(|process| match process {
            ProcId::PID(id) => id.to_string(),
            ProcId::Name(name) => (*name).to_owned(),
        }),
        message_id: message.msgid.map(str::to_owned),
        structured_data: structured_data(&message),
        text: message.msg.to_owned(),
        malformed: false,
    }
}

/// A message whose header can't be read: by RFC 3164, 4.3.2, all that follows a priority is text. Without one it is not
/// syslog.
fn without_header(text: &str) -> LogMessage {
    let priority = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let number = priority.and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
    if let Some((number, rest)) = number
        && let (Some(facility), Some(severity)) = decompose_pri(number)
    {
        return LogMessage {
            facility: Some(facility.as_str().to_owned()),
            severity: Some(severity.as_str().to_owned()),
            text: rest.to_owned(),
            ..LogMessage::default()
        };
    }
    LogMessage { text: text.to_owned(), malformed: true, ..LogMessage::default() }
}

fn structured_data(message: &Message<&str>) -> Option<String> {
    let all: String = message.structured_data.iter().map(ToString::to_string).collect();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_5424() {
        // From RFC 5424, 6.5, example 4.
        let found = read(
            b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 77 ID47 [exampleSDID@32473 iut=\"3\" \
              eventSource=\"Application\"] An application event",
        );
        let expected = LogMessage {
            time: Some("2003-10-11T22:14:15.003Z".parse().unwrap()),
            facility: Some("local4".to_owned()),
            severity: Some("notice".to_owned()),
            hostname: Some("mymachine.example.com".to_owned()),
            app: Some("evntslog".to_owned()),
            process: Some("77".to_owned()),
            message_id: Some("ID47".to_owned()),
            structured_data: found.structured_data.clone(),
            text: "An application event".to_owned(),
            malformed: false,
        };
        assert_eq!(found, expected);
        assert!(found.structured_data.unwrap().contains("eventSource=\"Application\""));
    }

    #[test]
    fn rfc_3164() {
        // From RFC 3164, 5.4, example 1, with a process.
        let found = read(b"<34>Oct 11 22:14:15 mymachine su[230]: 'su root' failed on /dev/pts/8");
        assert_eq!((found.facility.as_deref(), found.severity.as_deref()), (Some("auth"), Some("crit")));
        assert_eq!((found.hostname.as_deref(), found.app.as_deref()), (Some("mymachine"), Some("su")));
        assert_eq!((found.process.as_deref(), found.malformed), (Some("230"), false));
        assert_eq!(found.text, "'su root' failed on /dev/pts/8");
        assert!(found.time.is_some());
    }

    #[test]
    fn a_priority_without_a_header_is_enough() {
        let found = read(b"<13>known");
        assert_eq!((found.facility.as_deref(), found.severity.as_deref()), (Some("user"), Some("notice")));
        assert_eq!((found.text.as_str(), found.malformed), ("known", false));
    }

    #[test]
    fn what_is_not_syslog_is_kept_as_it_came() {
        for bytes in [&b"no priority"[..], b"", b"<999>too much", b"{\"json\": true}", b"caf\xe9 \xff"] {
            let found = read(bytes);
            assert!(found.malformed, "{found:?}");
            assert_eq!(found.text, String::from_utf8_lossy(bytes));
        }
    }
}
