//! Misbehaviour on demand: rules that name an operation, a fault, how often, and perhaps one order.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What can be told to misbehave. `*`, `wechat.*` and `alipay.*` name several.
pub const OPERATIONS: [&str; 24] = [
    "wechat.prepay",
    "wechat.query",
    "wechat.close",
    "wechat.refund",
    "wechat.refund_query",
    "wechat.abnormal_refund",
    "wechat.trade_bill",
    "wechat.fund_flow_bill",
    "wechat.bill_file",
    "wechat.certificates",
    "wechat.oauth",
    // All notices, those of refunds too.
    "wechat.notice",
    "wechat.refund_notice",
    "alipay.precreate",
    "alipay.create",
    "alipay.query",
    "alipay.close",
    "alipay.cancel",
    "alipay.refund",
    "alipay.refund_query",
    "alipay.bill",
    "alipay.bill_file",
    "alipay.oauth",
    "alipay.refund_notice",
];
/// Separate from the table above only because it is the other end of the wire.
pub const ALIPAY_NOTICE: &str = "alipay.notice";

/// One kind of misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    // Calls: nothing was done.
    /// Nothing done, no answer for `delay_ms` (30 s), then the connection drops.
    TimeoutBefore,
    ResetBefore,
    /// `SYSTEM_ERROR`, nothing done.
    SystemErrorBefore,
    /// 502 with an HTML page, nothing done.
    Html502,
    /// 503 with an HTML page, nothing done.
    Html503,
    TooManyRequests,
    /// The number is unknown, says the provider; what was made with it lives on.
    NotExist,
    /// Refused with `code` (and `status`), nothing done.
    Refused,
    /// Waits `delay_ms` (1 s), then works.
    SlowBefore,
    // Calls: done, but the answer is bad.
    TimeoutAfter,
    ResetAfter,
    SystemErrorAfter,
    /// Too fast, says the provider, and has done it.
    TooManyRequestsAfter,
    Html502After,
    /// Works, then waits `delay_ms` (1 s) before it answers.
    SlowAfter,
    /// The answer comes byte by byte over `delay_ms` (5 s).
    Drip,
    Unsigned,
    WrongSignature,
    /// `WECHATPAY/SIGNTEST/`
    SignatureProbe,
    /// Signed with a key the merchant does not know, under an unknown serial.
    UnknownSerial,
    /// The signature is good, for other bytes.
    TamperedBody,
    TruncatedBody,
    /// 10 MB of blanks behind the answer.
    HugeBody,
    // Close.
    /// Refused during the first `delay_ms` (five minutes) of an order.
    CloseTooEarly,
    /// Says closed, closes nothing.
    CloseLies,
    /// 202 `USERPAYING`, nothing done.
    UserPaying,
    // Query.
    /// Still unpaid for `delay_ms` (3 s) after the payment.
    StaleQuery,
    // Refund.
    RefundAbnormal,
    RefundClosed,
    /// The merchant's balance is too small.
    NotEnough,
    /// The payer's account is closed.
    UserAccountAbnormal,
    // Notices, one try each.
    Lost,
    /// Sent `delay_ms` (5 s) later.
    Delayed,
    /// `times` (2) copies, one after the other.
    Doubled,
    /// `times` (10) copies at once.
    DoubledAtOnce,
    /// Held back until another notice was delivered, at most `delay_ms` (5 s).
    Reordered,
    /// Signed with another key under the true serial.
    Forged,
    WrongAmount,
    WrongAppid,
    WrongMchid,
    WrongCurrency,
    /// An unknown `out_trade_no`.
    WrongNumber,
    /// Truly signed 301 s ago.
    OldTimestamp,
}

impl Fault {
    pub fn for_notices(self) -> bool {
        matches!(
            self,
            Self::Lost
                | Self::Delayed
                | Self::Doubled
                | Self::DoubledAtOnce
                | Self::Reordered
                | Self::Forged
                | Self::WrongAmount
                | Self::WrongAppid
                | Self::WrongMchid
                | Self::WrongCurrency
                | Self::WrongNumber
                | Self::OldTimestamp
                | Self::Unsigned
                | Self::WrongSignature
                | Self::SignatureProbe
                | Self::UnknownSerial
                | Self::TamperedBody
                | Self::TruncatedBody
        )
    }

    pub fn for_calls(self) -> bool {
        !self.for_notices()
            || matches!(
                self,
                Self::Unsigned
                    | Self::WrongSignature
                    | Self::SignatureProbe
                    | Self::UnknownSerial
                    | Self::TamperedBody
                    | Self::TruncatedBody
            )
    }

    /// A notice spoiled like this is no true notice: its acknowledgement counts for nothing.
    pub fn spoils(self) -> bool {
        self.for_notices()
            && !matches!(
                self,
                Self::Lost | Self::Delayed | Self::Doubled | Self::DoubledAtOnce | Self::Reordered
            )
    }

