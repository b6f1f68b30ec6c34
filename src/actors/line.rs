//! The way to one account's provider: calls wait here for their turn, the most urgent first, and due
//! orders wait for room before their heart decides anything (F37).
//!
//! A [`Turn`] is the right to one call: its kind's pace allows it, the circuit is closed, and not too
//! many are under way. A [`Room`] is the right of one due order to be decided: only as many are given
//! as the account can ask soon. Who gets none is remembered, and is told when there is room: until then
//! its row stands as it is, and stays due.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::circuit::{Circuit, Gate};
use super::messages::Call;
use super::options::Budget;
use super::pace::{Kind, Pace};
use super::urgency::Urgency;
use crate::order::{OrderId, Wallet};
use crate::provider::{Outcome, Provider};
use crate::random::Random;

/// Of what nobody waits for, no more calls of a kind are in work than leave in this time: short enough
/// for no call to be due again while it still waits.
const WORK_SECONDS: usize = 2;
const LEAST_WORK: usize = 16;
const MOST_WORK: usize = 2_048;
/// Every so manieth room goes to who is least urgent, so that a herd of closings starves nobody.
const FOR_THE_PATIENT: usize = 8;

/// Orders that wait for room, whatever the account.
pub(super) type Parked = Arc<Mutex<HashSet<OrderId>>>;

pub(super) struct Line {
    pub provider: Arc<dyn Provider>,
    label: &'static str,
    at_once: usize,
    most_work: [usize; Kind::ALL.len()],
    random: Arc<dyn Random>,
    parked_anywhere: Parked,
    state: Mutex<State>,
    news: Notify,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Line")
            .field(&self.provider.account().id)
            .finish()
    }
}

struct State {
    paces: [Pace; Kind::ALL.len()],
    circuit: Circuit,
    under_way: usize,
    /// By urgency and kind; within each the first comes first.
    waiting: [[VecDeque<Waiter>; Kind::ALL.len()]; Urgency::ALL.len()],
    /// Rooms given and not yet given back.
    rooms: usize,
    /// In the order of their coming, by urgency; an entry that `parked` does not know is void.
    queues: [VecDeque<OrderId>; Urgency::ALL.len()],
    parked: HashMap<OrderId, Urgency>,
    parked_by: [usize; Urgency::ALL.len()],
    given: usize,
}

struct Waiter {
    turn: oneshot::Sender<Turn>,
    call: Arc<Call>,
    since: Instant,
    _counted: Counted,
}

