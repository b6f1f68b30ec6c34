//! Every order of events, within bounds: the shell around the heart as a model whose whole state
//! space is searched. The heart in it is the real one, called unchanged; the shell is what the
//! gateway's actors and store must be: nodes with snapshots that grow stale, a store with a version
//! per order and an epoch per owner, a provider with books of its own and a close that may lie, notices
//! that come twice or in any order, lost replies, lost commit answers, crashes, lost locks.
//!
//! One action is one commit, one call or one reply. Time is an action too: it moves to whatever the
//! stored order says is due next, once nobody who owns it has anything left to do.
//!
//! A model that cannot fail proves nothing: each [`Mutation`] breaks one rule and must be caught.
//!
//! `ENROLLPAY_MODEL=large` searches a bigger space (minutes instead of seconds).

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is how they fail"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use enrollpay::order::attempt::ClosingCause;
use enrollpay::order::decide::{CALL_TIMEOUT_MS, LINK_GRACE_MS};
use enrollpay::order::invariants::{Books, check, check_at_rest, check_step};
use enrollpay::order::refunds::RefundCause;
use enrollpay::order::state::CaptureStanding;
use enrollpay::order::{
    AccountId, AttemptId, AttemptNumber, CaptureReport, Claim, CloseAnswer, CloseReason, CodeMode,
    Command, Effect, Event, Fen, LatePayment, MerchantId, Offer, Order, OrderId, Outcome,
    PayerHash, Product, QueryAnswer, RefundAnswer, RefundId, Refusal, Settlement, Terms, Timestamp,
    TradeAnswer, decide, evolve,
};
use stateright::Expectation::Always;
use stateright::{Checker, HasDiscoveries, Model, Property};
use ulid::Ulid;

const START: Timestamp = Timestamp::from_seconds(1_616_000_000);
const AMOUNT: Fen = Fen::new(14_000);
/// Two of these are more than one payment.
const PART: Fen = Fen::new(8_400);
const STUDENT: PayerHash = PayerHash(1);
const STRANGER: PayerHash = PayerHash(2);
/// Shorter than the first scheduled query: those are the property tests' business.
const QR_MS: i64 = 4_000;
/// Attempts start within the first 80 s of it.
const DEADLINE_MS: i64 = 200_000;

/// A rule of the shell or of the heart, broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// The store compares the epoch, and no version.
    EpochButNoVersion,
    /// The store compares nothing.
    NeitherEpochNorVersion,
    /// A notice is acknowledged before it is on disk.
    AckBeforeCommit,
    /// Effects leave before the commit that intends them.
    ActBeforeCommit,
    /// A call is repeated from a snapshot that may be stale.
    RepeatUnchecked,
    /// A refund gets a new number at the provider with every try.
    FreshRefundId,
    /// An attempt ends when our clock says so.
    ExpireWithoutClosing,
    /// The same, and surplus is not refunded.
    KeepEverything,
    /// "No such trade" ends every attempt.
    NotFoundIsClosed,
    /// Money for an attempt that has ended is acknowledged and dropped.
    ForgetLateMoney,
    /// Money for a closed order pays it.
    ClosedBecomesPaid,
    /// A second payer takes a code over.
    SecondPayerClaims,
    /// An accepted cancel closes the order at once.
    CancelAtOnce,
    /// A refund is inserted as it was decided, whatever the row has become meanwhile.
    RefundUnlocked,
}

/// How much may go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    crashes: u8,
    lock_losses: u8,
    duplicates: u8,
    lost_replies: u8,
    lost_commits: u8,
    /// Trades that are paid after the provider said that they were closed (F22).
    lies: u8,
    cancels: u8,
    /// Merchants' wishes to give a part back.
    refunds: u8,
}

#[derive(Clone)]
struct Shell {
    nodes: usize,
    attempts: usize,
    product: Product,
    qr_ms: i64,
    budget: Budget,
    mutation: Option<Mutation>,
    /// Do the heart's own checks refuse writes? Off for those mutations that the world must show.
    judged: bool,
    /// The fence; the version alone must be enough.
    epochs: bool,
    seen: Arc<Seen>,
}

/// What happened at least once somewhere: not part of the state, so that it costs none.
#[derive(Default)]
struct Seen {
    stale_write_refused: AtomicBool,
    lost_commit_resolved: AtomicBool,
}

/// A trade in the provider's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum There {
    /// A link or code was handed out; nobody opened it, so the provider knows of no trade.
    Link {
        end: Timestamp,
    },
    Unpaid,
    Closed,
    Paid {
        at: Timestamp,
    },
}

/// One node: what it believes and what it still has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    epoch: Option<u8>,
    snapshot: Option<Arc<Order>>,
    /// Calls that its commits intended, and when.
    calls: BTreeMap<Effect, Timestamp>,
    replies: BTreeSet<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Timestamp,
    row: Arc<Order>,
    epoch: u8,
    owner: usize,
    provider: BTreeMap<AttemptNumber, There>,
    /// Refund numbers the provider has seen, by the attempt whose money they gave back.
    given_back: BTreeSet<(AttemptNumber, RefundId)>,
    /// The same for what merchants gave back of the payment.
    refunded: BTreeSet<RefundId>,
    /// Notices that are not yet acknowledged, and those that are.
    notices: BTreeSet<AttemptNumber>,
    acknowledged: BTreeSet<AttemptNumber>,
    nodes: Vec<Node>,
    budget: Budget,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Start(usize),
    Claim(usize, PayerHash),
    PressPay(usize, AttemptNumber),
    Cancel(usize),
    GiveBack(usize),
    Tick {
        node: usize,
        answer_lost: bool,
    },
    Call {
        node: usize,
        effect: Effect,
        reply_lost: bool,
    },
    Reply(usize, Command),
    /// In the payer's wallet.
    OpenLink(AttemptNumber),
    Pay(AttemptNumber),
    Notice {
        node: usize,
        attempt: AttemptNumber,
        again: bool,
    },
    Crash(usize),
    TakeOver(usize),
    Load(usize),
    TimePasses,
}

