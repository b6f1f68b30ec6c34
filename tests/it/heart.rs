//! The heart: each row of the contract's tables at its edges, and properties over any commands at
//! any times. Every commit made here passes the same invariant checks as production's.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is how they fail"
)]

mod receipts;
mod refunds;

use enrollpay::order::attempt::{Closing, ClosingCause, ClosingStep, EndReason};
use enrollpay::order::event::Attention;
use enrollpay::order::evolve::replay;
use enrollpay::order::invariants::{Books, check, check_at_rest, check_step};
use enrollpay::order::refunds::{Refund, RefundStanding};
use enrollpay::order::state::{CaptureStanding, MismatchedField};
use enrollpay::order::{
    AccountId, Answer, Attempt, AttemptId, AttemptNumber, CaptureReport, CloseAnswer, CloseReason,
    CodeMode, Command, Effect, Event, Fen, LatePayment, MerchantId, Offer, OperatorHash, Order,
    OrderId, Outcome, PayerHash, Phase, Product, QueryAnswer, RefundAnswer, RefundId, Refusal,
    SettleBy, Settlement, Status, Terms, Timestamp, TradeAnswer, TradeStanding, Wallet, decide,
    evolve,
};
use proptest::prelude::*;
use ulid::Ulid;

/// Every order here begins at this instant; times in tests are milliseconds after it.
const START: Timestamp = Timestamp::from_seconds(1_616_000_000);
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const AMOUNT: Fen = Fen::new(14_000);
const STUDENT: PayerHash = PayerHash(1);
const STRANGER: PayerHash = PayerHash(2);

fn offer(wallet: Wallet) -> Offer {
    Offer {
        wallet,
        account: AccountId::new(format!("school-{}", wallet.as_str())),
        application: format!("app-{}", wallet.as_str()).into(),
    }
}

fn terms() -> Terms {
    Terms {
        merchant: MerchantId::from_ulid(Ulid(1)),
        amount: AMOUNT,
        pay_before: Some(at(60 * MINUTE)),
        late_payment: LatePayment::Refund,
        mode: CodeMode::Unified,
        offers: vec![offer(Wallet::Wechat), offer(Wallet::Alipay)],
        qr_ms: 180 * SECOND,
    }
}

const fn at(ms: i64) -> Timestamp {
    START.plus_ms(ms)
}

fn number(number: u16) -> AttemptNumber {
    AttemptNumber::new(number).unwrap()
}

const FIRST: AttemptNumber = AttemptNumber::FIRST;

/// One order on a table: commands in, commits checked and kept.
#[derive(Clone)]
struct Bench {
    order: Order,
    log: Vec<(Timestamp, Vec<Event>)>,
    now: Timestamp,
    starts: u128,
}

impl Bench {
    fn new(terms: Terms) -> Self {
        let id = OrderId::from_ulid(Ulid(7));
        Self {
            order: Order::created(id, terms.clone(), START),
            log: vec![(START, vec![Event::OrderCreated { terms }])],
            now: START,
            starts: 0,
        }
    }

    fn at(&mut self, ms: i64) -> &mut Self {
        self.now = at(ms);
        self
    }

    fn run(&mut self, command: &Command) -> Outcome {
        let outcome = decide(&self.order, command, self.now);
        if let Outcome::Applied { events, .. } = &outcome {
            assert!(!events.is_empty(), "a commit without an event: {command:?}");
            let after = evolve(self.order.clone(), events, self.now);
            check_step(&self.order, &after)
                .unwrap_or_else(|broken| panic!("{broken}\n{command:?}\n{events:?}\n{after:#?}"));
            self.order = after;
            self.log.push((self.now, events.clone()));
        }
        outcome
    }

