//! Very many deadlines at one instant (F37), and a provider that does not keep up (F20): everything
//! ends, at the pace that the account allows, and whoever waits is served meanwhile. In virtual time.
//!
//! `ENROLLPAY_HERD=50000` runs the size of a province's exam; it prints what it measured.

#![expect(clippy::unwrap_used, reason = "a test ends where its house is broken")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use enrollpay::actors::Budget;
use enrollpay::order::{
    CaptureReport, CodeMode, Command, OrderId, Product, RefundId, Status, TradeStanding, Wallet,
};
use enrollpay::store::Store as _;
use tokio::time::Instant;
use ulid::Ulid;

use crate::actors::bank::{Asked, Bank};
use crate::actors::bench::{AMOUNT, FIRST, START};
use crate::actors::virtual_house::{House, for_each, number_of, run};

/// What the provider grants a second.
const QUERIES: usize = 300;
const CLOSES: usize = 150;
const LIMITS: [(Asked, usize); 2] = [(Asked::Query, QUERIES), (Asked::Close, CLOSES)];
const DEADLINE_MS: u64 = 170_000;

fn budget() -> Budget {
    Budget {
        // The scans before the deadline are not what is measured.
        orders: 100_000,
        queries: 300,
        closes: 150,
        ..Budget::default()
    }
}

fn wechat() -> Bank {
    Bank::new("school-wechat", Wallet::Wechat, &LIMITS)
}

fn size(usual: usize) -> usize {
    std::env::var("ENROLLPAY_HERD").map_or(usual, |size| size.parse().unwrap())
}

fn deadline() -> enrollpay::order::Timestamp {
    START.plus_ms(i64::try_from(DEADLINE_MS).unwrap())
}

