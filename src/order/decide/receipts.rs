//! The fiscal e-receipt: issued by the school's own system, whenever that has it.

use super::{Draft, already};
use crate::order::effect::{Answer, Outcome, Refusal};
use crate::order::event::Event;
use crate::order::state::{FiscalReceipt, Order, Settlement};
use crate::order::time::Timestamp;

/// Only what is paid has one. The school may put another in its place, as after a correction.
pub(super) fn issue(
    order: &Order,
    number: &str,
    url: &str,
    issued_at: Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    if !matches!(order.settlement, Settlement::Paid { .. }) {
        return Outcome::Refused(Refusal::NotPaid);
    }
    let is_known = order.fiscal_receipt.as_ref().is_some_and(|known| {
        *known.number == *number
            && *known.url == *url
            && issued_at.is_none_or(|at| at == known.issued_at)
    });
    if is_known {
        return already(Answer::Same);
    }
    let mut draft = Draft::of(order, now);
    draft.push(Event::ReceiptIssued {
        receipt: FiscalReceipt {
            number: number.into(),
            url: url.into(),
            issued_at: issued_at.unwrap_or(now),
        },
    });
    draft.finish()
}
