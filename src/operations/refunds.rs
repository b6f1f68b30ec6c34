//! Refunds that do not come to their end: tried again, or sent another way.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, OperationError, Operations, Operator, id, wrong};
use crate::actors::{REPAIR_COLUMN, repair_slot};
use crate::order::{Command, Order, OrderId, RefundId};
use crate::sealing::Place;
use crate::store::{RefundRow, Write};

/// Rows that are listed at once.
const MOST: usize = 1000;

/// A text that no log may show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hidden(***)")
    }
}

/// Where an abnormal refund's money may go instead.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// The school's own bank card: it pays the payer by other means.
    MerchantCard,
    /// A bank card of the payer's.
    PayerCard {
        /// The provider's word for the bank, such as `ICBC_DEBIT`.
        bank_type: String,
        bank_account: Hidden,
        real_name: Hidden,
    },
}

impl Destination {
    const fn word(&self) -> &'static str {
        match self {
            Self::MerchantCard => "merchant-card",
            Self::PayerCard { .. } => "payer-card",
        }
    }

    /// Says what is wrong and never repeats it.
    fn check(&self) -> Result<(), OperationError> {
        let Self::PayerCard {
            bank_type,
            bank_account,
            real_name,
        } = self
        else {
            return Ok(());
        };
        let is_word = |text: &str| {
            (1..=32).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if !is_word(bank_type) {
            return Err(wrong(
                "--bank-type",
                &format!("{bank_type:?}"),
                "the provider's word, such as ICBC_DEBIT",
            ));
        }
        let Hidden(account) = bank_account;
        if !((8..=32).contains(&account.len()) && account.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(wrong(
                "--bank-account-file",
                "something else",
                "8 to 32 digits",
            ));
        }
        let Hidden(name) = real_name;
        if !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(wrong(
                "--real-name-file",
                "something else",
                "a name of 1 to 64 characters",
            ));
        }
        Ok(())
    }

    /// As its slot holds it (see `actors::repair_slot`).
    fn kept(&self) -> Value {
        match self {
            Self::MerchantCard => Value::Null,
            Self::PayerCard {
                bank_type,
                bank_account: Hidden(bank_account),
                real_name: Hidden(real_name),
            } => json!({
                "bank_type": bank_type,
                "bank_account": bank_account,
                "real_name": real_name,
            }),
        }
    }
}

impl Operations {
    pub(super) async fn refund_list(&self) -> Result<Value, OperationError> {
        let rows = self.store.refunds_open(MOST).await?;
        Ok(Value::Array(
            rows.iter().map(|row| self.row_json(row)).collect(),
        ))
    }

    pub(super) async fn refund_retry(
        &self,
        by: &Operator,
        order: &str,
        refund: &str,
    ) -> Result<Value, OperationError> {
        let (order, refund): (OrderId, RefundId) = (id("order", order)?, id("refund", refund)?);
        let act = Act {
            action: "refund retry",
            target: &format!("{order} {refund}"),
            order,
        };
        let command = Command::RetryRefund { refund };
        let reply = self.tell(by, act, command, Vec::new()).await?;
        Ok(refund_json(&reply.stored.order, refund))
    }

    pub(super) async fn refund_repair(
        &self,
        by: &Operator,
        order: &str,
        refund: &str,
        to: Destination,
    ) -> Result<Value, OperationError> {
        let (order, refund): (OrderId, RefundId) = (id("order", order)?, id("refund", refund)?);
        to.check()?;
        let row = refund.to_string();
        let place = Place {
            table: "personal",
            column: REPAIR_COLUMN,
            row: &row,
        };
        let kept = Write::Personal {
            order,
            slot: repair_slot(refund),
            sealed: self.sealer.seal(place, to.kept().to_string().as_bytes()),
        };
        let act = Act {
            action: &format!("refund repair --to {}", to.word()),
            target: &format!("{order} {refund}"),
            order,
        };
        let command = Command::RepairRefund { refund };
        let reply = self.tell(by, act, command, vec![kept]).await?;
        Ok(refund_json(&reply.stored.order, refund))
    }

    fn row_json(&self, row: &RefundRow) -> Value {
        json!({
            "refund_id": row.id,
            "order_id": row.order,
            "merchant_id": row.merchant,
            "cause": row.cause.as_str(),
            "merchant_refund_no": row.merchant_refund_no,
            "amount": row.amount,
            "status": row.status,
            "account": row.account,
            "number": row.number,
            "round": row.round,
            "requested_at": self.time(row.requested_at),
            "ended_at": row.ended_at.map(|at| self.time(at)),
        })
    }
}

/// How a refund stands after a command.
fn refund_json(order: &Order, id: RefundId) -> Value {
    let refund = order.refund(id);
    json!({
        "refund_id": id,
        "order_id": order.id,
        "status": refund.map(|refund| refund.standing.as_str()),
        "number": refund.map(|refund| refund.number(order)),
        "tries": refund.map(|refund| refund.standing.tries()),
    })
}