/// Counts one who waits for as long as it exists.
struct Counted(&'static str, Urgency);

impl Counted {
    fn new(label: &'static str, urgency: Urgency) -> Self {
        metrics::gauge!("enrollpay_provider_calls_waiting", "provider" => label, "urgency" => urgency.as_str())
            .increment(1);
        Self(label, urgency)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("enrollpay_provider_calls_waiting", "provider" => self.0, "urgency" => self.1.as_str())
            .decrement(1);
    }
}

impl State {
    /// Is there room for the work of another due order? Each kind of call that it may lead to has its
    /// own bound: what waits for closes must not leave the queries idle.
    fn has_room(&self, urgency: Urgency, most_work: &[usize; Kind::ALL.len()]) -> bool {
        let leads_to = match urgency {
            Urgency::Background => [Kind::RefundQuery, Kind::Refund],
            _ => [Kind::Query, Kind::Close],
        };
        leads_to.into_iter().all(|kind| {
            let waiting: usize = Urgency::ALL
                .iter()
                .zip(&self.waiting)
                .filter(|(urgency, _)| !urgency.is_awaited())
                .map(|(_, kinds)| kinds[kind as usize].len())
                .sum();
            waiting + self.rooms < most_work[kind as usize]
        })
    }

    fn nobody_waits(&self) -> bool {
        self.waiting.iter().flatten().all(VecDeque::is_empty)
    }

    /// Takes the most urgent call that may leave now; within one urgency the oldest. `next`: when
    /// another may, as far as that is known.
    fn most_urgent(
        &mut self,
        at_once: usize,
        next: &mut Option<Instant>,
    ) -> Option<(Waiter, Kind)> {
        let mut blocked = [false; Kind::ALL.len()];
        for (urgency, kinds) in Urgency::ALL.iter().zip(&mut self.waiting) {
            if self.under_way >= urgency.share(at_once) {
                return None;
            }
            for waiting in kinds.iter_mut() {
                while waiting.front().is_some_and(Waiter::is_void) {
                    waiting.pop_front();
                }
            }
            loop {
                let oldest = Kind::ALL
                    .into_iter()
                    .filter(|kind| !blocked[*kind as usize])
                    .filter_map(|kind| Some((kinds[kind as usize].front()?.since, kind)))
                    .min_by_key(|(since, _)| *since);
                let Some((_, kind)) = oldest else { break };
                match self.paces[kind as usize].take() {
                    Ok(()) => {
                        let waiter = kinds[kind as usize].pop_front()?;
                        return Some((waiter, kind));
                    }
                    Err(at) => {
                        blocked[kind as usize] = true;
                        *next = Some(next.map_or(at, |next| next.min(at)));
                    }
                }
            }
        }
        None
    }

    /// Remembers an order that waits for room. Is it new here?
    fn park(&mut self, id: OrderId, urgency: Urgency) -> bool {
        let known = self.parked.get(&id).copied();
        if known.is_none_or(|known| urgency < known) {
            if let Some(known) = known {
                self.parked_by[known as usize] -= 1;
            }
            self.parked_by[urgency as usize] += 1;
            self.parked.insert(id, urgency);
            self.queues[urgency as usize].push_back(id);
        }
        known.is_none()
    }

    /// The order whose turn it is to be decided, if there is room for it.
    fn unpark(&mut self, most_work: &[usize; Kind::ALL.len()]) -> Option<OrderId> {
        self.given = self.given.wrapping_add(1);
        let patient = self.given.is_multiple_of(FOR_THE_PATIENT);
        let mut urgencies = Urgency::ALL;
        if patient {
            urgencies.reverse();
        }
        for urgency in urgencies {
            if self.parked_by[urgency as usize] == 0 || !self.has_room(urgency, most_work) {
                continue;
            }
            while let Some(id) = self.queues[urgency as usize].pop_front() {
                if self.parked.get(&id) == Some(&urgency) {
                    self.parked.remove(&id);
                    self.parked_by[urgency as usize] -= 1;
                    return Some(id);
                }
            }
        }
        None
    }
}

impl Waiter {
    /// Nobody waits for it any more, or it was asked anew since.
    fn is_void(&self) -> bool {
        self.turn.is_closed() || self.call.is_superseded()
    }
}

impl Line {
    pub(super) fn new(
        provider: Arc<dyn Provider>,
        budget: &Budget,
        random: Arc<dyn Random>,
        parked_anywhere: Parked,
    ) -> Arc<Self> {
        let label = match provider.account().wallet {
            Wallet::Wechat => "wechatpay",
            Wallet::Alipay => "alipay",
        };
        let line = Self {
            provider,
            label,
            at_once: budget.at_once.max(1),
            most_work: Kind::ALL.map(|kind| {
                let a_second = usize::try_from(kind.of(budget)).unwrap_or(MOST_WORK);
                let work = a_second.saturating_mul(WORK_SECONDS);
                work.clamp(LEAST_WORK, MOST_WORK)
            }),
            random,
            parked_anywhere,
            state: Mutex::new(State {
                paces: Kind::ALL.map(|kind| Pace::new(kind, budget)),
                circuit: Circuit::new(),
                under_way: 0,
                waiting: Default::default(),
                rooms: 0,
                queues: Default::default(),
                parked: HashMap::new(),
                parked_by: [0; Urgency::ALL.len()],
                given: 0,
            }),
            news: Notify::new(),
        };
        line.shows_from_zero();
        Arc::new(line)
    }

    /// So many nodes ask this account now.
    pub(super) fn share(&self, nodes: u32) {
        let mut state = self.lock();
        for pace in &mut state.paces {
            pace.share(nodes);
        }
        drop(state);
        self.news.notify_one();
    }

    /// Present from the first scrape, so that an alert can tell zero from absent.
    fn shows_from_zero(&self) {
        metrics::gauge!("enrollpay_provider_circuits_open", "provider" => self.label).increment(0);
        metrics::gauge!("enrollpay_provider_orders_waiting", "provider" => self.label).increment(0);
        for kind in Kind::ALL {
            metrics::counter!("enrollpay_provider_limited_total", "provider" => self.label, "operation" => kind.as_str())
                .increment(0);
        }
        for urgency in Urgency::ALL {
            drop(Counted::new(self.label, urgency));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; were it otherwise, the counts are still counts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parked_anywhere(&self) -> MutexGuard<'_, HashSet<OrderId>> {
        self.parked_anywhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to `most`, at random.
    fn spread(&self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.random.below(millis.saturating_add(1)))
    }

    /// Room for this due order, if the account can ask soon; otherwise it is remembered, and woken
    /// when there is some.
    pub(super) fn room(self: &Arc<Self>, id: OrderId, urgency: Urgency) -> Option<Room> {
        let mut state = self.lock();
        let others_wait = state.parked_by[..=urgency as usize]
            .iter()
            .any(|parked| *parked > 0);
        let is_open = state.circuit.gate() == Gate::Open;
        if is_open && !others_wait && state.has_room(urgency, &self.most_work) {
            state.rooms += 1;
            return Some(Room(Arc::clone(self)));
        }
        let is_new = state.park(id, urgency);
        drop(state);
        if is_new {
            self.parked_anywhere().insert(id);
            metrics::gauge!("enrollpay_provider_orders_waiting", "provider" => self.label)
                .increment(1);
            self.news.notify_one();
        }
        None
    }

    /// The right to one call, before `until`. `None`: too late, asked anew meanwhile, or the provider
    /// is not asked at all for now.
    pub(super) async fn turn(
        &self,
        kind: Kind,
        urgency: Urgency,
        call: &Arc<Call>,
        until: Instant,
    ) -> Option<Turn> {
        let (turn, given) = oneshot::channel();
        let waiter = Waiter {
            turn,
            call: Arc::clone(call),
            since: Instant::now(),
            _counted: Counted::new(self.label, urgency),
        };
        self.lock().waiting[urgency as usize][kind as usize].push_back(waiter);
        self.news.notify_one();
        let given = tokio::time::timeout_at(until, given).await.ok()?.ok()?;
        (Instant::now() < until).then_some(given)
    }

    /// Gives turns and room until the end, each as soon as it may be given. `wake` tells an order
    /// that it has room.
    pub(super) async fn serve(self: Arc<Self>, wake: impl Fn(OrderId, Room)) {
        loop {
            let news = self.news.notified();
            let next = self.give(&wake);
            match next {
                Some(next) => {
                    tokio::select! {
                        () = news => {}
                        () = tokio::time::sleep_until(next) => {}
                    }
                }
                None => news.await,
            }
        }
    }

    fn give(self: &Arc<Self>, wake: &impl Fn(OrderId, Room)) -> Option<Instant> {
        let mut state = self.lock();
        let mut next = None;
        let mut turns = Vec::new();
        let mut placed = Vec::new();
        let mut refused = Vec::new();
        match state.circuit.gate() {
            Gate::Open => {
                while let Some((waiter, kind)) = state.most_urgent(self.at_once, &mut next) {
                    state.under_way += 1;
                    turns.push((waiter, self.turn_of(kind, false)));
                }
                while let Some(id) = state.unpark(&self.most_work) {
                    state.rooms += 1;
                    placed.push(id);
                }
            }
            Gate::Probe => {
                if let Some((waiter, kind)) = state.most_urgent(self.at_once, &mut next) {
                    state.circuit.probe();
                    state.under_way += 1;
                    turns.push((waiter, self.turn_of(kind, true)));
                    refused = std::mem::take(&mut state.waiting).into();
                } else if state.nobody_waits()
                    && state.rooms == 0
                    && let Some(id) = state.unpark(&self.most_work)
                {
                    state.rooms += 1;
                    placed.push(id);
                }
            }
            Gate::Shut { until } => {
                next = until;
                refused = std::mem::take(&mut state.waiting).into();
            }
        }
        drop(state);
        // Whoever is refused learns it by the end of its channel.
        drop(refused);
        for (waiter, turn) in turns {
            metrics::histogram!("enrollpay_provider_wait_seconds", "provider" => self.label, "operation" => turn.kind.as_str())
                .record(waiter.since.elapsed());
            // Who has gone meanwhile gives the turn back by dropping it.
            let _ = waiter.turn.send(turn);
        }
        for id in placed {
            self.parked_anywhere().remove(&id);
            metrics::gauge!("enrollpay_provider_orders_waiting", "provider" => self.label)
                .decrement(1);
            wake(id, Room(Arc::clone(self)));
        }
        next
    }

    fn turn_of(self: &Arc<Self>, kind: Kind, is_probe: bool) -> Turn {
        Turn {
            line: Arc::clone(self),
            kind,
            is_probe,
            came_to: None,
        }
    }
}

/// One due order's right to be decided. Given back when its calls wait for their turns.
#[derive(Debug)]
pub(super) struct Room(Arc<Line>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.lock().rooms -= 1;
        self.0.news.notify_one();
    }
}

/// The right to one call, and what the line learns from it.
#[derive(Debug)]
pub(super) struct Turn {
    line: Arc<Line>,
    kind: Kind,
    is_probe: bool,
    came_to: Option<Outcome>,
}

impl Turn {
    /// Ends the turn with what became of its call.
    pub(super) fn came_to(mut self, outcome: Option<Outcome>) {
        self.came_to = outcome;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let line = &self.line;
        let spread = |most| line.spread(most);
        let mut state = line.lock();
        state.under_way -= 1;
        let was_open = state.circuit.is_open();
        state.circuit.came_to(self.came_to, self.is_probe, spread);
        let is_open = state.circuit.is_open();
        if let Some(outcome) = self.came_to {
            state.paces[self.kind as usize].came_to(outcome, spread);
        }
        drop(state);
        if self.came_to == Some(Outcome::Limited) {
            metrics::counter!("enrollpay_provider_limited_total", "provider" => line.label, "operation" => self.kind.as_str())
                .increment(1);
        }
        if was_open != is_open {
            let account = &line.provider.account().id;
            let gauge =
                metrics::gauge!("enrollpay_provider_circuits_open", "provider" => line.label);
            if is_open {
                gauge.increment(1);
                tracing::warn!(%account, "the provider does not answer: it is asked by one call at a time");
            } else {
                gauge.decrement(1);
                tracing::info!(%account, "the provider answers again");
            }
        }
        line.news.notify_one();
    }
}
