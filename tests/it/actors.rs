//! The heart's shell: what is on disk before what is said, who is let in, how actors end and orders
//! go on.

pub mod bank;
pub mod bench;
pub mod virtual_house;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::test;
use enrollpay::actors::ownership::Ownership;
use enrollpay::actors::{CannotAsk, Options, OrdersError, Verdict};
use enrollpay::cluster::{self, Directory, JoinError, Membership};
use enrollpay::locks::Locks;
use enrollpay::locks::memory::MemoryLocks;
use enrollpay::order::evolve::replay;
use enrollpay::order::{
    Command, Event, OrderId, PayerHash, Phase, Refusal, Status, Timestamp, TradeAnswer,
};
use enrollpay::provider::TradeState;
use enrollpay::store::{Actor, PayerIdentity, Rejection, Store as _, StoreError, Write};
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use ulid::Ulid;

use bench::{
    AMOUNT, Bench, Commits, FIRST, PUBLIC_URL, QR_MS, START, STUDENT, claim, eventually, new_order,
    options, pay, payer_slot, request,
};

#[test]
async fn a_new_order_is_on_disk_and_costs_no_memory() {
    let bench = Bench::new();
    let id = bench.order().await;
    assert_eq!(bench.shards.observe().live, 0);
    assert_eq!(bench.stored(id).await.order.version, 1);
    let read = bench.orders.read(id).await.unwrap().unwrap();
    assert_eq!(read.order.status(), Status::Unpaid);
    assert_eq!(bench.shards.observe().live, 0, "reading starts no actor");

    let again = bench.orders.create(new_order(id, &bench.sealer)).await;
    assert!(matches!(
        again,
        Err(OrdersError::Rejected(
            Rejection::MerchantOrderNoTaken { existing }
        )) if existing == id
    ));
}

#[test]
async fn nobody_knows_an_order_that_is_not() {
    let bench = Bench::new();
    let id = OrderId::from_ulid(Ulid(1));
    assert!(matches!(
        bench.tell(id, claim(STUDENT)).await,
        Err(OrdersError::NotFound)
    ));
    assert!(bench.orders.read(id).await.unwrap().is_none());
    eventually(|| async { bench.shards.observe().live == 0 }).await;
}

#[test]
async fn a_payment_from_the_code_to_the_event() {
    let bench = Bench::new();
    let id = bench.order().await;
    let mut versions = bench.orders.watch(id);
    bench.tell(id, bench.start()).await.unwrap();
    let mut scan = request(claim(STUDENT));
    scan.writes.push(payer_slot(&bench.sealer, id, "openid-1"));
    bench.orders.tell(id, scan).await.unwrap();
    let paying = bench.tell(id, pay()).await.unwrap();
    assert_eq!(paying.verdict, Verdict::Applied);

    versions
        .wait_for(|version| *version == 5)
        .await
        .expect("the trade is made");
    let requests = bench.provider.requests.lock().unwrap().clone();
    let [asked] = &requests[..] else {
        panic!("one order call, not {}", requests.len());
    };
    assert_eq!(asked.amount, AMOUNT);
    assert_eq!(asked.subject, "2021年4月自学考试报考费");
    assert_eq!(
        asked.notify_url,
        format!("{PUBLIC_URL}/callbacks/wechatpay/school-wechat")
    );
    assert!(asked.return_url.as_ref().unwrap().contains("/pay/"));
    assert_eq!(asked.payer.as_ref().unwrap().0.expose_secret(), "openid-1");
    assert_eq!(asked.payer_address, Some("203.0.113.7".parse().unwrap()));

    bench.clock.advance_ms(20_000);
    let report = bench.report("tx-1", START.plus_ms(19_000));
    let paid = bench
        .tell(id, Command::Capture(report.clone()))
        .await
        .unwrap();
    assert_eq!(paid.verdict, Verdict::Applied);
    assert_eq!(paid.stored.order.status(), Status::Paid);
    let again = bench.tell(id, Command::Capture(report)).await.unwrap();
    assert!(matches!(again.verdict, Verdict::Already(_)));

    let stored = bench.stored(id).await;
    assert_eq!(stored.order, paid.stored.order);
    let [event] = &bench.outbox().await[..] else {
        panic!("one event");
    };
    assert!(event.contains("order.paid"), "{event}");
    assert!(
        event.contains(&format!("v{} paid", stored.order.version)),
        "{event}"
    );
    assert!(event.contains("测试考生"), "{event}");

    // E5: the timeline, played again, is the row.
    let timeline = bench.gate.timeline(id).await.unwrap();
    let mut commits: Vec<(Timestamp, Vec<Event>)> = Vec::new();
    let mut version = 0;
    for entry in timeline {
        if entry.version == version {
            commits.last_mut().unwrap().1.push(entry.event);
        } else {
            version = entry.version;
            commits.push((entry.at, vec![entry.event]));
        }
    }
    let commits = commits.iter().map(|(at, events)| (*at, &events[..]));
    assert_eq!(replay(id, commits), Some(stored.order));
}

