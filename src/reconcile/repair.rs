//! What the bill knows and we do not, told to the orders: the same commands that a callback sends, so
//! that the same rules judge them and the same webhooks leave. Repeating all of it changes nothing.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::civil::Date;

use super::matching::{Finding, Repair};
use super::result::{Comparison, Heard, asked_side, capture_side, refund_side};
use super::run::{Parts, Stopped};
use crate::actors::{OrdersError, Reply, Request, Verdict as Told};
use crate::order::state::MismatchedField;
use crate::order::{
    CaptureReport, Command, ForeignRefund, OrderId, OutTradeNo, RefundAnswer, RefundId,
    RefundStanding,
};
use crate::provider::AccountSettings;
use crate::provider::bill::TradeLine;
use crate::store::reconciliation::{Field, Verdict};
use crate::store::{Actor, RefundRow, Rejection, StoredOrder};

/// Orders that are spoken to at a time: so many share the store's flushes, and leave room for payments.
const AT_ONCE: usize = 64;
/// How often an order is spoken to again where too much was under way.
const TRIES: usize = 60;

/// Speaks for one account's bill of one day.
pub(super) struct Repairing<'a> {
    pub parts: &'a Parts,
    pub account: &'a AccountSettings,
    pub date: Date,
    pub comparison: &'a Comparison,
}

