//! Money that goes back, as merchants see it, and the merchant's reason, which stands sealed.

use serde_json::{Map, Value, json};

use super::View;
use crate::actors::{REFUND_COLUMN, refund_slot};
use crate::order::state::{Capture, CaptureStanding};
use crate::order::{
    Order, OrderId, Refund, RefundCause, RefundId, RefundOf, RefundStanding, Timestamp,
};
use crate::sealing::{Place, Sealed, Sealer};
use crate::store::Write;

impl View {
    /// A refund as its order and its webhook tell it.
    pub fn refund(&self, order: &Order, refund: &RefundOf<'_>) -> Map<String, Value> {
        let asked = asked(order, refund.id);
        let trade = order
            .attempt(refund.attempt)
            .and_then(|attempt| attempt.trade.as_ref());
        let ended_at = match refund.standing {
            RefundStanding::Succeeded { at } | RefundStanding::Failed { at } => Some(at),
            _ => None,
        };
        let members = [
            ("id", json!(refund.id)),
            ("object", json!("refund")),
            ("order_id", json!(order.id)),
            ("cause", json!(refund.cause.as_str())),
            (
                "merchant_refund_no",
                json!(asked.map(|asked| &asked.merchant_refund_no)),
            ),
            ("number", json!(refund.number(order))),
            ("wallet", json!(trade.map(|trade| trade.product.wallet()))),
            ("transaction_id", json!(refund.transaction_id)),
            ("amount", json!(refund.amount)),
            ("currency", json!("CNY")),
            ("status", json!(refund.standing.as_str())),
            ("attention", json!(attention(refund.standing))),
            (
                "created_at",
                json!(self.time(created_at(order, refund, asked))),
            ),
            ("ended_at", self.maybe_time(ended_at)),
        ];
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The refunds that the merchant asked for.
    pub(super) fn merchants_refunds(&self, order: &Order) -> Vec<Map<String, Value>> {
        order
            .every_refund()
            .filter(|refund| refund.cause == RefundCause::Merchant)
            .map(|refund| self.refund(order, &refund))
            .collect()
    }
}

/// What the merchant asked for under this id.
fn asked(order: &Order, id: RefundId) -> Option<&Refund> {
    order.refunds.iter().find(|asked| asked.id == id)
}

fn created_at(order: &Order, refund: &RefundOf<'_>, asked: Option<&Refund>) -> Timestamp {
    let heard = |capture: &Capture| match capture.standing {
        CaptureStanding::Surplus { refund: own, .. } if own == refund.id => Some(capture.heard_at),
        _ => None,
    };
    asked
        .map(|asked| asked.requested_at)
        .or_else(|| order.captures.iter().find_map(heard))
        .unwrap_or_else(|| {
            // Of an odd capture: its id was made when the first of the two people spoke.
            let made = i64::try_from(refund.id.ulid().timestamp_ms()).unwrap_or_default();
            Timestamp::from_millis(made)
        })
}

/// What keeps a refund from its end, where somebody has to do something about it.
const fn attention(standing: RefundStanding) -> Option<&'static str> {
    match standing {
        RefundStanding::Pending {
            underfunded: true, ..
        } => Some("underfunded"),
        RefundStanding::Abnormal { .. } => Some("payer_account"),
        RefundStanding::Failed { .. } => Some("refused"),
        _ => None,
    }
}

/// Money that the order does not owe, and how far it is on its way back.
pub(super) fn surplus(capture: &Capture) -> Option<Value> {
    let CaptureStanding::Surplus {
        refund, standing, ..
    } = capture.standing
    else {
        return None;
    };
    Some(json!({
        "amount": capture.amount,
        "wallet": capture.wallet,
        "transaction_id": capture.transaction_id,
        "refund": refund,
        "status": standing.as_str(),
    }))
}

/// A merchant's reason, sealed for its slot; committed with the refund itself.
pub fn reason_write(sealer: &Sealer, order: OrderId, refund: RefundId, reason: &str) -> Write {
    let row = refund.to_string();
    Write::Personal {
        order,
        slot: refund_slot(refund),
        sealed: sealer.seal(reason_place(&row), reason.as_bytes()),
    }
}

/// Opens what [`reason_write`] sealed. `None` where it does not open.
pub fn open_reason(sealer: &Sealer, refund: RefundId, closed: &Sealed) -> Option<String> {
    let row = refund.to_string();
    let plain = sealer.open(reason_place(&row), closed).ok()?;
    String::from_utf8(plain).ok()
}

const fn reason_place(row: &str) -> Place<'_> {
    Place {
        table: "personal",
        column: REFUND_COLUMN,
        row,
    }
}
