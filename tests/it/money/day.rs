//! A whole day at both providers, with their own files and our connectors between: each piece of trouble
//! found, none invented. `ENROLLPAY_DAY=100000` is a large one; its figures are printed.

use std::sync::Arc;
use std::time::Instant;

use enrollpay::clock::Clock;
use enrollpay::locks::memory::MemoryLocks;
use enrollpay::order::{AttemptNumber, CodeMode, OutTradeNo, Timestamp, Wallet};
use enrollpay::provider::{Provider, Providers, alipay as alipay_side, beijing, wechatpay};
use enrollpay::random::{Random, SystemRandom};
use enrollpay::reconcile::{Parts, Reconciler};
use enrollpay::simulator::keys::DemoKeys;
use enrollpay::simulator::{self, Booking, Difference, Handle, Options, Plant, Simulator};
use enrollpay::store::reconciliation::{Field, RowKind, RunBy, RunState, Verdict};

use crate::reconcile::bench::{Bench, TODAY, alipay, wechat};
use crate::reconcile::day::{Expected, Life, found_is_planted, id, lived, peak, refund_id, rows};
use crate::store::sample;

const AMOUNT: i64 = 14_000;
const BACK: i64 = 1_000;
const WALLETS: [Wallet; 2] = [Wallet::Wechat, Wallet::Alipay];

/// What is wrong with an order's day: one in a hundred of each, at each provider.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The bill has no line.
    Missing,
    /// Paid, and nobody told us.
    Untold,
    /// A line of somebody else's number.
    Foreign,
    Amount,
    /// A second line under our number.
    Twice,
    /// `WeChat` Pay's lines alone say how a refund stands, and whose application it was.
    RefundStatus,
    Application,
    /// Refunded, both agree.
    Refunded,
    RefundUntold,
    RefundByHand,
    RefundMissing,
}

impl Trouble {
    const fn of(n: u32, wallet: Wallet) -> Self {
        match (n / 2 % 100, wallet) {
            (1, _) => Self::Missing,
            (2, _) => Self::Untold,
            (3, _) => Self::Foreign,
            (4, _) => Self::Amount,
            (5, _) => Self::Twice,
            (6, Wallet::Wechat) => Self::RefundStatus,
            (7, Wallet::Wechat) => Self::Application,
            (8, _) => Self::Refunded,
            (9, _) => Self::RefundUntold,
            (10, _) => Self::RefundByHand,
            (11, _) => Self::RefundMissing,
            _ => Self::None,
        }
    }
}

const fn wallet_of(n: u32) -> Wallet {
    if n.is_multiple_of(2) {
        Wallet::Wechat
    } else {
        Wallet::Alipay
    }
}

const fn theirs(wallet: Wallet) -> simulator::Wallet {
    match wallet {
        Wallet::Wechat => simulator::Wallet::Wechat,
        Wallet::Alipay => simulator::Wallet::Alipay,
    }
}

fn number(n: u32) -> String {
    let attempt = AttemptNumber::FIRST;
    OutTradeNo {
        order: id(n),
        attempt,
    }
    .to_string()
}

/// As the provider of this order writes it, from a series of its own.
fn transaction(n: u32, series: u32) -> String {
    match wallet_of(n) {
        Wallet::Wechat => format!("42000{series:05}20261120{n:010}"),
        Wallet::Alipay => format!("2026112022001{series:05}{n:010}"),
    }
}

struct There {
    simulator: Simulator,
    keys: DemoKeys,
    providers: Providers,
}

