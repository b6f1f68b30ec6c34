//! The ways the providers write times and money: RFC 3339 with +08:00, Beijing time without a zone,
//! yuan. A day is Beijing's.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

use crate::order::Timestamp;

fn beijing() -> TimeZone {
    TimeZone::fixed(Offset::constant(8))
}

fn zoned(at: Timestamp) -> jiff::Zoned {
    jiff::Timestamp::from_millisecond(at.as_millis())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(beijing())
}

/// `2026-01-01T08:03:00+08:00`
pub(super) fn rfc3339(at: Timestamp) -> String {
    zoned(at).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// `2026-01-01 08:03:00`
pub(super) fn plain(at: Timestamp) -> String {
    zoned(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `20260101`
pub(super) fn compact_date(at: Timestamp) -> String {
    zoned(at).strftime("%Y%m%d").to_string()
}

/// `2026年01月01日 08:03:00`
pub(super) fn chinese(at: Timestamp) -> String {
    zoned(at).strftime("%Y年%m月%d日 %H:%M:%S").to_string()
}

/// The day in Beijing.
pub(super) fn date(at: Timestamp) -> Date {
    zoned(at).date()
}

/// This hour of that day in Beijing.
pub(super) fn hour_of(date: Date, hour: i8) -> Timestamp {
    date.at(hour, 0, 0, 0)
        .to_zoned(beijing())
        .map_or(Timestamp::from_millis(0), |zoned| {
            Timestamp::from_millis(zoned.timestamp().as_millisecond())
        })
}

/// `2026-01-01` and nothing else.
pub(super) fn parse_date(text: &str) -> Option<Date> {
    (text.len() == 10).then_some(())?;
    Date::strptime("%Y-%m-%d", text).ok()
}

/// `01-01 08:03`
pub(super) fn short(at: Timestamp) -> String {
    zoned(at).strftime("%m-%d %H:%M:%S").to_string()
}

/// Year and month.
pub(super) fn civil_date(at: Timestamp) -> (i32, u8) {
    let zoned = zoned(at);
    (
        i32::from(zoned.year()),
        u8::try_from(zoned.month()).unwrap_or(1),
    )
}

pub(super) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    // The `T` and an offset are required; jiff alone would also take a blank.
    (text.as_bytes().get(10) == Some(&b'T')).then_some(())?;
    let parsed: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(parsed.as_millisecond()))
}

pub(super) fn parse_plain(text: &str) -> Option<Timestamp> {
    let shape = if text.len() == 16 {
        "%Y-%m-%d %H:%M"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    let civil = DateTime::strptime(shape, text).ok()?;
    let zoned = civil.to_zoned(beijing()).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

/// `1m` … `15d`, in milliseconds; `1c` (end of today) is told by the caller's clock.
pub(super) fn parse_express(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = digits.parse().ok().filter(|number| *number > 0)?;
    let minute = 60_000;
    let millis = match unit {
        "m" => number * minute,
        "h" => number * 60 * minute,
        "d" => number * 24 * 60 * minute,
        "c" => {
            let day = 24 * 60 * minute;
            let eight = 8 * 60 * minute;
            return Some(now.plus_ms(day - (now.as_millis() + eight).rem_euclid(day)));
        }
        _ => return None,
    };
    (millis <= 15 * 24 * 60 * minute).then(|| now.plus_ms(millis))
}

/// Fen as `128.50` or `-0.77`.
pub(super) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", fen / 100, fen % 100)
}

/// Fen as `128.5` or `0.0`: the totals of `WeChat`'s bills.
pub(super) fn short_yuan(fen: i64) -> String {
    let mut text = yuan(fen);
    if text.ends_with('0') {
        text.pop();
    }
    text
}

/// `128.5`, `128.50` or `128` as fen.
pub(super) fn fen(yuan: &str) -> Option<i64> {
    let (whole, part) = yuan.split_once('.').unwrap_or((yuan, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    if part.is_empty() && yuan.ends_with('.') {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let cents: i64 = format!("{part:0<2}").parse().ok()?;
    Some(whole * 100 + cents)
}
