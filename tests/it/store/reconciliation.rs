//! What every store promises about reconciliation.

use std::sync::Arc;

use enrollpay::order::{AccountId, Event, Fen, RefundStanding, Timestamp};
use enrollpay::store::reconciliation::{
    Field, FlowSums, ReconciliationWrite, Row, RowFilter, RowKind, Run, RunBy, RunState, Side,
    Tally, Verdict, Window,
};
use enrollpay::store::{RefundStatus, Rejection, Store, Write};
use jiff::civil::Date;

use super::Place;
use super::sample::*;

const DATE: Date = Date::constant(2026, 11, 20);

fn account() -> AccountId {
    AccountId::new("school-wechat")
}

async fn write(store: &Arc<dyn Store>, write: ReconciliationWrite) -> Result<(), Rejection> {
    let transaction = writes([Write::Reconciliation(write)]);
    store.commit(vec![transaction]).await.unwrap().remove(0)
}

async fn started(store: &Arc<dyn Store>, date: Date, run: u32) -> Result<(), Rejection> {
    let started = ReconciliationWrite::Started {
        account: account(),
        date,
        run,
        by: RunBy::Schedule,
        at: at(1),
    };
    write(store, started).await
}

async fn filled(
    store: &Arc<dyn Store>,
    date: Date,
    run: u32,
    rows: Vec<Row>,
) -> Result<(), Rejection> {
    let rows = ReconciliationWrite::Rows {
        account: account(),
        date,
        run,
        rows,
    };
    write(store, rows).await
}

fn ended(date: Date, run: u32, state: RunState) -> Run {
    Run {
        account: account(),
        date,
        run,
        state,
        by: RunBy::Schedule,
        started_at: at(1),
        finished_at: Some(at(9)),
        tallies: Vec::new(),
        flows: None,
        why: None,
    }
}

async fn end(store: &Arc<dyn Store>, run: &Run) -> Result<(), Rejection> {
    write(store, ReconciliationWrite::Ended(Box::new(run.clone()))).await
}

async fn runs(store: &Arc<dyn Store>) -> Vec<Run> {
    let runs = store
        .reconciliation_runs(Some(&account()), DATE, DATE)
        .await;
    runs.unwrap()
}

fn side(transaction: &str, amount: i64) -> Side {
    Side {
        line: None,
        out_trade_no: "T1".into(),
        transaction_id: transaction.into(),
        refund_no: None,
        amount: Fen::new(amount),
        at: at(3),
        status: "succeeded".into(),
        fee: None,
        currency: None,
    }
}

/// A payment of merchant 1 that matches.
fn row(number: u32) -> Row {
    let transaction = format!("42{number}");
    Row {
        number,
        verdict: Verdict::Matched,
        kind: RowKind::Payment,
        field: None,
        repaired: number.is_multiple_of(2),
        order: Some(order_id(number)),
        merchant: Some(merchant_id(1)),
        ours: Some(side(&transaction, 14_000)),
        theirs: Some(Side {
            line: Some(number),
            fee: Some(Fen::new(-84)),
            currency: Some("USD".into()),
            refund_no: Some("R".into()),
            ..side(&transaction, 14_000)
        }),
    }
}

fn filter(run: u32) -> RowFilter {
    RowFilter {
        account: account(),
        date: DATE,
        run,
        merchant: None,
        verdict: None,
        after: 0,
        limit: 100,
    }
}

async fn rows(store: &Arc<dyn Store>, filter: &RowFilter) -> Vec<Row> {
    store.reconciliation_rows(filter).await.unwrap()
}

fn numbers(rows: &[Row]) -> Vec<u32> {
    rows.iter().map(|row| row.number).collect()
}

