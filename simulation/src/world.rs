//! Everything there is in one run, and the loop that lets it happen.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use ulid::Ulid;

use crate::dice::Dice;
use crate::happening::{Call, Flush, Happening, Notice};
use crate::marks::{Mark, Marks};
use crate::mutation::Mutation;
use crate::node::{Answered, Node, Verdict};
use crate::order::{Event, Fen, Order, OrderId, Timestamp, Wallet};
use crate::provider::{Account, Number, Payment};
use crate::queue::Queue;
use crate::store::{Row, Store};
use crate::swarm::{self, Swarm};

pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_168_800);
/// The first order's number; the others follow.
const FIRST_ORDER: u128 = 1 << 70;

/// What people know of one order.
#[derive(Debug, Default)]
pub(crate) struct Folk {
    pub until: Timestamp,
    pub codes: Vec<Code>,
    /// Refunds that the merchant has asked for: number and amount.
    pub refunds: Vec<(Box<str>, Fen)>,
}

#[derive(Debug)]
pub(crate) struct Code {
    pub attempt: crate::order::AttemptNumber,
    /// Who was told that the code is theirs.
    pub told: Option<u8>,
    pub product: crate::order::Product,
    /// It can be opened in a wallet.
    pub handle: bool,
    pub ended: bool,
}

/// A lock of each shard: who holds it, until when.
#[derive(Debug, Default)]
pub(crate) struct Locks(pub Vec<Option<(usize, u64, Timestamp)>>);

pub(crate) struct World {
    pub now: Timestamp,
    pub dice: Dice,
    pub swarm: Swarm,
    /// `Swarm::is_honest` as drawn.
    pub honest: bool,
    pub healed: bool,
    pub marks: Marks,
    pub mutation: Option<Mutation>,
    pub queue: Queue<Happening>,
    pub store: Store,
    pub nodes: Vec<Node>,
    pub locks: Locks,
    pub accounts: [Account; 2],
    pub folk: Vec<Folk>,
    pub calls: Vec<Call>,
    pub notices: Vec<Notice>,
    pub flushes: Vec<Flush>,
    pub audit: crate::audit::Audit,
    pub endpoint_down_until: Timestamp,
    /// How often each event reached the endpoint, by its place in the outbox.
    pub received: BTreeMap<usize, (u32, Rc<str>)>,
    pub transactions: u64,
    pub failure: Option<String>,
    pub steps: u64,
    pub digest: u64,
    trace: Option<VecDeque<String>>,
    lines: usize,
    over: bool,
}

impl World {
    /// `lines`: how many of a trace are kept.
    pub fn new(seed: u64, mutation: Option<Mutation>, lines: usize) -> Self {
        let mut dice = Dice::new(seed);
        let swarm = Swarm::draw(&mut dice);
        let mut store = Store::new(swarm.shards);
        for index in 0..swarm.orders {
            let terms = swarm::terms(&mut dice, START, &swarm);
            let id = OrderId::from_ulid(Ulid(FIRST_ORDER + index as u128));
            let events = [Event::OrderCreated {
                terms: terms.clone(),
            }];
            store.rows.push(Row {
                order: Rc::new(Order::created(id, terms, START)),
                timeline: vec![(START, Rc::from(events))],
            });
        }
        let nodes = (0..swarm.nodes).map(|_| Node::new(swarm.shards, swarm.orders));
        Self {
            now: START,
            honest: swarm.is_honest(),
            healed: false,
            marks: Marks::default(),
            mutation,
            queue: Queue::new(),
            nodes: nodes.collect(),
            locks: Locks(vec![None; swarm.shards]),
            accounts: [Account::new(Wallet::Wechat), Account::new(Wallet::Alipay)],
            folk: (0..swarm.orders).map(|_| Folk::default()).collect(),
            calls: Vec::new(),
            notices: Vec::new(),
            flushes: Vec::new(),
            audit: crate::audit::Audit::default(),
            endpoint_down_until: START,
            received: BTreeMap::new(),
            transactions: 0,
            failure: None,
            steps: 0,
            digest: 0,
            trace: (lines > 0).then(VecDeque::new),
            lines,
            over: false,
            dice,
            swarm,
            store,
        }
    }

    pub fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub fn plan(&mut self, in_ms: i64, what: Happening) {
        self.queue.plan(self.now.plus_ms(in_ms.max(0)), what);
    }

    /// The first failure stands.
    pub fn fail(&mut self, what: impl Into<String>) {
        if self.failure.is_none() {
            let what = what.into();
            self.note(|| format!("FAILED: {what}"));
            self.failure = Some(what);
        }
    }

    /// A line of the trace; free where nobody reads it.
    pub fn note<T: fmt::Display>(&mut self, line: impl FnOnce() -> T) {
        let Some(trace) = &mut self.trace else { return };
        if trace.len() >= self.lines {
            trace.pop_front();
        }
        let ms = self.now.since(START);
        trace.push_back(format!("{:>9}.{:03} s  {}", ms / 1000, ms % 1000, line()));
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().into_iter().flatten().collect()
    }

    pub fn hit(&mut self, mark: Mark) {
        self.marks.hit(mark);
    }

    /// Runs to the end, or to the first failure.
    pub fn run(&mut self) {
        while self.failure.is_none() && !self.over {
            let Some((at, what)) = self.queue.next() else {
                break;
            };
            self.now = self.now.max(at);
            self.steps += 1;
            // A digest of what happened when: two runs of one seed must agree.
            let kind = u64::from(Self::kind_of(&what));
            let at = at.as_millis().unsigned_abs();
            self.digest = (self.digest ^ at ^ (kind << 48)).wrapping_mul(0x0100_0000_01b3);
            self.happen(what);
        }
    }

