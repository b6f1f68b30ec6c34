//! The handle's work: who is let in, where it goes, and orders that have no actor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::admission::Class;
use super::command_path::timeline;
use super::house::House;
use super::messages::{Call, Tell};
use super::requests::{self, CannotAsk};
use super::watch::{Flight, Heard};
use super::{NewOrder, Orders, OrdersError, Reply, Request, Verdict, meters};
use crate::faults::crash_point;
use crate::order::invariants::check;
use crate::order::{
    Answer, AttemptNumber, Command, Event, Order, OrderId, Outcome, Timestamp, decide,
};
use crate::provider::TradeRequest;
use crate::store::{OrderWrite, Rejection, StoreError, StoredOrder, Transaction};

/// What a caller is told who came when too much was under way.
pub(super) const RETRY_AFTER_SECONDS: u32 = 1;

impl Orders {
    pub(super) const fn of(house: Arc<House>) -> Self {
        Self { house }
    }

    /// Commits a new order. `Rejected(MerchantOrderNoTaken)` where the number is taken.
    pub async fn create(&self, new: NewOrder) -> Result<Arc<StoredOrder>, OrdersError> {
        let house = &self.house;
        if house.is_stopping() {
            return Err(OrdersError::Stopping);
        }
        let shard = house.shard_of(new.id);
        let Some(_permit) = house.thread_of(shard).admission.admit(Class::Create) else {
            return Err(overloaded());
        };
        let now = house.parts.clock.now();
        let order = Order::created(new.id, new.terms.clone(), now);
        if let Err(violation) = check(&order) {
            meters::violated(violation.invariant);
            tracing::error!(order = %order.id, %violation, "a new order was refused");
            let rule = violation.invariant.to_owned();
            return Err(OrdersError::Rejected(Rejection::RuleBroken { rule }));
        }
        let request = Request {
            command: Command::Tick,
            actor: new.actor,
            request_id: new.request_id,
            writes: Vec::new(),
        };
        let event = Event::OrderCreated { terms: new.terms };
        let stored = Arc::new(StoredOrder {
            order,
            snapshot: new.snapshot,
        });
        let transaction = Transaction {
            order: Some(OrderWrite {
                order: stored.order.clone(),
                snapshot: Some(stored.snapshot.clone()),
                events: timeline(&stored.order, vec![event], now, &request),
                outbox: Vec::new(),
                next_due_at: stored.order.next_due_at(),
                not_after: None,
                fence: house.options.ownership.fence(shard),
            }),
            writes: new.writes,
        };
        crash_point("c1");
        match house.commit(shard, transaction, false).await {
            Ok(Ok(())) => {}
            Ok(Err(rejection)) => return Err(OrdersError::Rejected(rejection)),
            Err(error @ StoreError::OutcomeUnknown { .. }) => {
                match house.parts.store.order(stored.order.id).await {
                    Ok(Some(found)) if found.order == stored.order => {}
                    _ => return Err(OrdersError::Store(error)),
                }
            }
            Err(error) => return Err(OrdersError::Store(error)),
        }
        crash_point("c2");
        meters::created(&stored.order);
        Ok(stored)
    }

    /// Has the order's actor decide a command, commits and answers.
    pub async fn tell(&self, id: OrderId, request: Request) -> Result<Reply, OrdersError> {
        let command = meters::command_name(&request.command);
        let began = Instant::now();
        let answer = self.ask(id, request, None).await;
        meters::answered(command, &answer, began.elapsed());
        answer
    }

    /// The same for what a provider call has brought.
    pub(super) async fn tell_answer(
        &self,
        id: OrderId,
        request: Request,
        call: Arc<Call>,
    ) -> Result<Reply, OrdersError> {
        let command = meters::command_name(&request.command);
        let began = Instant::now();
        let answer = self.ask(id, request, Some(call)).await;
        meters::answered(command, &answer, began.elapsed());
        answer
    }

    /// Asks the provider about the order, for all who want to know at this moment: of many presses at
    /// once one reaches the order, and the others share its question, as do those within the two
    /// seconds after it (contract §4, `query`). `request` is a `Command::Query`; what it must keep is
    /// committed in any case.
    pub async fn query(&self, id: OrderId, request: Request) -> Result<Reply, OrdersError> {
        let shard = self.house.shard_of(id);
        loop {
            if let Some(reply) = self.shared(id, &request.command) {
                self.keep(id, request).await?;
                return Ok(reply);
            }
            match self.house.board.join(shard, id) {
                Flight::Lead(_lead) => return self.tell(id, request).await,
                Flight::Follow(mut lead) => {
                    // Ends with its leader, who never says anything.
                    let _ = lead.changed().await;
                }
            }
        }
    }

