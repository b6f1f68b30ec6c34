//! The comparison, pure: a bill's lines against our rows. Every line gets exactly one verdict, and so
//! does every row of ours that this day's bill should have; differences are found, none invented.
//!
//! Payments are matched by the provider's transaction, refunds by our number. Time and memory grow with
//! the lines and rows, not with their product.

use std::collections::{HashMap, HashSet};

use crate::order::money::CURRENCY;
use crate::order::{OutTradeNo, RefundAnswer, Timestamp};
use crate::provider::bill::{LineKind, LineStanding, TradeLine};
use crate::store::reconciliation::{CaptureRow, Field, RowKind, Verdict, Window};
use crate::store::{RefundRow, RefundStatus};

/// How far apart a provider's two reports of one success may be: notices and bills are written by
/// different systems of theirs.
pub const PAYMENT_TOLERANCE_MS: i64 = 60_000;
/// How far a refund's acceptance may lie outside what our own clock says of it.
pub const REFUND_TOLERANCE_MS: i64 = 300_000;

/// One account's day.
#[derive(Clone, Copy, Debug)]
pub struct Day<'a> {
    /// Beijing's midnight to midnight.
    pub window: Window,
    /// The account's `appid` or `app_id`.
    pub application: &'a str,
}

/// One verdict; indices are those of the lists that were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: RowKind,
    pub verdict: Verdict,
    pub field: Option<Field>,
    /// Among the captures or the refunds, as `kind` says.
    pub ours: Option<usize>,
    pub line: Option<usize>,
    pub repair: Option<Repair>,
}

/// What may be missing here, and is to be told to the order like a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// A success under a number of ours that we have no capture of.
    Payment(OutTradeNo),
    /// How a refund of ours ended.
    Refund(RefundAnswer),
    /// A refund of one of our trades under no number of ours.
    ForeignRefund(OutTradeNo),
}

/// What comparing has found, and what it leaves open.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    pub findings: Vec<Finding>,
    /// Rows that this bill should have, and does not; but they lie so near to an earlier day that its
    /// bill may have had them. Where it did not, they are [`only_here`].
    pub perhaps_earlier: Vec<(RowKind, usize)>,
}

/// The verdict on a row that no bill has.
pub const fn only_here(kind: RowKind, ours: usize) -> Finding {
    Finding {
        kind,
        verdict: Verdict::OnlyHere,
        field: None,
        ours: Some(ours),
        line: None,
        repair: None,
    }
}

/// Transactions and refund numbers of the bill that are not among these rows: they may be recorded
/// under another day.
pub fn not_among(
    lines: &[TradeLine],
    captures: &[CaptureRow],
    refunds: &[RefundRow],
) -> (Vec<Box<str>>, Vec<Box<str>>) {
    let our_transactions: HashSet<&str> = captures.iter().map(|row| &*row.transaction_id).collect();
    let our_numbers: HashSet<&str> = refunds.iter().map(|row| row.number.as_str()).collect();
    let of_kind = |kind| lines.iter().filter(move |line| line.kind == kind);
    let transactions = of_kind(LineKind::Payment)
        .map(|line| &line.transaction_id)
        .filter(|transaction| !our_transactions.contains(&***transaction));
    let numbers = of_kind(LineKind::Refund)
        .filter_map(|line| line.refund_no.as_ref())
        .filter(|number| !our_numbers.contains(&***number));
    (transactions.cloned().collect(), numbers.cloned().collect())
}

/// Compares. Rows of other days may be among the rows: they match where the bill has them, and are
/// left to their own day where it has not.
pub fn compare(
    day: &Day<'_>,
    lines: &[TradeLine],
    captures: &[CaptureRow],
    refunds: &[RefundRow],
) -> Compared {
    let mut matching = Matching::new(day, lines.len(), captures, refunds);
    for (index, line) in lines.iter().enumerate() {
        matching.take(index, line);
    }
    matching.finish()
}

struct Matching<'a> {
    day: &'a Day<'a>,
    captures: &'a [CaptureRow],
    refunds: &'a [RefundRow],
    of_captures: Index<'a>,
    of_refunds: Index<'a>,
    findings: Vec<Finding>,
}

/// Our rows of one kind: where each key stands, and which finding has it.
struct Index<'a> {
    by_key: HashMap<&'a str, usize>,
    taken_by: Vec<Option<usize>>,
    /// Keys of lines that we have no row for.
    missing: HashSet<&'a str>,
}

impl<'a> Index<'a> {
    fn new(keys: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let taken_by = vec![None; keys.len()];
        Self {
            by_key: keys.enumerate().map(|(index, key)| (key, index)).collect(),
            taken_by,
            missing: HashSet::new(),
        }
    }
}

