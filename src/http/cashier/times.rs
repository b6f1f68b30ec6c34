//! Instants and amounts as people read them.

use jiff::tz::{Offset, TimeZone};

use crate::order::{Fen, Timestamp};

/// Writes instants in the configured zone.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    minutes_east: i32,
}

impl Zone {
    pub const fn new(minutes_east: i32) -> Self {
        Self { minutes_east }
    }

    fn write(self, at: Timestamp, format: &str) -> String {
        let offset =
            Offset::from_seconds(self.minutes_east.saturating_mul(60)).unwrap_or(Offset::UTC);
        jiff::Timestamp::from_millisecond(at.as_millis())
            .map(|instant| {
                instant
                    .to_zoned(TimeZone::fixed(offset))
                    .strftime(format)
                    .to_string()
            })
            .unwrap_or_default()
    }

    /// `10:32:15`
    pub fn clock(self, at: Timestamp) -> String {
        self.write(at, "%H:%M:%S")
    }

    /// `2026-11-20 10:32:15`
    pub fn date_and_clock(self, at: Timestamp) -> String {
        self.write(at, "%Y-%m-%d %H:%M:%S")
    }

    /// `2026-11-20 10:32`
    pub fn date_and_minute(self, at: Timestamp) -> String {
        self.write(at, "%Y-%m-%d %H:%M")
    }
}

/// An amount in the capitals of Chinese vouchers: `14000` fen is 壹佰肆拾元整. Amounts of orders only
/// (0 to 10^9 fen).
pub fn capitals(amount: Fen) -> String {
    const DIGITS: [&str; 10] = ["零", "壹", "贰", "叁", "肆", "伍", "陆", "柒", "捌", "玖"];
    const UNITS: [&str; 4] = ["", "拾", "佰", "仟"];
    let fen = amount.get().unsigned_abs();
    let (yuan, jiao, fen) = (fen / 100, fen / 10 % 10, fen % 10);
    let digit = |value: u64| DIGITS[usize::try_from(value % 10).unwrap_or_default()];

    let mut text = String::new();
    let mut zero = false;
    let digits: Vec<u64> = yuan
        .to_string()
        .bytes()
        .map(|byte| u64::from(byte - b'0'))
        .collect();
    for (index, value) in digits.iter().enumerate() {
        let place = digits.len() - 1 - index;
        if *value == 0 {
            zero = true;
        } else {
            if zero && !text.is_empty() {
                text.push('零');
            }
            zero = false;
            text.push_str(digit(*value));
            text.push_str(UNITS[place % 4]);
        }
        let group_has_digits = digits[index.saturating_sub(3)..=index]
            .iter()
            .any(|value| *value != 0);
        if place == 4 && group_has_digits {
            text.push('万');
        }
    }
    if yuan > 0 {
        text.push('元');
    }
    if jiao == 0 && fen == 0 {
        if yuan == 0 {
            text.push_str("零元");
        }
        text.push('整');
        return text;
    }
    if jiao > 0 {
        text.push_str(digit(jiao));
        text.push('角');
    } else if yuan > 0 {
        text.push('零');
    }
    if fen > 0 {
        text.push_str(digit(fen));
        text.push('分');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_in_capitals() {
        for (fen, expected) in [
            (14_000, "壹佰肆拾元整"),
            (0, "零元整"),
            (1, "壹分"),
            (10, "壹角"),
            (12_345, "壹佰贰拾叁元肆角伍分"),
            (10_005, "壹佰元零伍分"),
            (100_100, "壹仟零壹元整"),
            (1_000_000, "壹万元整"),
            (1_000_100, "壹万零壹元整"),
            (12_010_050, "壹拾贰万零壹佰元伍角"),
            (1_000_000_000, "壹仟万元整"),
        ] {
            assert_eq!(capitals(Fen::new(fen)), expected, "{fen}");
        }
    }

    #[test]
    fn times_are_local() {
        let at = Timestamp::from_seconds(1_795_168_800);
        let zone = Zone::new(480);
        assert_eq!(Zone::new(0).date_and_clock(at), "2026-11-20 10:00:00");
        assert_eq!(zone.clock(at), "18:00:00");
        assert_eq!(zone.date_and_minute(at), "2026-11-20 18:00");
    }
}
