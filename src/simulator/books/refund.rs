//! A refund: accepted at once, at its end later, and perhaps not at the first try.

use serde::{Deserialize, Serialize};

use crate::order::Timestamp;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// `out_refund_no` / `out_request_no`.
    pub number: String,
    /// The provider's own number.
    #[serde(rename = "refund_id")]
    pub id: String,
    pub amount: i64,
    pub reason: Option<String>,
    pub fingerprint: String,
    pub accepted_at: Timestamp,
    pub done_at: Timestamp,
    /// How it ends: `SUCCESS`, `CLOSED`, `ABNORMAL`.
    pub ends: String,
    /// Where its end is told.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Made by hand in the merchant's console: the merchant's own system has never heard of it.
    #[serde(default)]
    pub by_console: bool,
    /// What became of an `ABNORMAL` one.
    #[serde(default)]
    pub second_way: Option<SecondWay>,
}

/// The money of an abnormal refund, on its way to a bank account instead.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecondWay {
    pub at: Timestamp,
    pub done_at: Timestamp,
    /// `user_received_account`
    pub account: String,
}

impl Refund {
    /// Accepted now, done at once, successful.
    pub(in crate::simulator) fn accepted(
        number: &str,
        id: String,
        amount: i64,
        now: Timestamp,
    ) -> Self {
        Self {
            number: number.to_owned(),
            id,
            amount,
            reason: None,
            fingerprint: String::new(),
            accepted_at: now,
            done_at: now,
            ends: "SUCCESS".to_owned(),
            notify_url: None,
            by_console: false,
            second_way: None,
        }
    }

    pub fn status(&self, now: Timestamp) -> &str {
        match &self.second_way {
            Some(way) if now >= way.done_at => "SUCCESS",
            Some(way) if now >= way.at => "PROCESSING",
            _ if now < self.done_at => "PROCESSING",
            _ => &self.ends,
        }
    }

    /// When the money arrived, or will.
    pub fn arrives_at(&self) -> Timestamp {
        self.second_way
            .as_ref()
            .map_or(self.done_at, |way| way.done_at)
    }

    /// Money that left, or is on its way.
    pub fn counts(&self) -> bool {
        self.ends != "CLOSED"
    }
}
