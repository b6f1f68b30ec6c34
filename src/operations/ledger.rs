//! The books, to be read.

use serde_json::{Value, json};

use super::{OperationError, Operations, id};
use crate::order::OrderId;

impl Operations {
    /// What each book holds, or the lines of one order.
    pub(super) async fn ledger(&self, order: Option<&str>) -> Result<Value, OperationError> {
        let Some(order) = order else {
            let totals = self.store.ledger_totals().await?;
            let rows = totals
                .iter()
                .map(|(book, amount)| json!({ "book": book, "amount": amount }));
            return Ok(Value::Array(rows.collect()));
        };
        let order: OrderId = id("order", order)?;
        let lines = self.store.ledger(order).await?;
        let rows = lines.iter().map(|line| {
            json!({
                "order_id": line.order,
                "version": line.version,
                "position": line.position,
                "line": line.line,
                "book": line.book,
                "amount": line.amount,
                "at": self.time(line.at),
            })
        });
        Ok(Value::Array(rows.collect()))
    }
}
