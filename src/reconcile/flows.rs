//! The second check, where the provider offers it: every movement of the account's balance against the
//! lines of the trade bill. Only differences are listed; what agrees was counted with its line.

use std::collections::HashMap;

use crate::order::Fen;
use crate::provider::bill::{FlowKind, FlowLine, LineKind, LineStanding, TradeLine};
use crate::store::reconciliation::{Field, FlowSums, RowKind, Verdict};

/// A movement and a line that do not agree, or one without the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: RowKind,
    pub verdict: Verdict,
    pub field: Option<Field>,
    /// Among the trade bill's lines, and what it says should have moved.
    pub line: Option<(usize, Fen)>,
    /// Among the movements; what moved in all, where several belong together.
    pub flow: Option<(usize, Fen)>,
}

/// Compares. Payments and fees are found by the transaction; refunds by whichever number the movement
/// carries, and where it is one that the trade bill does not know, by their amount.
pub fn compare(lines: &[TradeLine], flows: &[FlowLine]) -> (FlowSums, Vec<Difference>) {
    let mut differences = Vec::new();
    let sums = sum(flows, &mut differences);
    for kind in [RowKind::PaymentFlow, RowKind::RefundFlow, RowKind::FeeFlow] {
        one_kind(kind, lines, flows, &mut differences);
    }
    (sums, differences)
}

/// What one line moves, as its kind sees it: what leaves the account is negative.
fn expected(kind: RowKind, line: &TradeLine) -> Option<i64> {
    let amount = match (kind, line.kind) {
        (RowKind::PaymentFlow, LineKind::Payment) => line.amount.get(),
        // Accepted, it has left the account.
        (RowKind::RefundFlow, LineKind::Refund) => line.amount.get().checked_neg()?,
        (RowKind::FeeFlow, _) => line.fee.get().checked_neg()?,
        _ => return None,
    };
    let has_moved = match line.kind {
        LineKind::Payment => line.standing == LineStanding::Succeeded,
        LineKind::Refund => line.standing != LineStanding::Failed,
    };
    (has_moved && amount != 0).then_some(amount)
}

const fn is_of(kind: RowKind, flow: &FlowLine) -> bool {
    matches!(
        (kind, &flow.kind),
        (RowKind::PaymentFlow, FlowKind::Payment)
            | (RowKind::RefundFlow, FlowKind::Refund)
            | (RowKind::FeeFlow, FlowKind::Fee)
    )
}

/// What should have moved under one number, and what did.
struct Slot {
    /// The first line that says so.
    line: usize,
    wanted: i64,
    moved: Option<(usize, i64)>,
}

impl Slot {
    fn lacks(&self) -> i64 {
        let moved = self.moved.map_or(0, |(_, amount)| amount);
        self.wanted.saturating_sub(moved)
    }
}

fn one_kind(
    kind: RowKind,
    lines: &[TradeLine],
    flows: &[FlowLine],
    differences: &mut Vec<Difference>,
) {
    let (mut slots, by_number) = wanted(kind, lines);
    let mut unknown = Vec::new();
    for (index, flow) in flows.iter().enumerate() {
        if !is_of(kind, flow) {
            continue;
        }
        match by_number.get(&*flow.business_no) {
            // Some providers put the trade's number on each of its refunds: one movement a line.
            Some(slot) if kind == RowKind::RefundFlow && slots[*slot].moved.is_some() => {
                unknown.push(index);
            }
            Some(slot) => {
                let so_far = slots[*slot].moved.get_or_insert((index, 0));
                so_far.1 = so_far.1.saturating_add(flow.amount.get());
            }
            None => unknown.push(index),
        }
    }
    slots.retain(|slot| slot.lacks() != 0);
    if kind == RowKind::RefundFlow {
        // The number of the trade led to another refund of it than the movement is of.
        unknown.extend(
            slots
                .iter_mut()
                .filter_map(|slot| Some(slot.moved.take()?.0)),
        );
    }
    // A payment's movement always has its transaction; a refund's and its fee's may have a number that
    // only the provider knows.
    if kind != RowKind::PaymentFlow {
        pair_by_amount(flows, &mut slots, &mut unknown);
    }
    differences.extend(slots.into_iter().map(|slot| Difference {
        kind,
        verdict: match slot.moved {
            None => Verdict::OnlyHere,
            Some(_) => Verdict::Different,
        },
        field: slot.moved.map(|_| Field::Amount),
        line: Some((slot.line, Fen::new(slot.wanted))),
        flow: slot.moved.map(|(flow, amount)| (flow, Fen::new(amount))),
    }));
    differences.extend(unknown.into_iter().map(|flow| Difference {
        kind,
        verdict: Verdict::OnlyThere,
        field: None,
        line: None,
        flow: Some((flow, flows[flow].amount)),
    }));
}