/// A row without a line, and when at the earliest and the latest a bill could have it.
struct Left {
    kind: RowKind,
    index: usize,
    earliest: Timestamp,
    latest: Timestamp,
}

impl<'a> Matching<'a> {
    fn new(
        day: &'a Day<'a>,
        lines: usize,
        captures: &'a [CaptureRow],
        refunds: &'a [RefundRow],
    ) -> Self {
        Self {
            day,
            captures,
            refunds,
            of_captures: Index::new(captures.iter().map(|row| &*row.transaction_id)),
            of_refunds: Index::new(refunds.iter().map(|row| row.number.as_str())),
            findings: Vec::with_capacity(lines),
        }
    }

    fn take(&mut self, index: usize, line: &'a TradeLine) {
        let payment = self.of_captures.by_key.get(&*line.transaction_id);
        let paid_at = payment.map(|index| self.captures[*index].succeeded_at);
        let (kind, rows, key) = match line.kind {
            LineKind::Payment => (
                RowKind::Payment,
                &mut self.of_captures,
                Some(&*line.transaction_id),
            ),
            LineKind::Refund => (
                RowKind::Refund,
                &mut self.of_refunds,
                line.refund_no.as_deref(),
            ),
        };
        let mut finding = Finding {
            kind,
            verdict: Verdict::OnlyThere,
            field: None,
            ours: None,
            line: Some(index),
            repair: None,
        };
        let Some(row) = key.and_then(|key| rows.by_key.get(key).copied()) else {
            if key.is_some_and(|key| !rows.missing.insert(key)) {
                finding.field = Some(Field::Duplicate);
            } else {
                (finding.field, finding.repair) = missing(line);
            }
            self.findings.push(finding);
            return;
        };
        (finding.field, finding.repair) = if kind == RowKind::Payment {
            let field = payment_differs(self.day, line, &self.captures[row]);
            (field, None)
        } else {
            let tells_time = tells_time(self.day, line, paid_at);
            refund_differs(line, &self.refunds[row], tells_time)
        };
        finding.ours = Some(row);
        finding.verdict = match finding.field {
            None => Verdict::Matched,
            Some(_) => Verdict::Different,
        };
        if let Some(first) = rows.taken_by[row] {
            // The line that agrees has the row; the other is one too many.
            let first = &mut self.findings[first];
            if first.verdict == Verdict::Different && finding.verdict == Verdict::Matched {
                std::mem::swap(first, &mut finding);
            }
            finding.verdict = Verdict::OnlyThere;
            finding.field = Some(Field::Duplicate);
            finding.ours = None;
            finding.repair = None;
        } else {
            rows.taken_by[row] = Some(self.findings.len());
        }
        self.findings.push(finding);
    }

    fn finish(mut self) -> Compared {
        let mut left = self.payments_left();
        self.pair_by_number(&mut left);
        left.extend(self.refunds_left());
        let mut perhaps_earlier = Vec::new();
        for row in left {
            // Each row is judged on the last day whose bill could have it.
            if !self.day.window.has(row.latest) {
                continue;
            }
            if self.day.window.has(row.earliest) {
                self.findings.push(only_here(row.kind, row.index));
            } else {
                perhaps_earlier.push((row.kind, row.index));
            }
        }
        Compared {
            findings: self.findings,
            perhaps_earlier,
        }
    }

    fn payments_left(&self) -> Vec<Left> {
        let rows = self.captures.iter().enumerate();
        rows.filter(|(index, _)| self.of_captures.taken_by[*index].is_none())
            .map(|(index, row)| Left {
                kind: RowKind::Payment,
                index,
                earliest: row.succeeded_at.minus_ms(PAYMENT_TOLERANCE_MS),
                latest: row.succeeded_at.plus_ms(PAYMENT_TOLERANCE_MS),
            })
            .collect()
    }

    /// What is under way has no end yet, and what was refused needs no line.
    fn refunds_left(&self) -> Vec<Left> {
        let rows = self.refunds.iter().enumerate();
        rows.filter(|(index, row)| {
            row.status == RefundStatus::Succeeded && self.of_refunds.taken_by[*index].is_none()
        })
        .filter_map(|(index, row)| {
            Some(Left {
                kind: RowKind::Refund,
                index,
                earliest: row.requested_at.minus_ms(REFUND_TOLERANCE_MS),
                latest: row.ended_at?.plus_ms(REFUND_TOLERANCE_MS),
            })
        })
        .collect()
    }

