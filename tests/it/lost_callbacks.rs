//! Payments of which nobody tells us (F26, contract §5): found by asking, within 40 s while the attempt
//! is live or closing, whatever the product and whenever the payer pays.

#![expect(clippy::unwrap_used, reason = "a test ends where its house is broken")]

use std::time::Duration;

use enrollpay::actors::Budget;
use enrollpay::order::{CodeMode, OrderId, Phase, Product, Status, Timestamp, Wallet};

use serde_json::json;

use crate::actors::bank::Bank;
use crate::actors::bench::{QR_MS, START};
use crate::actors::virtual_house::{House, for_each, number_of, run};
use crate::support::student::Wallet as Phone;
use crate::support::{Pair, World, on_either_pair};

// The others count virtual seconds over the embedded store: a server's pass by its own clock.
on_either_pair!(a_silent_provider_is_found_out_in_real_time);

/// From a capture to `paid`.
const FOUND_WITHIN_MS: i64 = 40_000;
/// Between two questions, and a margin for the calls themselves.
const GAP: Duration = Duration::from_millis(30_500);
const LIFE_MS: u64 = QR_MS as u64;

#[derive(Clone, Copy, Debug)]
struct Case {
    product: Product,
    /// When the payer enters the password, in milliseconds after the scan (native: the showing).
    pays_at: u64,
    /// When the payer opens the password page, if that is much earlier.
    opens_at: Option<u64>,
}

/// Every product, paid every few seconds of the attempt's life and on both sides of its end; those that
/// may be at the password page when the time is up, minutes later too.
fn cases(mode: CodeMode) -> Vec<Case> {
    let products: &[Product] = match mode {
        CodeMode::Unified => &[
            Product::WechatJsapi,
            Product::WechatH5,
            Product::AlipayCreate,
            Product::AlipayWap,
        ],
        CodeMode::Native => &[Product::WechatNative, Product::AlipayPrecreate],
    };
    let mut cases = Vec::new();
    for product in products {
        let during = (1..LIFE_MS).step_by(4_700);
        let about_the_end = [0_u64, 1, 100, 900].map(|before| LIFE_MS - 1 - before);
        for pays_at in during.chain(about_the_end) {
            cases.push(Case {
                product: *product,
                pays_at,
                opens_at: None,
            });
        }
        for late in [1, 3_000, 20_000, 29_000, 70_000, 200_000] {
            cases.push(Case {
                product: *product,
                pays_at: LIFE_MS + late,
                opens_at: Some(LIFE_MS - 5_000),
            });
        }
    }
    cases
}

fn house() -> House {
    let banks = [
        ("school-wechat", Wallet::Wechat),
        ("school-alipay", Wallet::Alipay),
    ];
    let banks = banks.map(|(account, wallet)| Bank::new(account, wallet, &[]));
    House::new(banks.into(), Budget::default())
}

fn bank_of(house: &House, product: Product) -> &Bank {
    let wallet = product.wallet();
    let mut banks = house.banks.iter();
    banks
        .find(|bank| {
            use enrollpay::provider::Provider as _;
            bank.account().wallet == wallet
        })
        .unwrap()
}

/// Plays one case to its end; when the order was first seen paid.
async fn play(house: &House, case: Case) -> (OrderId, Timestamp, Timestamp) {
    let late = START.plus_ms(86_400_000);
    let native = case.product.is_native();
    let mode = if native {
        CodeMode::Native
    } else {
        CodeMode::Unified
    };
    let id = house.order(mode, late).await;
    let wallet = case.product.wallet();
    house.show(id, native.then_some(wallet)).await;
    if !native {
        house.claim_and_press(id, case.product).await;
    }
    let bank = bank_of(house, case.product);
    let number = number_of(id);
    if let Some(opens_at) = case.opens_at {
        house.until(opens_at).await;
        bank.open(number);
    }
    house.until(case.pays_at).await;
    let paid_at = house.now();
    bank.pay(number, paid_at);
    let mut news = house.orders.watch(id);
    let found = tokio::time::timeout(Duration::from_mins(2), async {
        while house.stored(id).await.order.status() != Status::Paid {
            news.changed().await.unwrap();
        }
    });
    assert!(found.await.is_ok(), "{case:?} was never found");
    (id, paid_at, house.now())
}

fn all_are_found(mode: CodeMode) {
    run(async move {
        let house = house();
        let cases = cases(mode);
        let found = for_each(&cases, |case| play(&house, *case)).await;
        let mut slowest = 0;
        for (case, (id, paid_at, found_at)) in cases.iter().zip(found) {
            let took = found_at.since(paid_at);
            assert!(took <= FOUND_WITHIN_MS, "{case:?}: {took} ms");
            slowest = slowest.max(took);
            let asked = bank_of(&house, case.product).queries_of(number_of(id));
            for pair in asked.windows(2) {
                assert!(
                    pair[1] - pair[0] <= GAP,
                    "{case:?}: {:?}",
                    pair[1] - pair[0]
                );
            }
            let stored = house.stored(id).await;
            assert!(matches!(
                stored.order.attempts[0].phase,
                Phase::Succeeded { .. }
            ));
        }
        println!(
            "{} payments without a callback: found within {slowest} ms",
            cases.len()
        );
    });
}

#[test]
fn every_payment_of_our_own_codes_is_found_without_a_callback() {
    all_are_found(CodeMode::Unified);
}

#[test]
fn every_payment_of_the_providers_codes_is_found_without_a_callback() {
    all_are_found(CodeMode::Native);
}

#[test]
fn a_trade_that_nobody_pays_is_asked_about_until_the_last_word() {
    run(async {
        let house = house();
        for product in [Product::WechatJsapi, Product::AlipayWap] {
            let id = house
                .order(CodeMode::Unified, START.plus_ms(86_400_000))
                .await;
            house.show(id, None).await;
            let scanned = tokio::time::Instant::now();
            house.claim_and_press(id, product).await;
            let mut news = house.orders.watch(id);
            while house.stored(id).await.order.live_attempt().is_some() {
                news.changed().await.unwrap();
            }
            let asked = bank_of(&house, product).queries_of(number_of(id));
            let seconds: Vec<_> = asked.iter().map(|at| (*at - scanned).as_secs()).collect();
            assert_eq!(
                seconds[..8],
                [5, 15, 30, 60, 90, 120, 150, 180],
                "{product:?}"
            );
            // A link lives on for 30 s; a trade is closed and asked about once more.
            let most = if product == Product::AlipayWap { 13 } else { 9 };
            assert!(
                (9..=most).contains(&seconds.len()),
                "{product:?}: {seconds:?}"
            );
        }
    });
}

/// The same with processes and in real time: the providers' notices are all lost.
async fn a_silent_provider_is_found_out_in_real_time(on: Pair) {
    let world = World::on(on, &[]).await;
    for operation in ["wechat.notice", "alipay.notice"] {
        let lost = json!({ "operation": operation, "fault": "lost" });
        world.simulators.fault(lost).await;
    }
    let by_wechat = world.ask(Phone::Wechat).await;
    let by_alipay = world.ask(Phone::Alipay).await;
    let paid_at = tokio::time::Instant::now();
    world.simulators.pay(&by_wechat.trade).await;
    world.simulators.pay(&by_alipay.trade).await;
    for asked in [&by_wechat, &by_alipay] {
        world.merchant.until_status(&asked.order, "paid").await;
    }
    assert!(paid_at.elapsed() < Duration::from_secs(40));
    assert!(
        world.simulators.hits("lost").await >= 2,
        "no notice was lost"
    );
    world.simulators.heal().await;
    world.finish().await;
}
