//! What a run does with what it finds: repairs like a callback, calls a person, keeps the result, and
//! can be run again.

use std::time::Duration;

use enrollpay::locks::{Acquired, Locks as _};
use enrollpay::order::{
    CaptureReport, Command, Fen, MerchantId, OrderId, OutTradeNo, RefundAnswer, RefundId, Status,
};
use enrollpay::provider::bill::{FlowKind, FlowLine, LineStanding, TradeLine};
use enrollpay::provider::{Bill, BillError, BillKind};
use enrollpay::reconcile::ReconcileError;
use enrollpay::store::reconciliation::{RunBy, RunState, Verdict};
use ulid::Ulid;

use super::bench::{AMOUNT, Bench, TODAY, alipay, give, payment, refund, seen, wechat};
use crate::api::gateway::START;

/// Short, and yet long for a busy machine that has to renew it.
const LEASE: Duration = Duration::from_millis(1_500);
const LOCK: &str = "job:reconcile:school-wechat";

#[actix_web::test]
async fn a_success_that_only_the_bill_knows_pays_the_order() {
    let bench = Bench::start().await;
    let known = bench.paid("A-1").await;
    let lost = bench.asked("A-2").await;
    bench.tomorrow_at(11);
    bench.bill(vec![
        payment(1, &known.0.to_string(), &known.1, START),
        payment(2, &lost.to_string(), "4200000077", START.plus_ms(60_000)),
        payment(3, "another system's", "4200000078", START),
    ]);
    let run = bench.run().await;
    assert_eq!((run.state, run.run), (RunState::Finished, 1));
    let total = run.total();
    assert_eq!((total.matched, total.repaired, total.only_there), (2, 1, 1));
    assert_eq!(
        (total.payments_here, total.payments_there),
        (28_000, 42_000)
    );
    assert_eq!(total.fees_there, 252);

    let stored = bench.gateway.deps.orders.read(lost.order).await;
    let order = stored.unwrap().unwrap().order.clone();
    assert_eq!(order.status(), Status::Paid);
    let capture = order.payment().unwrap();
    assert_eq!(&*capture.transaction_id, "4200000077");
    assert_eq!(capture.succeeded_at, START.plus_ms(60_000));
    assert_eq!(bench.webhooks(lost.order).await, ["order.paid"]);
    let told = bench.told(lost.order).await;
    let request = "reconcile:school-wechat:2026-11-20:2";
    assert!(told.contains(&format!("order_paid {request}")), "{told:?}");

    let rows = bench.rows(&run).await;
    let found: Vec<_> = rows.iter().map(seen).collect();
    let amount = Some(14_000);
    assert_eq!(
        found,
        [
            (Verdict::Matched, None, false, amount, amount),
            (Verdict::Matched, None, true, amount, amount),
            (Verdict::OnlyThere, None, false, None, amount),
        ]
    );
    assert_eq!(rows[1].order, Some(lost.order));
    assert_eq!(rows[1].merchant, Some(bench.gateway.school.merchant));
    assert_eq!((rows[2].order, rows[2].merchant), (None, None));

    // Again: nothing is told twice, and the result is replaced.
    let version = order.version;
    let again = bench.run().await;
    assert_eq!((again.run, again.total().repaired), (2, 0));
    assert_eq!(again.total().matched, 2);
    let stored = bench.gateway.deps.orders.read(lost.order).await;
    assert_eq!(stored.unwrap().unwrap().order.version, version);
    assert_eq!(bench.rows(&run).await, []);
    assert_eq!(bench.rows(&again).await.len(), 3);
    let store = &bench.gateway.store;
    let history = store
        .reconciliation_runs(Some(&wechat()), TODAY, TODAY)
        .await;
    let history: Vec<_> = history.unwrap().iter().map(|run| run.run).collect();
    assert_eq!(history, [2, 1]);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn late_money_that_only_the_bill_knows_goes_back() {
    let bench = Bench::start().await;
    let lost = bench.asked("A-1").await;
    let cancelled = bench
        .gateway
        .post(
            &format!("/v1/orders/{}/cancel", lost.order),
            &serde_json::Value::Null,
        )
        .await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    bench.tomorrow_at(11);
    bench.bill(vec![payment(1, &lost.to_string(), "4200000077", START)]);
    let run = bench.run().await;
    assert_eq!((run.total().matched, run.total().repaired), (1, 1));
    bench
        .gateway
        .until(lost.order, |order| {
            order.status() == Status::Closed
                && order
                    .every_refund()
                    .any(|refund| refund.standing.as_str() == "succeeded")
        })
        .await;
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn money_that_does_not_fit_calls_a_person_and_pays_nothing() {
    let bench = Bench::start().await;
    let asked = bench.asked("A-1").await;
    let known = bench.paid("A-2").await;
    bench.tomorrow_at(11);
    let less = |line: TradeLine| TradeLine {
        amount: Fen::new(13_000),
        ..line
    };
    bench.bill(vec![
        // Nobody has told us of it: the order keeps it as evidence.
        less(payment(1, &asked.to_string(), "4200000077", START)),
        // It is recorded, with another amount: told again, it would be counted twice.
        less(payment(2, &known.0.to_string(), &known.1, START)),
        // The only payment of this trade is another transaction: told, it would be given back.
        payment(3, &known.0.to_string(), "4200000079", START),
    ]);
    for _ in 0..2 {
        let run = bench.run().await;
        let rows = bench.rows(&run).await;
        let found: Vec<_> = rows.iter().map(seen).collect();
        let (asked_for, there) = (Some(14_000), Some(13_000));
        assert_eq!(
            found,
            [
                (Verdict::Different, Some("amount"), false, asked_for, there),
                (Verdict::Different, Some("amount"), false, asked_for, there),
                (
                    Verdict::Different,
                    Some("transaction"),
                    false,
                    asked_for,
                    asked_for
                ),
            ]
        );
    }
    let stored = bench.gateway.deps.orders.read(asked.order).await;
    let order = stored.unwrap().unwrap().order.clone();
    assert!(order.captures.is_empty());
    assert_eq!(order.mismatches.len(), 1);
    assert_eq!(bench.webhooks(asked.order).await, ["order.attention"]);
    let stored = bench.gateway.deps.orders.read(known.0.order).await;
    let order = stored.unwrap().unwrap().order.clone();
    assert_eq!((order.captures.len(), order.mismatches.len()), (1, 0));
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_transaction_of_another_trade_is_a_difference() {
    let bench = Bench::start().await;
    let asked = bench.asked("A-1").await;
    let known = bench.paid("A-2").await;
    bench.tomorrow_at(11);
    bench.bill(vec![payment(1, &asked.to_string(), &known.1, START)]);
    let run = bench.run().await;
    let rows = bench.rows(&run).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(seen(&rows[0]).1, Some("number"));
    let stored = bench.gateway.deps.orders.read(asked.order).await;
    assert!(stored.unwrap().unwrap().order.captures.is_empty());
    bench.gateway.stop().await;
}

/// A merchant's refund of ¥10 that the provider has not answered yet: its number there.
async fn refunding(bench: &Bench, order: OrderId, n: u128) -> String {
    *bench.gateway.wechat.refund.lock().unwrap() = RefundAnswer::Unknown;
    *bench.gateway.wechat.refund_query.lock().unwrap() = RefundAnswer::Unknown;
    let id = RefundId::from_ulid(Ulid(n));
    let command = Command::Refund {
        refund: id,
        merchant_refund_no: format!("R-{n}").into(),
        amount: Fen::new(1_000),
    };
    let reply = bench.gateway.tell(order, command).await;
    reply
        .stored
        .order
        .refund(id)
        .unwrap()
        .number(&reply.stored.order)
}

#[actix_web::test]
async fn the_end_of_a_refund_is_heard_from_the_bill() {
    let bench = Bench::start().await;
    let mut orders = Vec::new();
    for n in 1..=4_u128 {
        let (trade, transaction) = bench.paid(&format!("A-{n}")).await;
        let number = refunding(&bench, trade.order, n).await;
        orders.push((trade, transaction, number));
    }
    bench.tomorrow_at(11);
    let standings = [
        LineStanding::Succeeded,
        LineStanding::Abnormal,
        LineStanding::Failed,
        LineStanding::Processing,
    ];
    let mut lines = Vec::new();
    for ((trade, transaction, number), standing) in orders.iter().zip(standings) {
        let trade = trade.to_string();
        let n = u32::try_from(lines.len()).unwrap() + 1;
        lines.push(payment(n, &trade, transaction, START));
        let line = refund(n + 1, &trade, transaction, number, 1_000, START);
        lines.push(TradeLine { standing, ..line });
    }
    bench.bill(lines);
    let run = bench.run().await;
    let total = run.total();
    assert_eq!((total.matched, total.differences()), (8, 0));
    assert_eq!(total.repaired, 3);
    for ((trade, ..), (status, webhook)) in orders.iter().zip([
        ("succeeded", "refund.succeeded"),
        ("abnormal", "order.attention"),
        ("failed", "refund.failed"),
        ("pending", "order.paid"),
    ]) {
        let stored = bench.gateway.deps.orders.read(trade.order).await;
        let order = stored.unwrap().unwrap().order.clone();
        assert_eq!(order.refunds[0].standing.as_str(), status);
        assert!(bench.webhooks(trade.order).await.contains(&webhook));
    }
    assert_eq!(bench.run().await.total().repaired, 0);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_refund_of_the_providers_console_calls_a_person_once() {
    let bench = Bench::start().await;
    let (trade, transaction) = bench.paid("A-1").await;
    bench.tomorrow_at(11);
    let number = trade.to_string();
    bench.bill(vec![
        payment(1, &number, &transaction, START),
        refund(2, &number, &transaction, "console-1", 500, START),
        refund(3, "another system's", "4299", "console-2", 500, START),
    ]);
    for _ in 0..2 {
        let run = bench.run().await;
        let rows = bench.rows(&run).await;
        let verdicts: Vec<_> = rows.iter().map(|row| row.verdict).collect();
        assert_eq!(
            verdicts,
            [Verdict::Matched, Verdict::OnlyThere, Verdict::OnlyThere]
        );
        assert_eq!((rows[1].order, rows[2].order), (Some(trade.order), None));
    }
    let attention = bench.webhooks(trade.order).await;
    let attention = attention.iter().filter(|kind| **kind == "order.attention");
    assert_eq!(attention.count(), 1);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_payment_that_no_bill_has_is_listed() {
    let bench = Bench::start().await;
    let (trade, _) = bench.paid("A-1").await;
    bench.tomorrow_at(11);
    bench.bill(Vec::new());
    let run = bench.run().await;
    let rows = bench.rows(&run).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        seen(&rows[0]),
        (Verdict::OnlyHere, None, false, Some(14_000), None)
    );
    assert_eq!(rows[0].order, Some(trade.order));
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_payment_at_midnight_stands_on_one_of_two_bills() {
    let bench = Bench::start().await;
    let early = bench.asked("A-1").await;
    let midnight = enrollpay::provider::beijing::midnight(TODAY.tomorrow().unwrap());
    bench.gateway.clock.set(midnight.plus_ms(500));
    let (late, transaction) = bench.paid("A-2").await;
    let tomorrow = TODAY.tomorrow().unwrap();
    // Half a second after midnight by the notice, half a second before by the bill.
    bench.bill(vec![
        payment(1, &early.to_string(), "4200000077", START),
        payment(2, &late.to_string(), &transaction, midnight.minus_ms(500)),
    ]);
    bench.tomorrow_at(11);
    let run = bench.run().await;
    assert_eq!((run.total().matched, run.total().differences()), (2, 0));
    bench.gateway.clock.advance_ms(86_400_000);
    bench.bill(Vec::new());
    let next = bench
        .reconciler
        .run(&wechat(), tomorrow, RunBy::Operator)
        .await;
    assert_eq!(next.unwrap().total().rows(), 0, "the day before has it");

    // Without that day's result, it is missed.
    bench.gateway.clock.set(midnight.plus_ms(11 * 3_600_000));
    assert_eq!(bench.run().await.total().only_here, 1, "of the first order");
    bench.gateway.clock.advance_ms(86_400_000);
    let next = bench
        .reconciler
        .run(&wechat(), tomorrow, RunBy::Operator)
        .await;
    assert_eq!(next.unwrap().total().only_here, 1);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn alipays_lines_are_of_the_accounts_application() {
    let bench = Bench::start().await;
    let asked = bench.asked("A-1").await;
    bench.tomorrow_at(11);
    let line = TradeLine {
        application: None,
        ..payment(1, &asked.to_string(), "2026112022001", START)
    };
    // The trade is WeChat's: its number on Alipay's bill does not fit, and pays nothing.
    give(
        &bench.gateway.alipay,
        BillKind::Trades,
        Ok(Bill::Trades(vec![line.clone()])),
    );
    let run = bench
        .reconciler
        .run(&alipay(), TODAY, RunBy::Operator)
        .await;
    let run = run.unwrap();
    let rows = bench.rows(&run).await;
    assert_eq!(seen(&rows[0]).1, Some("account"));
    // On its own account's bill it fits without naming one.
    bench.bill(vec![line]);
    let run = bench.run().await;
    assert_eq!((run.total().matched, run.total().repaired), (1, 1));
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_bill_that_is_not_made_yet_is_waited_for() {
    let bench = Bench::start().await;
    let (trade, transaction) = bench.paid("A-1").await;
    bench.tomorrow_at(9);
    bench.no_bill(BillError::NotReady { date: TODAY });
    for _ in 0..2 {
        let run = bench.run().await;
        assert_eq!((run.state, run.run), (RunState::Waiting, 1));
        assert!(run.why.unwrap().contains("ask again later"));
    }
    bench.bill(vec![payment(1, &trade.to_string(), &transaction, START)]);
    let run = bench.run().await;
    assert_eq!((run.state, run.run), (RunState::Finished, 1));

    // A damaged one is not believed, and the result stays.
    bench.no_bill(BillError::Damaged {
        date: TODAY,
        why: "its hash is another".to_owned(),
    });
    let failed = bench.run().await;
    assert_eq!((failed.state, failed.run), (RunState::Failed, 2));
    assert!(failed.why.unwrap().contains("its hash is another"));
    assert_eq!(bench.rows(&run).await.len(), 1);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn movements_are_compared_where_they_are_offered() {
    let bench = Bench::start().await;
    let (trade, transaction) = bench.paid("A-1").await;
    bench.tomorrow_at(11);
    bench.bill(vec![payment(1, &trade.to_string(), &transaction, START)]);
    let flow = |line, kind, amount| FlowLine {
        line,
        at: START,
        business_no: transaction.as_str().into(),
        kind,
        amount: Fen::new(amount),
        balance: None,
    };
    bench.flows(vec![
        flow(1, FlowKind::Payment, 14_000),
        flow(2, FlowKind::Fee, -83),
    ]);
    let run = bench.run().await;
    let sums = run.flows.unwrap();
    assert_eq!((sums.payments, sums.fees), (14_000, -83));
    let rows = bench.rows(&run).await;
    assert_eq!(rows.len(), 2);
    let uneven = (
        Verdict::Different,
        Some("amount"),
        false,
        Some(-84),
        Some(-83),
    );
    assert_eq!(seen(&rows[1]), uneven);
    assert_eq!(rows[1].order, Some(trade.order));

    // Whatever is the matter with it, the payments were compared.
    let refused = BillError::Refused {
        code: "NO_AUTH".to_owned(),
    };
    give(&bench.gateway.wechat, BillKind::Flows, Err(refused));
    let run = bench.run().await;
    assert_eq!((run.state, run.total().matched), (RunState::Finished, 1));
    assert!(run.why.unwrap().contains("NO_AUTH"));
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn one_run_at_a_time_and_no_other_day() {
    let bench = Bench::start().await;
    bench.tomorrow_at(11);
    bench.bill(Vec::new());
    let minute = Duration::from_mins(1);
    assert_eq!(bench.locks.acquire(LOCK, 7, minute).await, Acquired::Mine);
    let refused = bench
        .reconciler
        .run(&wechat(), TODAY, RunBy::Operator)
        .await;
    assert!(matches!(refused, Err(ReconcileError::Busy)), "{refused:?}");
    bench.locks.release(LOCK, 7).await;
    assert_eq!(bench.run().await.state, RunState::Finished);
    // It gave the lock back.
    assert_eq!(bench.locks.acquire(LOCK, 8, minute).await, Acquired::Mine);
    bench.locks.release(LOCK, 8).await;

    let tomorrow = TODAY.tomorrow().unwrap();
    let refused = bench
        .reconciler
        .run(&wechat(), tomorrow, RunBy::Operator)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("2026-11-21") && refused.contains("10:00"),
        "{refused}"
    );
    let nobody = enrollpay::order::AccountId::new("nobody");
    let refused = bench.reconciler.run(&nobody, TODAY, RunBy::Operator).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("school-wechat"), "{refused}");
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_run_that_dies_after_its_repairs_is_run_again() {
    let bench = Bench::with_lease(LEASE).await;
    let lost = bench.asked("A-1").await;
    bench.tomorrow_at(11);
    bench.bill(vec![payment(1, &lost.to_string(), "4200000077", START)]);
    // It stands before the bill of flows, its repairs told, its result unwritten.
    let gate = bench.gateway.wechat.flows.write().await;
    let reconciler = bench.reconciler.clone();
    let running =
        tokio::spawn(async move { reconciler.run(&wechat(), TODAY, RunBy::Schedule).await });
    bench
        .gateway
        .until(lost.order, |order| order.status() == Status::Paid)
        .await;
    // While it lives, nobody else runs, however long it takes.
    tokio::time::sleep(LEASE + LEASE / 5).await;
    let refused = bench
        .reconciler
        .run(&wechat(), TODAY, RunBy::Operator)
        .await;
    assert!(matches!(refused, Err(ReconcileError::Busy)), "{refused:?}");
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    drop(gate);
    // Its lease ends with it.
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match bench
                .reconciler
                .run(&wechat(), TODAY, RunBy::Operator)
                .await
            {
                Err(ReconcileError::Busy) => tokio::time::sleep(Duration::from_millis(5)).await,
                run => return run.unwrap(),
            }
        }
    });
    let run = waited.await.unwrap();
    assert_eq!((run.state, run.run), (RunState::Finished, 2));
    assert_eq!((run.total().matched, run.total().repaired), (1, 0));
    let store = &bench.gateway.store;
    let history = store
        .reconciliation_runs(Some(&wechat()), TODAY, TODAY)
        .await;
    let history = history.unwrap();
    assert_eq!(history[1].state, RunState::Failed);
    assert_eq!(bench.webhooks(lost.order).await, ["order.paid"]);
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn a_notice_that_comes_beside_the_bill_changes_nothing() {
    let bench = Bench::start().await;
    let asked = bench.asked("A-1").await;
    bench.tomorrow_at(11);
    bench.bill(vec![payment(1, &asked.to_string(), "4200000077", START)]);
    assert_eq!(bench.run().await.total().repaired, 1);
    let OutTradeNo { order, attempt } = asked;
    let report = CaptureReport {
        attempt,
        account: wechat(),
        application: "app-school-wechat".into(),
        transaction_id: "4200000077".into(),
        amount: AMOUNT,
        currency: "CNY".into(),
        succeeded_at: START,
        surplus_refund: RefundId::from_ulid(Ulid(9)),
    };
    bench.gateway.tell(order, Command::Capture(report)).await;
    assert_eq!(bench.webhooks(order).await, ["order.paid"]);
    let merchant = MerchantId::from_ulid(Ulid(1));
    assert_eq!(bench.gateway.school.merchant, merchant);
    bench.gateway.stop().await;
}
