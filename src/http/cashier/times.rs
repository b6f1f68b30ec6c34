//! Instants as people read them.

use jiff::tz::{Offset, TimeZone};

use crate::order::Timestamp;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local() {
        let at = Timestamp::from_seconds(1_795_168_800);
        let zone = Zone::new(480);
        assert_eq!(Zone::new(0).date_and_clock(at), "2026-11-20 10:00:00");
        assert_eq!(zone.clock(at), "18:00:00");
        assert_eq!(zone.date_and_minute(at), "2026-11-20 18:00");
    }
}
