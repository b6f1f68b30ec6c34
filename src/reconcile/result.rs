//! Findings as the rows that are kept: both sides, whose they are, and their numbers.

use std::collections::BTreeMap;

use super::flows::Difference;
use super::matching::Finding;
use crate::order::attempt::Attempt;
use crate::order::money::CURRENCY;
use crate::order::{Capture, Fen, MerchantId, Order, OrderId, OutTradeNo, RefundOf};
use crate::provider::bill::{FlowLine, LineStanding, TradeLine};
use crate::store::RefundRow;
use crate::store::reconciliation::{CaptureRow, Field, Row, RowKind, Side, Tally, Verdict};

/// Both sides of one day, and what came of comparing them.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub lines: Vec<TradeLine>,
    pub captures: Vec<CaptureRow>,
    pub refunds: Vec<RefundRow>,
    pub findings: Vec<Finding>,
}

/// What an order said to a line that was missing here.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub verdict: Verdict,
    pub field: Option<Field>,
    pub repaired: bool,
    pub order: Option<(OrderId, MerchantId)>,
    pub ours: Option<Side>,
}

impl Heard {
    /// The line stays as it was found, of this order or of none.
    pub(super) fn nothing(finding: &Finding, order: Option<&Order>) -> Self {
        Self {
            verdict: finding.verdict,
            field: finding.field,
            repaired: false,
            order: order.map(|order| (order.id, order.terms.merchant)),
            ours: None,
        }
    }
}

impl Comparison {
    /// The row of one finding. `heard` goes before what was found.
    pub(super) fn row(&self, number: u32, finding: &Finding, heard: Option<&Heard>) -> Row {
        let (found, whose) = match (finding.kind, finding.ours) {
            (RowKind::Payment, Some(index)) => {
                let row = &self.captures[index];
                (Some(captured(row)), Some((row.order, row.merchant)))
            }
            (RowKind::Refund, Some(index)) => {
                let row = &self.refunds[index];
                (Some(refunded(row)), Some((row.order, row.merchant)))
            }
            _ => (None, None),
        };
        let whose = heard.and_then(|heard| heard.order).or(whose);
        Row {
            number,
            verdict: heard.map_or(finding.verdict, |heard| heard.verdict),
            kind: finding.kind,
            field: heard.map_or(finding.field, |heard| heard.field),
            repaired: heard.is_some_and(|heard| heard.repaired),
            order: whose.map(|(order, _)| order),
            merchant: whose.map(|(_, merchant)| merchant),
            ours: heard.and_then(|heard| heard.ours.clone()).or(found),
            theirs: finding.line.map(|line| line_side(&self.lines[line])),
        }
    }

    /// The row of a movement that does not agree. It is its line's order's, where it has a line.
    pub(super) fn flow_row(
        &self,
        number: u32,
        difference: &Difference,
        flows: &[FlowLine],
        whose: &BTreeMap<usize, (OrderId, MerchantId)>,
    ) -> Row {
        let line = difference.line;
        let order = line.and_then(|(line, _)| whose.get(&line));
        Row {
            number,
            verdict: difference.verdict,
            kind: difference.kind,
            field: difference.field,
            repaired: false,
            order: order.map(|(order, _)| *order),
            merchant: order.map(|(_, merchant)| *merchant),
            ours: line.map(|(line, amount)| Side {
                amount,
                fee: None,
                ..line_side(&self.lines[line])
            }),
            theirs: difference.flow.map(|(flow, amount)| {
                let flow = &flows[flow];
                Side {
                    line: Some(flow.line),
                    out_trade_no: "".into(),
                    transaction_id: flow.business_no.clone(),
                    refund_no: None,
                    amount,
                    at: flow.at,
                    status: "moved".into(),
                    fee: None,
                    currency: None,
                }
            }),
        }
    }
}

/// Rows of each merchant in numbers.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<Option<MerchantId>, Tally>);

impl Tallies {
    pub(super) fn count(&mut self, row: &Row) {
        self.0
            .entry(row.merchant)
            .or_insert_with(|| Tally::of(row.merchant))
            .count(row);
    }

    pub(super) fn into_lines(self) -> Vec<Tally> {
        self.0.into_values().collect()
    }
}

fn side(
    number: OutTradeNo,
    transaction_id: &str,
    amount: Fen,
    at: crate::order::Timestamp,
) -> Side {
    Side {
        line: None,
        out_trade_no: number.to_string().into(),
        transaction_id: transaction_id.into(),
        refund_no: None,
        amount,
        at,
        status: "succeeded".into(),
        fee: None,
        currency: None,
    }
}

fn captured(row: &CaptureRow) -> Side {
    let number = OutTradeNo {
        order: row.order,
        attempt: row.attempt,
    };
    side(number, &row.transaction_id, row.amount, row.succeeded_at)
}

pub(super) fn capture_side(order: &Order, capture: &Capture) -> Side {
    let number = OutTradeNo {
        order: order.id,
        attempt: capture.attempt,
    };
    side(
        number,
        &capture.transaction_id,
        capture.amount,
        capture.succeeded_at,
    )
}

/// What was asked for, where the money does not fit it.
pub(super) fn asked_side(order: &Order, attempt: &Attempt) -> Side {
    let number = OutTradeNo {
        order: order.id,
        attempt: attempt.number,
    };
    Side {
        status: attempt.status().into(),
        ..side(number, "", order.terms.amount, attempt.started_at)
    }
}

fn refunded(row: &RefundRow) -> Side {
    let number = OutTradeNo {
        order: row.order,
        attempt: row.attempt,
    };
    let at = row.ended_at.unwrap_or(row.requested_at);
    Side {
        refund_no: Some(row.number.as_str().into()),
        status: row.status.as_str().into(),
        ..side(number, &row.transaction_id, row.amount, at)
    }
}

/// A refund as its order has it now.
pub(super) fn refund_side(row: &RefundRow, now: &RefundOf<'_>) -> Side {
    Side {
        status: now.standing.as_str().into(),
        ..refunded(row)
    }
}

fn line_side(line: &TradeLine) -> Side {
    Side {
        line: Some(line.line),
        out_trade_no: line.out_trade_no.clone(),
        transaction_id: line.transaction_id.clone(),
        refund_no: line.refund_no.clone(),
        amount: line.amount,
        at: line.at,
        status: match line.standing {
            LineStanding::Succeeded => "succeeded",
            LineStanding::Processing => "processing",
            LineStanding::Failed => "failed",
            LineStanding::Abnormal => "abnormal",
        }
        .into(),
        fee: Some(line.fee),
        currency: (&*line.currency != CURRENCY).then(|| line.currency.clone()),
    }
}
