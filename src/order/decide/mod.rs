//! Command to events and effects: all branching lives here, a file per concern.
//!
//! Start with [`decide`]. Each concern reads the order it was given, and writes into a [`Draft`]: a
//! copy that evolves with every event, so that later steps of one commit see the earlier ones. The
//! expiry table of the contract, §1, is `closing`; what time alone brings about is `due`.

mod attempts;
mod captures;
mod claims;
mod closing;
mod due;
mod receipts;
mod refunds;
mod trades;

use super::attempt::{Attempt, ClosingCause, EndReason, Phase};
use super::command::Command;
use super::effect::{Answer, Effect, Outcome, Refusal};
use super::event::Event;
use super::evolve::apply;
use super::ids::AttemptNumber;
use super::state::{CloseReason, Order, Settlement};
use super::time::Timestamp;

/// No attempt starts in the last 120 s before the deadline (contract §1, deadline).
pub const NO_START_MS: i64 = 120_000;
/// No claim in the last 75 s before the deadline: the 60 s that `WeChat` keeps a trade payable, and
/// a margin (contract §1, deadline).
pub const NO_CLAIM_BEFORE_DEADLINE_MS: i64 = 75_000;
/// No claim in the last 15 s of its attempt, or in its last third if that is less (contract §1).
pub const NO_CLAIM_BEFORE_END_MS: i64 = 15_000;
/// The shortest life of a trade that `WeChat` accepts (contract §1; `WeChat` Pay protocol §3.1).
pub const SHORTEST_TRADE_MS: i64 = 60_000;
/// Scheduled queries after the claim (native: after showing); then every 30 s (reliability F26).
pub const QUERY_SCHEDULE_MS: [i64; 7] = [5_000, 15_000, 30_000, 60_000, 90_000, 120_000, 150_000];
/// The distance of queries after the table's end: the contract's "at most 30 s apart" (§5).
pub const QUERY_EVERY_MS: i64 = 30_000;
/// At most one asked-for query per order in 2 s; more share its answer (contract §4, `query`).
pub const QUERY_SPACING_MS: i64 = 2_000;
/// A closing step without any answer is due again after this.
pub const NO_ANSWER_MS: i64 = 10_000;
/// A close that came too early is repeated this often (contract §1).
pub const CLOSE_AGAIN_MS: i64 = 5_000;
/// While closes come too early, a question goes before one that is this long after the last.
pub const ASK_BETWEEN_CLOSES_MS: i64 = 20_000;
/// The first and the longest pause of the closing's back-off.
pub const BACK_OFF_MS: (i64, i64) = (2_000, 30_000);
/// How long after its `time_expire` a link or code that the provider does not know may still turn
/// into a payment (contract §1).
pub const LINK_GRACE_MS: i64 = 30_000;
/// While such a link waits for its end, the provider is asked this often.
pub const WAIT_EVERY_MS: i64 = 15_000;
/// After this an order call that got no answer cannot reach the provider any more: connecting, two
/// tries and a second host included ("the call's own timeout", contract §1).
pub const CALL_TIMEOUT_MS: i64 = 30_000;
/// A closing that lasts longer raises `order.attention` (reliability Q7).
pub const CLOSING_STUCK_MS: i64 = 600_000;
/// The first and the longest pause between two tries of one refund.
pub const REFUND_BACK_OFF_MS: (i64, i64) = (10_000, 600_000);
/// The try of a refund, some 70 minutes after the first, that also calls for a person.
pub const REFUND_STUCK_TRIES: u16 = 12;
/// The pauses between two questions about a refund that the provider has accepted: wallets take
/// minutes, bank cards days (`WeChat` Pay protocol, refund rules).
pub const PROCESSING_BACK_OFF_MS: (i64, i64) = (60_000, 21_600_000);
/// The question, some five days after the first, that also calls for a person.
pub const PROCESSING_STUCK_TRIES: u16 = 28;
/// The pauses between two questions about a refund that waits for a person.
pub const ABNORMAL_BACK_OFF_MS: (i64, i64) = (3_600_000, 86_400_000);
/// Refunds of one payment (`WeChat` Pay protocol, refund rules).
pub const MOST_REFUNDS: usize = 50;

/// What `command` means for `order` at `now`. Pure: equal inputs give equal answers, here, in the
/// model, in replay.
pub fn decide(order: &Order, command: &Command, now: Timestamp) -> Outcome {
    match command {
        Command::StartAttempt { id, wallet } => attempts::start(order, *id, *wallet, now),
        Command::Claim {
            attempt,
            payer,
            product,
        } => claims::claim(order, *attempt, *payer, *product, now),
        Command::Pay { attempt, payer } => claims::pay(order, *attempt, *payer, now),
        Command::Release { attempt, payer } => claims::release(order, *attempt, *payer, now),
        Command::Query => due::query(order, now),
        Command::Cancel => attempts::cancel(order, now),
        Command::TradeAnswer { attempt, answer } => trades::made(order, *attempt, answer, now),
        Command::QueryAnswer { attempt, answer } => trades::queried(order, *attempt, answer, now),
        Command::CloseAnswer { attempt, answer } => {
            closing::close_answered(order, *attempt, *answer, now)
        }
        Command::Capture(report) => captures::capture(order, report, now),
        Command::RefundAnswer {
            refund,
            round,
            answer,
        } => refunds::answered(order, *refund, *round, *answer, now),
        Command::Refund {
            refund,
            merchant_refund_no,
            amount,
        } => refunds::request(order, *refund, merchant_refund_no, *amount, now),
        Command::RetryRefund { refund } => refunds::retry(order, *refund, now),
        Command::RepairRefund { refund } => refunds::repair(order, *refund, now),
        Command::SettleMismatch {
            mismatch,
            by,
            operator,
            refund,
        } => refunds::settle(order, *mismatch, *by, *operator, *refund, now),
        Command::IssueReceipt {
            number,
            url,
            issued_at,
        } => receipts::issue(order, number, url, *issued_at, now),
        Command::ForeignRefund(foreign) => refunds::foreign(order, foreign, now),
        Command::Tick => due::tick(order, now),
    }
}

