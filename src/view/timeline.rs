//! What happened to an order, in sentences: for merchants and for operators.

use serde_json::{Map, Value, json};

use super::View;
use crate::order::attempt::{ClosingCause, ClosingStep, EndReason};
use crate::order::event::Attention;
use crate::order::state::CaptureStanding;
use crate::order::{AttemptNumber, Event, Order};
use crate::store::TimelineEntry;

impl View {
    /// One line of an order's history.
    pub fn happened(&self, order: &Order, entry: &TimelineEntry) -> Happened {
        let (kind, summary, mut details) = describe(self, &entry.event);
        // Which money it is about, so that nobody has to look the id up.
        let refund = details.get("refund").and_then(Value::as_str);
        let refund = refund.and_then(|id| order.refund(id.parse().ok()?));
        if let Some(refund) = refund {
            details.insert("amount".to_owned(), json!(refund.amount));
            details.insert("cause".to_owned(), json!(refund.cause.as_str()));
        }
        Happened {
            kind,
            summary,
            details,
        }
    }
}

/// Type, a sentence, and the facts. Handles, payers and accounts' internals stay out.
#[derive(Clone, Debug)]
pub struct Happened {
    pub kind: &'static str,
    pub summary: String,
    pub details: Map<String, Value>,
}

fn describe(view: &View, event: &Event) -> (&'static str, String, Map<String, Value>) {
    let mut details = Details::default();
    let (kind, summary) = match event {
        Event::OrderCreated { terms } => {
            details.fact("amount", json!(terms.amount));
            ("order_created", "The order was created.".to_owned())
        }
        Event::AttemptStarted {
            attempt,
            id,
            native,
            expires_at,
        } => {
            details.of(*attempt);
            details.fact("id", json!(id));
            details.fact("wallet", json!(native));
            details.fact("expires_at", json!(view.time(*expires_at)));
            (
                "attempt_started",
                format!("Code {} was shown.", attempt.get()),
            )
        }
        Event::AttemptClaimed { attempt, claim } => {
            details.of(*attempt);
            details.fact("wallet", json!(claim.product.wallet()));
            (
                "attempt_claimed",
                format!("Code {} was scanned.", attempt.get()),
            )
        }
        Event::TradeIntended {
            attempt,
            product,
            account,
            time_expire,
            ..
        } => {
            details.of(*attempt);
            details.fact("product", json!(product));
            details.fact("account", json!(account));
            details.fact("time_expire", json!(view.time(*time_expire)));
            (
                "trade_intended",
                "The provider was about to be asked for a trade.".to_owned(),
            )
        }
        Event::TradeMade { attempt, .. } => {
            details.of(*attempt);
            ("trade_made", "The provider made the trade.".to_owned())
        }
        Event::TradeRefused { attempt, code } => {
            details.of(*attempt);
            details.fact("code", json!(code));
            (
                "trade_refused",
                "The provider refused to make the trade.".to_owned(),
            )
        }
        Event::TradeDied { attempt } => {
            details.of(*attempt);
            (
                "trade_died",
                "Nobody can pay the trade any more.".to_owned(),
            )
        }
        Event::ProviderAsked { attempt, .. } => {
            details.of(*attempt);
            (
                "provider_asked",
                "The provider was asked whether it is paid.".to_owned(),
            )
        }
        Event::AttemptClosing { attempt, cause } => {
            details.of(*attempt);
            details.fact("because", json!(closing_cause(*cause)));
            (
                "attempt_closing",
                format!("Code {} waits for the provider's last word.", attempt.get()),
            )
        }
        Event::ClosingMoved {
            attempt,
            step,
            next_at,
            tries,
        } => {
            details.of(*attempt);
            details.fact("next_at", json!(view.time(*next_at)));
            details.fact("tries", json!(tries));
            let step = match step {
                ClosingStep::Query => "ask before closing",
                ClosingStep::Close => "close the trade",
                ClosingStep::Confirm => "ask after closing",
                ClosingStep::Wait => "wait until it cannot be paid any more",
            };
            ("closing_moved", format!("Next step: {step}."))
        }
        Event::AttemptSucceeded { attempt } => {
            details.of(*attempt);
            (
                "attempt_succeeded",
                format!("Code {} was paid.", attempt.get()),
            )
        }
        Event::AttemptExpired { attempt } => {
            details.of(*attempt);
            (
                "attempt_expired",
                format!("Code {} expired unpaid.", attempt.get()),
            )
        }
        Event::AttemptCancelled { attempt, reason } => {
            details.of(*attempt);
            details.fact("because", json!(end_reason(*reason)));
            (
                "attempt_cancelled",
                format!("Code {} was ended.", attempt.get()),
            )
        }
        Event::AttemptFailed { attempt, code } => {
            details.of(*attempt);
            details.fact("code", json!(code));
            ("attempt_failed", format!("Code {} failed.", attempt.get()))
        }
        Event::CancelRequested => ("cancel_requested", "A cancel was accepted.".to_owned()),
        Event::MoneyCaptured { capture } => {
            details.of(capture.attempt);
            details.fact("wallet", json!(capture.wallet));
            details.fact("amount", json!(capture.amount));
            details.fact("transaction_id", json!(capture.transaction_id));
            details.fact("succeeded_at", json!(view.time(capture.succeeded_at)));
            let owed = match capture.standing {
                CaptureStanding::Kept => "it pays the order",
                CaptureStanding::Surplus { refund, .. } => {
                    details.fact("refund", json!(refund));
                    "the order did not owe it; it goes back"
                }
            };
            (
                "money_captured",
                format!("The provider took money: {owed}."),
            )
        }
        Event::MoneyMismatched { mismatch } => {
            details.of(mismatch.attempt);
            details.fact("amount", json!(mismatch.amount));
            details.fact("transaction_id", json!(mismatch.transaction_id));
            details.fact("currency", json!(mismatch.currency));
            details.fact("field", json!(mismatch.field));
            (
                "money_mismatched",
                "The provider reported money that does not fit its trade: a person must look."
                    .to_owned(),
            )
        }
        Event::OrderPaid => ("order_paid", "The order is paid.".to_owned()),
        Event::OrderClosed { reason } => {
            details.fact("because", json!(reason.as_str()));
            ("order_closed", "The order is closed.".to_owned())
        }
        Event::RefundRequested {
            refund,
            merchant_refund_no,
            amount,
            next_at,
            ..
        } => {
            details.fact("refund", json!(refund));
            details.fact("merchant_refund_no", json!(merchant_refund_no));
            details.fact("amount", json!(amount));
            details.fact("next_at", json!(view.time(*next_at)));
            ("refund_requested", "A refund was accepted.".to_owned())
        }
        Event::RefundAsked {
            refund,
            tries,
            next_at,
        } => {
            details.fact("refund", json!(refund));
            details.fact("tries", json!(tries));
            details.fact("next_at", json!(view.time(*next_at)));
            (
                "refund_asked",
                "The provider was asked for the refund, or what became of it.".to_owned(),
            )
        }
        Event::RefundAccepted { refund, next_at } => {
            details.fact("refund", json!(refund));
            details.fact("next_at", json!(view.time(*next_at)));
            (
                "refund_accepted",
                "The provider has accepted the refund: the money is on its way.".to_owned(),
            )
        }
        Event::RefundAbnormal { refund, next_at } => {
            details.fact("refund", json!(refund));
            details.fact("next_at", json!(view.time(*next_at)));
            (
                "refund_abnormal",
                "The payer's account cannot take the refund.".to_owned(),
            )
        }
        Event::RefundRepairAsked { refund, next_at } => {
            details.fact("refund", json!(refund));
            details.fact("next_at", json!(view.time(*next_at)));
            (
                "refund_repair_asked",
                "An operator named another destination for the refund.".to_owned(),
            )
        }
        Event::RefundUnderfunded { refund } => {
            details.fact("refund", json!(refund));
            (
                "refund_underfunded",
                "The school's balance at the provider is too small for the refund.".to_owned(),
            )
        }
        Event::RefundRoundRevived { refund, round } => {
            details.fact("refund", json!(refund));
            details.fact("round", json!(round));
            (
                "refund_round_revived",
                "An earlier number of the refund has gone through after all.".to_owned(),
            )
        }
        Event::RefundRenewed {
            refund,
            round,
            next_at,
        } => {
            details.fact("refund", json!(refund));
            details.fact("round", json!(round));
            details.fact("next_at", json!(view.time(*next_at)));
            (
                "refund_renewed",
                "The refund begins anew under a new number.".to_owned(),
            )
        }
        Event::RefundSucceeded { refund } => {
            details.fact("refund", json!(refund));
            ("refund_succeeded", "The refund went back.".to_owned())
        }
        Event::RefundFailed { refund } => {
            details.fact("refund", json!(refund));
            (
                "refund_failed",
                "The provider refused the refund for good.".to_owned(),
            )
        }
        Event::ForeignRefundHeard { foreign } => {
            details.of(foreign.attempt);
            details.fact("number", json!(foreign.number));
            details.fact("amount", json!(foreign.amount));
            (
                "foreign_refund_heard",
                "Money went back by the provider's own console.".to_owned(),
            )
        }
        Event::SettlementProposed { mismatch, by, .. } => {
            details.fact("mismatch", json!(mismatch));
            details.fact("by", json!(by));
            (
                "settlement_proposed",
                "One operator has said how the odd money is to be settled; another must agree."
                    .to_owned(),
            )
        }
        Event::MismatchSettled {
            mismatch,
            by,
            refund,
            next_at,
            ..
        } => {
            details.fact("mismatch", json!(mismatch));
            details.fact("by", json!(by));
            if let Some(refund) = refund {
                details.fact("refund", json!(refund));
                details.fact("next_at", json!(view.time(*next_at)));
            }
            (
                "mismatch_settled",
                "A second operator agreed how the odd money is settled.".to_owned(),
            )
        }
        Event::MismatchRefunded { refund } => {
            details.fact("refund", json!(refund));
            ("mismatch_refunded", "The odd money went back.".to_owned())
        }
        Event::MismatchRefundFailed { refund } => {
            details.fact("refund", json!(refund));
            (
                "mismatch_refund_failed",
                "The provider refused to give the odd money back.".to_owned(),
            )
        }
        Event::SurplusRefunded { refund } => {
            details.fact("refund", json!(refund));
            ("surplus_refunded", "The surplus went back.".to_owned())
        }
        Event::SurplusRefundFailed { refund } => {
            details.fact("refund", json!(refund));
            (
                "surplus_refund_failed",
                "The provider refused to give the surplus back.".to_owned(),
            )
        }
        Event::ReceiptIssued { receipt } => {
            details.fact("number", json!(receipt.number));
            details.fact("url", json!(receipt.url));
            details.fact("issued_at", json!(view.time(receipt.issued_at)));
            (
                "receipt_issued",
                "The school has issued the fiscal e-receipt.".to_owned(),
            )
        }
        Event::AttentionRaised { why } => {
            let why = match why {
                Attention::MismatchedCapture => "money does not fit its trade",
                Attention::InTimeAfterClosing => "money in time for an order that had closed",
                Attention::SurplusRefundFailed => "a surplus could not be given back",
                Attention::RefundAbnormal => "the payer's account cannot take a refund",
                Attention::RefundUnderfunded => "the school's balance is too small for a refund",
                Attention::RefundStuck => "a refund does not come to an end",
                Attention::MismatchRefundFailed => "odd money could not be given back",
                Attention::ForeignRefund => "money went back by the provider's console",
                Attention::ClosingStuck => "a code could not be ended in time",
            };
            details.fact("because", json!(why));
            ("attention_raised", "A person must look.".to_owned())
        }
    };
    (kind, summary, details.0)
}

/// The facts of one event.
#[derive(Default)]
struct Details(Map<String, Value>);

impl Details {
    fn fact(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn of(&mut self, attempt: AttemptNumber) {
        self.fact("attempt", json!(attempt));
    }
}

const fn closing_cause(cause: ClosingCause) -> &'static str {
    match cause {
        ClosingCause::TimeUp => "time_up",
        ClosingCause::Ended(reason) => end_reason(reason),
    }
}

const fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Cancelled => "cancelled",
        EndReason::Superseded => "superseded",
        EndReason::Released => "released",
    }
}