#[test]
async fn of_a_thousand_who_scan_one_wins() {
    let bench = Bench::with(Options {
        mailbox: 2_000,
        ..options()
    });
    let id = bench.shown().await;
    bench.gate.groups.lock().unwrap().clear();
    let scans = (1..=1_000).map(|payer| bench.tell(id, claim(PayerHash(payer))));
    let verdicts: Vec<_> = join_all(scans)
        .await
        .into_iter()
        .map(|reply| reply.unwrap().verdict)
        .collect();
    let won = verdicts
        .iter()
        .filter(|verdict| **verdict == Verdict::Applied)
        .count();
    let lost = verdicts
        .iter()
        .filter(|verdict| **verdict == Verdict::Refused(Refusal::AlreadyScanned))
        .count();
    assert_eq!((won, lost), (1, 999));
    let groups = bench.gate.groups.lock().unwrap().clone();
    assert_eq!(groups, [1], "they are decided one after the other");
    assert_eq!(bench.stored(id).await.order.version, 3);
}

#[test]
async fn whoever_scans_too_late_leaves_no_trace_but_a_nonce() {
    let bench = Bench::new();
    let id = bench.shown().await;
    let mut scan = request(claim(STUDENT));
    scan.writes.push(payer_slot(&bench.sealer, id, "openid-1"));
    bench.orders.tell(id, scan).await.unwrap();
    let kept = bench.gate.personal(id, "payer:1").await.unwrap().unwrap();

    let nonce = Write::Nonce {
        key: enrollpay::order::KeyId::from_ulid(Ulid(9)),
        nonce: "once".to_owned(),
        at: START,
    };
    let mut second = request(claim(PayerHash(2)));
    second.writes = vec![payer_slot(&bench.sealer, id, "openid-2"), nonce];
    let refused = bench.orders.tell(id, second.clone()).await.unwrap();
    assert_eq!(refused.verdict, Verdict::Refused(Refusal::AlreadyScanned));
    let now = bench.gate.personal(id, "payer:1").await.unwrap().unwrap();
    assert_eq!(now, kept, "the claimant stays the claimant");
    assert!(matches!(
        bench.orders.tell(id, second).await,
        Err(OrdersError::Rejected(Rejection::NonceReplayed { .. }))
    ));
}

#[test]
async fn calls_leave_after_their_commit() {
    let bench = Bench::new();
    let id = bench.shown().await;
    bench.tell(id, claim(STUDENT)).await.unwrap();
    bench.gate.shut();
    let orders = bench.orders.clone();
    let paying = actix::spawn(async move { orders.tell(id, request(pay())).await });
    eventually(|| async { bench.gate.waiting() == 1 }).await;
    assert!(
        bench.provider.asked().is_empty(),
        "asked before it was on disk"
    );
    assert!(!paying.is_finished());
    bench.gate.open();
    assert_eq!(paying.await.unwrap().unwrap().verdict, Verdict::Applied);
    eventually(|| async { bench.provider.asked().len() == 1 }).await;
}