/// One commit in the making: the events so far, and the order as they leave it.
struct Draft {
    order: Order,
    events: Vec<Event>,
    effects: Vec<Effect>,
    now: Timestamp,
}

impl Draft {
    fn of(order: &Order, now: Timestamp) -> Self {
        Self {
            order: order.clone(),
            events: Vec::new(),
            effects: Vec::new(),
            now,
        }
    }

    fn push(&mut self, event: Event) {
        apply(&mut self.order, &event, self.now);
        self.events.push(event);
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Ends an attempt that is still open: at once where nobody can pay it, else by way of the
    /// provider. What its time has ended already, time has ended.
    fn end_open(&mut self, attempt: &Attempt, reason: EndReason) {
        let number = attempt.number;
        let cause = if self.now >= attempt.expires_at {
            ClosingCause::TimeUp
        } else {
            ClosingCause::Ended(reason)
        };
        if attempt.may_be_payable() {
            self.begin_closing(number, cause);
        } else {
            self.end(number, cause);
        }
    }

    /// The attempt's end, once nobody can pay it any more.
    fn end(&mut self, attempt: AttemptNumber, cause: ClosingCause) {
        if self
            .order
            .attempt(attempt)
            .is_some_and(Attempt::may_be_payable)
        {
            self.push(Event::TradeDied { attempt });
        }
        self.push(match cause {
            ClosingCause::TimeUp => Event::AttemptExpired { attempt },
            ClosingCause::Ended(reason) => Event::AttemptCancelled { attempt, reason },
        });
    }

    /// The order's own end: when it is wished or due, and nothing of it can be paid any more.
    fn settle(&mut self) {
        if !self.order.is_open() || self.order.live_attempt().is_some() {
            return;
        }
        let reason = if self.order.cancel_requested_at.is_some() {
            CloseReason::Cancelled
        } else if self
            .order
            .terms
            .closes_at()
            .is_some_and(|end| end <= self.now)
        {
            CloseReason::Deadline
        } else {
            return;
        };
        self.push(Event::OrderClosed { reason });
    }

    /// The commit, or the answer that says why there is none.
    fn finish_or(mut self, nothing: Answer) -> Outcome {
        self.settle();
        if self.events.is_empty() {
            return already(nothing);
        }
        Outcome::Applied {
            events: self.events,
            effects: self.effects,
        }
    }

    fn finish(self) -> Outcome {
        self.finish_or(Answer::Same)
    }
}

const fn already(answer: Answer) -> Outcome {
    Outcome::Already(answer, Vec::new())
}

/// Why an order that has its end takes no more wishes.
const fn settled(order: &Order) -> Option<Refusal> {
    match order.settlement {
        Settlement::Open => None,
        Settlement::Paid { .. } => Some(Refusal::AlreadyPaid),
        Settlement::Closed { .. } => Some(Refusal::OrderClosed),
    }
}

/// Why an attempt can be neither claimed nor paid at `now`; `None` while it can.
fn ended(attempt: &Attempt, now: Timestamp) -> Option<Refusal> {
    let by = |reason| match reason {
        EndReason::Superseded => Refusal::AttemptSuperseded,
        EndReason::Cancelled | EndReason::Released => Refusal::AttemptCancelled,
    };
    match &attempt.phase {
        Phase::Shown | Phase::Scanned => {
            (now >= attempt.expires_at).then_some(Refusal::AttemptExpired)
        }
        Phase::Closing(closing) => Some(match closing.cause {
            ClosingCause::TimeUp => Refusal::AttemptExpired,
            ClosingCause::Ended(reason) => by(reason),
        }),
        // Of an order that is neither paid nor closed: its money came too late and goes back.
        Phase::Succeeded { .. } | Phase::Expired { .. } => Some(Refusal::AttemptExpired),
        Phase::Cancelled { reason, .. } => Some(by(*reason)),
        Phase::Failed { .. } => Some(Refusal::AttemptFailed),
    }
}

/// `first`, doubled with every try after the first, up to `longest`.
fn doubled((first, longest): (i64, i64), tries: u16) -> i64 {
    let doublings = u32::from(tries.saturating_sub(1)).min(20);
    first.saturating_mul(1 << doublings).min(longest)
}