    /// What the order would say to a question that somebody has just asked.
    fn shared(&self, id: OrderId, query: &Command) -> Option<Reply> {
        let house = &self.house;
        let stored = house.board.live(house.shard_of(id), id)?;
        match decide(&stored.order, query, house.parts.clock.now()) {
            Outcome::Already(answer @ Answer::AskedJustNow, _) => Some(Reply {
                stored,
                verdict: Verdict::Already(answer),
            }),
            _ => None,
        }
    }

    /// Commits what a request must leave behind though the order need not hear of it.
    async fn keep(&self, id: OrderId, request: Request) -> Result<(), OrdersError> {
        let house = &self.house;
        if request.writes.is_empty() {
            return Ok(());
        }
        if house.is_stopping() {
            return Err(OrdersError::Stopping);
        }
        let shard = house.shard_of(id);
        let admission = &house.thread_of(shard).admission;
        let class = Class::of(&request);
        let Some(_permit) = admission.admit(class) else {
            return Err(overloaded());
        };
        let transaction = Transaction {
            order: None,
            writes: request.writes,
        };
        match house.commit(shard, transaction, false).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(rejection)) => Err(OrdersError::Rejected(rejection)),
            Err(error) => Err(OrdersError::Store(error)),
        }
    }

    async fn ask(
        &self,
        id: OrderId,
        request: Request,
        call: Option<Arc<Call>>,
    ) -> Result<Reply, OrdersError> {
        let house = &self.house;
        let class = Class::of(&request);
        if house.is_closed() || (house.is_stopping() && class != Class::Fact) {
            return Err(OrdersError::Stopping);
        }
        let number = house.shard_of(id);
        let permit = house
            .thread_of(number)
            .admission
            .admit(class)
            .ok_or_else(overloaded)?;
        let shard = house
            .shards
            .get()
            .and_then(|shards| shards.get(usize::from(number)))
            .ok_or(OrdersError::Stopping)?;
        let (answer, answered) = oneshot::channel();
        // Past the shard's mailbox bound: admission has counted it.
        shard.do_send(Tell {
            id,
            request,
            class,
            answer: Some(answer),
            permit: Some(permit),
            room: None,
            pending: None,
            call,
        });
        answered.await.unwrap_or_else(|_| {
            Err(if house.is_closed() {
                OrdersError::Stopping
            } else {
                OrdersError::ActorLost
            })
        })
    }

    /// The order as last committed, from its actor's memory or the store; starts no actor.
    pub async fn read(&self, id: OrderId) -> Result<Option<Arc<StoredOrder>>, OrdersError> {
        let house = &self.house;
        let live = house.board.live(house.shard_of(id), id);
        // Once it is over, its payer may have been erased past its actor's memory.
        if let Some(live) = live.filter(|live| live.order.is_open()) {
            return Ok(Some(live));
        }
        let stored = house.parts.store.order(id).await;
        stored
            .map(|found| found.map(Arc::new))
            .map_err(OrdersError::Store)
    }

    /// Announces each new version of the order from now on (the value is the last version known, 0
    /// where none is). Bounded memory: the entry goes when its last receiver does.
    pub fn watch(&self, id: OrderId) -> watch::Receiver<u64> {
        self.house.board.watch(self.house.shard_of(id), id)
    }

    /// What the provider has answered of late about this order; changes with every answer, new version
    /// or not, usable or not. Subscribe before asking.
    pub fn heard(&self, id: OrderId) -> watch::Receiver<Heard> {
        self.house.board.heard(self.house.shard_of(id), id)
    }

    /// When this instance began: what was under way before then is under way no more.
    pub fn started_at(&self) -> Timestamp {
        self.house.started_at
    }

    /// How many webhook events were written since the start: a hint that wakes the relay.
    pub fn outbox_written(&self) -> watch::Receiver<u64> {
        self.house.outbox_written.subscribe()
    }

    /// What the provider is asked with for this attempt's trade, the same every time: also what
    /// `Provider::pay_parameters` needs.
    pub async fn trade_request(
        &self,
        stored: &StoredOrder,
        attempt: AttemptNumber,
    ) -> Result<TradeRequest, CannotAsk> {
        requests::trade(&self.house, stored, attempt).await
    }

    /// Orders in memory.
    pub fn live(&self) -> usize {
        self.house.live_total.load(Ordering::Relaxed)
    }
}

const fn overloaded() -> OrdersError {
    OrdersError::Overloaded {
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}
