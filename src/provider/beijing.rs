//! Beijing time, which both providers write: RFC 3339 with `+08:00`, or without any zone.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

use crate::order::Timestamp;

const OFFSET: Offset = Offset::constant(8);

fn civil(at: Timestamp) -> DateTime {
    jiff::Timestamp::from_millisecond(at.as_millis())
        .map_or(DateTime::ZERO, |instant| OFFSET.to_datetime(instant))
}

/// `2026-01-01T08:03:00+08:00`; parts of a second are cut off.
pub fn rfc3339(at: Timestamp) -> String {
    civil(at).strftime("%Y-%m-%dT%H:%M:%S+08:00").to_string()
}

/// `2026-01-01 08:03:00`; parts of a second are cut off.
pub fn plain(at: Timestamp) -> String {
    civil(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The day and the time of day.
pub fn date_and_time(at: Timestamp) -> (Date, Time) {
    let civil = civil(at);
    (civil.date(), civil.time())
}

/// When the day begins.
pub fn midnight(date: Date) -> Timestamp {
    // Only the last hours of the calendar's ends have no instant.
    OFFSET
        .to_timestamp(date.to_datetime(Time::midnight()))
        .map_or(Timestamp::default(), |instant| {
            Timestamp::from_millis(instant.as_millisecond())
        })
}

/// Reads RFC 3339 with any offset and any fraction.
pub fn read_rfc3339(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(instant.as_millisecond()))
}

/// Reads a zoneless time as Beijing's, with or without a fraction.
pub fn read_plain(text: &str) -> Option<Timestamp> {
    at(text.parse().ok()?)
}

/// The moment of a time of day in Beijing.
pub fn at(civil: DateTime) -> Option<Timestamp> {
    let zoned = civil.to_zoned(TimeZone::fixed(OFFSET)).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let at = Timestamp::from_millis(1_767_225_780_250);
        assert_eq!(rfc3339(at), "2026-01-01T08:03:00+08:00");
        assert_eq!(plain(at), "2026-01-01 08:03:00");
        assert_eq!(read_rfc3339("2026-01-01T08:03:00.25+08:00"), Some(at));
        assert_eq!(read_rfc3339("2026-01-01T00:03:00.250Z"), Some(at));
        assert_eq!(read_plain("2026-01-01 08:03:00.250"), Some(at));
        for nonsense in [
            "",
            "2026",
            "2026-13-01 00:00:00",
            "今天",
            "2026-01-01T00:00:00",
        ] {
            assert_eq!(read_rfc3339(nonsense), None, "{nonsense}");
        }
        assert_eq!(read_plain("今天"), None);
    }

    #[test]
    fn a_day_begins_at_its_midnight() {
        let (date, time) = date_and_time(Timestamp::from_millis(1_767_225_780_250));
        assert_eq!(date, Date::constant(2026, 1, 1));
        assert_eq!((time.hour(), time.minute()), (8, 3));
        let midnight = midnight(date);
        assert_eq!(plain(midnight), "2026-01-01 00:00:00");
        assert_eq!(
            date_and_time(midnight.minus_ms(1)).0,
            Date::constant(2025, 12, 31)
        );
    }

    #[test]
    fn no_time_is_out_of_reach() {
        for millis in [i64::MIN, -1, i64::MAX] {
            assert!(!rfc3339(Timestamp::from_millis(millis)).is_empty());
        }
    }
}