/// What the lines say, and where each number leads. Fees of a trade and of its refunds belong together.
fn wanted(kind: RowKind, lines: &[TradeLine]) -> (Vec<Slot>, HashMap<&str, usize>) {
    let mut slots: Vec<Slot> = Vec::new();
    let mut by_number: HashMap<&str, usize> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(moves) = expected(kind, line) else {
            continue;
        };
        let refund_no = line.refund_no.as_deref();
        let own = match kind {
            RowKind::FeeFlow => &line.transaction_id,
            _ => refund_no.unwrap_or(&line.transaction_id),
        };
        let slot = *by_number.entry(own).or_insert_with(|| {
            slots.push(Slot {
                line: index,
                wanted: 0,
                moved: None,
            });
            slots.len() - 1
        });
        slots[slot].wanted = slots[slot].wanted.saturating_add(moves);
        for number in refund_no.into_iter().chain([&*line.transaction_id]) {
            by_number.entry(number).or_insert(slot);
        }
    }
    (slots, by_number)
}

fn pair_by_amount(flows: &[FlowLine], slots: &mut Vec<Slot>, unknown: &mut Vec<usize>) {
    let mut by_amount: HashMap<i64, usize> = HashMap::new();
    for flow in unknown.iter() {
        *by_amount.entry(flows[*flow].amount.get()).or_default() += 1;
    }
    let take = |from: &mut HashMap<i64, usize>, amount: i64| match from.get_mut(&amount) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let mut paired: HashMap<i64, usize> = HashMap::new();
    slots.retain(|slot| {
        let is_paired = take(&mut by_amount, slot.lacks());
        if is_paired {
            *paired.entry(slot.lacks()).or_default() += 1;
        }
        !is_paired
    });
    unknown.retain(|flow| !take(&mut paired, flows[*flow].amount.get()));
}

/// The sums, and whether the balance changed by them.
fn sum(flows: &[FlowLine], differences: &mut Vec<Difference>) -> FlowSums {
    let mut sums = FlowSums::default();
    let mut all = 0_i64;
    for flow in flows {
        let amount = flow.amount.get();
        let of_kind = match flow.kind {
            FlowKind::Payment => &mut sums.payments,
            FlowKind::Refund => &mut sums.refunds,
            FlowKind::Fee => &mut sums.fees,
            FlowKind::Other(_) => &mut sums.others,
        };
        *of_kind = of_kind.saturating_add(amount);
        all = all.saturating_add(amount);
    }
    let (Some(top), Some(bottom)) = (flows.first(), flows.last()) else {
        return sums;
    };
    // The newest stands first at some providers.
    let (first, last, last_index) = if top.at <= bottom.at {
        (top, bottom, flows.len() - 1)
    } else {
        (bottom, top, 0)
    };
    sums.opening = first
        .balance
        .and_then(|balance| balance.checked_sub(first.amount))
        .map(Fen::get);
    sums.closing = last.balance.map(Fen::get);
    if let (Some(opening), Some(closing)) = (sums.opening, sums.closing) {
        let expected = opening.saturating_add(all);
        if expected != closing {
            differences.push(Difference {
                kind: RowKind::Balance,
                verdict: Verdict::Different,
                field: Some(Field::Amount),
                line: None,
                flow: Some((last_index, Fen::new(closing.saturating_sub(expected)))),
            });
        }
    }
    sums
}