impl Shell {
    fn terms(&self) -> Terms {
        Terms {
            merchant: MerchantId::from_ulid(Ulid(1)),
            amount: AMOUNT,
            pay_before: Some(START.plus_ms(DEADLINE_MS)),
            late_payment: LatePayment::Refund,
            mode: CodeMode::Unified,
            offers: vec![Offer {
                wallet: self.product.wallet(),
                account: AccountId::new("a"),
                application: "b".into(),
            }],
            qr_ms: self.qr_ms,
        }
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The heart, and what a mutation makes of its answer.
    fn decide(&self, order: &Order, command: &Command, now: Timestamp) -> Outcome {
        if self.mutated(Mutation::NotFoundIsClosed)
            && let Command::QueryAnswer {
                attempt,
                answer: QueryAnswer::NotFound,
            } = command
        {
            let answer = QueryAnswer::Closed;
            let attempt = *attempt;
            return decide(order, &Command::QueryAnswer { attempt, answer }, now);
        }
        match (self.mutation, decide(order, command, now)) {
            (
                Some(Mutation::ExpireWithoutClosing | Mutation::KeepEverything),
                Outcome::Applied { events, effects },
            ) => {
                let (events, effects) = without_closing(events, effects);
                if self.mutated(Mutation::KeepEverything) {
                    let events = events.into_iter().map(kept).collect();
                    let calls = |effect: &Effect| !matches!(effect, Effect::Refund { .. });
                    let effects = effects.into_iter().filter(calls).collect();
                    return Outcome::Applied { events, effects };
                }
                Outcome::Applied { events, effects }
            }
            (Some(Mutation::ClosedBecomesPaid), Outcome::Applied { events, .. })
                if matches!(order.settlement, Settlement::Closed { .. })
                    && events
                        .iter()
                        .any(|event| matches!(event, Event::MoneyCaptured { .. })) =>
            {
                let mut events: Vec<_> = events.into_iter().map(kept).collect();
                events.push(Event::OrderPaid);
                let effects = Vec::new();
                Outcome::Applied { events, effects }
            }
            (Some(Mutation::SecondPayerClaims), Outcome::Refused(Refusal::AlreadyScanned)) => {
                let &Command::Claim {
                    attempt,
                    payer,
                    product,
                } = command
                else {
                    unreachable!("only a claim is refused so");
                };
                let claim = Claim {
                    payer,
                    product,
                    at: now,
                };
                Outcome::Applied {
                    events: vec![Event::AttemptClaimed { attempt, claim }],
                    effects: Vec::new(),
                }
            }
            (Some(Mutation::CancelAtOnce), Outcome::Applied { events, effects })
                if events.contains(&Event::CancelRequested) =>
            {
                let (mut events, effects) = without_closing(events, effects);
                let reason = CloseReason::Cancelled;
                if events.last() != Some(&Event::OrderClosed { reason }) {
                    events.push(Event::OrderClosed { reason });
                }
                Outcome::Applied { events, effects }
            }
            (Some(Mutation::ForgetLateMoney), outcome @ Outcome::Applied { .. }) => {
                let dead = |attempt| order.attempt(attempt).is_some_and(|it| !it.is_live());
                match command {
                    Command::Capture(report) if dead(report.attempt) => {
                        Outcome::Already(enrollpay::order::Answer::Stale, Vec::new())
                    }
                    _ => outcome,
                }
            }
            (_, outcome) => outcome,
        }
    }

    /// A commit by a node that believes it owns the order. `false`: it was refused, and the node
    /// has learned why.
    fn commit(&self, world: &mut World, node: usize, events: &[Event]) -> bool {
        let Some(snapshot) = world.nodes[node].snapshot.clone() else {
            return false;
        };
        let fenced = self.epochs && !self.mutated(Mutation::NeitherEpochNorVersion);
        if fenced && world.nodes[node].epoch != Some(world.epoch) {
            self.seen.stale_write_refused.store(true, Ordering::Relaxed);
            let calls = std::mem::take(&mut world.nodes[node].calls);
            world.nodes[node] = Node {
                calls,
                ..Node::default()
            };
            return false;
        }
        let versioned = !matches!(
            self.mutation,
            Some(Mutation::EpochButNoVersion | Mutation::NeitherEpochNorVersion)
        );
        if versioned && snapshot.version != world.row.version {
            self.seen.stale_write_refused.store(true, Ordering::Relaxed);
            world.nodes[node].snapshot = Some(world.row.clone());
            return false;
        }
        self.write(world, &snapshot, events);
        world.nodes[node].snapshot = Some(world.row.clone());
        true
    }

    /// What was decided on `basis` becomes the row.
    fn write(&self, world: &mut World, basis: &Order, events: &[Event]) {
        let after = evolve(basis.clone(), events, world.now);
        if self.judged
            && world.broken.is_none()
            && let Err(broken) = check_step(&world.row, &after)
        {
            world.broken = Some(broken.invariant);
        }
        world.row = Arc::new(after);
    }

    /// Decide, commit, then keep the calls to be made. `None` where nothing changed.
    fn handle(
        &self,
        world: &mut World,
        node: usize,
        command: &Command,
        answer_lost: bool,
    ) -> Option<()> {
        let snapshot = world.nodes[node].snapshot.clone()?;
        match self.decide(&snapshot, command, world.now) {
            Outcome::Applied { events, effects } => {
                let committed = self.commit(world, node, &events);
                if committed && answer_lost {
                    // The commit stands; nobody here knows. Only the row can tell.
                    world.budget.lost_commits = world.budget.lost_commits.checked_sub(1)?;
                    world.nodes[node].snapshot = None;
                    world.nodes[node].calls.clear();
                    return Some(());
                }
                if committed || self.mutated(Mutation::ActBeforeCommit) {
                    world.intend(node, effects);
                }
                Some(())
            }
            _ if answer_lost => None,
            Outcome::Already(_, effects) if !effects.is_empty() => {
                if snapshot.version != world.row.version && !self.mutated(Mutation::RepeatUnchecked)
                {
                    self.seen.stale_write_refused.store(true, Ordering::Relaxed);
                    world.nodes[node].snapshot = Some(world.row.clone());
                    return Some(());
                }
                world.intend(node, effects);
                Some(())
            }
            Outcome::Already(..) | Outcome::Refused(_) => None,
        }
    }

    /// A fact needs no ownership: it is decided on the row, wherever it arrives.
    fn record(&self, world: &mut World, report: CaptureReport) -> bool {
        let row = world.row.clone();
        match self.decide(&row, &Command::Capture(report), world.now) {
            Outcome::Applied { events, effects } => {
                self.write(world, &row, &events);
                // The owner is told, or finds it in the row: what is to be done is due there. Here
                // the one who recorded it acts; should it crash, the row brings it back.
                let owner = world.owner;
                world.intend(owner, effects);
                true
            }
            _ => false,
        }
    }

    /// The provider acts on a call, and what it says.
    fn provider(&self, world: &mut World, effect: &Effect, tries: &RefundId) -> Option<Command> {
        match *effect {
            Effect::MakeTrade { attempt } => {
                let end = world
                    .row
                    .attempt(attempt)
                    .map_or(START, |attempt| attempt.expires_at);
                let made = if self.product.trade_appears_later() {
                    There::Link { end }
                } else {
                    There::Unpaid
                };
                let there = *world.provider.entry(attempt).or_insert(made);
                let answer = match there {
                    There::Link { .. } | There::Unpaid => TradeAnswer::Made { handle: "h".into() },
                    // It exists and is over: no proof that there is none.
                    There::Closed | There::Paid { .. } => TradeAnswer::Unknown,
                };
                Some(Command::TradeAnswer { attempt, answer })
            }
            Effect::QueryTrade { attempt } => {
                let answer = match world.provider.get(&attempt) {
                    None | Some(There::Link { .. }) => QueryAnswer::NotFound,
                    Some(There::Unpaid) => QueryAnswer::Unpaid,
                    Some(There::Closed) => QueryAnswer::Closed,
                    Some(There::Paid { at }) => QueryAnswer::Paid(report(attempt, *at)),
                };
                Some(Command::QueryAnswer { attempt, answer })
            }
            Effect::CloseTrade { attempt } => {
                let answer = match world.provider.get_mut(&attempt) {
                    None | Some(There::Link { .. }) => CloseAnswer::NotFound,
                    Some(there @ (There::Unpaid | There::Closed)) => {
                        *there = There::Closed;
                        CloseAnswer::Closed
                    }
                    Some(There::Paid { .. }) => CloseAnswer::AlreadyPaid,
                };
                Some(Command::CloseAnswer { attempt, answer })
            }
            Effect::Refund { refund } => {
                // The provider does as it is told: what it gives back is for us to bound.
                let known = world.row.refund(refund)?;
                let (attempt, cause) = (known.attempt, known.cause);
                if cause == RefundCause::Merchant {
                    world.refunded.insert(*tries);
                } else {
                    world.given_back.insert((attempt, *tries));
                }
                let answer = RefundAnswer::Succeeded;
                Some(Command::RefundAnswer {
                    refund,
                    round: 0,
                    answer,
                })
            }
            // Nothing is abnormal in this world.
            Effect::RepairRefund { .. } => None,
        }
    }

    fn call(
        &self,
        world: &mut World,
        node: usize,
        effect: &Effect,
        reply_lost: bool,
    ) -> Option<()> {
        let intended = world.nodes[node].calls.remove(effect)?;
        // Past its own timeout a call is not made any more: who intended it may be long replaced.
        if world.now.since(intended) >= CALL_TIMEOUT_MS {
            return Some(());
        }
        let fresh = |refund: RefundId| {
            let tries = (world.given_back.len() + world.refunded.len()) as u128;
            RefundId::from_ulid(Ulid(refund.ulid().0 + 100 * tries))
        };
        let refund = match effect {
            Effect::Refund { refund } if self.mutated(Mutation::FreshRefundId) => fresh(*refund),
            Effect::Refund { refund } => *refund,
            _ => RefundId::from_ulid(Ulid(0)),
        };
        let reply = self.provider(world, effect, &refund)?;
        if reply_lost {
            world.budget.lost_replies = world.budget.lost_replies.checked_sub(1)?;
        } else {
            world.nodes[node].replies.insert(reply);
        }
        Some(())
    }
}

/// Instead of waiting for the provider's word: the attempt is over, and so is its trade.
fn without_closing(events: Vec<Event>, effects: Vec<Effect>) -> (Vec<Event>, Vec<Effect>) {
    if !events
        .iter()
        .any(|event| matches!(event, Event::AttemptClosing { .. }))
    {
        return (events, effects);
    }
    let events = events
        .into_iter()
        .flat_map(|event| match event {
            Event::AttemptClosing { attempt, cause } => {
                let end = match cause {
                    ClosingCause::TimeUp => Event::AttemptExpired { attempt },
                    ClosingCause::Ended(reason) => Event::AttemptCancelled { attempt, reason },
                };
                vec![Event::TradeDied { attempt }, end]
            }
            Event::ClosingMoved { .. } | Event::ProviderAsked { .. } => Vec::new(),
            other => vec![other],
        })
        .collect();
    (events, Vec::new())
}

fn kept(event: Event) -> Event {
    match event {
        Event::MoneyCaptured { mut capture } => {
            capture.standing = CaptureStanding::Kept;
            Event::MoneyCaptured { capture }
        }
        other => other,
    }
}

/// The provider's report of the one payment of an attempt.
fn report(attempt: AttemptNumber, at: Timestamp) -> CaptureReport {
    CaptureReport {
        attempt,
        account: AccountId::new("a"),
        application: "b".into(),
        transaction_id: format!("t{}", attempt.get()).into(),
        amount: AMOUNT,
        currency: "CNY".into(),
        succeeded_at: at,
        surplus_refund: RefundId::from_ulid(Ulid(u128::from(attempt.get()))),
    }
}

impl World {
    fn intend(&mut self, node: usize, effects: Vec<Effect>) {
        let now = self.now;
        self.nodes[node]
            .calls
            .extend(effects.into_iter().map(|effect| (effect, now)));
    }