/// Both providers on a port, by the gateway's clock, and a connector for each.
fn providers(clock: &Arc<dyn Clock>) -> There {
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let keys = simulator::keys::generate(clock.as_ref(), random.as_ref()).unwrap();
    let options = Options {
        wallet_browsers: false,
        ..Options::new(
            "127.0.0.1:0".parse().unwrap(),
            keys.wechat_options(),
            keys.alipay_options(),
        )
    };
    let simulator = simulator::start(options, Arc::clone(clock), Arc::clone(&random)).unwrap();
    let origin = simulator.origin().to_owned();
    let by_wechat = wechatpay::Settings {
        id: wechat(),
        mchid: keys.wechat.mchid.clone(),
        appid: keys.wechat.appid.clone(),
        app_secret: Some(keys.wechat.app_secret.clone().into()),
        api_v3_key: keys.wechat.api_v3_key.clone().into(),
        private_key: keys.wechat.merchant_private_key_pem.clone().into(),
        certificate_serial: keys.wechat.merchant_certificate_serial.clone(),
        platform_public_key_id: Some(keys.wechat.platform_public_key_id.clone()),
        platform_public_key: Some(keys.wechat.platform_public_key_pem.clone()),
        base_url: origin.clone(),
        oauth_base_url: origin.clone(),
        openid_base_url: origin.clone(),
        mode: CodeMode::Unified,
        h5: false,
        payer_identity: false,
        timeout: wechatpay::Settings::TIMEOUT,
    };
    let by_alipay = alipay_side::Settings {
        id: alipay(),
        app_id: keys.alipay.app_id.clone(),
        seller_id: Some(keys.alipay.seller_id.clone()),
        private_key: keys.alipay.app_private_key_pem.clone().into(),
        alipay_public_key: Some(keys.alipay.alipay_public_key_pem.clone()),
        app_cert: None,
        alipay_cert: None,
        alipay_root_cert: None,
        base_url: format!("{origin}/gateway.do"),
        oauth_base_url: origin,
        mode: CodeMode::Unified,
        wap: false,
        payer_identity: false,
        precreate_product_code: alipay_side::Settings::PRECREATE_PRODUCT_CODE.to_owned(),
        timeout: alipay_side::Settings::TIMEOUT,
    };
    let connected: [Arc<dyn Provider>; 2] = [
        Arc::new(
            wechatpay::Connector::new(by_wechat, Arc::clone(clock), Arc::clone(&random)).unwrap(),
        ),
        Arc::new(alipay_side::Connector::new(by_alipay, Arc::clone(clock), random).unwrap()),
    ];
    There {
        simulator,
        keys,
        providers: Providers::new(connected),
    }
}

/// Our side of these orders, into the store.
async fn live(bench: &Bench, keys: &DemoKeys, some: &[u32], at: impl Fn(u32) -> Timestamp) {
    for step in 0..2 {
        let group = some.iter().map(|n| {
            let wallet = wallet_of(*n);
            let trouble = Trouble::of(*n, wallet);
            let life = Life {
                wallet,
                application: match wallet {
                    Wallet::Wechat => &keys.wechat.appid,
                    Wallet::Alipay => &keys.alipay.app_id,
                },
                transaction: transaction(*n, 0),
                captured: trouble != Trouble::Untold,
                refund: match trouble {
                    Trouble::Refunded | Trouble::RefundStatus | Trouble::RefundMissing => {
                        Some(true)
                    }
                    Trouble::RefundUntold => Some(false),
                    _ => None,
                },
            };
            let write = lived(*n, at(*n), &life).into_iter().nth(step).unwrap();
            sample::alone(write)
        });
        for verdict in bench.gateway.store.commit(group.collect()).await.unwrap() {
            verdict.unwrap();
        }
    }
}

/// The provider's side of one order.
fn booked(n: u32, at: Timestamp) -> Booking {
    let wallet = wallet_of(n);
    let booking =
        Booking::new(theirs(wallet), &number(n), AMOUNT, at).transaction(&transaction(n, 0));
    match Trouble::of(n, wallet) {
        Trouble::Refunded | Trouble::RefundStatus | Trouble::RefundUntold => {
            booking.refunded(&refund_number(n), BACK, at.plus_ms(60_000))
        }
        Trouble::RefundByHand => {
            booking.refunded(&format!("CONSOLE-{n}"), BACK, at.plus_ms(60_000))
        }
        _ => booking,
    }
}

/// A merchant's refund goes by its own id.
fn refund_number(n: u32) -> String {
    refund_id(n).to_string()
}

