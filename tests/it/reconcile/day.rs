//! One whole day of orders with trouble of every kind among them: each piece of it found, none invented.
//! `ENROLLPAY_DAY=100000` runs a large one and prints its figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use enrollpay::order::{
    AccountId, AttemptId, AttemptNumber, CaptureReport, Claim, Command, Event, Fen, MerchantId,
    Offer, Order, OrderId, OutTradeNo, Outcome, PayerHash, Product, RefundAnswer, RefundId, Terms,
    Timestamp, Wallet, decide, evolve,
};
use enrollpay::provider::beijing;
use enrollpay::provider::bill::{LineStanding, TradeLine};
use enrollpay::reconcile::matching::{Day, compare};
use enrollpay::store::reconciliation::{
    Field, Row, RowFilter, RowKind, Run, RunBy, RunState, Verdict, Window,
};
use enrollpay::store::{OrderWrite, Transaction, Write};
use ulid::Ulid;

use super::bench::{AMOUNT, Bench, TODAY, alipay, payment, refund, wechat};
use crate::store::sample;

/// One order's day, and what is wrong with it: one in a hundred of each.
const ONLY_HERE: u32 = 1;
const MISSING: u32 = 2;
const FOREIGN: u32 = 3;
const AMOUNT_DIFFERS: u32 = 4;
const TWICE: u32 = 5;
const REFUNDED: u32 = 6;
const REFUND_UNHEARD: u32 = 7;
const REFUND_FOREIGN: u32 = 8;
const REFUND_ONLY_HERE: u32 = 9;

pub fn id(n: u32) -> OrderId {
    OrderId::from_ulid(Ulid((1 << 90) + u128::from(n)))
}

fn number(n: u32) -> OutTradeNo {
    OutTradeNo {
        order: id(n),
        attempt: AttemptNumber::FIRST,
    }
}

fn transaction(n: u32) -> String {
    format!("4200001234202611{n:012}")
}

pub fn refund_id(n: u32) -> RefundId {
    RefundId::from_ulid(Ulid((1 << 91) + u128::from(n)))
}

/// What our books have of one order.
pub struct Life<'a> {
    pub wallet: Wallet,
    pub application: &'a str,
    pub transaction: String,
    /// Somebody told us of the payment.
    pub captured: bool,
    /// A part was asked back, and whether we heard the end of it.
    pub refund: Option<bool>,
}

impl Life<'_> {
    fn account(&self) -> AccountId {
        match self.wallet {
            Wallet::Wechat => wechat(),
            Wallet::Alipay => alipay(),
        }
    }
}

/// The order as the heart makes it, in two steps: made, and everything else.
pub fn lived(n: u32, at: Timestamp, life: &Life<'_>) -> [OrderWrite; 2] {
    let mut order = Order::created(
        id(n),
        Terms {
            offers: vec![Offer {
                wallet: life.wallet,
                account: life.account(),
                application: life.application.into(),
            }],
            merchant: MerchantId::from_ulid(Ulid(1)),
            pay_before: None,
            ..sample::order(1).terms
        },
        at,
    );
    let mut snapshot = sample::snapshot(1);
    snapshot.merchant_order_no = format!("DAY-{n}");
    let creation = sample::creation_of(order.clone(), snapshot);
    let (attempt, payer) = (AttemptNumber::FIRST, PayerHash(1));
    let mut commands = vec![
        Command::StartAttempt {
            id: AttemptId::from_ulid(id(n).ulid()),
            wallet: None,
        },
        Command::Claim {
            attempt,
            payer,
            product: match life.wallet {
                Wallet::Wechat => Product::WechatJsapi,
                Wallet::Alipay => Product::AlipayCreate,
            },
        },
        Command::Pay { attempt, payer },
    ];
    if life.captured {
        commands.push(Command::Capture(CaptureReport {
            attempt,
            account: life.account(),
            application: life.application.into(),
            transaction_id: life.transaction.as_str().into(),
            amount: AMOUNT,
            currency: "CNY".into(),
            succeeded_at: at,
            surplus_refund: refund_id(n),
        }));
    }
    if life.refund.is_some() {
        commands.push(Command::Refund {
            refund: refund_id(n),
            merchant_refund_no: format!("R-{n}").into(),
            amount: Fen::new(1_000),
        });
    }
    if life.refund == Some(true) {
        commands.push(Command::RefundAnswer {
            refund: refund_id(n),
            round: 0,
            answer: RefundAnswer::Succeeded,
        });
    }
    let mut events: Vec<Event> = Vec::new();
    for command in commands {
        let Outcome::Applied { events: new, .. } = decide(&order, &command, at) else {
            panic!("{command:?} of {order:?}");
        };
        order = evolve(order, &new, at);
        events.extend(new);
    }
    let claimed = events.iter().any(|event| {
        matches!(event, Event::AttemptClaimed { claim: Claim { payer: one, .. }, .. } if *one == payer)
    });
    assert!(claimed);
    let mut step = sample::step(&creation.order, events, |state| {
        *state = order;
        state.version = 2;
    });
    for entry in &mut step.events {
        entry.at = at;
    }
    [creation, step]
}