    fn kind_of(what: &Happening) -> u8 {
        match what {
            Happening::Impulse(_) => 1,
            Happening::Request { .. } => 2,
            Happening::Heard { .. } => 3,
            Happening::FlushLands { .. } => 4,
            Happening::CallArrives(_) => 5,
            Happening::CallAnswered { .. } => 6,
            Happening::NoticeSent { .. } => 7,
            Happening::Crash(_) => 8,
            _ => 9,
        }
    }

    /// Whose process it needs, if it is one's.
    fn node_of(&self, what: &Happening) -> Option<(usize, u32)> {
        match *what {
            Happening::Request { node, .. } | Happening::RefundNews { node, .. } => {
                Some((node, self.nodes[node].life))
            }
            Happening::FlushAnswered { node, life, .. }
            | Happening::Alarm { node, life, .. }
            | Happening::Sweep { node, life }
            | Happening::Heartbeat { node, life }
            | Happening::RelayLooks { node, life }
            | Happening::DeliveryAnswered { node, life, .. } => Some((node, life)),
            Happening::CallAnswered { call, .. } => {
                let call = &self.calls[call];
                Some((call.node, call.life))
            }
            _ => None,
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Some((node, life)) = self.node_of(&what) {
            let process = &self.nodes[node];
            if process.life != life {
                return;
            }
            if process.paused_until > self.now {
                let until = process.paused_until;
                self.queue.plan(until, what);
                return;
            }
        }
        match what {
            Happening::Impulse(index) => self.impulse(index),
            Happening::Wish { index, command } => self.ask(index, command),
            Happening::Request { node, index, tell } => self.request_arrives(node, index, tell),
            Happening::Heard {
                index,
                command,
                answered,
            } => self.person_hears(index, &command, answered),
            Happening::WalletOpens { number, payer } => self.wallet_opens(number, payer),
            Happening::WalletDone { number, pays } => self.wallet_done(number, pays),
            Happening::AutoClose(number) => self.auto_close(number),
            Happening::NoticeSent { notice, again } => self.notice_sent(notice, again),
            Happening::NoticeAcked(notice) => self.notice_acked(notice),
            Happening::RefundNews { node, notice } => self.refund_news(node, notice),
            Happening::RefundEnds { number, refund_no } => self.refund_ends(number, refund_no),
            Happening::OperatorsAct => self.operators_act(),
            Happening::ProviderPoor => self.provider_poor(),
            Happening::Bill => self.bill(),
            Happening::FlushLands { flush } => self.flush_lands(flush),
            Happening::FlushAnswered { node, flush, .. } => self.flush_answered(node, flush),
            Happening::CallArrives(call) => self.call_arrives(call),
            Happening::CallAnswered { call, command } => self.call_answered(call, command),
            Happening::Alarm { node, index, .. } => self.alarm(node, index),
            Happening::Sweep { node, .. } => self.sweep(node),
            Happening::Heartbeat { node, .. } => self.heartbeat(node),
            Happening::RelayLooks { node, .. } => self.relay_looks(node),
            Happening::Delivery {
                node,
                life,
                place,
                was,
                body,
            } => self.delivery(node, life, place, was, body),
            Happening::DeliveryAnswered {
                node,
                place,
                was,
                outcome,
                ..
            } => self.delivery_answered(node, place, was, outcome),
            Happening::OperatorResends => self.operator_resends(),
            Happening::Crash(which) => self.crash(which),
            Happening::Restart(node) => self.restart(node),
            Happening::Pause(which) => self.pause(which),
            Happening::LocksEmptied => self.locks_emptied(),
            Happening::LocksCut => self.locks_cut(),
            Happening::ClockJumps => self.clock_jumps(),
            Happening::ProviderDown => self.provider_down(),
            Happening::EndpointDown => self.endpoint_down(),
            Happening::Heal => self.heal(),
            Happening::AttemptsMustRest => self.attempts_must_rest(),
            Happening::End => self.over = true,
        }
    }

    pub fn shard_of(&self, index: usize) -> usize {
        index % self.swarm.shards
    }

    /// The wall clock of a node.
    pub fn clock(&self, node: usize) -> Timestamp {
        self.now.plus_ms(self.nodes[node].skew_ms)
    }

    pub fn account_of(&mut self, wallet: Wallet) -> &mut Account {
        match wallet {
            Wallet::Wechat => &mut self.accounts[0],
            Wallet::Alipay => &mut self.accounts[1],
        }
    }

    /// The trade of a number, at whichever provider has it.
    pub fn trade(&mut self, number: Number) -> Option<&mut crate::provider::Trade> {
        self.accounts
            .iter_mut()
            .find_map(|account| account.trades.get_mut(&number))
    }

    pub fn wallet_of(&self, number: Number) -> Option<Wallet> {
        let account = self
            .accounts
            .iter()
            .find(|account| account.trades.contains_key(&number));
        account.map(|account| account.wallet)
    }

    pub fn new_transaction_id(&mut self) -> Box<str> {
        self.transactions += 1;
        format!("t{}", self.transactions).into()
    }

    /// The numbers and payments in the providers' books, of one order.
    pub fn payments(&self, index: usize) -> impl Iterator<Item = (Wallet, Number, &Payment)> {
        self.accounts.iter().flat_map(move |account| {
            account
                .trades
                .range((index, 0)..=(index, u16::MAX))
                .filter_map(|(number, trade)| {
                    Some((account.wallet, *number, trade.payment.as_ref()?))
                })
        })
    }
}

pub(crate) const fn applied(answered: &Answered) -> bool {
    matches!(answered, Ok((Verdict::Applied, _)))
}
