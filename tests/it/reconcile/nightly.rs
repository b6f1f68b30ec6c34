//! When the job runs what.

use enrollpay::provider::{Bill, BillError, BillKind};
use enrollpay::reconcile::{Nightly, Schedule};
use enrollpay::store::reconciliation::{RunBy, RunState};
use jiff::ToSpan as _;
use jiff::civil::Time;

use super::bench::{Bench, TODAY, alipay, give, wechat};

const AT: Schedule = Schedule {
    at: Time::constant(10, 30, 0, 0),
};

#[actix_web::test]
async fn yesterday_and_every_day_of_a_week_that_was_missed() {
    let bench = Bench::start().await;
    let nightly = Nightly::new(bench.reconciler.clone(), AT);
    let earlier: Vec<_> = (1..=6)
        .rev()
        .map(|days| TODAY.saturating_sub(days.days()))
        .flat_map(|date| [(alipay(), date), (wechat(), date)])
        .collect();
    bench.tomorrow_at(10);
    // Not before the hour; what was missed does not wait for it.
    assert_eq!(nightly.due().await.unwrap(), earlier);
    for provider in [&bench.gateway.wechat, &bench.gateway.alipay] {
        give(provider, BillKind::Trades, Ok(Bill::Trades(Vec::new())));
    }
    nightly.look().await.unwrap();
    assert_eq!(nightly.due().await.unwrap(), []);

    bench.tomorrow_at(11);
    let yesterday = [(alipay(), TODAY), (wechat(), TODAY)];
    assert_eq!(nightly.due().await.unwrap(), yesterday);
    bench.no_bill(BillError::NotReady { date: TODAY });
    nightly.look().await.unwrap();
    // One has its result, the other is asked for again in half an hour.
    assert_eq!(nightly.due().await.unwrap(), []);
    bench.gateway.clock.advance_ms(29 * 60_000);
    assert_eq!(nightly.due().await.unwrap(), []);
    bench.gateway.clock.advance_ms(60_000);
    assert_eq!(nightly.due().await.unwrap(), [(wechat(), TODAY)]);
    bench.bill(Vec::new());
    nightly.look().await.unwrap();
    assert_eq!(nightly.due().await.unwrap(), []);
    let store = &bench.gateway.store;
    let runs = store
        .reconciliation_runs(Some(&wechat()), TODAY, TODAY)
        .await;
    let run = runs.unwrap().remove(0);
    assert_eq!((run.state, run.by), (RunState::Finished, RunBy::Schedule));
    bench.gateway.stop().await;
}

#[actix_web::test]
async fn accounts_begin_at_moments_of_their_own() {
    let bench = Bench::start().await;
    let nightly = Nightly::new(bench.reconciler.clone(), AT);
    for provider in [&bench.gateway.wechat, &bench.gateway.alipay] {
        give(provider, BillKind::Trades, Ok(Bill::Trades(Vec::new())));
    }
    bench.tomorrow_at(10);
    nightly.look().await.unwrap();
    let mut begun = Vec::new();
    for minute in 0..50 {
        begun.push(nightly.due().await.unwrap().len());
        assert!(minute >= 30 || begun[minute] == 0, "{begun:?}");
        bench.gateway.clock.advance_ms(60_000);
    }
    assert_eq!(begun.last(), Some(&2));
    assert!(begun.contains(&1), "{begun:?}");
    bench.gateway.stop().await;
}