/// The same, by the trouble of its number.
fn lived_by_number(n: u32, at: Timestamp) -> [OrderWrite; 2] {
    let trouble = n % 100;
    let life = Life {
        wallet: Wallet::Wechat,
        application: "app-school-wechat",
        transaction: transaction(n),
        captured: trouble != MISSING,
        refund: matches!(trouble, REFUNDED | REFUND_UNHEARD | REFUND_ONLY_HERE)
            .then_some(trouble != REFUND_UNHEARD),
    };
    lived(n, at, &life)
}

/// What each row must say: whose, about what, and how often.
pub type Expected = BTreeMap<(Option<OrderId>, RowKind, Verdict, Option<Field>, bool), u32>;

#[derive(Default)]
struct Planted {
    lines: Vec<TradeLine>,
    expected: Expected,
}

impl Planted {
    fn line(&mut self, line: TradeLine) {
        let number = u32::try_from(self.lines.len()).unwrap() + 1;
        self.lines.push(TradeLine {
            line: number,
            ..line
        });
    }

    fn expect(
        &mut self,
        order: Option<u32>,
        kind: RowKind,
        verdict: Verdict,
        field: Option<Field>,
        repaired: bool,
    ) {
        let key = (order.map(id), kind, verdict, field, repaired);
        *self.expected.entry(key).or_default() += 1;
    }

    fn plant(&mut self, n: u32, at: Timestamp) {
        use RowKind::{Payment, Refund};
        use Verdict::{Different, Matched, OnlyHere, OnlyThere};
        let trade = number(n).to_string();
        let paid = payment(0, &trade, &transaction(n), at);
        let back = |number: &str| refund(0, &trade, &transaction(n), number, 1_000, at);
        let ours = refund_id(n).to_string();
        match n % 100 {
            ONLY_HERE => self.expect(Some(n), Payment, OnlyHere, None, false),
            MISSING => {
                self.line(paid);
                self.expect(Some(n), Payment, Matched, None, true);
            }
            AMOUNT_DIFFERS => {
                self.line(TradeLine {
                    amount: Fen::new(13_999),
                    ..paid
                });
                self.expect(Some(n), Payment, Different, Some(Field::Amount), false);
            }
            trouble => {
                self.line(paid.clone());
                self.expect(Some(n), Payment, Matched, None, false);
                match trouble {
                    FOREIGN => {
                        let foreign = format!("OTHER-{n}");
                        self.line(payment(0, &foreign, &foreign, at));
                        self.expect(None, Payment, OnlyThere, None, false);
                    }
                    TWICE => {
                        self.line(paid);
                        let field = Some(Field::Duplicate);
                        self.expect(Some(n), Payment, OnlyThere, field, false);
                    }
                    REFUNDED => {
                        self.line(TradeLine {
                            standing: LineStanding::Processing,
                            ..back(&ours)
                        });
                        self.expect(Some(n), Refund, Matched, None, false);
                    }
                    REFUND_UNHEARD => {
                        self.line(back(&ours));
                        self.expect(Some(n), Refund, Matched, None, true);
                    }
                    REFUND_FOREIGN => {
                        self.line(back(&format!("CONSOLE-{n}")));
                        self.expect(Some(n), Refund, OnlyThere, None, false);
                    }
                    REFUND_ONLY_HERE => self.expect(Some(n), Refund, OnlyHere, None, false),
                    _ => {}
                }
            }
        }
    }
}

/// Everything that was planted is in the result, and nothing else.
pub fn found_is_planted(whose: &str, rows: &[Row], expected: &Expected) {
    let mut found = Expected::new();
    for row in rows {
        let key = (row.order, row.kind, row.verdict, row.field, row.repaired);
        *found.entry(key).or_default() += 1;
    }
    let missed: Vec<_> = expected
        .iter()
        .filter(|(key, count)| found.get(key) != Some(count))
        .take(5)
        .collect();
    let invented: Vec<_> = found
        .iter()
        .filter(|(key, count)| expected.get(key) != Some(count))
        .take(5)
        .collect();
    assert!(
        missed.is_empty() && invented.is_empty(),
        "{whose}: missed: {missed:?}\ninvented: {invented:?}"
    );
}