    /// A payment of ours that found no line and a line that found none of ours may be of the same trade
    /// after all: the same number, another transaction. To record the line would take the payment for a
    /// second one.
    fn pair_by_number(&mut self, left: &mut Vec<Left>) {
        let mut by_number: HashMap<OutTradeNo, usize> = left
            .iter()
            .map(|row| (number_of(&self.captures[row.index]), row.index))
            .collect();
        if by_number.is_empty() {
            return;
        }
        let mut paired = HashSet::new();
        for finding in &mut self.findings {
            if let Some(Repair::Payment(number)) = finding.repair
                && let Some(index) = by_number.remove(&number)
            {
                finding.verdict = Verdict::Different;
                finding.field = Some(Field::Transaction);
                finding.ours = Some(index);
                finding.repair = None;
                paired.insert(index);
            }
        }
        left.retain(|row| !paired.contains(&row.index));
    }
}

const fn number_of(row: &CaptureRow) -> OutTradeNo {
    OutTradeNo {
        order: row.order,
        attempt: row.attempt,
    }
}

/// What to make of a line without a row.
fn missing(line: &TradeLine) -> (Option<Field>, Option<Repair>) {
    let number: Option<OutTradeNo> = line.out_trade_no.parse().ok();
    match (line.kind, line.standing) {
        (LineKind::Payment, LineStanding::Succeeded) => (None, number.map(Repair::Payment)),
        // It moved no money, and nothing of it is recorded: yet the bill has it.
        (LineKind::Payment, _) | (LineKind::Refund, LineStanding::Failed) => {
            (Some(Field::Status), None)
        }
        // Accepted, it has left the account.
        (LineKind::Refund, _) => (None, number.map(Repair::ForeignRefund)),
    }
}

fn payment_differs(day: &Day<'_>, line: &TradeLine, row: &CaptureRow) -> Option<Field> {
    let other_application = line
        .application
        .as_deref()
        .is_some_and(|application| application != day.application);
    let apart = line.at.since(row.succeeded_at).saturating_abs();
    first_of([
        (!is_of(line, number_of(row)), Field::Number),
        (line.amount != row.amount, Field::Amount),
        (&*line.currency != CURRENCY, Field::Currency),
        (other_application, Field::Application),
        (line.standing != LineStanding::Succeeded, Field::Status),
        (apart > PAYMENT_TOLERANCE_MS, Field::Time),
    ])
}

/// Is the time of a refund's line its own? Not every file says so: some may have the payment's.
fn tells_time(day: &Day<'_>, line: &TradeLine, paid_at: Option<Timestamp>) -> bool {
    let is_payments = paid_at
        .is_some_and(|paid_at| line.at.since(paid_at).saturating_abs() <= PAYMENT_TOLERANCE_MS);
    day.window.widened(REFUND_TOLERANCE_MS).has(line.at) && !is_payments
}

/// Where identity, amount and time agree, the standings are compared. The bill is a picture of one
/// morning: what it calls under way may have ended here since, and an end of which we have not heard is
/// to be recorded.
fn refund_differs(
    line: &TradeLine,
    row: &RefundRow,
    tells_time: bool,
) -> (Option<Field>, Option<Repair>) {
    let number = OutTradeNo {
        order: row.order,
        attempt: row.attempt,
    };
    let has_succeeded = row.status == RefundStatus::Succeeded;
    let too_early = line.at < row.requested_at.minus_ms(REFUND_TOLERANCE_MS);
    // Of one that failed here, the bill may know a later success.
    let too_late = has_succeeded
        && row
            .ended_at
            .is_some_and(|ended_at| line.at > ended_at.plus_ms(REFUND_TOLERANCE_MS));
    let field = first_of([
        (!is_of(line, number), Field::Number),
        (
            *line.transaction_id != *row.transaction_id,
            Field::Transaction,
        ),
        (line.amount != row.amount, Field::Amount),
        (&*line.currency != CURRENCY, Field::Currency),
        (
            has_succeeded && line.standing == LineStanding::Failed,
            Field::Status,
        ),
        (tells_time && (too_early || too_late), Field::Time),
    ]);
    if field.is_some() {
        return (field, None);
    }
    let answer = match (row.status, line.standing) {
        (RefundStatus::Succeeded, _)
        | (_, LineStanding::Processing)
        | (RefundStatus::Abnormal | RefundStatus::Failed, LineStanding::Abnormal)
        | (RefundStatus::Failed, LineStanding::Failed) => None,
        (_, LineStanding::Succeeded) => Some(RefundAnswer::Succeeded),
        (RefundStatus::Pending, LineStanding::Abnormal) => Some(RefundAnswer::Abnormal),
        (RefundStatus::Pending | RefundStatus::Abnormal, LineStanding::Failed) => {
            Some(RefundAnswer::Failed)
        }
    };
    (None, answer.map(Repair::Refund))
}

fn is_of(line: &TradeLine, number: OutTradeNo) -> bool {
    line.out_trade_no.parse() == Ok(number)
}

fn first_of<const N: usize>(fields: [(bool, Field); N]) -> Option<Field> {
    fields
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
}
