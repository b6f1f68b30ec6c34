//! One QR code of an order: three minutes, one scan, at most one trade at one provider.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, AttemptId, AttemptNumber};
use super::terms::{Product, Wallet};
use super::time::Timestamp;

/// A keyed hash that stands for one payer: an openid under its appid, an Alipay user id, or, where
/// there is none (H5, WAP), the claim key of one browser. Equality is all the heart needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayerHash(pub u128);

// Written as 32 hex digits: JSON readers, serde's own buffer for tagged enums among them, lose
// numbers above 64 bits.
impl Serialize for PayerHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for PayerHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16)
            .ok()
            .filter(|hash| format!("{hash:032x}") == text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("expected 32 lower-case hex digits"))
    }
}

/// The scan: the first payer who took the code. It never changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    pub payer: PayerHash,
    pub product: Product,
    pub at: Timestamp,
}

/// What is known of the provider's side of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Trade {
    pub product: Product,
    pub account: AccountId,
    pub application: Box<str>,
    /// The provider's own end of payment. Never changes: a repeated call must carry the same.
    pub time_expire: Timestamp,
    pub intended_at: Timestamp,
    pub standing: TradeStanding,
}

/// How far the trade is, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TradeStanding {
    /// The intent is on disk; the call may or may not have reached the provider.
    Intended,
    /// The provider gave us a handle (`prepay_id`, `trade_no`, `code_url`, `qr_code`, `h5_url`; for
    /// WAP the link is signed here, so the handle is empty). It may have been handed out.
    Made { handle: Box<str>, at: Timestamp },
    /// The provider refused to make it: no trade exists.
    Refused { code: Box<str>, at: Timestamp },
    /// Nobody can pay it any more.
    Dead { at: Timestamp },
}

/// Where an attempt stands. `Shown`, `Scanned` and `Closing` are live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Shown,
    Scanned,
    /// Its time is up, or somebody ended it, and the provider has not yet said how it went.
    Closing(Closing),
    Succeeded {
        at: Timestamp,
    },
    Expired {
        at: Timestamp,
    },
    Cancelled {
        at: Timestamp,
        reason: EndReason,
    },
    Failed {
        at: Timestamp,
        code: Box<str>,
    },
}

/// Why an attempt was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// The order was cancelled.
    Cancelled,
    /// A newer attempt, or a payment of another attempt, took its place.
    Superseded,
    /// Its claimant gave it up.
    Released,
}

/// Why an attempt is `closing`: decides what it becomes once its trade is known to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosingCause {
    TimeUp,
    Ended(EndReason),
}

/// Query, close, query: until the provider has said the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Closing {
    pub since: Timestamp,
    pub cause: ClosingCause,
    pub step: ClosingStep,
    /// When the step is due (again).
    pub next_at: Timestamp,
    /// How often this round has been tried: the back-off grows with it.
    pub tries: u16,
    /// It has lasted so long that a person was called (Q7); once is enough.
    #[serde(default)]
    pub stuck_raised: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosingStep {
    /// Ask before closing: it may be paid.
    Query,
    Close,
    /// Ask after closing: only now is an end an end.
    Confirm,
    /// Nothing can be closed (no trade there yet): ask again once this is past.
    Wait,
}

/// What we have asked the provider about this attempt, for the schedule and the two-second rule.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Queries {
    /// Scheduled queries already sent, an index into `QUERY_SCHEDULE_MS`.
    pub scheduled: u8,
    /// When the last query, scheduled or asked for, was sent.
    pub last_at: Option<Timestamp>,
}

/// One attempt with everything that made it what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    pub number: AttemptNumber,
    pub id: AttemptId,
    /// Native mode: the wallet whose own code is shown.
    pub native: Option<Wallet>,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    pub phase: Phase,
    pub claim: Option<Claim>,
    pub trade: Option<Trade>,
    pub queries: Queries,
}

impl Attempt {
    /// Shown, scanned or closing: the order's one live attempt.
    pub const fn is_live(&self) -> bool {
        matches!(
            self.phase,
            Phase::Shown | Phase::Scanned | Phase::Closing(_)
        )
    }

    /// May its code still be claimed or paid, as far as its phase says?
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Shown | Phase::Scanned)
    }

    /// Is there, or may there be, a trade at the provider that somebody could still pay?
    pub fn may_be_payable(&self) -> bool {
        self.trade.as_ref().is_some_and(|trade| {
            matches!(
                trade.standing,
                TradeStanding::Intended | TradeStanding::Made { .. }
            )
        })
    }

    /// The contract's word for the phase.
    pub const fn status(&self) -> &'static str {
        match self.phase {
            Phase::Shown => "shown",
            Phase::Scanned => "scanned",
            Phase::Closing(_) => "closing",
            Phase::Succeeded { .. } => "succeeded",
            Phase::Expired { .. } => "expired",
            Phase::Cancelled { .. } => "cancelled",
            Phase::Failed { .. } => "failed",
        }
    }
}
