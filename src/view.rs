//! An order as merchants see it: the one place that writes it as JSON, for answers and webhooks
//! (contract §4, "The order"). Start with [`View::order`].

mod bills;
mod refunds;
mod timeline;

use jiff::tz::{Offset, TimeZone};
use serde_json::{Map, Value, json};

use crate::actors::Told;
use crate::order::attempt::{Attempt, EndReason, Phase, TradeStanding};
use crate::order::state::Capture;
use crate::order::{
    AttemptId, CodeMode, Fen, LatePayment, Order, OrderId, Settlement, Status, Timestamp,
};
use crate::sealing::{Place, Sealed, Sealer, TokenKind};
use crate::store::{MaskedPayer, PersonalData, StoredOrder};

pub use bills::{open_bill, seal_bill};
pub use refunds::{open_reason, reason_write};
pub use timeline::Happened;

/// How orders are written: under which address, in which zone, with whose tokens.
#[derive(Clone, Debug)]
pub struct View {
    /// Without a slash at its end.
    pub public_url: String,
    /// Minutes east of UTC.
    pub zone_minutes: i32,
    pub sealer: Sealer,
}

impl View {
    /// RFC 3339 in the configured zone, with milliseconds where there are any.
    pub fn time(&self, at: Timestamp) -> String {
        write_time(at, self.zone_minutes)
    }

    fn maybe_time(&self, at: Option<Timestamp>) -> Value {
        at.map_or(Value::Null, |at| Value::String(self.time(at)))
    }

    /// The token of `/pay/…`.
    pub fn pay_token(&self, order: OrderId) -> String {
        self.sealer.token(TokenKind::Pay, &order.to_string(), 0)
    }

    /// The token of `/s/…`: what the QR code of an attempt holds.
    pub fn scan_token(&self, attempt: AttemptId) -> String {
        self.sealer.token(TokenKind::Scan, &attempt.to_string(), 0)
    }

    /// The token of `/receipts/…`.
    pub fn receipt_token(&self, order: OrderId) -> String {
        self.sealer.token(TokenKind::Receipt, &order.to_string(), 0)
    }

    /// The page of a paid order's receipt.
    pub fn receipt_url(&self, order: OrderId) -> String {
        format!("{}/receipts/{}", self.public_url, self.receipt_token(order))
    }

    /// What stands beside a receipt's number, the order's ULID, and proves it.
    pub fn check_code(&self, order: OrderId) -> String {
        self.sealer.check_code(&order.ulid().to_string())
    }

    /// Where anybody checks a receipt.
    pub fn verify_url(&self, order: OrderId) -> String {
        format!(
            "{}/verify/{}/{}",
            self.public_url,
            order.ulid(),
            self.check_code(order)
        )
    }

    pub fn cashier_url(&self, order: OrderId) -> String {
        format!("{}/pay/{}", self.public_url, self.pay_token(order))
    }

    pub fn scan_url(&self, attempt: AttemptId) -> String {
        format!("{}/s/{}", self.public_url, self.scan_token(attempt))
    }

    /// What the code of an attempt holds: our own address, or in native mode the provider's content
    /// once the provider has given it. `None` once nobody may scan it any more.
    pub fn qr_content(&self, attempt: &Attempt) -> Option<String> {
        if !attempt.is_open() {
            return None;
        }
        if attempt.native.is_none() {
            return Some(self.scan_url(attempt.id));
        }
        match &attempt.trade.as_ref()?.standing {
            TradeStanding::Made { handle, .. } if !handle.is_empty() => Some(handle.to_string()),
            _ => None,
        }
    }