/// Orders whose trades are made and whose attempts end with the deadline; it is 75 s before that.
async fn claimed(house: &House, count: usize) -> Vec<OrderId> {
    /// Payers who press in half a second: what the account's calls at once can carry.
    const PRESS_TOGETHER: usize = 400;
    let ids = for_each(0..count, |_| house.order(CodeMode::Unified, deadline())).await;
    for_each(&ids, |id| house.show(*id, None)).await;
    let waves = u64::try_from(ids.len().div_ceil(PRESS_TOGETHER)).unwrap();
    house.until(DEADLINE_MS - 80_000 - waves * 500).await;
    for wave in ids.chunks(PRESS_TOGETHER) {
        for_each(wave, |id| house.claim_and_press(*id, Product::WechatJsapi)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    house.until(DEADLINE_MS - 75_000).await;
    for id in &ids {
        let stored = house.stored(*id).await;
        let trade = stored.order.attempts[0].trade.as_ref().unwrap();
        assert!(matches!(trade.standing, TradeStanding::Made { .. }));
    }
    ids
}

async fn count(house: &House, status: Status) -> u64 {
    let counts = house.gate.count_by_status().await.unwrap();
    counts
        .iter()
        .filter(|(found, _)| *found == status)
        .map(|(_, count)| count)
        .sum()
}

/// Waits until so many orders have their end; what was seen of the house meanwhile.
async fn ended(house: &House, all: usize, patience: Duration) -> Seen {
    let from = Instant::now();
    let mut seen = Seen::default();
    loop {
        let observed = house.shards.observe();
        seen.calls = seen.calls.max(observed.calls);
        seen.queue = seen.queue.max(observed.threads[0].queue);
        seen.waiting = seen.waiting.max(observed.waiting);
        let ended = count(house, Status::Closed).await + count(house, Status::Paid).await;
        if ended == all as u64 {
            seen.took = from.elapsed();
            return seen;
        }
        assert!(
            from.elapsed() < patience,
            "{ended} of {all} ended in {patience:?}; {observed:?}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The most that was seen.
#[derive(Debug, Default)]
struct Seen {
    calls: usize,
    queue: usize,
    waiting: usize,
    took: Duration,
}

/// Commits of an order after its deadline.
async fn commits_after_deadline(house: &House, id: OrderId) -> u64 {
    let timeline = house.gate.timeline(id).await.unwrap();
    let version = |entry: &&enrollpay::store::TimelineEntry| entry.at < deadline();
    let before = timeline.iter().filter(version).map(|entry| entry.version);
    timeline.last().unwrap().version - before.max().unwrap()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let word = line.unwrap().split_whitespace().nth(1).unwrap();
    word.parse().unwrap()
}

#[test]
fn a_herd_of_closings_keeps_the_accounts_pace_and_holds_up_no_callback() {
    run(async {
        let count = size(1_500);
        let house = House::new(vec![wechat()], budget());
        let ids = claimed(&house, count).await;
        let bank = &house.banks[0];
        // Some have paid, and their notices come in the middle of it.
        let payers: Vec<_> = ids.iter().step_by(50).copied().collect();
        house.until(DEADLINE_MS - 1_500).await;
        for id in &payers {
            bank.pay(number_of(*id), house.now());
        }
        house.until(DEADLINE_MS).await;
        let resident = resident_kib();
        let began = std::time::Instant::now();

        let orders = house.orders.clone();
        let notices: Vec<_> = payers.iter().map(|id| (*id, house.now())).collect();
        let pause = Duration::from_secs(count as u64 / 300) / u32::try_from(payers.len()).unwrap();
        let gate = std::sync::Arc::clone(&house.gate);
        let callbacks = actix::spawn(async move {
            let mut slowest = 0;
            for (id, at) in notices {
                let report = CaptureReport {
                    attempt: FIRST,
                    account: enrollpay::order::AccountId::new("school-wechat"),
                    application: "wx8888888888888888".into(),
                    transaction_id: format!("tx-{}", number_of(id)).into(),
                    amount: AMOUNT,
                    currency: "CNY".into(),
                    succeeded_at: at.minus_ms(1_500),
                    surplus_refund: RefundId::from_ulid(Ulid(u128::from(id.ulid()) + 1)),
                };
                let before = gate.groups.lock().unwrap().len();
                let sent = Instant::now();
                let request = crate::actors::bench::request(Command::Capture(report));
                let reply = orders.tell(id, request).await.unwrap();
                assert_eq!(reply.stored.order.status(), Status::Paid);
                assert!(
                    sent.elapsed() < Duration::from_millis(100),
                    "{:?}",
                    sent.elapsed()
                );
                slowest = slowest.max(gate.groups.lock().unwrap().len() - before);
                tokio::time::sleep(pause).await;
            }
            slowest
        });

        // Each asks twice and closes once.
        let calls = count as u64 * 3;
        let ideal = Duration::from_secs(calls) / u32::try_from(QUERIES + CLOSES).unwrap();
        let seen = ended(&house, count, ideal * 2 + Duration::from_mins(1)).await;
        let flushes = callbacks.await.unwrap();
        let most = bank.most_in_a_second.lock().unwrap().clone();
        let grew = resident_kib().saturating_sub(resident);
        println!(
            "{count} closings: {:.1} s virtual (calls / limit: {:.1} s), {:.1} s real; at most \
             {} queries and {} closes a second; {} limited; at most {} calls, {} transactions waiting; \
             {} callbacks, each within {flushes} flushes; {grew} KiB more",
            seen.took.as_secs_f64(),
            ideal.as_secs_f64(),
            began.elapsed().as_secs_f64(),
            most[&Asked::Query],
            most[&Asked::Close],
            bank.limited.load(Ordering::SeqCst),
            seen.calls,
            seen.queue,
            payers.len(),
        );
        assert!(
            seen.took < ideal.mul_f64(1.2) + Duration::from_secs(10),
            "{:?}",
            seen.took
        );
        assert!(most[&Asked::Query] <= QUERIES && most[&Asked::Close] <= CLOSES);
        assert_eq!(bank.limited.load(Ordering::SeqCst), 0);
        assert!(seen.calls <= 1_000, "{} calls at once", seen.calls);
        assert!(seen.queue <= 1_000, "{} transactions at once", seen.queue);
        // At most a step of its own order that was being committed, and then its own turn.
        assert!(flushes <= 4, "a callback waited for {flushes} flushes");
        assert!(grew < 200_000, "{grew} KiB");

        for (index, id) in ids.iter().enumerate() {
            let stored = house.stored(*id).await;
            let (status, most) = if index % 50 == 0 {
                (Status::Paid, 6)
            } else {
                (Status::Closed, 5)
            };
            assert_eq!(stored.order.status(), status);
            let commits = commits_after_deadline(&house, *id).await;
            assert!(
                commits <= most,
                "{commits} commits: {:?}",
                house.gate.timeline(*id).await
            );
        }
        let told = house
            .gate
            .outbox_due(
                house.now(),
                &enrollpay::store::Owned::All,
                count * 2,
                count * 2,
            )
            .await
            .unwrap();
        assert_eq!(told.len(), count, "one event each: closed or paid");
    });
}

#[test]
fn codes_that_nobody_claimed_end_at_once_and_ask_nobody() {
    run(async {
        let all = size(4_000) * 2 / 5;
        let house = House::new(vec![wechat()], budget());
        let ids = for_each(0..all, |_| house.order(CodeMode::Unified, deadline())).await;
        for_each(&ids, |id| house.show(*id, None)).await;
        house.until(DEADLINE_MS).await;
        let seen = ended(&house, all, Duration::from_secs(30)).await;
        println!(
            "{all} unclaimed codes: {:.1} s virtual",
            seen.took.as_secs_f64()
        );
        assert_eq!(house.banks[0].asked(), 0);
        assert!(seen.took <= Duration::from_secs(5), "{:?}", seen.took);
        for id in &ids {
            assert_eq!(commits_after_deadline(&house, *id).await, 1);
        }
    });
}

#[test]
fn whoever_waits_goes_before_a_herd() {
    run(async {
        let house = House::new(vec![wechat()], budget());
        // Its deadline is later: it lives while the others close.
        let later = house
            .order(CodeMode::Unified, deadline().plus_ms(3_600_000))
            .await;
        let ids = claimed(&house, 1_500).await;
        house.until(DEADLINE_MS).await;
        house.show(later, None).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            house.shards.observe().waiting > 500,
            "{:?}",
            house.shards.observe()
        );

        // A press, a payment, and a question by somebody else, in the thick of it.
        let mut news = house.orders.watch(later);
        let pressed = Instant::now();
        house.claim_and_press(later, Product::WechatJsapi).await;
        news.wait_for(|version| *version >= 5).await.unwrap();
        assert!(
            pressed.elapsed() < Duration::from_millis(500),
            "{:?}",
            pressed.elapsed()
        );
        for id in [later, ids[ids.len() - 1]] {
            // Of the herd's: entered in time at the password page, and told by nobody.
            house.banks[0].pay(number_of(id), house.now().min(deadline()));
            let mut news = house.orders.watch(id);
            let asked = Instant::now();
            house.tell(id, Command::Query).await.unwrap();
            while house.stored(id).await.order.status() != Status::Paid {
                news.changed().await.unwrap();
            }
            assert!(
                asked.elapsed() < Duration::from_millis(500),
                "{:?}",
                asked.elapsed()
            );
        }
        let observed = house.shards.observe();
        assert!(observed.waiting > 300, "the herd was over: {observed:?}");
    });
}

#[test]
fn a_provider_that_is_silent_is_asked_by_single_probes_until_it_answers() {
    run(async {
        let house = House::new(vec![wechat()], budget());
        let ids = claimed(&house, 500).await;
        let bank = &house.banks[0];
        house.until(DEADLINE_MS - 3_000).await;
        bank.silent.store(true, Ordering::SeqCst);
        house.until(DEADLINE_MS + 30_000).await;
        // By now those under way at the beginning were given up.
        let before = bank.asked();
        house.until(DEADLINE_MS + 300_000).await;
        let probes = bank.asked() - before;
        assert!(
            (10..=60).contains(&probes),
            "{probes} calls in 270 s of silence"
        );
        assert_eq!(count(&house, Status::Closed).await, 0);

        bank.silent.store(false, Ordering::SeqCst);
        let seen = ended(&house, ids.len(), Duration::from_mins(1)).await;
        println!(
            "500 closings after an outage: {:.1} s",
            seen.took.as_secs_f64()
        );
        for id in &ids {
            let commits = commits_after_deadline(&house, *id).await;
            assert!(commits <= 12, "{commits} commits");
        }
    });
}

#[test]
fn a_provider_that_grants_less_than_we_thought_slows_us_down() {
    run(async {
        let grants = [(Asked::Query, 20), (Asked::Close, 20)];
        let bank = Bank::new("school-wechat", Wallet::Wechat, &grants);
        let house = House::new(vec![bank], budget());
        let ids = claimed(&house, 300).await;
        house.until(DEADLINE_MS).await;
        let (asked, limited) = (
            house.banks[0].asked(),
            house.banks[0].limited.load(Ordering::SeqCst),
        );
        ended(&house, ids.len(), Duration::from_mins(10)).await;
        let asked = house.banks[0].asked() - asked;
        let limited = house.banks[0].limited.load(Ordering::SeqCst) - limited;
        println!("300 closings at a twentieth of the budget: {asked} calls, {limited} refused");
        for id in &ids {
            assert_eq!(house.stored(*id).await.order.status(), Status::Closed);
        }
    });
}

#[test]
fn one_accounts_herd_holds_up_no_other_account() {
    run(async {
        let alipay = Bank::new("school-alipay", Wallet::Alipay, &LIMITS);
        let house = House::new(vec![wechat(), alipay], budget());
        let ids = for_each(0..1_000, |_| house.order(CodeMode::Unified, deadline())).await;
        for_each(&ids, |id| house.show(*id, None)).await;
        house.until(DEADLINE_MS - 80_000).await;
        let (few, many) = ids.split_at(20);
        for_each(few, |id| house.claim_and_press(*id, Product::AlipayCreate)).await;
        for_each(many, |id| house.claim_and_press(*id, Product::WechatJsapi)).await;
        house.banks[0].silent.store(true, Ordering::SeqCst);
        house.until(DEADLINE_MS + 3_000).await;
        for id in few {
            assert_eq!(house.stored(*id).await.order.status(), Status::Closed);
        }
        assert_eq!(count(&house, Status::Closed).await, 20);
    });
}