    fn paid_at(&self, attempt: AttemptNumber) -> Option<Timestamp> {
        match self.provider.get(&attempt) {
            Some(There::Paid { at }) => Some(*at),
            _ => None,
        }
    }

    /// The provider's books of this order.
    fn books(&self) -> Books {
        let paid = self
            .provider
            .values()
            .filter(|there| matches!(there, There::Paid { .. }));
        let sum = |count: usize| Fen::sum(std::iter::repeat_n(AMOUNT, count)).unwrap();
        Books {
            captured: sum(paid.count()),
            surplus_refunded: sum(self.given_back.len()),
            refunded: Fen::sum(std::iter::repeat_n(PART, self.refunded.len())).unwrap(),
        }
    }

    /// Trades that somebody can pay right now.
    fn payable(&self) -> usize {
        self.provider
            .values()
            .filter(|there| match there {
                There::Link { end } => self.now < end.plus_ms(LINK_GRACE_MS),
                There::Unpaid => true,
                There::Closed | There::Paid { .. } => false,
            })
            .count()
    }

    /// What time moves to: whatever is due next, and at last a day beyond the deadline.
    fn later(&self) -> Option<Timestamp> {
        let due = self.row.next_due_at();
        due.or_else(|| Some(START.plus_ms(DEADLINE_MS + 86_400_000)))
    }