impl Repairing<'_> {
    /// What the orders said, by finding.
    pub(super) async fn all(&self) -> Result<Vec<(usize, Heard)>, Stopped> {
        let findings = self.comparison.findings.iter().enumerate();
        let open: Vec<_> = findings
            .filter(|(_, finding)| finding.repair.is_some() || finding.ours.is_none())
            .collect();
        let mut all = Vec::with_capacity(open.len());
        for some in open.chunks(AT_ONCE) {
            let heard = join_all(some.iter().map(|(_, finding)| self.one(finding))).await;
            for ((index, _), heard) in some.iter().zip(heard) {
                all.push((*index, heard?));
            }
        }
        Ok(all)
    }

    async fn one(&self, finding: &Finding) -> Result<Heard, Stopped> {
        let Some(line) = finding.line.map(|line| &self.comparison.lines[line]) else {
            return Ok(Heard::nothing(finding, None));
        };
        match (finding.repair, finding.ours) {
            (Some(Repair::Payment(number)), _) => self.payment(finding, line, number).await,
            (Some(Repair::Refund(answer)), Some(row)) => {
                let row = &self.comparison.refunds[row];
                self.refund(finding, line, row, answer).await
            }
            (Some(Repair::ForeignRefund(number)), _) => self.foreign(finding, line, number).await,
            // Nothing to tell; but whose line it is decides who may see it.
            _ => {
                let order = match line.out_trade_no.parse::<OutTradeNo>() {
                    Ok(number) => self.read(number.order).await?,
                    Err(_) => None,
                };
                let order = order.as_deref().map(|stored| &stored.order);
                Ok(Heard::nothing(finding, order))
            }
        }
    }

    /// A success that we have no capture of.
    async fn payment(
        &self,
        finding: &Finding,
        line: &TradeLine,
        number: OutTradeNo,
    ) -> Result<Heard, Stopped> {
        let Some(stored) = self.read(number.order).await? else {
            return Ok(Heard::nothing(finding, None));
        };
        let of_trade = stored.order.captures.iter();
        let recorded = of_trade
            .filter(|capture| capture.attempt == number.attempt)
            .find(|capture| capture.transaction_id != line.transaction_id);
        if let Some(capture) = recorded {
            // One trade is paid once. Told to the order, the line would be a second payment, and the
            // only one there is would go back: a person looks.
            return Ok(Heard {
                verdict: Verdict::Different,
                field: Some(Field::Transaction),
                ours: Some(capture_side(&stored.order, capture)),
                ..Heard::nothing(finding, Some(&stored.order))
            });
        }
        let now = self.parts.clock.now();
        let report = CaptureReport {
            attempt: number.attempt,
            account: self.account.id.clone(),
            // Alipay's bill names no application. It was fetched under the account's own key and lists
            // this seller's trades alone, and a number of ours is on no trade that we did not ask for:
            // the order still compares the account, the amount and what its trade was asked under.
            application: line
                .application
                .clone()
                .unwrap_or_else(|| self.account.application.clone()),
            transaction_id: line.transaction_id.clone(),
            amount: line.amount,
            currency: line.currency.clone(),
            succeeded_at: line.at,
            surplus_refund: RefundId::from_ulid(self.parts.random.ulid(now)),
        };
        let told = self
            .tell(number.order, line, Command::Capture(report))
            .await;
        let reply = match told {
            Ok(reply) => reply,
            // Recorded already, of another trade: one transaction cannot have paid two.
            Err(OrdersError::Rejected(Rejection::CaptureKnown)) => {
                return Ok(Heard {
                    verdict: Verdict::Different,
                    field: Some(Field::Number),
                    ..Heard::nothing(finding, Some(&stored.order))
                });
            }
            Err(error) => return Err(error.into()),
        };
        let order = &reply.stored.order;
        let heard = Heard::nothing(finding, Some(order));
        let is_it = |attempt, transaction: &str| {
            attempt == number.attempt && *transaction == *line.transaction_id
        };
        if let Some(capture) = order
            .captures
            .iter()
            .find(|capture| is_it(capture.attempt, &capture.transaction_id))
        {
            return Ok(Heard {
                verdict: Verdict::Matched,
                field: None,
                repaired: reply.verdict == Told::Applied,
                ours: Some(capture_side(order, capture)),
                ..heard
            });
        }
        // Money that does not fit its trade: kept by the order, and a person was called.
        let odd = order
            .mismatches
            .iter()
            .rev()
            .find(|odd| is_it(odd.attempt, &odd.transaction_id));
        let asked = order.attempt(number.attempt);
        Ok(Heard {
            verdict: Verdict::Different,
            field: Some(odd.map_or(Field::Number, |odd| field_of(odd.field))),
            ours: asked.map(|attempt| asked_side(order, attempt)),
            ..heard
        })
    }

    /// How a refund of ours ended.
    async fn refund(
        &self,
        finding: &Finding,
        line: &TradeLine,
        row: &RefundRow,
        answer: RefundAnswer,
    ) -> Result<Heard, Stopped> {
        let stored = self.read(row.order).await?;
        let Some(stored) = stored else {
            return Ok(Heard::nothing(finding, None));
        };
        let Some(refund) = stored.order.refund_numbered(&row.number) else {
            // The row is there, the refund is not: a damaged order.
            let number = OutTradeNo {
                order: row.order,
                attempt: row.attempt,
            };
            let heard = self.foreign(finding, line, number).await?;
            return Ok(Heard {
                verdict: Verdict::Different,
                field: Some(Field::Status),
                ..heard
            });
        };
        let command = Command::RefundAnswer {
            refund: refund.id,
            round: refund.round(),
            answer,
        };
        let reply = self.tell(row.order, line, command).await?;
        let order = &reply.stored.order;
        let now = order.refund(row.id);
        let agrees = now.is_some_and(|now| {
            matches!(
                (answer, now.standing),
                (RefundAnswer::Succeeded, RefundStanding::Succeeded { .. })
                    | (RefundAnswer::Failed, RefundStanding::Failed { .. })
                    | (RefundAnswer::Abnormal, RefundStanding::Abnormal { .. })
            )
        });
        Ok(Heard {
            verdict: if agrees {
                Verdict::Matched
            } else {
                Verdict::Different
            },
            field: (!agrees).then_some(Field::Status),
            repaired: agrees && reply.verdict == Told::Applied,
            ours: now.map(|now| refund_side(row, &now)),
            ..Heard::nothing(finding, Some(order))
        })
    }

    /// Money of one of our trades that went back under no number of ours: a person must know, once.
    async fn foreign(
        &self,
        finding: &Finding,
        line: &TradeLine,
        number: OutTradeNo,
    ) -> Result<Heard, Stopped> {
        let Some(stored) = self.read(number.order).await? else {
            return Ok(Heard::nothing(finding, None));
        };
        let refund_no = match &line.refund_no {
            Some(refund_no) => refund_no.clone(),
            None => format!("{} line {}", self.date, line.line).into(),
        };
        // A notice may have told of it without an amount.
        let is_known = stored
            .order
            .foreign_refunds
            .iter()
            .any(|known| known.attempt == number.attempt && known.number == refund_no);
        if !is_known {
            let foreign = ForeignRefund {
                attempt: number.attempt,
                number: refund_no,
                amount: Some(line.amount),
            };
            self.tell(number.order, line, Command::ForeignRefund(foreign))
                .await?;
        }
        Ok(Heard::nothing(finding, Some(&stored.order)))
    }

    async fn read(
        &self,
        order: OrderId,
    ) -> Result<Option<std::sync::Arc<StoredOrder>>, OrdersError> {
        self.parts.orders.read(order).await
    }

    async fn tell(
        &self,
        order: OrderId,
        line: &TradeLine,
        command: Command,
    ) -> Result<Reply, OrdersError> {
        let request_id = format!("reconcile:{}:{}:{}", self.account.id, self.date, line.line);
        let mut tries = 1;
        loop {
            let request = Request {
                command: command.clone(),
                actor: Actor::Provider,
                request_id: Some(request_id.clone()),
                writes: Vec::new(),
            };
            match self.parts.orders.tell(order, request).await {
                Err(OrdersError::Overloaded {
                    retry_after_seconds,
                }) if tries < TRIES => {
                    tries += 1;
                    // Payments go first; the bill is patient.
                    tokio::time::sleep(Duration::from_secs(retry_after_seconds.into())).await;
                }
                answered => return answered,
            }
        }
    }
}

const fn field_of(field: MismatchedField) -> Field {
    match field {
        MismatchedField::Amount => Field::Amount,
        MismatchedField::Currency => Field::Currency,
        MismatchedField::Account => Field::Account,
        MismatchedField::Application => Field::Application,
        MismatchedField::Trade => Field::Number,
    }
}
