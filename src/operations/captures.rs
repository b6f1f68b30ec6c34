//! Odd captures: money that does not fit its order, and notices that fit none. Two people settle them;
//! never as a payment (contract §2).

use serde_json::{Value, json};

use super::{Act, OperationError, Operations, Operator, id, not_found, wrong};
use crate::actors::Verdict;
use crate::order::state::{Mismatch, MismatchStanding};
use crate::order::{AccountId, Command, Order, OrderId, RefundId, SettleBy};
use crate::store::{EvidenceRow, EvidenceStanding, Write};

/// Orders, and notices, that are listed at once.
const MOST: usize = 1000;

const SAME_PERSON: &str =
    "the same person has proposed this before: another must confirm it (--operator)";

impl Operations {
    pub(super) async fn capture_list(&self) -> Result<Value, OperationError> {
        let mut rows = Vec::new();
        for order in self.store.odd_captures(MOST).await? {
            let Some(stored) = self.store.order(order).await? else {
                continue;
            };
            let order = &stored.order;
            rows.extend(
                (0..)
                    .zip(&order.mismatches)
                    .filter(|(_, mismatch)| !mismatch.is_settled())
                    .map(|(number, mismatch)| self.mismatch_json(order, number, mismatch)),
            );
        }
        let evidence = self.store.evidence_open(MOST).await?;
        rows.extend(evidence.iter().map(|row| self.evidence_json(row)));
        Ok(Value::Array(rows))
    }

    pub(super) async fn mismatch_settle(
        &self,
        by: &Operator,
        order: &str,
        mismatch: u16,
        way: SettleBy,
    ) -> Result<Value, OperationError> {
        let order: OrderId = id("order", order)?;
        let act = Act {
            action: &format!("capture settle --by {}", way.as_str()),
            target: &format!("{order} {mismatch}"),
            order,
        };
        let command = Command::SettleMismatch {
            mismatch,
            by: way,
            operator: by.hash(&self.sealer),
            refund: RefundId::from_ulid(self.random.ulid(self.clock.now())),
        };
        let reply = self.tell(by, act, command, Vec::new()).await?;
        if let Verdict::Already(_) = reply.verdict {
            return Err(OperationError::State(SAME_PERSON));
        }
        let order = &reply.stored.order;
        let settled = order.mismatches.get(usize::from(mismatch));
        Ok(settled.map_or(Value::Null, |settled| {
            self.mismatch_json(order, mismatch, settled)
        }))
    }

    pub(super) async fn evidence_settle(
        &self,
        by: &Operator,
        account: &str,
        reference: &str,
        way: SettleBy,
    ) -> Result<Value, OperationError> {
        if way != SettleBy::Outside {
            return Err(wrong(
                "--by",
                way.as_str(),
                "outside: what fits no order cannot go back by itself",
            ));
        }
        let name = format!("{account}/{reference}");
        let (account, missing) = (AccountId::new(account), || not_found("evidence", &name));
        let known = self.store.evidence(&account, reference).await?;
        let operator = by.hash(&self.sealer);
        let action = "capture settle --by outside";
        let refusal = match known.ok_or_else(missing)?.standing {
            EvidenceStanding::Settled { .. } => Some("the evidence is settled"),
            EvidenceStanding::Proposed { by: first, .. } if first == operator => Some(SAME_PERSON),
            EvidenceStanding::Open | EvidenceStanding::Proposed { .. } => None,
        };
        if let Some(refusal) = refusal {
            self.write(vec![self.audit(by, action, &name, refusal)])
                .await?;
            return Err(OperationError::State(refusal));
        }
        self.write(vec![
            Write::EvidenceSettled {
                account: account.clone(),
                reference: reference.to_owned(),
                operator,
                at: self.clock.now(),
            },
            self.audit(by, action, &name, "done"),
        ])
        .await?;
        let settled = self.store.evidence(&account, reference).await?;
        Ok(self.evidence_json(&settled.ok_or_else(missing)?))
    }

    fn mismatch_json(&self, order: &Order, number: u16, mismatch: &Mismatch) -> Value {
        let (standing, way, refund) = match mismatch.standing {
            MismatchStanding::Waiting => ("waiting", None, None),
            MismatchStanding::Proposed { by, .. } => ("proposed", Some(by.as_str()), None),
            MismatchStanding::SettledOutside { .. } => ("settled", Some("outside"), None),
            MismatchStanding::GoingBack { refund, .. } if mismatch.is_settled() => {
                ("settled", Some("refund"), Some(refund))
            }
            MismatchStanding::GoingBack { refund, .. } => {
                ("going_back", Some("refund"), Some(refund))
            }
        };
        let refund = refund.and_then(|id| order.refund(id));
        json!({
            "order_id": order.id,
            "mismatch": number,
            "merchant_id": order.terms.merchant,
            "account": mismatch.account,
            "reference": mismatch.transaction_id,
            "reason": mismatch.field,
            "amount": mismatch.amount,
            "currency": mismatch.currency,
            "seen_at": self.time(mismatch.heard_at),
            "standing": standing,
            "by": way,
            "refund_id": refund.map(|refund| refund.id),
            "refund_status": refund.map(|refund| refund.standing.as_str()),
        })
    }

    /// A notice is sealed: of what it says of money only an operator's own look at the provider tells.
    fn evidence_json(&self, row: &EvidenceRow) -> Value {
        let (standing, way) = match row.standing {
            EvidenceStanding::Open => ("waiting", None),
            EvidenceStanding::Proposed { .. } => ("proposed", Some("outside")),
            EvidenceStanding::Settled { .. } => ("settled", Some("outside")),
        };
        json!({
            "order_id": null,
            "account": row.account,
            "reference": row.reference,
            "reason": row.reason,
            "seen_at": self.time(row.first_seen),
            "standing": standing,
            "by": way,
        })
    }
}
