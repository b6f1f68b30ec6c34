//! `personal …`: keys and erasure.

use std::time::Duration;

use serde_json::{Value, json};

use super::{OperationError, Operations, Operator, not_found, wrong};
use crate::order::{MerchantId, OrderId};
use crate::retention::erase::Outcome;
use crate::store::OrderFilter;
use crate::store::bills::{BillFilter, BillStatus, StoredBill};

/// How long one call works: well within the patience of who waits at the socket.
const BUDGET: Duration = Duration::from_secs(15);
const PAGE: usize = 100;

impl Operations {
    /// Values by table and key.
    pub(super) async fn personal_status(&self) -> Result<Value, OperationError> {
        let newest = self.sealer.newest_key();
        let counts = self.reseal.counts().await?;
        let rows: Vec<Value> = counts
            .iter()
            .map(|count| {
                json!({
                    "table": count.table.as_str(),
                    "key": count.key,
                    "values": count.values,
                    "newest": count.key == newest,
                })
            })
            .collect();
        Ok(json!({
            "newest_key": newest,
            "configured_keys": self.sealer.key_numbers().collect::<Vec<_>>(),
            "left": self.reseal.left().await?,
            "values": rows,
        }))
    }

    /// Goes on with the rotation for a while.
    pub(super) async fn personal_reencrypt(&self, by: &Operator) -> Result<Value, OperationError> {
        let done = self.reseal.run(BUDGET).await?;
        let newest = format!("key {}", self.sealer.newest_key());
        let outcome = format!("{} values done, {} left", done.resealed, done.left);
        self.write(vec![self.audit(
            by,
            "personal reencrypt",
            &newest,
            &outcome,
        )])
        .await?;
        Ok(json!(done))
    }

    /// Erases on request, whatever the age; orders with something going on are named and kept.
    pub(super) async fn personal_erase(
        &self,
        by: &Operator,
        order: Option<String>,
        payer_ref: Option<String>,
        merchant: Option<String>,
    ) -> Result<Value, OperationError> {
        let (orders, bills) = match (order, payer_ref, merchant) {
            (Some(order), None, _) => {
                let id: OrderId = order
                    .parse()
                    .map_err(|_| wrong("--order", &order, "an order id, ord_…"))?;
                (vec![id], Vec::new())
            }
            (None, Some(payer_ref), Some(merchant)) => {
                let merchant = self.merchant(&merchant).await?.id;
                (
                    of_payer(self, merchant, &payer_ref).await?,
                    bills_of_payer(self, merchant, &payer_ref).await?,
                )
            }
            _ => {
                return Err(wrong(
                    "whose data",
                    "nothing, or both",
                    "--order, or --payer-ref and --merchant",
                ));
            }
        };
        let mut rows = Vec::new();
        for order in orders {
            let outcome = self.erase.order(order, self.clock.now()).await?;
            if outcome == Outcome::NoSuchOrder {
                return Err(not_found("order", &order.to_string()));
            }
            let said = json!(outcome);
            let audit = self.audit(
                by,
                "personal erase",
                &order.to_string(),
                said.as_str().unwrap_or("done"),
            );
            self.write(vec![audit]).await?;
            rows.push(json!({ "order_id": order, "outcome": said }));
        }
        for bill in bills {
            let id = bill.bill.id;
            let outcome = match bill.status(self.clock.now()) {
                // What an order paid was forgotten with it.
                BillStatus::Paid => continue,
                BillStatus::Unpaid | BillStatus::Paying => Outcome::NotOver,
                BillStatus::Closed => self.erase.bill(id).await?,
            };
            let said = json!(outcome);
            let outcome = said.as_str().unwrap_or("done");
            let audit = self.audit(by, "personal erase", &id.to_string(), outcome);
            self.write(vec![audit]).await?;
            rows.push(json!({ "bill_id": id, "outcome": said }));
        }
        Ok(Value::Array(rows))
    }
}

async fn bills_of_payer(
    operations: &Operations,
    merchant: MerchantId,
    payer_ref: &str,
) -> Result<Vec<StoredBill>, OperationError> {
    let mut found: Vec<StoredBill> = Vec::new();
    loop {
        let filter = BillFilter {
            merchant,
            payer_index: Some(operations.sealer.index("payer_ref", payer_ref)),
            status: None,
            merchant_bill_no: None,
            before: found.last().map(|last| last.bill.id),
            limit: PAGE,
            now: operations.clock.now(),
        };
        let page = operations.store.bills(&filter).await?;
        let full = page.len() == PAGE;
        found.extend(page);
        if !full {
            return Ok(found);
        }
    }
}

/// Found first, erased afterwards: an erased order is found no more.
async fn of_payer(
    operations: &Operations,
    merchant: MerchantId,
    payer_ref: &str,
) -> Result<Vec<OrderId>, OperationError> {
    let mut found: Vec<OrderId> = Vec::new();
    loop {
        let page = operations
            .store
            .orders(&OrderFilter {
                merchant,
                merchant_order_no: None,
                payer_index: Some(operations.sealer.index("payer_ref", payer_ref)),
                status: None,
                created_after: None,
                before: found.last().copied(),
                limit: PAGE,
            })
            .await?;
        let full = page.len() == PAGE;
        found.extend(page.iter().map(|stored| stored.order.id));
        if !full {
            return Ok(found);
        }
    }
}
