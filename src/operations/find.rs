//! From what somebody reads over the phone to an order.

use super::{OperationError, Operations};
use crate::order::{BillId, EventId, OrderId, OutTradeNo};
use crate::store::OrderFilter;

/// Orders that are shown for one search.
const MOST: usize = 20;

impl Operations {
    /// The orders that this names, newest first: an order's id or number, a receipt's number, the
    /// provider's number of a payment or ours of a trade, an event, a merchant's refund number, a bill's
    /// id or number (the last order that took it), or a payer's whole reference, which is compared by its
    /// keyed hash.
    pub async fn find(&self, text: &str) -> Result<Vec<OrderId>, OperationError> {
        let text = text.trim();
        if text.is_empty() || text.len() > 128 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        // A provider's 28 digits read like a trade's number of ours: only what is there is meant.
        if let Some(order) = named(text)
            && self.store.order(order).await?.is_some()
        {
            found.push(order);
        }
        if let Ok(event) = text.parse::<EventId>() {
            let event = self.store.outbox_event(event).await?;
            found.extend(event.map(|event| event.order));
        }
        found.extend(self.store.orders_of_transaction(text, MOST).await?);
        let payer_index = self.sealer.index("payer_ref", text);
        for merchant in self.store.merchants().await? {
            let order = self.store.order_by_number(merchant.id, text).await?;
            found.extend(order.map(|stored| stored.order.id));
            let refund = self.store.refund_row(merchant.id, text).await?;
            found.extend(refund.map(|refund| refund.order));
            let mut bills = self
                .store
                .bills_by_number(merchant.id, &[text.to_owned()])
                .await?;
            if let Ok(bill) = text.parse::<BillId>() {
                bills.extend(self.store.bills_by_id(merchant.id, &[bill]).await?);
            }
            found.extend(
                bills
                    .iter()
                    .filter_map(|bill| Some(bill.order.as_ref()?.id)),
            );
            let of_payer = OrderFilter {
                merchant: merchant.id,
                merchant_order_no: None,
                payer_index: Some(payer_index),
                status: None,
                created_after: None,
                before: None,
                limit: MOST,
            };
            let orders = self.store.orders(&of_payer).await?;
            found.extend(orders.into_iter().map(|stored| stored.order.id));
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.dedup();
        found.truncate(MOST);
        Ok(found)
    }
}

/// An order's id, also without its prefix as receipts have it, and at the head of a trade's number; in
/// small letters too, and with blanks between groups, as people write it down.
fn named(text: &str) -> Option<OrderId> {
    let written: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != '-')
        .collect::<String>()
        .to_ascii_uppercase();
    let ulid = written.strip_prefix("ORD_").unwrap_or(&written);
    if let Ok(trade) = ulid.parse::<OutTradeNo>() {
        return Some(trade.order);
    }
    format!("ord_{ulid}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_named_as_people_write_it() {
        let order: OrderId = "ord_01JD8Z5Q0G7K3M9R2T4V6W8X1Y".parse().unwrap();
        for text in [
            "ord_01JD8Z5Q0G7K3M9R2T4V6W8X1Y",
            "01JD8Z5Q0G7K3M9R2T4V6W8X1Y",
            "01jd8z5q0g7k3m9r2t4v6w8x1y",
            "01JD8Z 5Q0G7K 3M9R2T 4V6W8X 1Y",
            "01JD8Z5Q0G7K3M9R2T4V6W8X1Y01",
        ] {
            assert_eq!(named(text), Some(order), "{text}");
        }
        for text in ["", "ord_", "01JD8Z5Q0G", "ZK202104-000123", "4200001234"] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
