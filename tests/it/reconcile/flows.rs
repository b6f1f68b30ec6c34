//! Movements of the balance against the lines of the trade bill.

use enrollpay::order::{Fen, Timestamp};
use enrollpay::provider::bill::{FlowKind, FlowLine, LineKind, LineStanding, TradeLine};
use enrollpay::reconcile::flows::{Difference, compare};
use enrollpay::store::reconciliation::{Field, RowKind, Verdict};

const START: Timestamp = Timestamp::from_seconds(1_795_104_000);

fn line(n: u32, kind: LineKind) -> TradeLine {
    let is_refund = kind == LineKind::Refund;
    TradeLine {
        line: n,
        kind,
        out_trade_no: format!("T{n}").into(),
        transaction_id: format!("42{n}").into(),
        application: None,
        amount: Fen::new(1_000 * i64::from(n)),
        currency: "CNY".into(),
        at: START,
        standing: LineStanding::Succeeded,
        refund_no: is_refund.then(|| format!("R{n}").into()),
        fee: Fen::new(if is_refund { -6 } else { 6 }),
    }
}

fn flow(n: u32, kind: FlowKind, number: &str, amount: i64) -> FlowLine {
    FlowLine {
        line: n,
        at: START.plus_ms(n.into()),
        business_no: number.into(),
        kind,
        amount: Fen::new(amount),
        balance: None,
    }
}

/// A balance after each movement.
fn balanced(mut flows: Vec<FlowLine>, opening: i64) -> Vec<FlowLine> {
    let mut balance = opening;
    for flow in &mut flows {
        balance += flow.amount.get();
        flow.balance = Some(Fen::new(balance));
    }
    flows
}

fn day() -> (Vec<TradeLine>, Vec<FlowLine>) {
    let lines = vec![
        line(1, LineKind::Payment),
        line(2, LineKind::Payment),
        line(3, LineKind::Refund),
    ];
    let flows = vec![
        flow(1, FlowKind::Payment, "421", 1_000),
        flow(2, FlowKind::Fee, "421", -6),
        flow(3, FlowKind::Payment, "422", 2_000),
        flow(4, FlowKind::Fee, "422", -6),
        // Under the provider's own number of the refund, which the trade bill does not have.
        flow(5, FlowKind::Refund, "5030", -3_000),
        flow(6, FlowKind::Fee, "5030", 6),
        flow(7, FlowKind::Other("提现".into()), "W1", -500),
    ];
    (lines, balanced(flows, 10_000))
}

#[test]
fn a_sound_day_has_sums_and_no_differences() {
    let (lines, mut flows) = day();
    for _ in 0..2 {
        let (sums, differences) = compare(&lines, &flows);
        assert_eq!(differences, []);
        assert_eq!((sums.payments, sums.refunds), (3_000, -3_000));
        assert_eq!((sums.fees, sums.others), (-6, -500));
        assert_eq!((sums.opening, sums.closing), (Some(10_000), Some(9_494)));
        // The newest first.
        flows.reverse();
    }
    assert_eq!(compare(&[], &[]).1, []);
}

#[test]
fn each_movement_that_does_not_agree_is_listed() {
    let (lines, flows) = day();
    let found = |lines: &[TradeLine], flows: Vec<FlowLine>| -> Vec<Difference> {
        compare(lines, &balanced(flows, 0)).1
    };
    let mut other = flows.clone();
    other[0].amount = Fen::new(900);
    let differences = found(&lines, other);
    assert_eq!(differences.len(), 1);
    assert_eq!(
        (
            differences[0].kind,
            differences[0].verdict,
            differences[0].field
        ),
        (
            RowKind::PaymentFlow,
            Verdict::Different,
            Some(Field::Amount)
        )
    );
    assert_eq!(differences[0].line, Some((0, Fen::new(1_000))));
    assert_eq!(differences[0].flow, Some((0, Fen::new(900))));

    let mut other = flows.clone();
    other.remove(4);
    let differences = found(&lines, other);
    assert_eq!(
        differences,
        [Difference {
            kind: RowKind::RefundFlow,
            verdict: Verdict::OnlyHere,
            field: None,
            line: Some((2, Fen::new(-3_000))),
            flow: None,
        }]
    );

    let mut other = flows.clone();
    other.push(flow(8, FlowKind::Fee, "999", -70));
    let differences = found(&lines, other);
    assert_eq!(differences.len(), 1);
    assert_eq!(
        (differences[0].kind, differences[0].verdict),
        (RowKind::FeeFlow, Verdict::OnlyThere)
    );

    // One payment twice.
    let mut other = flows.clone();
    other.push(flow(8, FlowKind::Payment, "421", 1_000));
    assert_eq!(found(&lines, other)[0].flow, Some((0, Fen::new(2_000))));

    // What has not left the account needs no movement.
    let mut failed = lines.clone();
    failed[2].standing = LineStanding::Failed;
    let mut other = flows.clone();
    other.drain(4..6);
    assert_eq!(found(&failed, other), []);
}

#[test]
fn refunds_of_one_trade_are_told_apart_by_amount() {
    let refund = |n: u32, amount: i64| TradeLine {
        transaction_id: "421".into(),
        amount: Fen::new(amount),
        fee: Fen::ZERO,
        ..line(n, LineKind::Refund)
    };
    let lines = [refund(1, 100), refund(2, 200), refund(3, 300)];
    // Some providers put the trade's number on each.
    let flows = |amounts: [i64; 3]| {
        let of = |(amount, n): (i64, u32)| flow(n, FlowKind::Refund, "421", -amount);
        let flows: Vec<_> = amounts.into_iter().zip(1..).map(of).collect();
        balanced(flows, 1_000)
    };
    assert_eq!(compare(&lines, &flows([300, 100, 200])).1, []);
    let differences = compare(&lines, &flows([300, 100, 250])).1;
    let verdicts: Vec<_> = differences.iter().map(|one| one.verdict).collect();
    assert_eq!(verdicts, [Verdict::OnlyHere, Verdict::OnlyThere]);
}

#[test]
fn a_balance_that_its_movements_do_not_explain_is_a_difference() {
    let (lines, mut flows) = day();
    flows[6].balance = Some(Fen::new(9_000));
    let (_, differences) = compare(&lines, &flows);
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].kind, RowKind::Balance);
    assert_eq!(differences[0].flow, Some((6, Fen::new(-494))));
}
