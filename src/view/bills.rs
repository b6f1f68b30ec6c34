//! A bill as merchants see it.

use serde_json::{Value, json};

use super::View;
use crate::order::{BillId, CloseReason, LatePayment, Status, Timestamp};
use crate::sealing::{Place, Sealed, Sealer};
use crate::store::MaskedPayer;
use crate::store::bills::{BillPeople, StoredBill};

impl View {
    /// The whole bill as it stands at `now`. `people` is what it holds sealed; `None` once erased.
    pub fn bill(&self, stored: &StoredBill, people: Option<&BillPeople>, now: Timestamp) -> Value {
        let bill = &stored.bill;
        let content = &bill.content;
        let closed = stored.closed(now);
        let holder = stored.holder();
        let paid = holder.filter(|order| order.status == Status::Paid);
        let masked = people.map(|_| &bill.payer_masked);
        let shown = |of: fn(&MaskedPayer) -> &Option<String>| masked.and_then(|it| of(it).as_ref());
        let late_payment = match content.late_payment {
            LatePayment::Refund => "refund",
            LatePayment::Accept { .. } => "accept",
        };
        json!({
            "id": bill.id,
            "object": "bill",
            "merchant_bill_no": bill.merchant_bill_no,
            "status": stored.status(now).as_str(),
            "subject": content.subject,
            "amount": bill.amount,
            "currency": "CNY",
            "items": content.items,
            "payer": {
                "ref": people.map(|people| &people.payer_ref),
                "name": shown(|masked| &masked.name),
                "id_number": shown(|masked| &masked.id_number),
                "phone": shown(|masked| &masked.phone),
            },
            "pay_before": self.maybe_time(bill.pay_before),
            "late_payment": late_payment,
            "late_grace_seconds": content.late_grace_seconds,
            "order": holder.map(|order| order.id),
            "paid_at": self.maybe_time(
                paid.and_then(|order| order.payment.as_ref()).map(|payment| payment.paid_at)
            ),
            "receipt_url": paid.map(|order| self.receipt_url(order.id)),
            "created_at": self.time(bill.created_at),
            "closed_at": self.maybe_time(closed.map(|(at, _)| at)),
            "close_reason": closed.map(|(_, reason)| reason).map(CloseReason::as_str),
            "metadata": people.map(|people| &people.metadata),
        })
    }
}

/// Seals who pays a bill.
pub fn seal_bill(sealer: &Sealer, bill: BillId, people: &BillPeople) -> Sealed {
    let plain = serde_json::to_vec(people).expect("texts and JSON values serialise");
    sealer.seal(place(&bill.to_string()), &plain)
}

/// Opens what [`seal_bill`] sealed. `None` where it does not open or cannot be read.
pub fn open_bill(sealer: &Sealer, bill: BillId, closed: &Sealed) -> Option<BillPeople> {
    let plain = sealer.open(place(&bill.to_string()), closed).ok()?;
    serde_json::from_slice(&plain).ok()
}

const fn place(row: &str) -> Place<'_> {
    Place {
        table: "bills",
        column: "sealed",
        row,
    }
}