#[test]
async fn what_gathers_during_a_flush_shares_the_next() {
    let bench = Bench::new();
    bench.order().await;
    bench.gate.groups.lock().unwrap().clear();
    bench.gate.shut();
    let creating: Vec<_> = (0..200)
        .map(|_| {
            let orders = bench.orders.clone();
            let new = new_order(bench.new_id(), &bench.sealer);
            actix::spawn(async move { orders.create(new).await })
        })
        .collect();
    // Both threads hold a first group, be it of one or of many; whoever is left queues behind it.
    eventually(|| async {
        let observed = bench.shards.observe();
        let under_way: usize = observed.threads.iter().map(|thread| thread.commands).sum();
        bench.gate.waiting() == 2 && under_way == 200
    })
    .await;
    bench.gate.open();
    for created in creating {
        created.await.unwrap().unwrap();
    }
    let groups = bench.gate.groups.lock().unwrap().clone();
    assert_eq!(groups.iter().sum::<usize>(), 200);
    assert!(
        groups.len() <= 20,
        "200 orders took {} flushes",
        groups.len()
    );
}

#[test]
async fn a_panic_costs_one_answer_and_no_money() {
    let bench = Bench::new();
    let id = bench.made().await;
    let neighbour = bench.shown().await;
    let report = bench.report("tx-1", START);
    bench.body.poisoned.store(true, Ordering::SeqCst);
    let lost = bench.tell(id, Command::Capture(report.clone())).await;
    assert!(matches!(lost, Err(OrdersError::ActorLost)), "{lost:?}");
    eventually(|| async { bench.shards.observe().restarts == 1 }).await;
    assert_eq!(bench.stored(id).await.order.status(), Status::Paying);
    bench.tell(neighbour, claim(STUDENT)).await.unwrap();

    bench.body.poisoned.store(false, Ordering::SeqCst);
    let paid = bench.tell(id, Command::Capture(report)).await.unwrap();
    assert_eq!(paid.verdict, Verdict::Applied);
    assert_eq!(bench.outbox().await.len(), 1);
}

#[test]
async fn an_idle_order_leaves_memory_and_comes_back() {
    let bench = Bench::with(Options {
        idle_ms: 40,
        ..options()
    });
    let live = bench.shown().await;
    let id = bench.made().await;
    bench
        .tell(id, Command::Capture(bench.report("tx-1", START)))
        .await
        .unwrap();
    eventually(|| async { bench.shards.observe().live == 1 }).await;
    let read = bench.orders.read(id).await.unwrap().unwrap();
    assert_eq!(read.order.status(), Status::Paid);
    let again = bench.tell(id, claim(PayerHash(3))).await.unwrap();
    assert_eq!(again.verdict, Verdict::Refused(Refusal::AlreadyPaid));
    // The one whose code is shown stays, however often others come and go.
    for round in 0..3 {
        eventually(|| async { bench.shards.observe().live == 1 }).await;
        let other = bench.order().await;
        bench.tell(other, Command::Cancel).await.unwrap();
        assert_eq!(bench.shards.observe().live, 2, "round {round}");
    }
    let read = bench.orders.read(live).await.unwrap().unwrap();
    assert_eq!(read.order.status(), Status::Paying);
    assert_eq!(bench.shards.observe().restarts, 0);
}

