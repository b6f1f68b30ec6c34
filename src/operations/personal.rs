//! `personal …`: keys and erasure.

use std::time::Duration;

use serde_json::{Value, json};

use super::{OperationError, Operations, wrong};
use crate::order::{MerchantId, OrderId};
use crate::retention::erase::Outcome;
use crate::store::OrderFilter;

/// How long one call works: well within the patience of who waits at the socket.
const BUDGET: Duration = Duration::from_secs(15);
const PAGE: usize = 100;

/// Values by table and key.
pub(super) async fn status(operations: &Operations) -> Result<Value, OperationError> {
    let newest = operations.sealer.newest_key();
    let counts = operations.reseal.counts().await?;
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
        "configured_keys": operations.sealer.key_numbers().collect::<Vec<_>>(),
        "left": operations.reseal.left().await?,
        "values": rows,
    }))
}

/// Goes on with the rotation for a while.
pub(super) async fn reencrypt(operations: &Operations) -> Result<Value, OperationError> {
    Ok(json!(operations.reseal.run(BUDGET).await?))
}

/// Erases on request, whatever the age; orders with something going on are named and kept.
pub(super) async fn erase(
    operations: &Operations,
    order: Option<String>,
    payer_ref: Option<String>,
    merchant: Option<String>,
) -> Result<Value, OperationError> {
    let orders = match (order, payer_ref, merchant) {
        (Some(order), None, _) => {
            let id: OrderId = order
                .parse()
                .map_err(|_| wrong("--order", &order, "an order id, ord_…"))?;
            vec![id]
        }
        (None, Some(payer_ref), Some(merchant)) => {
            let merchant = operations.merchant(&merchant).await?.id;
            of_payer(operations, merchant, &payer_ref).await?
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
        let outcome = operations
            .erase
            .order(order, operations.clock.now())
            .await?;
        if outcome == Outcome::NoSuchOrder {
            return Err(OperationError::NotFound {
                what: "order",
                id: order.to_string(),
            });
        }
        rows.push(json!({ "order_id": order, "outcome": outcome }));
    }
    Ok(Value::Array(rows))
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