    /// An attempt as part of an order.
    pub fn attempt(&self, order: &Order, attempt: &Attempt) -> Map<String, Value> {
        let content = self.qr_content(attempt);
        let picture = |kind: &str| {
            content.is_some().then(|| {
                format!(
                    "{}/qr.{kind}?attempt={}",
                    self.cashier_url(order.id),
                    attempt.id
                )
            })
        };
        let wallet = attempt
            .native
            .or_else(|| attempt.claim.map(|claim| claim.product.wallet()));
        let mut view = Map::new();
        view.insert("id".to_owned(), json!(attempt.id));
        view.insert("object".to_owned(), json!("attempt"));
        view.insert("number".to_owned(), json!(attempt.number));
        view.insert("status".to_owned(), json!(attempt.status()));
        view.insert("end_reason".to_owned(), json!(end_reason(&attempt.phase)));
        view.insert("wallet".to_owned(), json!(wallet));
        view.insert("qr_svg_url".to_owned(), json!(picture("svg")));
        view.insert("qr_png_url".to_owned(), json!(picture("png")));
        view.insert("qr_content".to_owned(), json!(content));
        view.insert(
            "started_at".to_owned(),
            json!(self.time(attempt.started_at)),
        );
        view.insert(
            "expires_at".to_owned(),
            json!(self.time(attempt.expires_at)),
        );
        view
    }

    /// The whole order. `personal` is its opened personal slot; `None` once it was erased.
    pub fn order(&self, stored: &StoredOrder, personal: Option<&PersonalData>) -> Value {
        let StoredOrder { order, snapshot } = stored;
        let terms = &order.terms;
        let payment = order.payment();
        let (closed_at, close_reason) = match order.settlement {
            Settlement::Closed { at, reason } => (Some(at), Some(reason)),
            _ => (None, None),
        };
        let late_payment = match terms.late_payment {
            LatePayment::Refund => "refund",
            LatePayment::Accept { .. } => "accept",
        };
        let attempt = order
            .attempts
            .last()
            .map(|attempt| self.attempt(order, attempt));
        let receipt_url = (order.status() == Status::Paid).then(|| self.receipt_url(order.id));
        // An actor may remember an order with its payer for a while after the erasure.
        let masked = personal.map(|_| &snapshot.payer_masked);
        let registrant = masked
            .and_then(|payer| payer.registrant.as_ref())
            .map(|it| json!({ "name": it.name, "id_number": it.id_number, "phone": it.phone }));
        let shown = |of: fn(&MaskedPayer) -> &Option<String>| masked.and_then(|it| of(it).as_ref());
        let mut written = json!({
            "id": order.id,
            "object": "order",
            "merchant_order_no": snapshot.merchant_order_no,
            "status": order.status().as_str(),
            "refund_status": order.refund_status(),
            "amount": terms.amount,
            "amount_paid": payment.map_or(Fen::ZERO, |capture| capture.amount),
            "amount_refunded": order.amount_refunded(),
            "currency": "CNY",
            "subject": snapshot.subject,
            "items": snapshot.items,
            "payer": {
                "ref": personal.map(|personal| &personal.payer_ref),
                "name": shown(|masked| &masked.name),
                "id_number": shown(|masked| &masked.id_number),
                "phone": shown(|masked| &masked.phone),
            },
            "registrant": registrant,
            "wallets": snapshot.wallets,
            "purpose": snapshot.purpose,
            "payer_identity": snapshot.payer_identity,
            "pay_before": self.maybe_time(terms.pay_before),
            "late_payment": late_payment,
            "late_grace_seconds": snapshot.late_grace_seconds,
            "return_url": snapshot.return_url,
            "single_scan": terms.mode == CodeMode::Unified,
            "created_at": self.time(order.created_at),
            "paid_at": self.maybe_time(payment.map(|capture| capture.succeeded_at)),
            "closed_at": self.maybe_time(closed_at),
            "close_reason": close_reason.map(crate::order::CloseReason::as_str),
            "cancel_requested_at": self.maybe_time(order.cancel_requested_at),
            "cashier_url": self.cashier_url(order.id),
            "attempt": attempt,
            "payment": payment.map(|capture| self.payment(capture)),
            "receipt_url": receipt_url,
            "fiscal_receipt": order.fiscal_receipt.as_ref().map(|receipt| json!({
                "number": receipt.number,
                "url": receipt.url,
                "issued_at": self.time(receipt.issued_at),
            })),
            "surplus": order.captures.iter().filter_map(refunds::surplus).collect::<Vec<_>>(),
            "refunds": self.merchants_refunds(order),
            "possible_duplicate": snapshot.possible_duplicate,
            "metadata": personal.map(|personal| &personal.metadata),
            "snapshot_hash": snapshot.hash,
            "version": order.version,
        });
        if !snapshot.bills.is_empty() {
            written["bills"] = json!(snapshot.bills);
        }
        written
    }