#[test]
async fn a_full_mailbox_refuses_wishes_and_takes_in_money() {
    let bench = Bench::with(Options {
        mailbox: 4,
        ..options()
    });
    let id = bench.made().await;
    bench.gate.shut();
    let (cancelling, waiting) = (bench.orders.clone(), bench.orders.clone());
    let first = actix::spawn(async move { cancelling.tell(id, request(Command::Cancel)).await });
    eventually(|| async { bench.gate.waiting() == 1 }).await;
    let wishes: Vec<_> = (0..100)
        .map(|_| {
            let orders = waiting.clone();
            actix::spawn(async move { orders.tell(id, request(Command::Cancel)).await })
        })
        .collect();
    let report = bench.report("tx-1", START);
    let notices: Vec<_> = (0..100)
        .map(|_| {
            let orders = bench.orders.clone();
            let command = Command::Capture(report.clone());
            actix::spawn(async move { orders.tell(id, request(command)).await })
        })
        .collect();
    let shed = || async {
        let refused = wishes.iter().filter(|wish| wish.is_finished()).count();
        refused >= 95
    };
    eventually(shed).await;
    bench.gate.open();
    assert_eq!(first.await.unwrap().unwrap().verdict, Verdict::Applied);
    let mut refused = 0;
    for wish in wishes {
        match wish.await.unwrap() {
            Ok(_) => {}
            Err(OrdersError::Overloaded {
                retry_after_seconds,
            }) => {
                assert!(retry_after_seconds > 0);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        (95..100).contains(&refused),
        "{refused} of 100 were refused"
    );
    let mut applied = 0;
    for notice in notices {
        applied += usize::from(notice.await.unwrap().unwrap().verdict == Verdict::Applied);
    }
    assert_eq!(applied, 1);
}

#[test]
async fn new_orders_are_refused_before_anything_else() {
    let bench = Bench::with(Options {
        threads: 1,
        queue: 8,
        ..options()
    });
    let id = bench.made().await;
    bench.gate.shut();
    let creating: Vec<_> = (0..20)
        .map(|_| {
            let orders = bench.orders.clone();
            let new = new_order(bench.new_id(), &bench.sealer);
            actix::spawn(async move { orders.create(new).await })
        })
        .collect();
    eventually(|| async {
        creating
            .iter()
            .filter(|create| create.is_finished())
            .count()
            == 14
    })
    .await;
    let orders = bench.orders.clone();
    let report = bench.report("tx-1", START);
    let capture =
        actix::spawn(async move { orders.tell(id, request(Command::Capture(report))).await });
    eventually(|| async { bench.shards.observe().threads[0].commands == 7 }).await;
    bench.gate.open();
    assert_eq!(capture.await.unwrap().unwrap().verdict, Verdict::Applied);
    let mut overloaded = 0;
    for create in creating {
        match create.await.unwrap() {
            Ok(_) => {}
            Err(OrdersError::Overloaded { .. }) => overloaded += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(overloaded, 14);
}

#[test]
async fn too_many_live_orders_are_refused_but_never_money() {
    let bench = Bench::with(Options {
        live_orders: 1,
        idle_ms: 40,
        ..options()
    });
    let id = bench.made().await;
    let other = bench.order().await;
    assert!(matches!(
        bench.tell(other, bench.start()).await,
        Err(OrdersError::Overloaded { .. })
    ));
    let report = bench.report("tx-1", START);
    let fact = bench.tell(other, Command::Capture(report)).await.unwrap();
    assert_eq!(fact.stored.order.mismatches.len(), 1, "kept as evidence");
    bench
        .tell(id, Command::Capture(bench.report("tx-2", START)))
        .await
        .unwrap();
    eventually(|| async { bench.shards.observe().live == 0 }).await;
    bench
        .tell(bench.order().await, bench.start())
        .await
        .unwrap();
}

#[test]
async fn a_lost_answer_is_looked_up() {
    let bench = Bench::new();
    let id = bench.shown().await;
    bench.gate.set(Commits::AnswerLost);
    let claimed = bench.tell(id, claim(STUDENT)).await.unwrap();
    assert_eq!(claimed.verdict, Verdict::Applied);
    let created = bench
        .orders
        .create(new_order(bench.new_id(), &bench.sealer))
        .await;
    assert_eq!(created.unwrap().order.version, 1);
    bench.gate.set(Commits::Pass);
    assert_eq!(bench.stored(id).await.order.version, 3);
    bench.tell(id, pay()).await.unwrap();
}

#[test]
async fn a_lost_request_is_not_sent_again() {
    let bench = Bench::new();
    let id = bench.shown().await;
    bench.gate.groups.lock().unwrap().clear();
    bench.gate.set(Commits::RequestLost);
    let lost = bench.tell(id, claim(STUDENT)).await;
    assert!(
        matches!(
            lost,
            Err(OrdersError::Store(StoreError::OutcomeUnknown { .. }))
        ),
        "{lost:?}"
    );
    assert_eq!(bench.gate.groups.lock().unwrap().len(), 1);
    bench.gate.set(Commits::Pass);
    let claimed = bench.tell(id, claim(PayerHash(2))).await.unwrap();
    assert_eq!(claimed.verdict, Verdict::Applied);
}

#[test]
async fn no_store_no_answer() {
    let bench = Bench::new();
    let id = bench.made().await;
    bench.gate.set(Commits::Refused);
    let report = bench.report("tx-1", START);
    let refused = bench.tell(id, Command::Capture(report.clone())).await;
    assert!(matches!(
        refused,
        Err(OrdersError::Store(StoreError::Unavailable { .. }))
    ));
    let read = bench.orders.read(id).await.unwrap().unwrap();
    assert_eq!(read.order.status(), Status::Paying);
    bench.gate.set(Commits::Pass);
    let paid = bench.tell(id, Command::Capture(report)).await.unwrap();
    assert_eq!(paid.verdict, Verdict::Applied);
}

#[test]
async fn a_row_that_moved_on_is_decided_again() {
    let bench = Bench::new();
    let elsewhere = bench.second();
    let id = bench.shown().await;
    let won = elsewhere
        .orders()
        .tell(id, request(claim(STUDENT)))
        .await
        .unwrap();
    assert_eq!(won.verdict, Verdict::Applied);
    // This house still has version 2 in mind.
    let second = bench.tell(id, claim(PayerHash(2))).await.unwrap();
    assert_eq!(second.verdict, Verdict::Refused(Refusal::AlreadyScanned));
    assert_eq!(second.stored.order.version, 3);
    assert!(elsewhere.stop(Duration::from_secs(5)).await);
}

#[test]
async fn the_stores_clock_says_what_is_too_late() {
    let bench = Bench::new();
    let id = bench.shown().await;
    bench.ahead_ms.store(QR_MS, Ordering::SeqCst);
    let claimed = bench.tell(id, claim(STUDENT)).await.unwrap();
    let until = START.plus_ms(QR_MS);
    assert_eq!(
        claimed.verdict,
        Verdict::Refused(Refusal::TooLate { until })
    );
    assert_eq!(bench.stored(id).await.order.version, 2);
    bench.ahead_ms.store(0, Ordering::SeqCst);
    let claimed = bench.tell(id, claim(STUDENT)).await.unwrap();
    assert_eq!(claimed.verdict, Verdict::Applied);
}

#[test]
async fn only_the_last_questions_answer_counts_but_money_always_does() {
    let bench = Bench::with(Options {
        sweep_ms: 10,
        ..options()
    });
    let id = bench.made().await;
    let held = || bench.provider.held.lock().unwrap();
    let asked = |count| async move {
        eventually(|| async { held().as_ref().is_some_and(|held| held.len() == count) }).await;
    };
    *held() = Some(Vec::new());
    bench.clock.advance_ms(QR_MS);
    asked(1).await;
    bench.clock.advance_ms(30_000);
    asked(2).await;
    let mut answers = held().take().unwrap();
    let second = answers.pop().unwrap();
    let first = answers.pop().unwrap();

    first.send(TradeState::Unpaid).unwrap();
    eventually(|| async { bench.shards.observe().calls == 1 }).await;
    let closing = |line: &String| line.starts_with("close");
    assert!(
        !bench.provider.asked().iter().any(closing),
        "an old answer moved the closing on"
    );
    second.send(TradeState::Unpaid).unwrap();
    eventually(|| async { bench.provider.asked().iter().any(closing) }).await;
    eventually(|| async { bench.stored(id).await.order.live_attempt().is_none() }).await;

    // Another order: here the old answer is money.
    let id = bench.made().await;
    let number = bench.provider.asked().last().unwrap().replace("make ", "");
    *held() = Some(Vec::new());
    bench.clock.advance_ms(QR_MS);
    asked(1).await;
    bench.clock.advance_ms(30_000);
    asked(2).await;
    let mut answers = held().take().unwrap();
    let _second = answers.pop();
    let success = enrollpay::provider::Success {
        out_trade_no: number,
        application: "wx8888888888888888".into(),
        transaction_id: "tx-1".into(),
        amount: AMOUNT,
        currency: "CNY".into(),
        succeeded_at: START,
    };
    let first = answers.pop().unwrap();
    first.send(TradeState::Paid(success)).unwrap();
    eventually(|| async { bench.stored(id).await.order.status() == Status::Paid }).await;
}

#[test]
async fn one_capture_told_to_two_houses_is_one() {
    let bench = Bench::new();
    let elsewhere = bench.second();
    let id = bench.made().await;
    let there = elsewhere.orders();
    let report = Command::Capture(bench.report("tx-1", START));
    let (here, there) = (
        bench.tell(id, report.clone()),
        there.tell(id, request(report)),
    );
    let (here, there) = futures_util::future::join(here, there).await;
    let applied = [here.unwrap().verdict, there.unwrap().verdict]
        .iter()
        .filter(|verdict| **verdict == Verdict::Applied)
        .count();
    assert_eq!(applied, 1);
    assert_eq!(bench.stored(id).await.order.captures.len(), 1);
    assert_eq!(bench.outbox().await.len(), 1);
    assert!(elsewhere.stop(Duration::from_secs(5)).await);
}

#[test]
async fn the_sweep_ends_what_is_over() {
    let bench = Bench::with(Options {
        sweep_ms: 10,
        ..options()
    });
    let unclaimed = bench.shown().await;
    let made = bench.made().await;
    bench.clock.advance_ms(QR_MS);
    eventually(|| async {
        let first = bench.stored(unclaimed).await;
        let second = bench.stored(made).await;
        let expired = |phase: &Phase| matches!(phase, Phase::Expired { .. });
        expired(&first.order.attempts[0].phase) && expired(&second.order.attempts[0].phase)
    })
    .await;
    let asked: Vec<_> = bench.provider.asked();
    let verbs: Vec<_> = asked
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(verbs[0], "make");
    assert!(verbs.ends_with(&["query", "close", "query"]), "{verbs:?}");
}

#[test]
async fn a_timer_wakes_without_the_sweep() {
    let bench = Bench::new();
    let id = bench.new_id();
    let mut new = new_order(id, &bench.sealer);
    new.terms.qr_ms = 300;
    bench.orders.create(new).await.unwrap();
    bench.tell(id, bench.start()).await.unwrap();
    bench.clock.advance_ms(300);
    eventually(|| async {
        matches!(
            bench.stored(id).await.order.attempts[0].phase,
            Phase::Expired { .. }
        )
    })
    .await;
}

#[test]
async fn after_a_crash_the_rows_say_how_to_go_on() {
    let bench = Bench::new();
    bench.provider.silent.store(true, Ordering::SeqCst);
    let id = bench.shown().await;
    bench.tell(id, claim(STUDENT)).await.unwrap();
    bench.tell(id, pay()).await.unwrap();
    eventually(|| async { bench.provider.asked().len() == 1 }).await;
    let number = bench.provider.asked()[0].replace("make ", "");
    bench.clock.advance_ms(QR_MS);

    // Nothing but the file is left. The trade had been made, though nobody here heard of it.
    let bench = bench
        .crash(Options {
            sweep_ms: 10,
            ..options()
        })
        .await;
    *bench.provider.state.lock().unwrap() = TradeState::Unpaid;
    eventually(|| async {
        matches!(
            bench.stored(id).await.order.attempts[0].phase,
            Phase::Expired { .. }
        )
    })
    .await;
    let asked = bench.provider.asked();
    assert_eq!(
        asked[asked.len() - 3..],
        [
            format!("query {number}"),
            format!("close {number}"),
            format!("query {number}")
        ]
    );
    let events = bench.events(id).await;
    assert!(matches!(events.last(), Some(Event::AttemptExpired { .. })));
}

#[test]
async fn what_the_order_does_not_owe_goes_back_once() {
    let bench = Bench::new();
    let id = bench.made().await;
    bench.clock.advance_ms(1_000);
    bench.tell(id, Command::Cancel).await.unwrap();
    eventually(|| async { bench.stored(id).await.order.status() == Status::Closed }).await;
    let late = bench.report("tx-1", START.plus_ms(500));
    bench.tell(id, Command::Capture(late)).await.unwrap();
    eventually(|| async {
        matches!(
            bench.events(id).await.last(),
            Some(Event::SurplusRefunded { .. })
        )
    })
    .await;
    let number = bench.provider.asked()[0].replace("make ", "");
    let refunds: Vec<_> = bench
        .provider
        .asked()
        .into_iter()
        .filter(|line| line.starts_with("refund"))
        .collect();
    assert_eq!(refunds, [format!("refund {number}S 14000")]);
}

#[test]
async fn a_refused_trade_ends_its_attempt() {
    let bench = Bench::new();
    *bench.provider.made.lock().unwrap() = TradeAnswer::Refused {
        code: "PARAM_ERROR".into(),
    };
    let id = bench.made().await;
    let stored = bench.stored(id).await;
    assert!(matches!(
        stored.order.attempts[0].phase,
        Phase::Failed { .. }
    ));
    assert_eq!(stored.order.status(), Status::Unpaid);
}

/// The bench's payer has no number.
#[test]
async fn no_trade_is_asked_for_somebody_who_is_not_named() {
    let bench = Bench::new();
    let id = OrderId::from_ulid(Ulid(4));
    let mut order = new_order(id, &bench.sealer);
    order.snapshot.payer_identity = PayerIdentity::Provider;
    bench.orders.create(order).await.unwrap();
    bench.tell(id, bench.start()).await.unwrap();
    bench.tell(id, claim(STUDENT)).await.unwrap();
    bench.tell(id, pay()).await.unwrap();
    let stored = bench.stored(id).await;
    let request = bench.orders.trade_request(&stored, FIRST).await;
    assert!(
        matches!(request, Err(CannotAsk::NobodyNamed)),
        "{request:?}"
    );
    // Whoever waits is told at once, and the provider has heard nothing.
    let mut heard = bench.orders.heard(id);
    let told = heard.wait_for(|heard| heard.trades_unanswered > 0);
    tokio::time::timeout(Duration::from_secs(5), told)
        .await
        .unwrap()
        .unwrap();
    assert!(bench.provider.requests.lock().unwrap().is_empty());
}

#[test]
async fn a_query_that_finds_the_money_pays() {
    let bench = Bench::new();
    let id = bench.made().await;
    let number = bench.provider.asked()[0].replace("make ", "");
    *bench.provider.state.lock().unwrap() = TradeState::Paid(enrollpay::provider::Success {
        out_trade_no: number.clone(),
        application: "wx8888888888888888".into(),
        transaction_id: "tx-1".into(),
        amount: AMOUNT,
        currency: "CNY".into(),
        succeeded_at: START,
    });
    bench.tell(id, Command::Query).await.unwrap();
    eventually(|| async { bench.stored(id).await.order.status() == Status::Paid }).await;
    let timeline = bench.gate.timeline(id).await.unwrap();
    assert_eq!(timeline.last().unwrap().actor, Actor::Provider);
}

#[test]
async fn another_trades_success_proves_nothing() {
    let bench = Bench::new();
    let id = bench.made().await;
    let other = bench.made().await;
    let number = bench.provider.asked()[1].replace("make ", "");
    assert!(number.starts_with(&other.ulid().to_string()));
    *bench.provider.state.lock().unwrap() = TradeState::Paid(enrollpay::provider::Success {
        out_trade_no: number,
        application: "wx8888888888888888".into(),
        transaction_id: "tx-1".into(),
        amount: AMOUNT,
        currency: "CNY".into(),
        succeeded_at: START,
    });
    bench.tell(id, Command::Query).await.unwrap();
    eventually(|| async { bench.provider.asked().len() == 3 && bench.shards.observe().calls == 0 })
        .await;
    assert_eq!(bench.stored(id).await.order.status(), Status::Paying);
    assert_eq!(bench.stored(other).await.order.status(), Status::Paying);
}

#[test]
async fn stopping_finishes_what_is_under_way() {
    let bench = Bench::new();
    let id = bench.made().await;
    bench.gate.shut();
    let orders = bench.orders.clone();
    let report = bench.report("tx-1", START);
    let capture =
        actix::spawn(async move { orders.tell(id, request(Command::Capture(report))).await });
    eventually(|| async { bench.gate.waiting() == 1 }).await;
    let Bench {
        shards,
        gate,
        orders,
        ..
    } = bench;
    let stopping = actix::spawn(shards.stop(Duration::from_secs(10)));
    eventually(|| async {
        let nobody = OrderId::from_ulid(Ulid(1));
        let late = orders.tell(nobody, request(claim(STUDENT))).await;
        matches!(late, Err(OrdersError::Stopping))
    })
    .await;
    gate.open();
    assert!(stopping.await.unwrap(), "everything was finished");
    assert_eq!(capture.await.unwrap().unwrap().verdict, Verdict::Applied);
    let stored = gate.order(id).await.unwrap().unwrap();
    assert_eq!(stored.order.status(), Status::Paid);
    let after = orders.tell(id, request(Command::Tick)).await;
    assert!(matches!(after, Err(OrdersError::Stopping)));
}

#[test]
async fn all_of_it_runs_on_one_thread_too() {
    let bench = Bench::with(Options {
        threads: 0,
        ..options()
    });
    let id = bench.made().await;
    let paid = bench
        .tell(id, Command::Capture(bench.report("tx-1", START)))
        .await
        .unwrap();
    assert_eq!(paid.stored.order.status(), Status::Paid);
    assert_eq!(paid.stored.order.captures[0].attempt, FIRST);
    assert!(bench.shards.stop(Duration::from_secs(5)).await);
}

/// An instance that is alone on its store, with all shards.
async fn joined(
    bench: &Bench,
    instance: u128,
    locks: Arc<MemoryLocks>,
) -> Result<Ownership, JoinError> {
    let shards = options().shards;
    let ownership = Ownership::new(instance, shards, false);
    let node = cluster::Options {
        node: format!("node-{instance}"),
        internal_url: None,
        shards,
        lease: Duration::from_secs(10),
    };
    let parts = cluster::Parts {
        store: bench.gate.clone(),
        locks,
        clock: Arc::new(bench.clock.clone()),
        random: Arc::clone(&bench.random),
        ownership: ownership.clone(),
        directory: Directory::default(),
    };
    Membership::new(node, parts, None).join().await?;
    Ok(ownership)
}

/// The node that lost its shards without knowing (F31): its transitions are refused by the store,
/// while money that it hears of is recorded all the same.
#[test]
async fn an_earlier_owner_cannot_write_but_a_capture_is_a_fact() {
    let mut bench = Bench::new();
    // Each time with locks that have forgotten everything, as after a flush.
    let first = joined(&bench, 1, Arc::default()).await.unwrap();
    bench = bench
        .crash(Options {
            ownership: first,
            ..options()
        })
        .await;
    let id = bench.made().await;

    joined(&bench, 2, Arc::default()).await.unwrap();
    let refused = bench.tell(id, Command::Cancel).await;
    assert!(matches!(refused, Err(OrdersError::NoOwner)));
    let another = new_order(bench.orders.new_id(START), &bench.sealer);
    let refused = bench.orders.create(another).await;
    assert!(matches!(refused, Err(OrdersError::NoOwner)));
    let report = bench.report("4200000001", START);
    bench.tell(id, Command::Capture(report)).await.unwrap();
    assert_eq!(bench.stored(id).await.order.status(), Status::Paid);
}

#[test]
async fn a_shard_that_another_instance_holds_is_not_taken() {
    let bench = Bench::new();
    let locks = Arc::new(MemoryLocks::new());
    locks.acquire("shard:0", 99, Duration::from_mins(1)).await;
    let refused = joined(&bench, 1, locks.clone()).await;
    assert!(matches!(refused, Err(JoinError::Held { shard: 0 })));
    locks.release("shard:0", 99).await;
    assert!(joined(&bench, 1, locks).await.is_ok());
}