    fn heard(&self, attempt: AttemptNumber) -> bool {
        self.row
            .captures
            .iter()
            .any(|capture| capture.attempt == attempt)
    }
}

impl Model for Shell {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let row = Arc::new(Order::created(
            OrderId::from_ulid(Ulid(7)),
            self.terms(),
            START,
        ));
        let mut nodes = vec![Node::default(); self.nodes];
        nodes[0].epoch = Some(1);
        nodes[0].snapshot = Some(row.clone());
        vec![World {
            now: START,
            row,
            epoch: 1,
            owner: 0,
            provider: BTreeMap::new(),
            given_back: BTreeSet::new(),
            refunded: BTreeSet::new(),
            notices: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            nodes,
            budget: self.budget,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, node) in world.nodes.iter().enumerate() {
            if let Some(snapshot) = &node.snapshot {
                let last = snapshot.attempts.last();
                if snapshot.attempts.len() < self.attempts {
                    actions.push(Action::Start(index));
                }
                if let Some(last) = last {
                    if last.claim.is_none() {
                        actions.push(Action::Claim(index, STUDENT));
                    } else if self.mutated(Mutation::SecondPayerClaims) {
                        actions.push(Action::Claim(index, STRANGER));
                    }
                    if last.claim.is_some() {
                        actions.push(Action::PressPay(index, last.number));
                    }
                }
                if world.budget.cancels > 0 {
                    actions.push(Action::Cancel(index));
                }
                if world.budget.refunds > 0 {
                    actions.push(Action::GiveBack(index));
                }
                if snapshot.next_due_at().is_some_and(|due| due <= world.now) {
                    let node = index;
                    for answer_lost in [false, true] {
                        if !answer_lost || world.budget.lost_commits > 0 {
                            actions.push(Action::Tick { node, answer_lost });
                        }
                    }
                }
            } else if node.epoch.is_some() {
                actions.push(Action::Load(index));
            }
            for effect in node.calls.keys() {
                for reply_lost in [false, true] {
                    if !reply_lost || world.budget.lost_replies > 0 {
                        actions.push(Action::Call {
                            node: index,
                            effect: effect.clone(),
                            reply_lost,
                        });
                    }
                }
            }
            for reply in &node.replies {
                actions.push(Action::Reply(index, reply.clone()));
            }
            for &attempt in &world.notices {
                let node = index;
                actions.push(Action::Notice {
                    node,
                    attempt,
                    again: false,
                });
                if world.budget.duplicates > 0 {
                    actions.push(Action::Notice {
                        node,
                        attempt,
                        again: true,
                    });
                }
            }
            if world.budget.crashes > 0 && *node != Node::default() {
                actions.push(Action::Crash(index));
            }
            let owner_lives = world.nodes[world.owner].epoch == Some(world.epoch);
            if node.epoch.is_none() && (!owner_lives || world.budget.lock_losses > 0) {
                actions.push(Action::TakeOver(index));
            }
        }
        for (&attempt, there) in &world.provider {
            match there {
                There::Link { end } if world.now < end.plus_ms(LINK_GRACE_MS) => {
                    actions.push(Action::OpenLink(attempt));
                }
                There::Unpaid => actions.push(Action::Pay(attempt)),
                There::Closed if world.budget.lies > 0 => actions.push(Action::Pay(attempt)),
                _ => {}
            }
        }
        // Whoever may still commit has nothing left to do; a fenced node may dream on.
        let idle = world.nodes.iter().enumerate().all(|(index, node)| {
            let fenced = self.epochs && index != world.owner;
            fenced || (node.calls.is_empty() && node.replies.is_empty())
        });
        if idle && world.later().is_some_and(|later| later > world.now) {
            actions.push(Action::TimePasses);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Start(node) => {
                let attempts = world.nodes[node].snapshot.as_ref()?.attempts.len();
                let id = AttemptId::from_ulid(Ulid(attempts as u128 + 1));
                let start = Command::StartAttempt { id, wallet: None };
                self.handle(&mut world, node, &start, false)?;
            }
            Action::Claim(node, payer) => {
                let attempt = world.nodes[node].snapshot.as_ref()?.attempts.last()?.number;
                let product = self.product;
                let claim = Command::Claim {
                    attempt,
                    payer,
                    product,
                };
                self.handle(&mut world, node, &claim, false)?;
            }
            Action::PressPay(node, attempt) => {
                let pay = Command::Pay {
                    attempt,
                    payer: STUDENT,
                };
                self.handle(&mut world, node, &pay, false)?;
            }
            Action::Cancel(node) => {
                world.budget.cancels = world.budget.cancels.checked_sub(1)?;
                self.handle(&mut world, node, &Command::Cancel, false)?;
            }
            Action::GiveBack(node) => {
                let left = world.budget.refunds;
                world.budget.refunds = left.checked_sub(1)?;
                let wish = Command::Refund {
                    refund: RefundId::from_ulid(Ulid(500 + u128::from(left))),
                    merchant_refund_no: format!("R{left}").into(),
                    amount: PART,
                };
                if self.mutated(Mutation::RefundUnlocked) {
                    let snapshot = world.nodes[node].snapshot.clone()?;
                    let Outcome::Applied { events, effects } = decide(&snapshot, &wish, world.now)
                    else {
                        return None;
                    };
                    let row = world.row.clone();
                    self.write(&mut world, &row, &events);
                    world.intend(node, effects);
                } else {
                    self.handle(&mut world, node, &wish, false)?;
                }
            }
            Action::Tick { node, answer_lost } => {
                self.handle(&mut world, node, &Command::Tick, answer_lost)?;
            }
            Action::Call {
                node,
                effect,
                reply_lost,
            } => self.call(&mut world, node, &effect, reply_lost)?,
            Action::Reply(node, reply) => {
                if let Command::QueryAnswer {
                    answer: QueryAnswer::Paid(report),
                    ..
                } = &reply
                {
                    self.record(&mut world, report.clone());
                    world.nodes[node].replies.remove(&reply);
                } else {
                    let version = world.row.version;
                    let handled = self.handle(&mut world, node, &reply, false);
                    // A refused write leaves the reply for the reloaded snapshot.
                    if handled.is_none()
                        || world.row.version != version
                        || world.nodes[node].snapshot.is_none()
                    {
                        world.nodes[node].replies.remove(&reply);
                    }
                }
            }
            Action::OpenLink(attempt) => {
                world.provider.insert(attempt, There::Unpaid);
            }
            Action::Pay(attempt) => {
                if world.provider.get(&attempt) == Some(&There::Closed) {
                    world.budget.lies = world.budget.lies.checked_sub(1)?;
                }
                world.provider.insert(attempt, There::Paid { at: last.now });
                world.notices.insert(attempt);
            }
            Action::Notice {
                node,
                attempt,
                again,
            } => {
                let report = report(attempt, world.paid_at(attempt)?);
                if self.mutated(Mutation::AckBeforeCommit) {
                    world.nodes[node].replies.insert(Command::QueryAnswer {
                        attempt,
                        answer: QueryAnswer::Paid(report),
                    });
                } else {
                    self.record(&mut world, report);
                }
                world.acknowledged.insert(attempt);
                if again {
                    world.budget.duplicates = world.budget.duplicates.checked_sub(1)?;
                } else {
                    world.notices.remove(&attempt);
                }
            }
            Action::Crash(node) => {
                world.budget.crashes = world.budget.crashes.checked_sub(1)?;
                world.nodes[node] = Node::default();
            }
            Action::TakeOver(node) => {
                if world.nodes[world.owner].epoch == Some(world.epoch) {
                    world.budget.lock_losses = world.budget.lock_losses.checked_sub(1)?;
                }
                world.epoch += 1;
                world.owner = node;
                world.nodes[node].epoch = Some(world.epoch);
                world.nodes[node].snapshot = Some(world.row.clone());
            }
            Action::Load(node) => {
                self.seen
                    .lost_commit_resolved
                    .store(true, Ordering::Relaxed);
                world.nodes[node].snapshot = Some(world.row.clone());
            }
            Action::TimePasses => world.now = world.later()?,
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(INVARIANTS, |shell: &Shell, world: &World| {
                !shell.judged || (world.broken.is_none() && check(&world.row).is_ok())
            }),
            Property::always(
                "an acknowledged payment is on record",
                |shell: &Shell, world: &World| {
                    let _ = shell;
                    world
                        .acknowledged
                        .iter()
                        .all(|&attempt| world.heard(attempt))
                },
            ),
            Property::always("at rest the money is right", |_: &Shell, world: &World| {
                !world.notices.is_empty() || check_at_rest(&world.row, world.books()).is_ok()
            }),
            Property::always("one payment is kept", |_: &Shell, world: &World| {
                let kept = |capture: &&enrollpay::order::Capture| {
                    capture.standing == CaptureStanding::Kept
                };
                world.row.captures.iter().filter(kept).count() <= 1
            }),
            Property::always("one code is payable", |_: &Shell, world: &World| {
                world.payable() <= 1
            }),
            Property::always("nothing is refunded twice", |_: &Shell, world: &World| {
                let mut attempts = BTreeSet::new();
                world
                    .given_back
                    .iter()
                    .all(|(attempt, _)| attempts.insert(attempt))
            }),
            Property::always(GIVEN_BACK, |_: &Shell, world: &World| {
                let books = world.books();
                books.refunded <= books.captured
            }),
            Property::always(
                "every trade has its intent on record",
                |_: &Shell, world: &World| {
                    world.provider.keys().all(|&attempt| {
                        world
                            .row
                            .attempt(attempt)
                            .is_some_and(|attempt| attempt.trade.is_some())
                    })
                },
            ),
            Property::always(
                "nothing that lives is forgotten",
                |_: &Shell, world: &World| {
                    world.row.live_attempt().is_none() || world.row.next_due_at().is_some()
                },
            ),
            Property::always(
                "a closed order has no payable code",
                |_: &Shell, world: &World| {
                    !matches!(world.row.settlement, Settlement::Closed { .. })
                        || world.payable() == 0
                },
            ),
            Property::sometimes("paid", |_: &Shell, world: &World| {
                matches!(world.row.settlement, Settlement::Paid { .. })
            }),
            Property::sometimes("expired", |_: &Shell, world: &World| {
                world
                    .row
                    .attempts
                    .iter()
                    .any(|attempt| attempt.status() == "expired" && attempt.trade.is_some())
            }),
            Property::sometimes(
                "a part of the payment goes back",
                |_: &Shell, world: &World| world.row.amount_refunded() == PART,
            ),
            Property::sometimes(
                "a second code is paid, and refunded",
                |_: &Shell, world: &World| {
                    world.books().captured == Fen::new(2 * AMOUNT.get())
                        && world.books().net() == Some(AMOUNT)
                        && matches!(world.row.settlement, Settlement::Paid { .. })
                },
            ),
            Property::sometimes(
                "money after the deadline is refunded",
                |_: &Shell, world: &World| {
                    let late = |capture: &enrollpay::order::Capture| {
                        capture.succeeded_at > START.plus_ms(DEADLINE_MS)
                    };
                    world.row.captures.iter().any(late) && world.books().net() == Some(Fen::ZERO)
                },
            ),
            Property::sometimes(
                "the deadline closes an order, and money arrives",
                |_: &Shell, world: &World| {
                    matches!(
                        world.row.settlement,
                        Settlement::Closed {
                            reason: CloseReason::Deadline,
                            ..
                        }
                    ) && !world.row.captures.is_empty()
                },
            ),
        ]
    }
}

fn shell(product: Product, nodes: usize, attempts: usize, budget: Budget) -> Shell {
    Shell {
        nodes,
        attempts,
        product,
        qr_ms: QR_MS,
        budget,
        mutation: None,
        judged: true,
        epochs: true,
        seen: Arc::default(),
    }
}

/// The real life of a code: for what happens while it could still be paid.
fn long_code(shell: Shell) -> Shell {
    Shell {
        qr_ms: 180_000,
        ..shell
    }
}

const NONE: Budget = Budget {
    crashes: 0,
    lock_losses: 0,
    duplicates: 0,
    lost_replies: 0,
    lost_commits: 0,
    lies: 0,
    cancels: 0,
    refunds: 0,
};

/// Searches every state of every shell. All must hold everywhere; each example must be found
/// somewhere. The counts are pinned: where one changes, so has what the heart or the shell does, and
/// a person should know why.
fn search(shells: Vec<(Shell, usize)>, examples: &[&'static str]) {
    let mut missing: BTreeSet<_> = examples.iter().copied().collect();
    let mut counts = Vec::new();
    for (shell, expected) in shells {
        let seen = shell.seen.clone();
        let checker = shell.checker().threads(1).spawn_bfs().join();
        for (name, path) in checker.discoveries() {
            let is_always = checker
                .model()
                .properties()
                .iter()
                .any(|property| property.name == name && property.expectation == Always);
            assert!(!is_always, "not: {name}\n{:#?}", path.into_actions());
            missing.remove(name);
        }
        if seen.stale_write_refused.load(Ordering::Relaxed) {
            missing.remove(STALE_WRITE_REFUSED);
        }
        if seen.lost_commit_resolved.load(Ordering::Relaxed) {
            missing.remove(LOST_COMMIT_RESOLVED);
        }
        counts.push((checker.unique_state_count(), expected));
    }
    assert_eq!(missing, BTreeSet::new(), "never happened");
    let (found, pinned): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
    assert_eq!(found, pinned, "unique states");
}

const STALE_WRITE_REFUSED: &str = "a stale write is refused";
const LOST_COMMIT_RESOLVED: &str = "a lost commit answer is resolved";

/// One node: everything that payers, providers and time can do.
#[test]
fn one_node_keeps_the_money_right() {
    use Product::{AlipayCreate, AlipayWap, WechatJsapi};
    search(
        vec![
            (shell(WechatJsapi, 1, 2, Budget { lies: 1, ..NONE }), 37_187),
            (shell(AlipayWap, 1, 2, Budget { lies: 1, ..NONE }), 95_289),
            (
                shell(
                    AlipayCreate,
                    1,
                    2,
                    Budget {
                        lies: 1,
                        crashes: 1,
                        ..NONE
                    },
                ),
                109_285,
            ),
            (
                shell(
                    WechatJsapi,
                    1,
                    2,
                    Budget {
                        crashes: 1,
                        lost_replies: 1,
                        ..NONE
                    },
                ),
                45_627,
            ),
            (
                shell(
                    AlipayCreate,
                    1,
                    2,
                    Budget {
                        cancels: 1,
                        lost_commits: 1,
                        duplicates: 1,
                        ..NONE
                    },
                ),
                24_561,
            ),
        ],
        &[
            "paid",
            "expired",
            "a second code is paid, and refunded",
            "money after the deadline is refunded",
            "the deadline closes an order, and money arrives",
            LOST_COMMIT_RESOLVED,
        ],
    );
}

/// Two nodes, each of which may believe that it owns the order.
#[test]
fn two_believers_keep_the_money_right() {
    use Product::{AlipayCreate, WechatJsapi};
    let loss = Budget {
        lock_losses: 1,
        ..NONE
    };
    search(
        vec![
            (shell(AlipayCreate, 2, 2, loss), 48_978),
            (shell(AlipayCreate, 2, 1, Budget { lies: 1, ..loss }), 4_974),
            (
                shell(AlipayCreate, 2, 1, Budget { crashes: 1, ..loss }),
                27_011,
            ),
            (
                shell(
                    AlipayCreate,
                    2,
                    1,
                    Budget {
                        duplicates: 1,
                        lost_commits: 1,
                        ..loss
                    },
                ),
                18_153,
            ),
            (
                shell(
                    WechatJsapi,
                    2,
                    1,
                    Budget {
                        lost_replies: 1,
                        ..loss
                    },
                ),
                19_834,
            ),
        ],
        &["paid", "expired", STALE_WRITE_REFUSED, LOST_COMMIT_RESOLVED],
    );
}

/// Merchants give back, and two nodes may believe that the payment is theirs to give back from.
#[test]
fn no_more_goes_back_than_was_paid() {
    use Product::{AlipayCreate, WechatJsapi};
    let two = Budget { refunds: 2, ..NONE };
    search(
        vec![
            (shell(AlipayCreate, 1, 2, Budget { lies: 1, ..two }), 69_536),
            (
                shell(
                    WechatJsapi,
                    2,
                    1,
                    Budget {
                        lock_losses: 1,
                        lost_replies: 1,
                        ..two
                    },
                ),
                46_669,
            ),
            (
                shell(
                    AlipayCreate,
                    2,
                    1,
                    Budget {
                        duplicates: 1,
                        lock_losses: 1,
                        lost_commits: 1,
                        ..two
                    },
                ),
                43_239,
            ),
        ],
        &[
            "paid",
            "a part of the payment goes back",
            STALE_WRITE_REFUSED,
        ],
    );
}

/// The version alone is enough: the epoch is a second, earlier refusal.
#[test]
fn the_version_is_the_arbiter() {
    let budget = Budget {
        lock_losses: 1,
        duplicates: 1,
        lies: 1,
        cancels: 1,
        ..NONE
    };
    let without_epochs = Shell {
        epochs: false,
        ..shell(Product::AlipayCreate, 2, 1, budget)
    };
    search(
        vec![(without_epochs, 32_121)],
        &["paid", "expired", STALE_WRITE_REFUSED],
    );
}

/// On demand: `ENROLLPAY_MODEL=large` widens the faults; nothing is pinned, everything must hold.
#[test]
fn a_larger_space_holds_too() {
    let large = std::env::var("ENROLLPAY_MODEL").is_ok_and(|size| size == "large");
    let (attempts, budget) = if large {
        (
            2,
            Budget {
                crashes: 1,
                lock_losses: 1,
                duplicates: 1,
                lost_replies: 1,
                lost_commits: 0,
                lies: 1,
                cancels: 1,
                refunds: 0,
            },
        )
    } else {
        (
            1,
            Budget {
                lock_losses: 1,
                lies: 1,
                cancels: 1,
                ..NONE
            },
        )
    };
    for product in [
        Product::AlipayCreate,
        Product::WechatJsapi,
        Product::AlipayWap,
    ] {
        if product != Product::AlipayCreate && !large {
            continue;
        }
        let checker = shell(product, 2, attempts, budget)
            .checker()
            .threads(if large { 2 } else { 1 })
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        println!(
            "{product:?}: {} unique states",
            checker.unique_state_count()
        );
        for property in checker.model().properties() {
            if property.expectation == Always {
                checker.assert_no_discovery(property.name);
            }
        }
    }
}

/// Longer than any trace that the mutations need.
const DEEPEST_TRACE: usize = 30;
const GIVEN_BACK: &str = "no more goes back than was taken";
const INVARIANTS: &str = "the heart's invariants hold";

/// A mutation, where it is looked for, and the property that must show it.
type Caught = (Mutation, Shell, &'static str);

fn mutations() -> Vec<Caught> {
    use Mutation as M;
    use Product::{AlipayCreate, AlipayWap, WechatJsapi};
    let on_record = "an acknowledged payment is on record";
    let one_code = "one code is payable";
    vec![
        (
            M::EpochButNoVersion,
            shell(
                AlipayCreate,
                2,
                1,
                Budget {
                    lock_losses: 0,
                    ..NONE
                },
            ),
            on_record,
        ),
        (
            M::NeitherEpochNorVersion,
            shell(
                AlipayCreate,
                2,
                1,
                Budget {
                    lock_losses: 1,
                    ..NONE
                },
            ),
            on_record,
        ),
        (
            M::AckBeforeCommit,
            shell(AlipayCreate, 1, 1, Budget { crashes: 1, ..NONE }),
            on_record,
        ),
        (
            M::ActBeforeCommit,
            shell(
                AlipayCreate,
                2,
                1,
                Budget {
                    lock_losses: 1,
                    ..NONE
                },
            ),
            "every trade has its intent on record",
        ),
        (
            M::RepeatUnchecked,
            long_code(shell(
                WechatJsapi,
                2,
                1,
                Budget {
                    lock_losses: 1,
                    cancels: 1,
                    ..NONE
                },
            )),
            "a closed order has no payable code",
        ),
        (
            M::FreshRefundId,
            shell(
                AlipayCreate,
                1,
                2,
                Budget {
                    lies: 1,
                    lost_replies: 1,
                    ..NONE
                },
            ),
            "nothing is refunded twice",
        ),
        (
            M::ExpireWithoutClosing,
            shell(WechatJsapi, 1, 2, NONE),
            one_code,
        ),
        (
            M::KeepEverything,
            shell(WechatJsapi, 1, 2, NONE),
            "one payment is kept",
        ),
        (M::NotFoundIsClosed, shell(AlipayWap, 1, 2, NONE), one_code),
        (
            M::ForgetLateMoney,
            shell(AlipayCreate, 1, 1, Budget { lies: 1, ..NONE }),
            on_record,
        ),
        (
            M::ClosedBecomesPaid,
            shell(
                AlipayCreate,
                1,
                1,
                Budget {
                    lies: 1,
                    cancels: 1,
                    ..NONE
                },
            ),
            INVARIANTS,
        ),
        (
            M::SecondPayerClaims,
            shell(WechatJsapi, 1, 1, NONE),
            INVARIANTS,
        ),
        (
            M::CancelAtOnce,
            shell(WechatJsapi, 1, 1, Budget { cancels: 1, ..NONE }),
            "a closed order has no payable code",
        ),
        (
            M::RefundUnlocked,
            shell(
                AlipayCreate,
                2,
                1,
                Budget {
                    refunds: 2,
                    lock_losses: 1,
                    ..NONE
                },
            ),
            GIVEN_BACK,
        ),
    ]
}

/// A model that cannot fail proves nothing: every broken rule shows, and in a trace that a person
/// can read, for the depth of the search grows only until it is found.
#[test]
fn every_mutation_is_caught() {
    for (mutation, mut model, expected) in mutations() {
        model.mutation = Some(mutation);
        // Where the world can show it, the heart's own checks stay out of the way.
        model.judged = expected == INVARIANTS;
        let found = (4..=DEEPEST_TRACE).step_by(2).find_map(|depth| {
            model
                .clone()
                .checker()
                .threads(1)
                .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([expected])))
                .target_max_depth(depth)
                .spawn_bfs()
                .join()
                .discovery(expected)
        });
        let trace = found
            .unwrap_or_else(|| panic!("{mutation:?}: {expected:?} held to depth {DEEPEST_TRACE}"))
            .into_actions();
        println!("{mutation:?}: {} steps: {trace:?}", trace.len());
    }
}
