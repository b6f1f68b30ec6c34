//! The heart: each row of the contract's tables at its edges, and properties over any commands at
//! any times. Every commit made here passes the same invariant checks as production's.

use enrollpay::order::attempt::{Closing, ClosingCause, ClosingStep, EndReason};
use enrollpay::order::event::Attention;
use enrollpay::order::evolve::replay;
use enrollpay::order::invariants::{Books, check_at_rest, check_step};
use enrollpay::order::state::{CaptureStanding, MismatchedField, RefundStanding};
use enrollpay::order::{
    AccountId, Answer, Attempt, AttemptId, AttemptNumber, CaptureReport, CloseAnswer, CloseReason,
    CodeMode, Command, Effect, Event, Fen, LatePayment, MerchantId, Offer, Order, OrderId, Outcome,
    PayerHash, Phase, Product, QueryAnswer, RefundAnswer, RefundId, Refusal, Settlement, Status,
    Terms, Timestamp, TradeAnswer, TradeStanding, Wallet, decide, evolve,
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
            surplus_refund: RefundId::from_ulid(Ulid(1_000 + transaction)),
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