    fn payment(&self, capture: &Capture) -> Value {
        json!({
            "wallet": capture.wallet,
            "transaction_id": capture.transaction_id,
            "amount": capture.amount,
            "paid_at": self.time(capture.succeeded_at),
        })
    }

    /// The exact bytes of a webhook: the order as of the commit that this event tells of, and beside it
    /// the refund that it speaks of.
    pub fn event_body(
        &self,
        stored: &StoredOrder,
        personal: Option<&PersonalData>,
        told: Told,
    ) -> Vec<u8> {
        let mut data = Map::new();
        data.insert("order".to_owned(), self.order(stored, personal));
        if let Some(refund) = told.refund.and_then(|id| stored.order.refund(id)) {
            let refund = self.refund(&stored.order, &refund);
            data.insert("refund".to_owned(), Value::Object(refund));
        }
        json!({
            "id": told.id,
            "type": told.kind.as_str(),
            "created_at": self.time(told.at),
            "data": data,
        })
        .to_string()
        .into_bytes()
    }
}

impl crate::actors::EventBody for View {
    fn body(&self, stored: &StoredOrder, personal: Option<&PersonalData>, told: Told) -> Vec<u8> {
        self.event_body(stored, personal, told)
    }
}

/// RFC 3339 in a zone of `zone_minutes` east of UTC.
pub fn write_time(at: Timestamp, zone_minutes: i32) -> String {
    let zone = Offset::from_seconds(zone_minutes.saturating_mul(60)).unwrap_or(Offset::UTC);
    let instant = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    instant
        .to_zoned(TimeZone::fixed(zone))
        .strftime("%Y-%m-%dT%H:%M:%S%.f%:z")
        .to_string()
}

fn end_reason(phase: &Phase) -> Option<&'static str> {
    match phase {
        Phase::Cancelled { reason, .. } => Some(match reason {
            EndReason::Cancelled => "cancelled",
            EndReason::Superseded => "superseded",
            EndReason::Released => "released",
        }),
        _ => None,
    }
}

/// The slot of `store.personal` that holds an order's [`PersonalData`].
pub const PERSONAL_SLOT: &str = "order";

/// Seals an order's personal data for its slot.
pub fn seal_personal(sealer: &Sealer, order: OrderId, personal: &PersonalData) -> Sealed {
    let plain = serde_json::to_vec(personal).expect("texts and JSON values serialise");
    let row = order.to_string();
    sealer.seal(personal_place(&row), &plain)
}

/// Opens what [`seal_personal`] sealed. `None` where it does not open or cannot be read.
pub fn open_personal(sealer: &Sealer, order: OrderId, closed: &Sealed) -> Option<PersonalData> {
    let row = order.to_string();
    let plain = sealer.open(personal_place(&row), closed).ok()?;
    serde_json::from_slice(&plain).ok()
}

const fn personal_place(row: &str) -> Place<'_> {
    Place {
        table: "personal",
        column: PERSONAL_SLOT,
        row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_the_zone() {
        let at = Timestamp::from_seconds(1_795_168_800);
        assert_eq!(write_time(at, 480), "2026-11-20T18:00:00+08:00");
        assert_eq!(
            write_time(at.plus_ms(250), 0),
            "2026-11-20T10:00:00.25+00:00"
        );
    }
}
