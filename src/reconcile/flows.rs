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
    let moves = match (kind, line.kind) {
        (RowKind::PaymentFlow, LineKind::Payment) => line.amount.get(),
        // Accepted, it has left the account.
        (RowKind::RefundFlow, LineKind::Refund) => line.amount.get().checked_neg()?,
        (RowKind::FeeFlow, _) => line.fee.get().checked_neg()?,
        _ => return None,
    };
    let moved = match line.kind {
        LineKind::Payment => line.standing == LineStanding::Succeeded,
        LineKind::Refund => line.standing != LineStanding::Failed,
    };
    (moved && moves != 0).then_some(moves)
}

const fn is_of(kind: RowKind, flow: &FlowLine) -> bool {
    matches!(
        (kind, &flow.kind),
        (RowKind::PaymentFlow, FlowKind::Payment)
            | (RowKind::RefundFlow, FlowKind::Refund)
            | (RowKind::FeeFlow, FlowKind::Fee)
    )
}

fn one_kind(
    kind: RowKind,
    lines: &[TradeLine],
    flows: &[FlowLine],
    differences: &mut Vec<Difference>,
) {
    // What should have moved under each number, by the first line that says so.
    let mut wanted: Vec<(usize, i64)> = Vec::new();
    let mut by_number: HashMap<&str, usize> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(moves) = expected(kind, line) else {
            continue;
        };
        // A refund has its own number; its fee comes back under it, or under the transaction's.
        let own = line.refund_no.as_deref().unwrap_or(&line.transaction_id);
        let slot = *by_number.entry(own).or_insert_with(|| {
            wanted.push((index, 0));
            wanted.len() - 1
        });
        wanted[slot].1 = wanted[slot].1.saturating_add(moves);
        by_number.entry(&line.transaction_id).or_insert(slot);
    }
    let mut moved: Vec<Option<(usize, i64)>> = vec![None; wanted.len()];
    let mut unknown = Vec::new();
    for (index, flow) in flows.iter().enumerate() {
        if !is_of(kind, flow) {
            continue;
        }
        match by_number.get(&*flow.business_no) {
            // Several refunds of one trade carry one number at some providers: one line each.
            Some(slot) if kind == RowKind::RefundFlow && moved[*slot].is_some() => {
                unknown.push(index);
            }
            Some(slot) => {
                let so_far = moved[*slot].get_or_insert((index, 0));
                so_far.1 = so_far.1.saturating_add(flow.amount.get());
            }
            None => unknown.push(index),
        }
    }
    let (mut lacking, mut uneven) = (Vec::new(), Vec::new());
    for (slot, (line, moves)) in wanted.iter().enumerate() {
        match moved[slot] {
            None => lacking.push((*line, *moves)),
            Some((flow, amount)) if amount != *moves => uneven.push((*line, *moves, flow, amount)),
            Some(_) => {}
        }
    }
    if kind == RowKind::RefundFlow {
        // The number of the trade led to another refund of it than the movement is of.
        for (line, moves, flow, _) in std::mem::take(&mut uneven) {
            lacking.push((line, moves));
            unknown.push(flow);
        }
    }
    pair_by_amount(flows, &mut lacking, &mut unknown);
    let lacking = lacking.into_iter().map(|(line, moves)| Difference {
        kind,
        verdict: Verdict::OnlyHere,
        field: None,
        line: Some((line, Fen::new(moves))),
        flow: None,
    });
    let unknown = unknown.into_iter().map(|flow| Difference {
        kind,
        verdict: Verdict::OnlyThere,
        field: None,
        line: None,
        flow: Some((flow, flows[flow].amount)),
    });
    let uneven = uneven.into_iter().map(|(line, moves, flow, amount)| Difference {
        kind,
        verdict: Verdict::Different,
        field: Some(Field::Amount),
        line: Some((line, Fen::new(moves))),
        flow: Some((flow, Fen::new(amount))),
    });
    differences.extend(lacking.chain(unknown).chain(uneven));
}

fn pair_by_amount(flows: &[FlowLine], lacking: &mut Vec<(usize, i64)>, unknown: &mut Vec<usize>) {
    let mut by_amount: HashMap<i64, usize> = HashMap::new();
    for flow in unknown.iter() {
        *by_amount.entry(flows[*flow].amount.get()).or_default() += 1;
    }
    let mut paired: HashMap<i64, usize> = HashMap::new();
    lacking.retain(|(_, moves)| match by_amount.get_mut(moves) {
        Some(left) if *left > 0 => {
            *left -= 1;
            *paired.entry(*moves).or_default() += 1;
            false
        }
        _ => true,
    });
    unknown.retain(|flow| match paired.get_mut(&flows[*flow].amount.get()) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    });
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