pub async fn a_days_captures_and_refunds_are_read_by_pages(place: &dyn Place) {
    let store = place.open().await;
    // Captures all succeed at the same instant, refunds end at the same: pages go on within it.
    for n in 1..=5 {
        let created = creation(n);
        let shown = start(&created.order);
        let claimed = claim(&shown.order, u128::from(n));
        let paid = pay(&claimed.order, &format!("42{n}"));
        let back = surplus(&paid.order, &format!("43{n}"), refund_id(n));
        let end = Event::SurplusRefunded {
            refund: refund_id(n),
        };
        let mut gone = step(&back.order, vec![end], |_| {});
        gone.order =
            enrollpay::order::evolve(back.order.clone(), &[gone.events[0].event.clone()], at(6));
        assert_eq!(gone.order.version, back.order.version + 1);
        let standing = gone.order.every_refund().next().unwrap().standing;
        assert!(matches!(standing, RefundStanding::Succeeded { .. }));
        for step in [created, shown, claimed, paid, back, gone] {
            let committed = store.commit(vec![alone(step)]).await.unwrap();
            assert_eq!(committed, [Ok(())]);
        }
    }
    let window = |from, until| Window {
        from: at(from),
        until: at(until),
    };
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .captures_between(&account(), window(3, 4), after, 3)
            .await
            .unwrap();
        let Some(last) = page.last() else {
            break;
        };
        assert!(page.len() <= 3);
        after = Some((last.succeeded_at, last.transaction_id.clone()));
        found.extend(page);
    }
    let transactions: Vec<_> = found.iter().map(|row| &*row.transaction_id).collect();
    let expected: Vec<_> = (2..=3)
        .flat_map(|kind| (1..=5).map(move |n| format!("4{kind}{n}")))
        .collect();
    assert_eq!(transactions, expected);
    assert_eq!(
        (found[0].order, found[0].merchant),
        (order_id(1), merchant_id(1))
    );
    assert_eq!(
        (found[0].amount, found[0].succeeded_at),
        (Fen::new(14_000), at(3))
    );
    for (from, until) in [(0, 3), (4, 9)] {
        let none = store
            .captures_between(&account(), window(from, until), None, 9)
            .await;
        assert_eq!(none.unwrap(), []);
    }
    let of_another = AccountId::new("school-alipay");
    let none = store
        .captures_between(&of_another, window(0, 9), None, 9)
        .await;
    assert_eq!(none.unwrap(), []);
    let known = store
        .captures_known(
            &account(),
            vec!["432".into(), "421".into(), "nothing".into()],
        )
        .await;
    assert_eq!(known.unwrap().len(), 2);

    let ended_at: Timestamp = {
        let all = Window {
            from: Timestamp::from_millis(0),
            until: Timestamp::from_millis(i64::MAX),
        };
        let refunds = store
            .refunds_between(&account(), all, None, 9)
            .await
            .unwrap();
        assert_eq!(refunds.len(), 5);
        assert!(
            refunds
                .iter()
                .all(|row| row.status == RefundStatus::Succeeded)
        );
        refunds[0].ended_at.unwrap()
    };
    let exactly = Window {
        from: ended_at,
        until: ended_at.plus_ms(1),
    };
    let first = store
        .refunds_between(&account(), exactly, None, 2)
        .await
        .unwrap();
    let last = first.last().unwrap();
    let after = Some((ended_at, last.number.as_str().into()));
    let rest = store
        .refunds_between(&account(), exactly, after, 9)
        .await
        .unwrap();
    let mut numbers: Vec<_> = first.iter().chain(&rest).map(|row| &row.number).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 5);
    let numbers = vec![first[0].number.as_str().into(), "nothing".into()];
    let known = store.refunds_known(&account(), numbers).await.unwrap();
    assert_eq!(known, [first[0].clone()]);
}

pub async fn a_run_is_started_filled_and_ended_once(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(runs(&store).await, []);
    assert!(
        filled(&store, DATE, 1, vec![row(1)]).await.is_err(),
        "not started"
    );
    assert_eq!(started(&store, DATE, 1).await, Ok(()));
    assert!(started(&store, DATE, 1).await.is_err(), "started twice");
    let running = Run {
        finished_at: None,
        ..ended(DATE, 1, RunState::Running)
    };
    assert_eq!(runs(&store).await, std::slice::from_ref(&running));
    // As after a lost answer.
    for _ in 0..2 {
        assert_eq!(filled(&store, DATE, 1, vec![row(1), row(2)]).await, Ok(()));
    }
    assert!(end(&store, &running).await.is_err(), "running is no end");
    let finished = Run {
        tallies: vec![Tally {
            matched: 2,
            payments_here: 28_000,
            ..Tally::of(Some(merchant_id(1)))
        }],
        flows: Some(FlowSums {
            payments: 28_000,
            opening: Some(-1),
            ..FlowSums::default()
        }),
        why: Some("fund flows: not allowed".to_owned()),
        ..ended(DATE, 1, RunState::Finished)
    };
    assert_eq!(end(&store, &finished).await, Ok(()));
    assert!(end(&store, &finished).await.is_err(), "ended twice");
    assert_eq!(runs(&store).await, std::slice::from_ref(&finished));
    assert_eq!(rows(&store, &filter(1)).await, [row(1), row(2)]);

    // One that waited goes on; one that never ended has failed.
    assert_eq!(started(&store, DATE, 2).await, Ok(()));
    assert_eq!(
        end(&store, &ended(DATE, 2, RunState::Waiting)).await,
        Ok(())
    );
    assert_eq!(started(&store, DATE, 2).await, Ok(()));
    assert_eq!(started(&store, DATE, 3).await, Ok(()));
    let states: Vec<_> = runs(&store).await.iter().map(|run| run.state).collect();
    assert_eq!(
        states,
        [RunState::Running, RunState::Failed, RunState::Finished]
    );
    store.close().await;
    let store = place.open().await;
    assert_eq!(runs(&store).await[2], finished);
}