    /// Runs a command that must be applied; its effects.
    #[track_caller]
    fn apply(&mut self, command: &Command) -> Vec<Effect> {
        match self.run(command) {
            Outcome::Applied { effects, .. } => effects,
            other => panic!("{command:?} was not applied: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&mut self, command: &Command) -> Refusal {
        match self.run(command) {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{command:?} was not refused: {other:?}"),
        }
    }

    #[track_caller]
    fn already(&mut self, command: &Command) -> (Answer, Vec<Effect>) {
        match self.run(command) {
            Outcome::Already(answer, effects) => (answer, effects),
            other => panic!("{command:?} was not a repeat: {other:?}"),
        }
    }

    #[track_caller]
    fn tick(&mut self) -> Vec<Effect> {
        self.apply(&Command::Tick)
    }

    fn starting(&mut self, wallet: Option<Wallet>) -> Command {
        self.starts += 1;
        Command::StartAttempt {
            id: AttemptId::from_ulid(Ulid(self.starts)),
            wallet,
        }
    }

    #[track_caller]
    fn start(&mut self) -> &mut Self {
        let command = self.starting(None);
        self.apply(&command);
        self
    }

    #[track_caller]
    fn claim(&mut self, product: Product) -> &mut Self {
        let attempt = self.last().number;
        self.apply(&claim(attempt, STUDENT, product));
        self
    }

    /// Start at 0 s, claim and pay at 1 s: the order call is on its way.
    #[track_caller]
    fn paying(product: Product) -> Self {
        Self::paying_under(terms(), product)
    }

    #[track_caller]
    fn paying_under(terms: Terms, product: Product) -> Self {
        let mut bench = Self::new(terms);
        if product.is_native() {
            bench.order.terms.mode = CodeMode::Native;
            bench.log[0].1[0] = Event::OrderCreated {
                terms: bench.order.terms.clone(),
            };
            let start = bench.starting(Some(product.wallet()));
            let effects = bench.apply(&start);
            assert_eq!(effects, [Effect::MakeTrade { attempt: FIRST }]);
        } else {
            bench.start().at(SECOND).claim(product);
            let effects = bench.apply(&pay(FIRST));
            assert_eq!(effects, [Effect::MakeTrade { attempt: FIRST }]);
        }
        bench
    }

    /// The same with the trade made at 2 s.
    #[track_caller]
    fn made(product: Product) -> Self {
        let mut bench = Self::paying(product);
        bench.at(2 * SECOND).apply(&made(FIRST));
        bench
    }

    fn last(&self) -> &Attempt {
        self.order.attempts.last().unwrap()
    }

    fn phase(&self) -> &Phase {
        &self.last().phase
    }

    #[track_caller]
    fn closing(&self) -> Closing {
        match self.phase() {
            Phase::Closing(closing) => *closing,
            other => panic!("not closing: {other:?}"),
        }
    }

    fn capture(&self, attempt: AttemptNumber, transaction: u128, ms: i64) -> CaptureReport {
        let trade = self
            .order
            .attempt(attempt)
            .and_then(|attempt| attempt.trade.as_ref());
        let wallet = trade.map_or(Wallet::Wechat, |trade| trade.product.wallet());
        let offer = offer(wallet);
        CaptureReport {
            attempt,
            account: offer.account,
            application: offer.application,
            transaction_id: format!("tx-{transaction}").into(),
            amount: AMOUNT,
            currency: "CNY".into(),
            succeeded_at: at(ms),
            // Two wallets may give one number: still two refunds.
            surplus_refund: RefundId::from_ulid(Ulid(match wallet {
                Wallet::Wechat => 1_000 + transaction,
                Wallet::Alipay => 1_500 + transaction,
            })),
        }
    }

    fn replayed(&self) -> Option<Order> {
        let commits = self.log.iter().map(|(at, events)| (*at, events.as_slice()));
        replay(self.order.id, commits)
    }
}

const fn claim(attempt: AttemptNumber, payer: PayerHash, product: Product) -> Command {
    Command::Claim {
        attempt,
        payer,
        product,
    }
}

fn issue(n: u8, issued_at: Option<Timestamp>) -> Command {
    Command::IssueReceipt {
        number: format!("6501{n}").into(),
        url: format!("https://czpj.example.gov.cn/{n}").into(),
        issued_at,
    }
}

const fn pay(attempt: AttemptNumber) -> Command {
    Command::Pay {
        attempt,
        payer: STUDENT,
    }
}

fn made(attempt: AttemptNumber) -> Command {
    let handle = "handle".into();
    Command::TradeAnswer {
        attempt,
        answer: TradeAnswer::Made { handle },
    }
}

const fn queried(attempt: AttemptNumber, answer: QueryAnswer) -> Command {
    Command::QueryAnswer { attempt, answer }
}

const fn closed(attempt: AttemptNumber, answer: CloseAnswer) -> Command {
    Command::CloseAnswer { attempt, answer }
}

const QUERY: Effect = Effect::QueryTrade { attempt: FIRST };
const CLOSE: Effect = Effect::CloseTrade { attempt: FIRST };
const MAKE: Effect = Effect::MakeTrade { attempt: FIRST };

// --- starting -------------------------------------------------------------------------------

#[test]
fn no_attempt_starts_in_the_last_two_minutes() {
    let mut bench = Bench::new(terms());
    let deadline = at(60 * MINUTE);
    let start = bench.starting(None);
    assert_eq!(
        bench.at(60 * MINUTE - 119 * SECOND).refused(&start),
        Refusal::DeadlinePassed {
            pay_before: deadline
        }
    );
    assert_eq!(
        bench.at(60 * MINUTE - 120 * SECOND + 1).refused(&start),
        Refusal::DeadlinePassed {
            pay_before: deadline
        }
    );
    bench.at(60 * MINUTE - 120 * SECOND).apply(&start);
    assert_eq!(bench.last().expires_at, deadline, "the deadline ends it");
    assert_eq!(bench.order.status(), Status::Paying);
}

#[test]
fn the_paid_path() {
    let mut bench = Bench::made(Product::WechatJsapi);
    assert_eq!(bench.last().status(), "scanned");
    let report = bench.capture(FIRST, 1, 3 * SECOND);
    let effects = bench
        .at(4 * SECOND)
        .apply(&Command::Capture(report.clone()));
    assert_eq!(effects, []);
    assert_eq!(bench.order.status(), Status::Paid);
    assert_eq!(bench.last().status(), "succeeded");
    assert_eq!(bench.order.next_due_at(), None, "nothing is left to do");
    for repeat in [
        Command::Capture(report.clone()),
        queried(FIRST, QueryAnswer::Paid(report)),
    ] {
        assert_eq!(bench.already(&repeat), (Answer::Same, vec![]));
    }
    let again = bench.starting(None);
    assert_eq!(bench.refused(&again), Refusal::AlreadyPaid);
    assert_eq!(bench.refused(&Command::Cancel), Refusal::AlreadyPaid);
    assert_eq!(bench.replayed().as_ref(), Some(&bench.order));
}

#[test]
fn query_close_query_then_expired() {
    let mut bench = Bench::made(Product::WechatJsapi);
    assert_eq!(bench.at(180 * SECOND).tick(), [QUERY]);
    assert_eq!(bench.order.status(), Status::Paying);
    assert_eq!(bench.apply(&queried(FIRST, QueryAnswer::Unpaid)), [CLOSE]);
    assert_eq!(bench.apply(&closed(FIRST, CloseAnswer::Closed)), [QUERY]);
    assert_eq!(
        bench.last().status(),
        "closing",
        "only the last query ends it"
    );
    assert_eq!(bench.apply(&queried(FIRST, QueryAnswer::Closed)), []);
    assert_eq!(bench.last().status(), "expired");
    assert_eq!(bench.order.status(), Status::Unpaid);
}

#[test]
fn a_repeated_start_is_the_same_attempt() {
    let mut bench = Bench::new(terms());
    let start = bench.starting(None);
    bench.apply(&start);
    assert_eq!(bench.already(&start), (Answer::Same, vec![]));
    bench.at(180 * SECOND).tick();
    assert_eq!(bench.last().status(), "expired");
    assert_eq!(bench.already(&start), (Answer::Same, vec![]));
    assert_eq!(bench.order.attempts.len(), 1);
}

#[test]
fn a_code_that_nobody_pays_is_superseded_at_once() {
    for claimed in [false, true] {
        let mut bench = Bench::new(terms());
        bench.start();
        if claimed {
            bench.claim(Product::AlipayCreate);
        }
        bench.at(10 * SECOND).start();
        assert_eq!(bench.order.attempts.len(), 2);
        assert!(matches!(
            bench.order.attempts[0].phase,
            Phase::Cancelled {
                reason: EndReason::Superseded,
                ..
            }
        ));
        assert_eq!(bench.log.len(), if claimed { 4 } else { 3 }, "one commit");
        assert_eq!(
            bench.refused(&claim(FIRST, STUDENT, Product::WechatJsapi)),
            Refusal::AttemptSuperseded
        );
        assert_eq!(bench.last().expires_at, at(190 * SECOND));
    }
}

#[test]
fn a_code_that_may_be_paid_is_ended_at_the_provider_first() {
    let mut bench = Bench::made(Product::WechatJsapi);
    let start = bench.starting(None);
    assert_eq!(bench.at(10 * SECOND).apply(&start), [QUERY]);
    assert_eq!(
        bench.closing().cause,
        ClosingCause::Ended(EndReason::Superseded)
    );
    assert_eq!(bench.order.attempts.len(), 1, "no second code yet");
    assert_eq!(
        bench.refused(&start),
        Refusal::AttemptClosing {
            retry_at: at(20 * SECOND)
        }
    );
    assert_eq!(bench.refused(&pay(FIRST)), Refusal::AttemptSuperseded);
    bench.apply(&queried(FIRST, QueryAnswer::Unpaid));
    bench.apply(&closed(FIRST, CloseAnswer::Closed));
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    bench.apply(&start);
    assert_eq!(bench.last().number, number(2));
}

#[test]
fn a_wallet_must_be_offered_and_native_mode_needs_one() {
    let mut one_wallet = terms();
    one_wallet.offers.truncate(1);
    let not_offered = Refusal::WalletNotOffered {
        wallet: Wallet::Alipay,
    };
    let mut bench = Bench::new(one_wallet.clone());
    let start = bench.starting(Some(Wallet::Alipay));
    assert_eq!(bench.refused(&start), not_offered);
    bench.start();
    assert_eq!(
        bench.refused(&claim(FIRST, STUDENT, Product::AlipayCreate)),
        not_offered
    );
    assert_eq!(
        bench.refused(&claim(FIRST, STUDENT, Product::WechatNative)),
        Refusal::WalletNotOffered {
            wallet: Wallet::Wechat
        }
    );

    one_wallet.mode = CodeMode::Native;
    let mut bench = Bench::new(one_wallet);
    let start = bench.starting(None);
    assert_eq!(bench.refused(&start), Refusal::WalletRequired);
    let start = bench.starting(Some(Wallet::Alipay));
    assert_eq!(bench.refused(&start), not_offered);
    let start = bench.starting(Some(Wallet::Wechat));
    assert_eq!(bench.apply(&start), [MAKE], "the code is the provider's");
    assert_eq!(bench.order.attempts[0].native, Some(Wallet::Wechat));
    assert!(matches!(
        bench.refused(&claim(FIRST, STUDENT, Product::WechatJsapi)),
        Refusal::WalletNotOffered { .. }
    ));
}

#[test]
fn attempts_have_an_end() {
    let mut endless = terms();
    endless.pay_before = None;
    let mut bench = Bench::new(endless);
    for _ in 0..1023 {
        // Without the bench's checks: they are quadratic in the attempts.
        let start = bench.starting(None);
        let Outcome::Applied { events, .. } = decide(&bench.order, &start, bench.now) else {
            panic!("start {} refused", bench.starts);
        };
        bench.order = evolve(bench.order, &events, bench.now);
    }
    let start = bench.starting(None);
    assert_eq!(bench.refused(&start), Refusal::TooManyAttempts);
    assert!(bench.last().is_open(), "the last one is not superseded");
}

// --- claiming and paying --------------------------------------------------------------------

#[test]
fn no_claim_in_the_last_75_seconds_before_the_deadline() {
    let deadline = 60 * MINUTE;
    let scan = claim(FIRST, STUDENT, Product::WechatJsapi);
    for (before, taken) in [(75_000, true), (74_999, false)] {
        let mut bench = Bench::new(terms());
        bench.at(deadline - 120 * SECOND).start();
        bench.at(deadline - before);
        if taken {
            bench.apply(&scan);
        } else {
            let until = at(deadline);
            assert_eq!(bench.refused(&scan), Refusal::TooLate { until });
            assert_eq!(bench.last().status(), "shown");
        }
    }
}

#[test]
fn no_claim_in_the_last_moments_of_an_attempt() {
    let scan = claim(FIRST, STUDENT, Product::WechatJsapi);
    // The last 15 s, or the last third of a code that lives for 30 s.
    for (qr_ms, last) in [(180_000, 15_000), (30_000, 10_000), (45_000, 15_000)] {
        let mut short = terms();
        short.qr_ms = qr_ms;
        let mut bench = Bench::new(short);
        bench.start().at(qr_ms - last + 1);
        let until = at(qr_ms);
        assert_eq!(bench.refused(&scan), Refusal::TooLate { until });
        bench.at(qr_ms - last).apply(&scan);
        bench.at(qr_ms - 1);
        assert_eq!(bench.already(&scan).0, Answer::Same, "the payer may return");
        bench.at(qr_ms);
        assert_eq!(bench.refused(&scan), Refusal::AttemptExpired);
    }
}

#[test]
fn the_first_claim_binds() {
    let mut bench = Bench::new(terms());
    bench.start().at(SECOND).claim(Product::WechatJsapi);
    let stranger = claim(FIRST, STRANGER, Product::AlipayCreate);
    assert_eq!(bench.refused(&stranger), Refusal::AlreadyScanned);
    let elsewhere = claim(FIRST, STUDENT, Product::AlipayCreate);
    assert_eq!(bench.already(&elsewhere).0, Answer::Same);
    let kept = bench.last().claim.unwrap();
    assert_eq!((kept.payer, kept.product), (STUDENT, Product::WechatJsapi));
    for command in [
        Command::Pay {
            attempt: FIRST,
            payer: STRANGER,
        },
        Command::Release {
            attempt: FIRST,
            payer: STRANGER,
        },
    ] {
        assert_eq!(bench.refused(&command), Refusal::NotClaimed);
    }
    assert_eq!(bench.refused(&pay(number(2))), Refusal::UnknownAttempt);
}

#[test]
fn a_released_code_is_gone() {
    let release = Command::Release {
        attempt: FIRST,
        payer: STUDENT,
    };
    let mut bench = Bench::new(terms());
    bench.start().claim(Product::WechatJsapi);
    assert_eq!(bench.apply(&release), []);
    assert_eq!(bench.last().status(), "cancelled");
    assert_eq!(bench.already(&release), (Answer::Same, vec![]));
    assert_eq!(
        bench.refused(&claim(FIRST, STRANGER, Product::WechatJsapi)),
        Refusal::AttemptCancelled
    );

    let mut bench = Bench::made(Product::AlipayCreate);
    assert_eq!(bench.apply(&release), [QUERY]);
    assert_eq!(
        bench.closing().cause,
        ClosingCause::Ended(EndReason::Released)
    );
    assert_eq!(bench.already(&release), (Answer::Same, vec![]));
}

#[test]
fn a_trade_ends_with_its_attempt_but_wechat_gets_a_minute() {
    for (product, expected) in [
        (Product::WechatJsapi, 227 * SECOND),
        (Product::WechatH5, 227 * SECOND),
        (Product::AlipayCreate, 180 * SECOND),
        (Product::AlipayWap, 180 * SECOND),
    ] {
        let mut bench = Bench::new(terms());
        bench.start().at(100 * SECOND).claim(product);
        assert_eq!(bench.at(167 * SECOND).apply(&pay(FIRST)), [MAKE]);
        let trade = bench.last().trade.as_ref().unwrap();
        assert_eq!(trade.time_expire, at(expected), "{product:?}");
    }
    let early = Bench::paying(Product::WechatJsapi);
    let trade = early.last().trade.as_ref().unwrap();
    assert_eq!(trade.time_expire, at(180 * SECOND));
}

#[test]
fn the_order_call_is_repeated_only_while_a_minute_is_left() {
    let mut bench = Bench::paying(Product::WechatJsapi);
    bench.at(120 * SECOND);
    assert_eq!(bench.already(&pay(FIRST)), (Answer::Same, vec![MAKE]));
    bench.at(120 * SECOND + 1);
    assert_eq!(bench.already(&pay(FIRST)), (Answer::Same, vec![]));

    let mut bench = Bench::made(Product::WechatJsapi);
    assert_eq!(bench.already(&pay(FIRST)), (Answer::Same, vec![]));
    let second = Command::TradeAnswer {
        attempt: FIRST,
        answer: TradeAnswer::Made {
            handle: "another".into(),
        },
    };
    assert_eq!(bench.already(&second).0, Answer::Stale);
    assert!(matches!(
        &bench.last().trade.as_ref().unwrap().standing,
        TradeStanding::Made { handle, .. } if &**handle == "handle"
    ));
    bench.at(180 * SECOND);
    assert_eq!(bench.refused(&pay(FIRST)), Refusal::AttemptExpired);
}

#[test]
fn a_refused_trade_fails_its_attempt_at_once() {
    let refuse = Command::TradeAnswer {
        attempt: FIRST,
        answer: TradeAnswer::Refused {
            code: "PARAM_ERROR".into(),
        },
    };
    let mut bench = Bench::paying(Product::WechatJsapi);
    assert_eq!(bench.apply(&refuse), []);
    assert_eq!(bench.last().status(), "failed");
    assert_eq!(bench.already(&refuse).0, Answer::Stale);
    assert_eq!(bench.refused(&pay(FIRST)), Refusal::AttemptFailed);
    bench.start();

    // While the attempt is closing, too; and then the order's end can come.
    let mut bench = Bench::paying(Product::WechatJsapi);
    bench.apply(&Command::Cancel);
    bench.apply(&refuse);
    assert_eq!(bench.order.status(), Status::Closed);
}

#[test]
fn a_handle_that_comes_while_closing_is_recorded_and_not_handed_out() {
    let mut bench = Bench::paying(Product::WechatJsapi);
    bench.at(180 * SECOND).tick();
    assert_eq!(bench.apply(&made(FIRST)), []);
    assert_eq!(bench.last().status(), "closing");
    assert!(matches!(
        bench.last().trade.as_ref().unwrap().standing,
        TradeStanding::Made { .. }
    ));
    assert_eq!(bench.refused(&pay(FIRST)), Refusal::AttemptExpired);
}

// --- asking ---------------------------------------------------------------------------------

#[test]
fn scheduled_queries_follow_the_claim() {
    let mut bench = Bench::made(Product::WechatJsapi);
    let mut asked = Vec::new();
    while bench.last().is_open() {
        let due = bench.order.next_due_at().unwrap();
        bench.now = due;
        if bench.tick() == [QUERY] && bench.last().is_open() {
            asked.push(due.since(at(SECOND)) / SECOND);
        }
    }
    assert_eq!(asked, [5, 15, 30, 60, 90, 120, 150]);
    assert_eq!(bench.now, at(180 * SECOND));

    // A trade intended late is not asked about for the points before it; a late sweep asks once.
    let mut bench = Bench::new(terms());
    bench.start().at(0).claim(Product::AlipayCreate);
    assert_eq!(
        bench.order.next_due_at(),
        Some(at(180 * SECOND)),
        "no trade"
    );
    assert_eq!(bench.already(&Command::Query).0, Answer::Same);
    bench.at(40 * SECOND).apply(&pay(FIRST));
    assert_eq!(bench.order.next_due_at(), Some(at(60 * SECOND)));
    assert_eq!(bench.at(100 * SECOND).tick(), [QUERY]);
    assert_eq!(bench.order.next_due_at(), Some(at(120 * SECOND)));

    // A code that lives longer goes on being asked about.
    let mut long = terms();
    long.qr_ms = 10 * MINUTE;
    let mut bench = Bench::paying_under(long, Product::WechatJsapi);
    bench.at(200 * SECOND).tick();
    assert_eq!(bench.order.next_due_at(), Some(at(211 * SECOND)));
}

#[test]
fn a_native_code_is_asked_for_again_when_its_answer_is_missing() {
    let mut bench = Bench::paying(Product::WechatNative);
    assert_eq!(bench.at(5 * SECOND).tick(), [QUERY], "it may still come");
    assert_eq!(bench.at(15 * SECOND).tick(), [QUERY, MAKE]);
    assert_eq!(bench.at(150 * SECOND).tick(), [QUERY], "too late for it");
    let mut bench = Bench::made(Product::WechatNative);
    assert_eq!(bench.at(15 * SECOND).tick(), [QUERY]);
}

#[test]
fn queries_asked_for_share_one_answer_in_two_seconds() {
    let mut bench = Bench::made(Product::WechatJsapi);
    assert_eq!(bench.at(4 * SECOND).apply(&Command::Query), [QUERY]);
    bench.at(6 * SECOND - 1);
    assert_eq!(
        bench.already(&Command::Query),
        (Answer::AskedJustNow, vec![])
    );
    assert_eq!(bench.at(6 * SECOND).apply(&Command::Query), [QUERY]);
    assert_eq!(
        bench.order.next_due_at(),
        Some(at(8 * SECOND)),
        "the schedule keeps the distance, too"
    );
    bench.at(180 * SECOND).tick();
    assert_eq!(bench.at(183 * SECOND).apply(&Command::Query), [QUERY]);
}

// --- the expiry table -----------------------------------------------------------------------

#[test]
fn what_was_never_ordered_expires_at_once() {
    for claimed in [false, true] {
        let mut bench = Bench::new(terms());
        bench.start();
        if claimed {
            bench.claim(Product::WechatJsapi);
        }
        bench.at(180 * SECOND - 1);
        assert_eq!(bench.already(&Command::Tick).0, Answer::NothingDue);
        assert_eq!(bench.at(180 * SECOND).tick(), [], "no provider call");
        assert_eq!(bench.last().status(), "expired");
        assert_eq!(bench.order.status(), Status::Unpaid);
    }
}

#[test]
fn an_order_call_without_an_answer_at_wechat() {
    for product in [
        Product::WechatJsapi,
        Product::WechatNative,
        Product::WechatH5,
    ] {
        let mut bench = Bench::paying(product);
        assert_eq!(bench.at(180 * SECOND).tick(), [QUERY]);
        assert_eq!(
            bench.apply(&queried(FIRST, QueryAnswer::NotFound)),
            [CLOSE],
            "not found is not the last word"
        );
        for answer in [CloseAnswer::NotFound, CloseAnswer::Closed] {
            let mut bench = bench.clone();
            assert_eq!(bench.apply(&closed(FIRST, answer)), [QUERY]);
            assert_eq!(bench.apply(&queried(FIRST, QueryAnswer::NotFound)), []);
            assert_eq!(
                bench.already(&queried(FIRST, QueryAnswer::NotFound)).0,
                Answer::Stale
            );
            assert_eq!(bench.closing().step, ClosingStep::Confirm);
            assert_eq!(
                bench.closing().next_at,
                at(210 * SECOND),
                "again after the call's own timeout"
            );
            assert_eq!(bench.at(210 * SECOND).tick(), [QUERY]);
            bench.apply(&queried(FIRST, QueryAnswer::NotFound));
            assert_eq!(bench.last().status(), "expired", "{product:?}");
        }
    }
}

#[test]
fn an_order_call_that_lands_while_it_is_being_closed() {
    let mut bench = Bench::paying(Product::WechatJsapi);
    bench.at(180 * SECOND).tick();
    bench.apply(&queried(FIRST, QueryAnswer::NotFound));
    bench.apply(&closed(FIRST, CloseAnswer::Closed));
    bench.apply(&queried(FIRST, QueryAnswer::NotFound));
    bench.at(210 * SECOND).tick();
    let effects = bench.apply(&queried(FIRST, QueryAnswer::Unpaid));
    assert_eq!(effects, [], "a step taken back is slowed down");
    assert_eq!(bench.closing().step, ClosingStep::Close);
    bench.now = bench.order.next_due_at().unwrap();
    assert_eq!(bench.tick(), [CLOSE]);
    assert_eq!(bench.apply(&closed(FIRST, CloseAnswer::Closed)), [QUERY]);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    assert_eq!(bench.last().status(), "expired");
}

#[test]
fn an_order_call_without_an_answer_at_alipay() {
    let mut bench = Bench::paying(Product::AlipayCreate);
    assert_eq!(bench.at(180 * SECOND).tick(), [QUERY]);
    let absent = queried(FIRST, QueryAnswer::NotFound);
    assert_eq!(bench.apply(&absent), [], "there is nothing to close");
    let mut asked = 0;
    while bench.now < at(210 * SECOND) {
        assert_eq!(bench.last().status(), "closing");
        bench.now = bench.order.next_due_at().unwrap();
        assert_eq!(bench.tick(), [QUERY]);
        asked += 1;
        if bench.now < at(210 * SECOND) {
            bench.already(&absent);
        }
    }
    assert_eq!((asked, bench.now), (2, at(210 * SECOND)));
    bench.apply(&absent);
    assert_eq!(bench.last().status(), "expired");
}

#[test]
fn a_made_trade_never_ends_by_not_being_found() {
    for product in [
        Product::WechatJsapi,
        Product::WechatNative,
        Product::WechatH5,
        Product::AlipayCreate,
    ] {
        let mut bench = Bench::made(product);
        bench.at(180 * SECOND).tick();
        let mut stuck = 0;
        while bench.now < at(30 * MINUTE) {
            for answer in [
                queried(FIRST, QueryAnswer::NotFound),
                closed(FIRST, CloseAnswer::NotFound),
            ] {
                bench.run(&answer);
            }
            let due = bench.order.next_due_at().unwrap();
            assert!(due > bench.now && due <= bench.now.plus_ms(30 * SECOND));
            bench.now = due;
            bench.tick();
            assert_eq!(bench.last().status(), "closing", "{product:?}");
            stuck += bench
                .log
                .last()
                .unwrap()
                .1
                .iter()
                .filter(|event| {
                    matches!(
                        event,
                        Event::AttentionRaised {
                            why: Attention::ClosingStuck
                        }
                    )
                })
                .count();
        }
        assert_eq!(stuck, 1, "a person is called, once");
        // The provider's last word ends it all the same.
        bench.apply(&queried(FIRST, QueryAnswer::Closed));
        assert_eq!(bench.last().status(), "expired");
    }
}

#[test]
fn a_link_or_code_keeps_its_power_until_it_has_ended() {
    for product in [Product::AlipayWap, Product::AlipayPrecreate] {
        let absent = queried(FIRST, QueryAnswer::NotFound);
        let mut bench = Bench::made(product);
        // Cancelled after a minute: it stays payable all the same.
        assert_eq!(bench.at(60 * SECOND).apply(&Command::Cancel), [QUERY]);
        assert_eq!(bench.apply(&absent), []);
        while bench.now < at(210 * SECOND) {
            assert_eq!(bench.last().status(), "closing", "{product:?}");
            bench.run(&absent);
            let due = bench.order.next_due_at().unwrap();
            assert!(due <= bench.now.plus_ms(30 * SECOND), "asked now and then");
            bench.now = due;
            assert_eq!(bench.tick(), [QUERY]);
        }
        assert_eq!(bench.now, at(210 * SECOND), "time_expire + 30 s");
        bench.apply(&absent);
        assert_eq!(bench.last().status(), "cancelled");
        assert_eq!(bench.order.status(), Status::Closed);
    }
}

#[test]
fn a_link_that_somebody_opened_is_closed() {
    let mut bench = Bench::made(Product::AlipayPrecreate);
    let start = bench.starting(Some(Wallet::Wechat));
    assert_eq!(bench.at(60 * SECOND).apply(&start), [QUERY]);
    bench.apply(&queried(FIRST, QueryAnswer::NotFound));
    assert_eq!(
        bench.refused(&start),
        Refusal::AttemptClosing {
            retry_at: at(210 * SECOND)
        },
        "a code that nobody scanned keeps the other wallet waiting"
    );
    assert_eq!(bench.at(75 * SECOND).tick(), [QUERY]);
    assert_eq!(bench.apply(&queried(FIRST, QueryAnswer::Unpaid)), [CLOSE]);
    assert_eq!(bench.apply(&closed(FIRST, CloseAnswer::Closed)), [QUERY]);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    assert!(matches!(
        bench.phase(),
        Phase::Cancelled {
            reason: EndReason::Superseded,
            ..
        }
    ));
    let effects = bench.apply(&start);
    assert_eq!(effects, [Effect::MakeTrade { attempt: number(2) }]);
}

#[test]
fn a_stale_absence_does_not_end_a_link() {
    let mut bench = Bench::made(Product::AlipayWap);
    bench.at(180 * SECOND).tick();
    bench.apply(&queried(FIRST, QueryAnswer::NotFound));
    bench.at(195 * SECOND).tick();
    // Asked before the link's end, heard after it.
    bench.at(211 * SECOND);
    bench.already(&queried(FIRST, QueryAnswer::NotFound));
    assert_eq!(bench.last().status(), "closing");
    assert_eq!(bench.tick(), [QUERY]);
    bench.apply(&queried(FIRST, QueryAnswer::NotFound));
    assert_eq!(bench.last().status(), "expired");
}

#[test]
fn close_says_paid_query_until_it_is() {
    let mut bench = Bench::made(Product::WechatJsapi);
    bench.at(180 * SECOND).tick();
    bench.apply(&queried(FIRST, QueryAnswer::Unpaid));
    let effects = bench.apply(&closed(FIRST, CloseAnswer::AlreadyPaid));
    assert_eq!(effects, [QUERY], "at once");
    // A provider that contradicts itself is asked ever more slowly, and for as long as it takes.
    let mut calls = 0;
    while bench.now < at(10 * MINUTE) {
        bench.run(&queried(FIRST, QueryAnswer::Unpaid));
        bench.run(&closed(FIRST, CloseAnswer::AlreadyPaid));
        bench.now = bench.order.next_due_at().unwrap();
        calls += bench.tick().len();
    }
    assert!((10..30).contains(&calls), "{calls} rounds in seven minutes");
    let report = bench.capture(FIRST, 1, 179 * SECOND);
    bench.apply(&queried(FIRST, QueryAnswer::Paid(report)));
    assert_eq!(bench.order.status(), Status::Paid);
}

#[test]
fn a_close_that_comes_too_early_is_repeated_every_five_seconds() {
    let mut bench = Bench::made(Product::WechatJsapi);
    bench.at(180 * SECOND).tick();
    assert_eq!(bench.apply(&queried(FIRST, QueryAnswer::Unpaid)), [CLOSE]);
    let (mut closes, mut asked) = (0, bench.now);
    while bench.now < at(5 * MINUTE + 20 * SECOND) {
        bench.apply(&closed(FIRST, CloseAnswer::NotYet));
        assert_eq!(
            bench.already(&closed(FIRST, CloseAnswer::NotYet)).0,
            Answer::Stale
        );
        let due = bench.order.next_due_at().unwrap();
        assert_eq!(due, bench.now.plus_ms(5 * SECOND));
        bench.now = due;
        // A close does not tell of a payment: questions go on, at most 30 s apart (contract §5).
        if bench.tick() == [QUERY] {
            assert!(bench.now.since(asked) >= 20 * SECOND);
            asked = bench.now;
            assert_eq!(bench.apply(&queried(FIRST, QueryAnswer::Unpaid)), [CLOSE]);
        }
        assert!(bench.now.since(asked) <= 30 * SECOND);
        closes += 1;
    }
    assert_eq!(closes, 28);
    assert_eq!(bench.apply(&closed(FIRST, CloseAnswer::Closed)), [QUERY]);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    assert_eq!(bench.last().status(), "expired");
}

#[test]
fn an_answer_that_proves_nothing_backs_off_and_none_at_all_asks_again() {
    let mut bench = Bench::made(Product::WechatJsapi);
    bench.at(180 * SECOND).tick();
    assert_eq!(
        bench.order.next_due_at(),
        Some(at(190 * SECOND)),
        "no answer at all"
    );
    let mut pauses = Vec::new();
    for _ in 0..6 {
        bench.run(&queried(FIRST, QueryAnswer::Unknown));
        bench.already(&queried(FIRST, QueryAnswer::Unknown));
        let due = bench.order.next_due_at().unwrap();
        pauses.push(due.since(bench.now) / SECOND);
        bench.now = due;
        assert_eq!(bench.tick(), [QUERY]);
    }
    assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
    assert_eq!(
        bench.apply(&queried(FIRST, QueryAnswer::Unpaid)),
        [CLOSE],
        "a provider that is back is not kept waiting"
    );
    bench.now = bench.order.next_due_at().unwrap();
    assert_eq!(bench.tick(), [CLOSE], "the same step again");
}

#[test]
fn closed_at_the_provider_ends_an_open_attempt_too() {
    let mut bench = Bench::made(Product::AlipayCreate);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    assert_eq!(bench.last().status(), "expired");
    assert_eq!(
        bench.already(&queried(FIRST, QueryAnswer::Closed)).0,
        Answer::Stale
    );
}

// --- the order's end ------------------------------------------------------------------------

#[test]
fn cancelling_closes_at_once_where_nothing_can_be_paid() {
    for attempt in [false, true] {
        let mut bench = Bench::new(terms());
        if attempt {
            bench.start().claim(Product::WechatJsapi);
        }
        assert_eq!(bench.apply(&Command::Cancel), []);
        assert!(matches!(
            bench.order.settlement,
            Settlement::Closed {
                reason: CloseReason::Cancelled,
                ..
            }
        ));
        assert_eq!(bench.already(&Command::Cancel), (Answer::Same, vec![]));
        let start = bench.starting(None);
        assert_eq!(bench.refused(&start), Refusal::OrderClosed);
        assert_eq!(bench.order.next_due_at(), None);
    }
}

#[test]
fn cancelling_is_a_durable_intent_where_something_can_be_paid() {
    let mut bench = Bench::made(Product::WechatJsapi);
    assert_eq!(bench.apply(&Command::Cancel), [QUERY]);
    assert_eq!(bench.order.status(), Status::Paying);
    assert_eq!(bench.already(&Command::Cancel), (Answer::Same, vec![]));
    let start = bench.starting(None);
    assert_eq!(bench.refused(&start), Refusal::CancelPending);
    assert_eq!(bench.refused(&pay(FIRST)), Refusal::AttemptCancelled);

    let mut paid = bench.clone();
    let report = paid.capture(FIRST, 1, 2 * SECOND);
    paid.apply(&queried(FIRST, QueryAnswer::Paid(report)));
    assert_eq!(
        paid.order.status(),
        Status::Paid,
        "it was paid all the same"
    );
    assert_eq!(paid.refused(&Command::Cancel), Refusal::AlreadyPaid);

    bench.apply(&queried(FIRST, QueryAnswer::Unpaid));
    bench.apply(&closed(FIRST, CloseAnswer::Closed));
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    assert_eq!(bench.last().status(), "cancelled");
    assert_eq!(bench.order.status(), Status::Closed);
}

#[test]
fn the_deadline_closes_an_order_once_nothing_of_it_can_be_paid() {
    let deadline = 60 * MINUTE;
    let mut bench = Bench::new(terms());
    assert_eq!(bench.order.next_due_at(), Some(at(deadline)));
    bench.at(deadline).tick();
    assert!(matches!(
        bench.order.settlement,
        Settlement::Closed {
            reason: CloseReason::Deadline,
            ..
        }
    ));

    let mut bench = Bench::new(terms());
    bench.at(deadline - 120 * SECOND).start();
    bench.claim(Product::WechatJsapi);
    bench.apply(&pay(FIRST));
    bench.apply(&made(FIRST));
    assert_eq!(bench.at(deadline).tick(), [QUERY]);
    assert_eq!(
        bench.order.status(),
        Status::Paying,
        "until the trade is dead"
    );
    bench.apply(&queried(FIRST, QueryAnswer::Unpaid));
    bench.apply(&closed(FIRST, CloseAnswer::Closed));
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    assert_eq!(bench.order.status(), Status::Closed, "in the same commit");

    // The grace extends acceptance, not attempts.
    let mut grace = terms();
    grace.late_payment = LatePayment::Accept {
        grace_ms: 10 * MINUTE,
    };
    let mut bench = Bench::new(grace);
    assert_eq!(bench.order.next_due_at(), Some(at(70 * MINUTE)));
    let start = bench.starting(None);
    assert!(matches!(
        bench.at(deadline + SECOND).refused(&start),
        Refusal::DeadlinePassed { .. }
    ));
    assert_eq!(bench.order.status(), Status::Unpaid);
    bench.at(70 * MINUTE).tick();
    assert_eq!(bench.order.status(), Status::Closed);
}

// --- money ----------------------------------------------------------------------------------

#[test]
fn late_for_its_attempt_is_not_late_for_the_order() {
    let mut bench = Bench::made(Product::WechatJsapi);
    bench.at(180 * SECOND).tick();
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    bench.at(200 * SECOND).start();
    bench.claim(Product::AlipayCreate);
    for second_made in [false, true] {
        let mut bench = bench.clone();
        if second_made {
            bench.apply(&pay(number(2)));
        }
        let report = bench.capture(FIRST, 1, 181 * SECOND);
        let effects = bench.at(205 * SECOND).apply(&Command::Capture(report));
        assert_eq!(bench.order.status(), Status::Paid);
        assert_eq!(bench.order.attempts[0].status(), "succeeded");
        if second_made {
            let attempt = number(2);
            assert_eq!(effects, [Effect::QueryTrade { attempt }]);
            assert_eq!(bench.last().status(), "closing", "the other code is ended");
            // It was paid as well: that money goes back.
            let report = bench.capture(attempt, 2, 204 * SECOND);
            let refund = report.surplus_refund;
            let effects = bench.apply(&queried(attempt, QueryAnswer::Paid(report)));
            assert_eq!(effects, [Effect::Refund { refund }]);
            assert_eq!(bench.last().status(), "succeeded");
        } else {
            assert_eq!(bench.last().status(), "cancelled");
            assert_eq!(effects, []);
        }
    }
}

#[test]
fn what_came_after_the_deadline_goes_back() {
    let deadline = 60 * MINUTE;
    for (late_payment, succeeded, kept) in [
        (LatePayment::Refund, deadline, true),
        (LatePayment::Refund, deadline + 1, false),
        (
            LatePayment::Accept { grace_ms: MINUTE },
            deadline + MINUTE,
            true,
        ),
        (
            LatePayment::Accept { grace_ms: MINUTE },
            deadline + MINUTE + 1,
            false,
        ),
    ] {
        let mut late = terms();
        late.late_payment = late_payment;
        let mut bench = Bench::new(late);
        bench.at(deadline - 120 * SECOND).start();
        bench.at(deadline - 75 * SECOND).claim(Product::WechatJsapi);
        bench.at(deadline - SECOND).apply(&pay(FIRST));
        bench.apply(&made(FIRST));
        bench.at(deadline).tick();
        let report = bench.capture(FIRST, 1, succeeded);
        let refund = report.surplus_refund;
        let effects = bench
            .at(deadline + 2 * MINUTE)
            .apply(&queried(FIRST, QueryAnswer::Paid(report)));
        assert_eq!(bench.last().status(), "succeeded", "the trade took money");
        if kept {
            assert_eq!(bench.order.status(), Status::Paid);
        } else {
            assert_eq!(effects, [Effect::Refund { refund }]);
            assert_eq!(
                bench.order.status(),
                Status::Closed,
                "the order goes on to its end"
            );
        }
    }
}

#[test]
fn money_for_a_closed_order_goes_back_and_calls_a_person_if_it_was_in_time() {
    for (succeeded, raised) in [(2 * SECOND, true), (61 * MINUTE, false)] {
        let mut bench = Bench::made(Product::WechatJsapi);
        bench.apply(&Command::Cancel);
        bench.apply(&queried(FIRST, QueryAnswer::Closed));
        assert_eq!(bench.order.status(), Status::Closed);
        let report = bench.capture(FIRST, 1, succeeded);
        let refund = report.surplus_refund;
        let effects = bench.at(70 * MINUTE).apply(&Command::Capture(report));
        assert_eq!(effects, [Effect::Refund { refund }]);
        assert_eq!(bench.order.status(), Status::Closed, "closed is never paid");
        assert_eq!(bench.last().status(), "succeeded");
        let attention = Event::AttentionRaised {
            why: Attention::InTimeAfterClosing,
        };
        assert_eq!(bench.log.last().unwrap().1.contains(&attention), raised);
    }
}

/// A change to a report, and the field that the change must be found in.
type Tamper = (fn(&mut CaptureReport), MismatchedField);

#[test]
fn money_that_does_not_fit_is_evidence_and_pays_nothing() {
    let tampered: [Tamper; 5] = [
        (
            |report| report.amount = Fen::new(13_999),
            MismatchedField::Amount,
        ),
        (
            |report| report.currency = "USD".into(),
            MismatchedField::Currency,
        ),
        (
            |report| report.account = AccountId::new("other"),
            MismatchedField::Account,
        ),
        (
            |report| report.application = "other".into(),
            MismatchedField::Application,
        ),
        (|report| report.attempt = number(9), MismatchedField::Trade),
    ];
    for (tamper, field) in tampered {
        let mut bench = Bench::made(Product::WechatJsapi);
        let good = bench.capture(FIRST, 1, 3 * SECOND);
        let mut report = good.clone();
        tamper(&mut report);
        for repeat in 0..2 {
            let command = Command::Capture(report.clone());
            if repeat == 0 {
                assert_eq!(bench.apply(&command), []);
            } else {
                assert_eq!(bench.already(&command), (Answer::Same, vec![]));
            }
            assert_eq!(bench.order.status(), Status::Paying);
            assert_eq!(bench.order.captures, []);
            assert_eq!(bench.order.mismatches.len(), 1);
            assert_eq!(bench.order.mismatches[0].field, field);
        }
        let attention = Event::AttentionRaised {
            why: Attention::MismatchedCapture,
        };
        assert!(bench.log.last().unwrap().1.contains(&attention));
        bench.apply(&Command::Capture(good));
        assert_eq!(bench.order.status(), Status::Paid);
    }
    // A number whose trade was never intended, and a transaction that paid another trade.
    let mut bench = Bench::new(terms());
    bench.start();
    let report = bench.capture(FIRST, 1, SECOND);
    bench.apply(&Command::Capture(report));
    assert_eq!(bench.order.mismatches[0].field, MismatchedField::Trade);
}

#[test]
fn a_surplus_refund_is_retried_under_its_own_number_until_an_answer() {
    let mut bench = Bench::made(Product::WechatJsapi);
    bench.apply(&Command::Cancel);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    let report = bench.capture(FIRST, 1, 2 * SECOND);
    let refund = report.surplus_refund;
    let answer = |answer| Command::RefundAnswer {
        refund,
        round: 0,
        answer,
    };
    bench.apply(&Command::Capture(report));
    let first = bench.now;
    let mut pauses = Vec::new();
    let mut raised = 0;
    for _ in 0..14 {
        let unproven = answer(RefundAnswer::Unknown);
        assert_eq!(bench.already(&unproven), (Answer::Same, vec![]));
        let due = bench.order.next_due_at().unwrap();
        pauses.push(due.since(bench.now) / SECOND);
        bench.now = due;
        assert_eq!(bench.tick(), [Effect::Refund { refund }]);
        raised += bench.log.last().unwrap().1.len() - 1;
    }
    assert_eq!(pauses[..8], [10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(raised, 1, "a person is called once, the tries go on");
    assert!(bench.now.since(first) > 60 * MINUTE);

    let mut failed = bench.clone();
    failed.apply(&answer(RefundAnswer::Failed));
    assert_eq!(
        failed.already(&answer(RefundAnswer::Failed)).0,
        Answer::Stale
    );
    assert_eq!(failed.order.next_due_at(), None);
    let attention = Event::AttentionRaised {
        why: Attention::SurplusRefundFailed,
    };
    assert!(failed.log.last().unwrap().1.contains(&attention));
    failed.apply(&answer(RefundAnswer::Succeeded));

    bench.apply(&answer(RefundAnswer::Succeeded));
    for repeat in [RefundAnswer::Succeeded, RefundAnswer::Failed] {
        assert_eq!(bench.already(&answer(repeat)).0, Answer::Stale);
    }
    let unknown = Command::RefundAnswer {
        refund: RefundId::from_ulid(Ulid(0)),
        round: 0,
        answer: RefundAnswer::Succeeded,
    };
    assert_eq!(bench.already(&unknown).0, Answer::Stale);
    let provider = Books {
        captured: AMOUNT,
        surplus_refunded: AMOUNT,
        refunded: Fen::ZERO,
    };
    assert_eq!(check_at_rest(&bench.order, provider), Ok(()));
    let kept_by_provider = Books {
        captured: AMOUNT,
        surplus_refunded: Fen::ZERO,
        refunded: Fen::ZERO,
    };
    assert_eq!(
        check_at_rest(&bench.order, kept_by_provider).map_err(|broken| broken.invariant),
        Err("M1")
    );
}

#[test]
fn amounts_in_yuan_are_read_to_the_fen() {
    let largest = Fen::MAX_ORDER.get();
    for fen in (0..200_000).chain(largest - 1_000..=largest) {
        let yuan = format!("{}.{:02}", fen / 100, fen % 100);
        assert_eq!(Fen::from_yuan(&yuan), Ok(Fen::new(fen)), "{yuan}");
    }
}

// --- the invariants themselves --------------------------------------------------------------

/// A change to a state, and the invariant that must notice it.
type Damage = (&'static str, fn(&mut Order));

fn a_refund(n: u128, fen: i64) -> Refund {
    Refund {
        id: RefundId::from_ulid(Ulid(2_000 + n)),
        merchant_refund_no: format!("R{n}").into(),
        amount: Fen::new(fen),
        requested_at: START,
        standing: RefundStanding::Pending {
            next_at: START,
            tries: 1,
            underfunded: false,
        },
    }
}

/// A checker that cannot fail proves nothing.
#[test]
fn every_invariant_notices_its_damage() {
    // Attempt 1 ended unpaid, 2 paid the order, 1 was paid as well: a surplus.
    let mut bench = Bench::made(Product::WechatJsapi);
    bench.apply(&queried(FIRST, QueryAnswer::Closed));
    bench.at(10 * SECOND).start();
    bench.claim(Product::AlipayCreate);
    bench.apply(&pay(number(2)));
    bench.apply(&made(number(2)));
    let report = bench.capture(number(2), 2, 11 * SECOND);
    bench.apply(&Command::Capture(report));
    let report = bench.capture(FIRST, 1, 12 * SECOND);
    bench.apply(&Command::Capture(report));
    let mut odd = bench.capture(FIRST, 9, 12 * SECOND);
    odd.amount = Fen::new(7);
    bench.apply(&Command::Capture(odd));
    let before = bench.order.clone();
    let mut good = before.clone();
    good.version += 1;
    assert_eq!(check_step(&before, &good), Ok(()));

    let damages: [Damage; 23] = [
        ("O1", |order| order.version += 1),
        ("O1", |order| order.terms.amount = Fen::new(1)),
        ("M6", |order| drop(order.captures.pop())),
        ("M6", |order| {
            order.captures[1].standing = CaptureStanding::Kept;
        }),
        ("M6", |order| order.captures[0].amount = Fen::new(1)),
        ("M7", |order| order.settlement = Settlement::Open),
        ("M7", |order| {
            order.settlement = Settlement::Closed {
                at: START,
                reason: CloseReason::Cancelled,
            };
        }),
        ("Q2", |order| drop(order.attempts.pop())),
        ("Q2", |order| {
            order.attempts[1].claim.as_mut().unwrap().payer = STRANGER;
        }),
        ("Q4", |order| order.attempts[0].phase = Phase::Shown),
        ("Q4", |order| {
            order.attempts[0].phase = Phase::Expired { at: START };
        }),
        ("Q6", |order| {
            order.attempts[0].trade.as_mut().unwrap().time_expire = START;
        }),
        ("Q6", |order| {
            order.attempts[1].trade.as_mut().unwrap().standing = TradeStanding::Intended;
        }),
        ("M2", |order| {
            let mut third = order.captures[0].clone();
            third.transaction_id = "tx-3".into();
            order.captures.push(third);
        }),
        ("M2", |order| order.captures.push(order.captures[1].clone())),
        ("M3", |order| {
            let mut third = order.captures[1].clone();
            third.transaction_id = "tx-3".into();
            third.amount = Fen::new(1);
            order.captures.push(third);
        }),
        ("M5", |order| {
            let mut third = order.captures[1].clone();
            third.transaction_id = "tx-3".into();
            order.captures.push(third);
        }),
        ("M4", |order| {
            order.refunds.push(a_refund(1, 14_001));
        }),
        ("M4", |order| {
            order.refunds.push(a_refund(1, 10_000));
            order.refunds.push(a_refund(2, 4_001));
        }),
        ("M4", |order| order.refunds.push(a_refund(1, 0))),
        ("M5", |order| {
            order.refunds.push(a_refund(1, 100));
            order.refunds.push(a_refund(1, 100));
        }),
        ("M6", |order| order.mismatches[0].amount = Fen::new(1)),
        ("Q1", |order| {
            let mut third = order.attempts[1].clone();
            third.phase = Phase::Shown;
            third.claim = None;
            third.trade = None;
            order.attempts.push(third);
        }),
    ];
    for (index, (invariant, damage)) in damages.into_iter().enumerate() {
        let mut after = good.clone();
        damage(&mut after);
        let broken = check_step(&before, &after).expect_err("the damage went unnoticed");
        assert_eq!(broken.invariant, invariant, "damage {index}: {broken}");
    }

    // Of a state alone: what an open attempt may not be.
    let good = Bench::made(Product::WechatJsapi).order;
    assert_eq!(check(&good), Ok(()));
    let damages: [Damage; 8] = [
        ("M8", |order| order.terms.amount = Fen::ZERO),
        ("Q2", |order| order.attempts[0].claim = None),
        ("Q3", |order| {
            order.attempts[0].claim.as_mut().unwrap().at = order.attempts[0].expires_at;
        }),
        ("Q4", |order| {
            order.attempts[0].phase = Phase::Expired { at: START };
        }),
        ("Q6", |order| {
            order.terms.pay_before = Some(at(100 * SECOND));
        }),
        ("Q6", |order| order.terms.qr_ms = SECOND),
        ("M7", |order| {
            order.settlement = Settlement::Paid { at: START }
        }),
        ("Q7", |order| {
            order.cancel_requested_at = Some(START);
            order.attempts.clear();
        }),
    ];
    for (invariant, damage) in damages {
        let mut bad = good.clone();
        damage(&mut bad);
        let broken = check(&bad).expect_err("the damage went unnoticed");
        assert_eq!(broken.invariant, invariant, "{broken}");
    }
}

// --- properties -----------------------------------------------------------------------------

/// Something that happens to an order, in terms of whatever attempts it has by then.
#[derive(Clone, Debug)]
enum Happening {
    Start(Option<Wallet>),
    Claim(u16, PayerHash, Product),
    Pay(u16),
    Release(u16),
    Query,
    Cancel,
    Trade(u16, TradeAnswer),
    Queried(u16, QueryAnswer),
    Paid(u16, u128, i64),
    Closed(u16, CloseAnswer),
    Capture(u16, u128, i64),
    Tampered(u16, u128, i64),
    Refund(u128, RefundAnswer),
    /// A merchant wants some of it back.
    Wish(u128, i64),
    Retry(u128),
    Repair(u128),
    Settle(u16, SettleBy, OperatorHash),
    /// The school has the fiscal e-receipt, with or without its time.
    Receipt(u8, Option<i64>),
    Tick,
    /// Time goes on to whatever is due, and a tick.
    TickWhenDue,
}

fn any_wallet() -> impl Strategy<Value = Wallet> {
    prop_oneof![Just(Wallet::Wechat), Just(Wallet::Alipay)]
}

fn any_product() -> impl Strategy<Value = Product> {
    prop_oneof![
        3 => Just(Product::WechatJsapi),
        3 => Just(Product::AlipayCreate),
        1 => Just(Product::WechatH5),
        2 => Just(Product::AlipayWap),
        1 => Just(Product::WechatNative),
        1 => Just(Product::AlipayPrecreate),
    ]
}

fn any_trade_answer() -> impl Strategy<Value = TradeAnswer> {
    prop_oneof![
        4 => Just(TradeAnswer::Made { handle: "h".into() }),
        1 => Just(TradeAnswer::Made { handle: "other".into() }),
        1 => Just(TradeAnswer::Refused { code: "NO".into() }),
        1 => Just(TradeAnswer::Unknown),
    ]
}

fn any_query_answer() -> impl Strategy<Value = QueryAnswer> {
    prop_oneof![
        3 => Just(QueryAnswer::Unpaid),
        3 => Just(QueryAnswer::NotFound),
        2 => Just(QueryAnswer::Closed),
        1 => Just(QueryAnswer::Unknown),
    ]
}

fn any_close_answer() -> impl Strategy<Value = CloseAnswer> {
    prop_oneof![
        3 => Just(CloseAnswer::Closed),
        1 => Just(CloseAnswer::AlreadyPaid),
        1 => Just(CloseAnswer::NotYet),
        1 => Just(CloseAnswer::NotFound),
        1 => Just(CloseAnswer::Unknown),
    ]
}

/// Five ids of surplus refunds, five of merchants', five of odd captures.
fn any_refund(n: u128) -> RefundId {
    RefundId::from_ulid(Ulid(1_000 * (1 + n / 5) + n % 5))
}

fn any_settlement() -> impl Strategy<Value = SettleBy> {
    prop_oneof![Just(SettleBy::Refund), Just(SettleBy::Outside)]
}

fn any_refund_answer() -> impl Strategy<Value = RefundAnswer> {
    prop_oneof![
        Just(RefundAnswer::Succeeded),
        Just(RefundAnswer::Processing),
        Just(RefundAnswer::Abnormal),
        Just(RefundAnswer::Underfunded),
        Just(RefundAnswer::Failed),
        Just(RefundAnswer::Unknown),
    ]
}

fn any_happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    // Attempts are counted from the last one backwards: 0 is the newest.
    let back = || prop_oneof![5 => Just(0u16), 1 => 0u16..4];
    let ms = || 0..8 * MINUTE;
    prop_oneof![
        4 => prop::option::weighted(0.7, any_wallet()).prop_map(H::Start),
        4 => (back(), 1u128..3, any_product()).prop_map(|(a, p, d)| H::Claim(a, PayerHash(p), d)),
        4 => back().prop_map(H::Pay),
        1 => back().prop_map(H::Release),
        1 => Just(H::Query),
        1 => Just(H::Cancel),
        3 => (back(), any_trade_answer()).prop_map(|(a, t)| H::Trade(a, t)),
        4 => (back(), any_query_answer()).prop_map(|(a, q)| H::Queried(a, q)),
        1 => (back(), 0u128..5, ms()).prop_map(|(a, t, m)| H::Paid(a, t, m)),
        3 => (back(), any_close_answer()).prop_map(|(a, c)| H::Closed(a, c)),
        1 => (back(), 0u128..5, ms()).prop_map(|(a, t, m)| H::Capture(a, t, m)),
        1 => (back(), 0u128..5, ms()).prop_map(|(a, t, m)| H::Tampered(a, t, m)),
        2 => (0u128..15, any_refund_answer()).prop_map(|(r, a)| H::Refund(r, a)),
        2 => (0u128..5, -1i64..15_000).prop_map(|(r, fen)| H::Wish(r, fen)),
        1 => (0u128..15).prop_map(H::Retry),
        1 => (0u128..15).prop_map(H::Repair),
        1 => (0u16..3, any_settlement(), 1u128..3)
            .prop_map(|(m, by, operator)| H::Settle(m, by, PayerHash(operator))),
        1 => (0u8..3, prop::option::of(ms())).prop_map(|(n, m)| H::Receipt(n, m)),
        1 => Just(H::Tick),
        4 => Just(H::TickWhenDue),
    ]
}

/// How far the clock moves before something happens. It may also jump back: another node's clock.
fn any_pause() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => Just(0i64),
        8 => 0..10 * SECOND,
        3 => 0..3 * MINUTE,
        1 => -20 * SECOND..0,
        1 => -2 * MINUTE * 30..0,
    ]
}

fn any_history() -> impl Strategy<Value = Vec<(i64, Happening)>> {
    prop::collection::vec((any_pause(), any_happening()), 0..40)
}

fn any_terms() -> impl Strategy<Value = Terms> {
    (
        prop::option::weighted(0.8, prop_oneof![Just(4 * MINUTE), Just(8 * MINUTE)]),
        prop_oneof![
            Just(LatePayment::Refund),
            Just(LatePayment::Accept {
                grace_ms: 3 * MINUTE
            }),
        ],
        prop_oneof![3 => Just(CodeMode::Unified), 2 => Just(CodeMode::Native)],
        1usize..3,
        prop_oneof![Just(12 * SECOND), Just(180 * SECOND), Just(10 * MINUTE)],
    )
        .prop_map(|(pay_before, late_payment, mode, offers, qr_ms)| {
            let mut any = terms();
            any.pay_before = pay_before.map(at);
            any.late_payment = late_payment;
            any.mode = mode;
            any.offers.truncate(offers);
            any.qr_ms = qr_ms;
            any
        })
}

impl Bench {
    fn counted_back(&self, back: u16) -> AttemptNumber {
        let count = u16::try_from(self.order.attempts.len()).unwrap();
        number(count.saturating_sub(back).max(1))
    }

    /// The command that a happening means now.
    fn command(&mut self, happening: &Happening) -> Command {
        let payer_of = |bench: &Self, attempt| {
            bench
                .order
                .attempt(attempt)
                .and_then(|attempt| attempt.claim)
                .map_or(STUDENT, |claim| claim.payer)
        };
        match happening.clone() {
            Happening::Start(wallet) => self.starting(wallet),
            Happening::Claim(back, payer, product) => {
                claim(self.counted_back(back), payer, product)
            }
            Happening::Pay(back) => {
                let attempt = self.counted_back(back);
                let payer = payer_of(self, attempt);
                Command::Pay { attempt, payer }
            }
            Happening::Release(back) => {
                let attempt = self.counted_back(back);
                let payer = payer_of(self, attempt);
                Command::Release { attempt, payer }
            }
            Happening::Query => Command::Query,
            Happening::Cancel => Command::Cancel,
            Happening::Trade(back, answer) => Command::TradeAnswer {
                attempt: self.counted_back(back),
                answer,
            },
            Happening::Queried(back, answer) => queried(self.counted_back(back), answer),
            Happening::Paid(back, transaction, ms) => {
                let attempt = self.counted_back(back);
                let report = self.capture(attempt, transaction, ms);
                queried(attempt, QueryAnswer::Paid(report))
            }
            Happening::Closed(back, answer) => closed(self.counted_back(back), answer),
            Happening::Capture(back, transaction, ms) => {
                let attempt = self.counted_back(back);
                Command::Capture(self.capture(attempt, transaction, ms))
            }
            Happening::Tampered(back, transaction, ms) => {
                let attempt = self.counted_back(back);
                let mut report = self.capture(attempt, transaction, ms);
                match transaction % 4 {
                    0 => report.amount = Fen::new(1),
                    1 => report.currency = "HKD".into(),
                    2 => report.account = AccountId::new("foreign"),
                    _ => report.application = "foreign".into(),
                }
                Command::Capture(report)
            }
            Happening::Refund(n, answer) => Command::RefundAnswer {
                refund: any_refund(n),
                round: 0,
                answer,
            },
            Happening::Wish(n, fen) => Command::Refund {
                refund: any_refund(5 + n),
                merchant_refund_no: format!("R{n}").into(),
                amount: Fen::new(fen),
            },
            Happening::Retry(n) => Command::RetryRefund {
                refund: any_refund(n),
            },
            Happening::Repair(n) => Command::RepairRefund {
                refund: any_refund(n),
            },
            Happening::Settle(mismatch, by, operator) => Command::SettleMismatch {
                mismatch,
                by,
                operator,
                refund: any_refund(10 + u128::from(mismatch)),
            },
            Happening::Receipt(n, ms) => issue(n, ms.map(at)),
            Happening::Tick => Command::Tick,
            Happening::TickWhenDue => {
                if let Some(due) = self.order.next_due_at() {
                    self.now = self.now.max(due);
                }
                Command::Tick
            }
        }
    }

    fn live_through(&mut self, history: &[(i64, Happening)]) {
        for (pause, happening) in history {
            self.now = self.now.plus_ms(*pause);
            let command = self.command(happening);
            self.run(&command);
        }
    }
}

/// What the provider knows of one trade in the liveness property.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Truth {
    Absent,
    Unpaid,
    Closed,
    Paid,
}

fn any_truth() -> impl Strategy<Value = Truth> {
    prop_oneof![
        Just(Truth::Absent),
        Just(Truth::Unpaid),
        Just(Truth::Closed),
        Just(Truth::Paid),
    ]
}

/// A healthy provider's answers to one effect.
fn healthy(bench: &Bench, truth: &mut Truth, effect: &Effect) -> Command {
    match *effect {
        Effect::MakeTrade { attempt } => {
            if *truth == Truth::Absent
                && !bench
                    .order
                    .attempt(attempt)
                    .and_then(|attempt| attempt.trade.as_ref())
                    .is_some_and(|trade| trade.product.trade_appears_later())
            {
                *truth = Truth::Unpaid;
            }
            made(attempt)
        }
        Effect::QueryTrade { attempt } => queried(
            attempt,
            match truth {
                Truth::Absent => QueryAnswer::NotFound,
                Truth::Unpaid => QueryAnswer::Unpaid,
                Truth::Closed => QueryAnswer::Closed,
                Truth::Paid => QueryAnswer::Paid(bench.capture(attempt, 77, MINUTE)),
            },
        ),
        Effect::CloseTrade { attempt } => closed(
            attempt,
            match truth {
                Truth::Absent => CloseAnswer::NotFound,
                Truth::Unpaid => {
                    *truth = Truth::Closed;
                    CloseAnswer::Closed
                }
                Truth::Closed | Truth::Paid => CloseAnswer::AlreadyPaid,
            },
        ),
        Effect::Refund { refund } | Effect::RepairRefund { refund } => Command::RefundAnswer {
            refund,
            round: 0,
            answer: RefundAnswer::Succeeded,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any commands at any times: every commit keeps every invariant (the bench checks them), and
    /// the timeline's replay is the state (E5).
    #[test]
    fn any_history_keeps_the_invariants_and_replays(
        terms in any_terms(),
        history in any_history(),
    ) {
        let mut bench = Bench::new(terms);
        bench.live_through(&history);
        prop_assert_eq!(bench.replayed(), Some(bench.order));
    }

    /// What was said once has no second effect: at the same instant not even a new event.
    #[test]
    fn a_repeated_command_changes_nothing(terms in any_terms(), history in any_history()) {
        let mut bench = Bench::new(terms);
        for (pause, happening) in &history {
            bench.now = bench.now.plus_ms(*pause);
            let command = bench.command(happening);
            bench.run(&command);
            let before = bench.order.clone();
            let repeat = bench.run(&command);
            prop_assert!(
                !matches!(repeat, Outcome::Applied { .. }),
                "{:?} applied again: {:?}", command, repeat
            );
            prop_assert_eq!(&bench.order, &before);
        }
    }

    /// Before `next_due_at` nothing is due, at it something is, and after that the next is later.
    #[test]
    fn next_due_at_is_honest(
        terms in any_terms(),
        history in any_history(),
        early in 1i64..5 * MINUTE,
        late in 0i64..5 * MINUTE,
    ) {
        let mut bench = Bench::new(terms);
        bench.live_through(&history);
        let Some(due) = bench.order.next_due_at() else {
            prop_assert!(bench.order.live_attempt().is_none(), "alive, and nothing is due (Q7)");
            prop_assert_eq!(bench.run(&Command::Tick), Outcome::Already(Answer::NothingDue, vec![]));
            return Ok(());
        };
        for ms in [1, early] {
            bench.now = due.minus_ms(ms);
            prop_assert_eq!(bench.run(&Command::Tick), Outcome::Already(Answer::NothingDue, vec![]));
        }
        bench.now = due.plus_ms(late);
        let applied = matches!(bench.run(&Command::Tick), Outcome::Applied { .. });
        prop_assert!(applied, "due, and nothing done");
        prop_assert!(bench.order.next_due_at().is_none_or(|next| next > bench.now));
        prop_assert_eq!(bench.run(&Command::Tick), Outcome::Already(Answer::NothingDue, vec![]));
    }

    /// Effects accompany what they are for: a call only for a trade that may be payable, a refund
    /// only for a surplus that waits (O4).
    #[test]
    fn effects_have_their_intent_on_record(terms in any_terms(), history in any_history()) {
        let mut bench = Bench::new(terms);
        for (pause, happening) in &history {
            bench.now = bench.now.plus_ms(*pause);
            let command = bench.command(happening);
            let effects = match bench.run(&command) {
                Outcome::Applied { effects, .. } | Outcome::Already(_, effects) => effects,
                Outcome::Refused(_) => Vec::new(),
            };
            for effect in effects {
                let intended = match effect {
                    Effect::MakeTrade { attempt } => bench.order.attempt(attempt).is_some_and(|it| {
                        it.is_open() && it.trade.as_ref().is_some_and(|trade| {
                            trade.standing == TradeStanding::Intended
                        })
                    }),
                    Effect::QueryTrade { attempt } | Effect::CloseTrade { attempt } => bench
                        .order
                        .attempt(attempt)
                        .is_some_and(|it| it.is_live() && it.may_be_payable()),
                    Effect::Refund { refund } | Effect::RepairRefund { refund } => bench
                        .order
                        .refund(refund)
                        .is_some_and(|it| !it.standing.is_over()),
                };
                prop_assert!(intended, "{:?} of {:?} without its intent", effect, command);
            }
        }
    }

    /// Q7: from anywhere, with a provider that answers, everything comes to rest: within ten minutes
    /// of the attempt's end, or of the next step that a clock ahead of this one has set.
    #[test]
    fn everything_comes_to_rest_at_a_healthy_provider(
        terms in any_terms(),
        history in any_history(),
        mut truth in any_truth(),
    ) {
        let mut bench = Bench::new(terms);
        bench.live_through(&history);
        if let Some(trade) = bench.order.live_attempt().and_then(|live| live.trade.as_ref())
            && truth == Truth::Absent
            && trade.standing != TradeStanding::Intended
            && !trade.product.trade_appears_later()
        {
            truth = Truth::Unpaid;
        }
        let end = bench
            .order
            .live_attempt()
            .map_or(bench.now, |live| {
                let trade = live.trade.as_ref().map_or(live.expires_at, |trade| trade.time_expire);
                bench.now.max(trade)
            })
            .max(bench.order.next_due_at().unwrap_or(bench.now))
            .plus_ms(10 * MINUTE);
        while bench.order.live_attempt().is_some() {
            let due = bench.order.next_due_at().expect("Q7: what lives is due");
            bench.now = bench.now.max(due);
            prop_assert!(bench.now <= end, "still alive: {:#?}", bench.order.live_attempt());
            let Outcome::Applied { mut effects, .. } = bench.run(&Command::Tick) else {
                return Err(TestCaseError::fail("a tick that was due did nothing"));
            };
            while let Some(effect) = effects.pop() {
                let answer = healthy(&bench, &mut truth, &effect);
                if let Outcome::Applied { effects: more, .. } = bench.run(&answer) {
                    effects.extend(more);
                }
            }
        }
        prop_assert!(!bench.order.is_open() || bench.order.cancel_requested_at.is_none());
    }

    /// F24: money arrives in any order, any number of times, with the refunds' answers anywhere in
    /// between; what is kept and what goes back is the same.
    #[test]
    fn captures_in_any_order_give_one_money_result(
        cancelled in any::<bool>(),
        captures in prop::collection::vec((1u16..4, 0u128..6, 0..8 * MINUTE), 1..6),
        shuffled in prop::collection::vec((any::<prop::sample::Index>(), any_refund_answer()), 0..12),
    ) {
        let mut terms = terms();
        terms.pay_before = Some(at(5 * MINUTE));
        let mut bench = Bench::new(terms);
        for attempt in 1..4 {
            bench.at(i64::from(attempt) * SECOND).start();
            bench.claim(Product::WechatJsapi);
            bench.apply(&pay(number(attempt)));
            bench.apply(&queried(number(attempt), QueryAnswer::Closed));
        }
        if cancelled {
            bench.apply(&Command::Cancel);
        }
        // One transaction pays one trade.
        let mut reports: Vec<CaptureReport> = Vec::new();
        for (attempt, transaction, ms) in captures {
            let report = bench.capture(number(attempt), transaction, ms);
            if reports.iter().all(|known| known.transaction_id != report.transaction_id) {
                reports.push(report);
            }
        }
        let result = |mut bench: Bench| {
            // Whatever is still pending is answered; then the books are compared.
            for transaction in 0..6u128 {
                bench.run(&Command::RefundAnswer {
                    refund: RefundId::from_ulid(Ulid(1_000 + transaction)),
                    round: 0,
                    answer: RefundAnswer::Succeeded,
                });
            }
            let books = Books::of(&bench.order);
            assert_eq!(check_at_rest(&bench.order, books), Ok(()));
            (books, bench.order.status(), bench.order.attempts.iter().map(Attempt::status).collect::<Vec<_>>())
        };
        let mut straight = bench.clone();
        for report in &reports {
            straight.run(&Command::Capture(report.clone()));
        }
        let mut mixed = bench;
        for (index, answer) in shuffled {
            let report = index.get(&reports).clone();
            let refund = report.surplus_refund;
            mixed.run(&Command::Capture(report));
            mixed.run(&Command::RefundAnswer {
            refund,
            round: 0,
            answer,
        });
        }
        for report in reports.iter().rev() {
            mixed.run(&Command::Capture(report.clone()));
        }
        let in_time = reports.iter().any(|report| report.succeeded_at <= at(5 * MINUTE));
        prop_assert_eq!(straight.order.status() == Status::Paid, in_time && !cancelled);
        prop_assert_eq!(result(straight), result(mixed));
    }
}
