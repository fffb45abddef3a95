//! A day that does not end while a test runs.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time zone in which it was between noon and one when this process first asked: what a test does is then of one day,
/// whatever the time in UTC.
#[must_use]
pub fn midday() -> String {
    static ZONE: LazyLock<String> = LazyLock::new(|| {
        let hour = Timestamp::now().to_zoned_datetime(TimeZone::UTC).hour();
        // `Etc/GMT+5` is five hours behind.
        format!("Etc/GMT{:+}", hour - 12)
    });
    ZONE.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_midday() {
        let zone = TimeZone::get(&midday()).expect("a zone of the database");
        let hour = Timestamp::now().to_zoned_datetime(zone).hour();
        assert!((12..=13).contains(&hour), "{hour}");
    }
}