    /// The word of the JSON.
    pub fn word(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
fn once() -> Option<u32> {
    Some(1)
}

/// One rule, as `POST /control/faults` takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// See [`OPERATIONS`]; `wechat.*`, `alipay.*` and `*` too.
    pub operation: String,
    pub fault: Fault,
    /// How often it still bites; absent: once; `null`: until cleared.
    #[serde(default = "once")]
    pub count: Option<u32>,
    /// Only this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_trade_no: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// For `refused`: the error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For `refused` by `WeChat`: the HTTP status (400).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often it has bitten: a test's proof that the fault really happened.
    #[serde(default)]
    pub hits: u64,
}

impl Rule {
    pub fn new(operation: &str, fault: Fault) -> Self {
        Self {
            operation: operation.to_owned(),
            fault,
            count: Some(1),
            out_trade_no: None,
            delay_ms: None,
            times: None,
            code: None,
            status: None,
            hits: 0,
        }
    }

    #[must_use]
    pub fn always(mut self) -> Self {
        self.count = None;
        self
    }

    #[must_use]
    pub fn times_over(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    #[must_use]
    pub fn for_order(mut self, out_trade_no: &str) -> Self {
        self.out_trade_no = Some(out_trade_no.to_owned());
        self
    }

    #[must_use]
    pub fn delayed(mut self, delay_ms: u64) -> Self {
        self.delay_ms = Some(delay_ms);
        self
    }

    pub(super) fn delay(&self, default_ms: u64) -> Duration {
        Duration::from_millis(self.delay_ms.unwrap_or(default_ms))
    }

    /// Whether so many milliseconds still lie within the rule's delay.
    pub(super) fn covers(&self, elapsed_ms: i64, default_ms: i64) -> bool {
        let limit = self
            .delay_ms
            .map_or(default_ms, |delay| i64::try_from(delay).unwrap_or(i64::MAX));
        elapsed_ms < limit
    }

    fn names(&self, operation: &str) -> bool {
        self.operation == "*"
            || self.operation == operation
            || self
                .operation
                .strip_suffix('*')
                .is_some_and(|prefix| !prefix.is_empty() && operation.starts_with(prefix))
            // A refund's notice is a notice.
            || operation
                .strip_suffix("refund_notice")
                .is_some_and(|provider| self.operation.strip_suffix("notice") == Some(provider))
    }

    /// Says what is wrong with a rule from outside.
    pub fn check(&self) -> Result<(), String> {
        let known = OPERATIONS.contains(&self.operation.as_str())
            || [ALIPAY_NOTICE, "*", "wechat.*", "alipay.*"].contains(&self.operation.as_str());
        if !known {
            return Err(format!(
                "operation: expected one of {}, {ALIPAY_NOTICE}, wechat.*, alipay.* or *",
                OPERATIONS.join(", ")
            ));
        }
        let notice = self.operation.ends_with("notice");
        if notice && !self.fault.for_notices() {
            return Err(format!(
                "fault: {} is no fault of notices",
                self.fault.word()
            ));
        }
        if !notice && !self.operation.ends_with('*') && !self.fault.for_calls() {
            return Err(format!(
                "fault: {} is a fault of notices only",
                self.fault.word()
            ));
        }
        Ok(())
    }
}

/// The rules in force, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// No notice leaves any more, whatever other rules say; `false` takes that back.
    pub(super) fn silence(&mut self, operation: &str, out_trade_no: Option<&str>, silent: bool) {
        self.rules.retain(|rule| {
            !(rule.operation == operation
                && rule.fault == Fault::Lost
                && rule.count.is_none()
                && rule.out_trade_no.as_deref() == out_trade_no)
        });
        if silent {
            let mut rule = Rule::new(operation, Fault::Lost).always();
            rule.out_trade_no = out_trade_no.map(str::to_owned);
            // In front: the first rule that fits bites.
            self.rules.insert(0, rule);
        }
    }

    /// Every rule ever set since the last clearing, spent ones too: `hits` is the coverage mark.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule that fits and is `wanted`, used up once.
    pub(super) fn take(
        &mut self,
        operation: &str,
        out_trade_no: Option<&str>,
        wanted: impl Fn(Fault) -> bool,
    ) -> Option<Rule> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.count != Some(0)
                && rule.names(operation)
                && wanted(rule.fault)
                && rule
                    .out_trade_no
                    .as_deref()
                    .is_none_or(|number| Some(number) == out_trade_no)
        })?;
        rule.hits += 1;
        if let Some(left) = &mut rule.count {
            *left -= 1;
        }
        Some(rule.clone())
    }
}