pub async fn the_last_finished_run_is_the_result(place: &dyn Place) {
    let store = place.open().await;
    for run in 1..=2 {
        assert_eq!(started(&store, DATE, run).await, Ok(()));
        let all = (1..=5).map(row).collect();
        assert_eq!(filled(&store, DATE, run, all).await, Ok(()));
        assert_eq!(
            end(&store, &ended(DATE, run, RunState::Finished)).await,
            Ok(())
        );
    }
    let clear = |run| {
        let cleared = ReconciliationWrite::Cleared {
            account: account(),
            date: DATE,
            run,
            most: 2,
        };
        write(&store, cleared)
    };
    assert_eq!(clear(1).await, Ok(()));
    assert_eq!(numbers(&rows(&store, &filter(1)).await), [3, 4, 5]);
    // The result itself is never cleared.
    assert_eq!(clear(2).await, Ok(()));
    assert_eq!(numbers(&rows(&store, &filter(2)).await), [1, 2, 3, 4, 5]);
    // Days, and accounts, are told apart.
    let all = store
        .reconciliation_runs(None, DATE.yesterday().unwrap(), DATE)
        .await
        .unwrap();
    assert_eq!(all.iter().map(|run| run.run).collect::<Vec<_>>(), [2, 1]);
    let yesterday = DATE.yesterday().unwrap();
    let none = store.reconciliation_runs(None, yesterday, yesterday).await;
    assert_eq!(none.unwrap(), []);
}

pub async fn rows_are_those_of_one_merchant_and_of_no_order(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(started(&store, DATE, 1).await, Ok(()));
    let of_another = Row {
        merchant: Some(merchant_id(2)),
        ..row(2)
    };
    let of_nobody = Row {
        verdict: Verdict::OnlyThere,
        field: Some(Field::Duplicate),
        order: None,
        merchant: None,
        ours: None,
        ..row(3)
    };
    let only_here = Row {
        verdict: Verdict::OnlyHere,
        theirs: None,
        ..row(4)
    };
    let all = vec![row(1), of_another, of_nobody.clone(), only_here];
    assert_eq!(filled(&store, DATE, 1, all).await, Ok(()));
    let mine = RowFilter {
        merchant: Some(merchant_id(1)),
        ..filter(1)
    };
    let found = rows(&store, &mine).await;
    assert_eq!(numbers(&found), [1, 3, 4]);
    assert_eq!(found[1], of_nobody);
    for (verdict, expected) in [
        (Verdict::Matched, vec![1]),
        (Verdict::OnlyThere, vec![3]),
        (Verdict::OnlyHere, vec![4]),
        (Verdict::Different, vec![]),
    ] {
        let filter = RowFilter {
            verdict: Some(verdict),
            ..mine.clone()
        };
        assert_eq!(numbers(&rows(&store, &filter).await), expected);
    }
    let page = RowFilter {
        after: 1,
        limit: 1,
        ..mine
    };
    assert_eq!(numbers(&rows(&store, &page).await), [3]);
    // A row says no more than it can.
    let impossible = Row {
        ours: None,
        ..row(9)
    };
    assert!(filled(&store, DATE, 1, vec![impossible]).await.is_err());
}

pub async fn a_row_is_found_on_another_day(place: &dyn Place) {
    let store = place.open().await;
    let yesterday = DATE.yesterday().unwrap();
    for run in 1..=2 {
        assert_eq!(started(&store, yesterday, run).await, Ok(()));
        // The second result has the first row only.
        let some = (1..=3 - run).map(row).collect();
        assert_eq!(filled(&store, yesterday, run, some).await, Ok(()));
        let finished = ended(yesterday, run, RunState::Finished);
        assert_eq!(end(&store, &finished).await, Ok(()));
    }
    let keys = || vec!["421".into(), "422".into(), "423".into()];
    let found = store.reconciled_elsewhere(&account(), DATE, keys()).await;
    assert_eq!(found.unwrap(), [Box::<str>::from("421")]);
    let same = store
        .reconciled_elsewhere(&account(), yesterday, keys())
        .await;
    assert_eq!(same.unwrap(), Vec::<Box<str>>::new());
}