/// Makes the bill wrong, and says what the rows must be.
async fn plant(handle: &Handle, n: u32, expected: &mut [Expected; 2]) {
    use RowKind::{FeeFlow, Payment, Refund, RefundFlow};
    use Verdict::{Different, Matched, OnlyHere, OnlyThere};
    let wallet = wallet_of(n);
    let expected = &mut expected[usize::from(wallet == Wallet::Alipay)];
    let mut expect = |order: Option<u32>, kind, verdict, field, repaired| {
        *expected
            .entry((order.map(id), kind, verdict, field, repaired))
            .or_default() += 1;
    };
    let day = TODAY.to_string();
    let wrong = |what| Plant::new(theirs(wallet), &day, what).payment(&number(n));
    let extra = |number: &str| Plant {
        transaction_id: Some(transaction(n, 1)),
        ..Plant::new(theirs(wallet), &day, Difference::Extra)
            .payment(number)
            .amount(AMOUNT)
    };
    let trouble = Trouble::of(n, wallet);
    let planted = match trouble {
        Trouble::Missing => Some(wrong(Difference::Missing)),
        Trouble::Amount => Some(wrong(Difference::Amount).amount(AMOUNT - 1)),
        Trouble::RefundStatus => {
            let line = Plant::new(theirs(wallet), &day, Difference::Status);
            Some(line.refund(&number(n), &refund_number(n)).value("FAIL"))
        }
        Trouble::Application => Some(wrong(Difference::Appid)),
        Trouble::Foreign => Some(extra(&format!("OTHER{n}"))),
        Trouble::Twice => Some(extra(&number(n))),
        _ => None,
    };
    if let Some(planted) = planted {
        handle.plant(planted).await.unwrap();
    }
    match trouble {
        Trouble::Missing => return expect(Some(n), Payment, OnlyHere, None, false),
        Trouble::Untold => return expect(Some(n), Payment, Matched, None, true),
        Trouble::Amount => {
            return expect(Some(n), Payment, Different, Some(Field::Amount), false);
        }
        Trouble::Application => {
            return expect(Some(n), Payment, Different, Some(Field::Application), false);
        }
        _ => expect(Some(n), Payment, Matched, None, false),
    }
    match trouble {
        Trouble::Foreign => expect(None, Payment, OnlyThere, None, false),
        Trouble::Twice => expect(Some(n), Payment, Different, Some(Field::Transaction), false),
        Trouble::Refunded => expect(Some(n), Refund, Matched, None, false),
        Trouble::RefundStatus => {
            expect(Some(n), Refund, Different, Some(Field::Status), false);
            // It failed, says the bill; and yet money moved.
            expect(None, RefundFlow, OnlyThere, None, false);
            expect(None, FeeFlow, OnlyThere, None, false);
        }
        Trouble::RefundUntold => expect(Some(n), Refund, Matched, None, true),
        Trouble::RefundByHand => expect(Some(n), Refund, OnlyThere, None, false),
        Trouble::RefundMissing => expect(Some(n), Refund, OnlyHere, None, false),
        _ => {}
    }
}

#[actix_web::test]
async fn every_planted_difference_at_both_providers_is_found() {
    let orders: u32 =
        std::env::var("ENROLLPAY_DAY").map_or(2_000, |orders| orders.parse().unwrap());
    let bench = Bench::start().await;
    let clock = Arc::clone(&bench.gateway.deps.clock);
    let There {
        simulator,
        keys,
        providers,
    } = providers(&clock);
    let handle = simulator.handle();
    let morning = beijing::midnight(TODAY).plus_ms(8 * 3_600_000);
    let at = |n: u32| morning.plus_ms(i64::from(n) * 43_200 / i64::from(orders) * 1_000);

    let began = Instant::now();
    let all: Vec<u32> = (0..orders).collect();
    for some in all.chunks(2_000) {
        live(&bench, &keys, some, at).await;
        let bookings = some.iter().map(|n| booked(*n, at(*n)));
        handle.book(bookings).await.unwrap();
    }
    println!(
        "{orders} orders made on both sides in {:?}",
        began.elapsed()
    );
    bench.tomorrow_at(11);
    let began = Instant::now();
    let mut expected = [Expected::new(), Expected::new()];
    for n in &all {
        plant(&handle, *n, &mut expected).await;
    }
    println!(
        "{} differences planted in {:?}",
        handle.planted().len(),
        began.elapsed()
    );

    let reconciler = Reconciler::new(Parts {
        store: bench.gateway.store.clone(),
        providers,
        orders: bench.gateway.deps.orders.clone(),
        locks: Arc::new(MemoryLocks::new()),
        clock,
        random: Arc::new(SystemRandom),
        lease: std::time::Duration::from_mins(1),
    });
    for (wallet, expected) in WALLETS.into_iter().zip(expected) {
        let account = if wallet == Wallet::Wechat {
            wechat()
        } else {
            alipay()
        };
        let (before, began) = (peak(), Instant::now());
        let run = reconciler
            .run(&account, TODAY, RunBy::Operator)
            .await
            .unwrap();
        println!(
            "{account}: {} rows in {:.1} s; VmHWM {} MiB before, {} MiB after",
            run.total().rows(),
            began.elapsed().as_secs_f64(),
            before / 1024,
            peak() / 1024,
        );
        assert_eq!(run.state, RunState::Finished, "{:?}", run.why);
        assert_eq!(run.why, None, "the flows were compared too");
        found_is_planted(account.as_str(), &rows(&bench, &run).await, &expected);

        let began = Instant::now();
        let again = reconciler
            .run(&account, TODAY, RunBy::Operator)
            .await
            .unwrap();
        println!("{account}: again in {:.1} s", began.elapsed().as_secs_f64());
        assert_eq!(again.total().repaired, 0);
        assert_eq!(again.total().matched, run.total().matched);
        assert_eq!(again.total().differences(), run.total().differences());
    }
    simulator.stop().await;
    bench.gateway.stop().await;
}