pub async fn rows(bench: &Bench, run: &Run) -> Vec<Row> {
    let mut filter = RowFilter {
        account: run.account.clone(),
        date: run.date,
        run: run.run,
        merchant: None,
        verdict: None,
        after: 0,
        limit: 2_000,
    };
    let mut all = Vec::new();
    loop {
        let page = bench.gateway.store.reconciliation_rows(&filter).await;
        let page = page.unwrap();
        let Some(last) = page.last() else {
            return all;
        };
        filter.after = last.number;
        all.extend(page);
    }
}

/// The most memory this process has held, in KiB.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.unwrap().trim().trim_end_matches("kB").trim();
    line.parse().unwrap()
}

/// Commits one small thing after another until it is told to stop: how long each took, sorted.
async fn commit_beside(bench: &Bench, stop: &std::cell::Cell<bool>) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.get() {
        let began = Instant::now();
        let write = Write::Setting {
            name: "beside".to_owned(),
            value: took.len().to_string(),
        };
        let transaction = Transaction {
            order: None,
            writes: vec![write],
        };
        let verdicts = bench.gateway.store.commit(vec![transaction]).await;
        verdicts.unwrap().remove(0).unwrap();
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort();
    took
}

fn percentiles(took: &[Duration]) -> String {
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    format!(
        "p50 {:?}, p99 {:?}, most {:?} of {}",
        at(50),
        at(99),
        at(100),
        took.len()
    )
}

#[actix_web::test]
async fn every_planted_difference_of_a_day_is_found() {
    let orders: u32 =
        std::env::var("ENROLLPAY_DAY").map_or(5_000, |orders| orders.parse().unwrap());
    let bench = Bench::start().await;
    let morning = beijing::midnight(TODAY).plus_ms(8 * 3_600_000);
    let at = |n: u32| morning.plus_ms(i64::from(n) * 43_200_000 / i64::from(orders));
    let mut planted = Planted::default();
    let began = Instant::now();
    let all: Vec<u32> = (0..orders).collect();
    for some in all.chunks(2_000) {
        for step in 0..2 {
            let group = some.iter().map(|n| {
                let write = lived_by_number(*n, at(*n)).into_iter().nth(step).unwrap();
                sample::alone(write)
            });
            for verdict in bench.gateway.store.commit(group.collect()).await.unwrap() {
                verdict.unwrap();
            }
        }
        for n in some {
            planted.plant(*n, at(*n));
        }
    }
    println!("{orders} orders made in {:?}", began.elapsed());
    let Planted { lines, expected } = planted;
    bench.bill(lines.clone());
    bench.tomorrow_at(11);

    // The comparison alone.
    let window = Window {
        from: beijing::midnight(TODAY),
        until: beijing::midnight(TODAY.tomorrow().unwrap()),
    };
    let captures = bench
        .gateway
        .store
        .captures_between(&wechat(), window, None, usize::MAX)
        .await;
    let captures = captures.unwrap();
    let day = Day {
        window,
        application: "app-school-wechat",
    };
    let began = Instant::now();
    let compared = compare(&day, &lines, &captures, &[]);
    let alone = began.elapsed();
    println!(
        "{} lines against {} captures compared in {alone:?}",
        lines.len(),
        captures.len()
    );
    drop((captures, compared, lines));

    let stop = std::cell::Cell::new(false);
    let quiet = {
        let wait = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            stop.set(true);
        };
        tokio::join!(commit_beside(&bench, &stop), wait).0
    };
    stop.set(false);
    let before = peak();
    let began = Instant::now();
    let work = async {
        let run = bench
            .reconciler
            .run(&wechat(), TODAY, RunBy::Operator)
            .await;
        stop.set(true);
        run.unwrap()
    };
    let (run, beside) = tokio::join!(work, commit_beside(&bench, &stop));
    let took = began.elapsed();
    println!(
        "run in {took:?}, {} rows; peak memory {} MiB before, {} MiB after",
        run.total().rows(),
        before / 1024,
        peak() / 1024
    );
    println!("a commit while it ran: {}", percentiles(&beside));
    println!("a commit before it:    {}", percentiles(&quiet));
    assert_eq!(run.state, RunState::Finished, "{:?}", run.why);
    found_is_planted("the day", &rows(&bench, &run).await, &expected);

    let began = Instant::now();
    let again = bench
        .reconciler
        .run(&wechat(), TODAY, RunBy::Operator)
        .await;
    let again = again.unwrap();
    println!("run again in {:?}", began.elapsed());
    let repaired = run.total().repaired;
    assert_eq!(repaired, u64::from(orders / 100) * 2);
    assert_eq!(again.total().repaired, 0);
    assert_eq!(again.total().matched, run.total().matched);
    assert_eq!(again.total().differences(), run.total().differences());
    bench.gateway.stop().await;
}
