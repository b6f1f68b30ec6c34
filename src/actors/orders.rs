//! The handle's work: who is let in, where it goes, and orders that have no actor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::admission::Class;
use super::command_path::{carry_out, timeline};
use super::committer::Lane;
use super::house::House;
use super::messages::{Call, LetGo, Tell};
use super::ownership::{Ownership, is_fact};
use super::peers::{Asking, News};
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

    /// A number for a new order, such that its order is ours.
    pub fn new_id(&self, now: Timestamp) -> OrderId {
        // One of n nodes owns every n-th number; where we own none, `create` says so.
        const TRIES: usize = 4_096;
        let house = &self.house;
        let mut id = OrderId::from_ulid(house.parts.random.ulid(now));
        for _ in 0..TRIES {
            if house.owns(house.shard_of(id)) {
                break;
            }
            id = OrderId::from_ulid(house.parts.random.ulid(now));
        }
        id
    }

    /// Commits a new order. `Rejected(MerchantOrderNoTaken)` where the number is taken. A node that owns
    /// nothing yet has another make it.
    pub async fn create(&self, new: NewOrder) -> Result<Arc<StoredOrder>, OrdersError> {
        let Some(peers) = &self.house.options.peers else {
            return self.create_as_owner(new).await;
        };
        let shard = self.house.shard_of(new.id);
        match self.create_as_owner(new.clone()).await {
            Err(OrdersError::NoOwner) => peers.create(shard, new).await.map(Arc::new),
            made => made,
        }
    }

    /// What another node asks of us as the owner of what is to be made.
    pub async fn create_as_owner(&self, new: NewOrder) -> Result<Arc<StoredOrder>, OrdersError> {
        let house = &self.house;
        if house.is_stopping() {
            return Err(OrdersError::Stopping);
        }
        let shard = house.shard_of(new.id);
        if !house.owns(shard) {
            return Err(OrdersError::NoOwner);
        }
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
        let fence = house.options.ownership.fence(shard);
        let transaction = Transaction {
            order: Some(OrderWrite {
                order: stored.order.clone(),
                snapshot: Some(stored.snapshot.clone()),
                events: timeline(&stored.order, vec![event], now, &request),
                outbox: Vec::new(),
                next_due_at: stored.order.next_due_at(),
                not_after: None,
                fence,
            }),
            writes: new.writes,
        };
        crash_point("c1");
        match house.commit(shard, transaction, Lane::Asked).await {
            Ok(Ok(())) => {}
            Ok(Err(Rejection::FenceMoved)) => {
                house.options.ownership.lose_pair(fence);
                return Err(OrdersError::NoOwner);
            }
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
        let answer = self.ask(id, request, None, Asking::Tell).await;
        meters::answered(command, &answer, began.elapsed());
        answer
    }

    /// What another node asks of us as the owner. `NoOwner` where we are not: it has taken the one hop.
    pub async fn tell_as_owner(
        &self,
        id: OrderId,
        request: Request,
        asking: Asking,
    ) -> Result<Reply, OrdersError> {
        if !self.house.owns(self.house.shard_of(id)) {
            return Err(OrdersError::NoOwner);
        }
        match asking {
            Asking::Tell => self.ask_actor(id, request, None).await,
            Asking::Query => self.query_here(id, request, false).await,
        }
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
        let answer = self.ask(id, request, Some(call), Asking::Tell).await;
        meters::answered(command, &answer, began.elapsed());
        answer
    }

    /// Asks the provider about the order, for all who want to know at this moment: of many presses at
    /// once one reaches the order, and the others share its question, as do those within the two
    /// seconds after it (contract §4, `query`). `request` is a `Command::Query`; what it must keep is
    /// committed in any case.
    pub async fn query(&self, id: OrderId, request: Request) -> Result<Reply, OrdersError> {
        if self.house.owns(self.house.shard_of(id)) {
            self.query_here(id, request, true).await
        } else {
            self.ask(id, request, None, Asking::Query).await
        }
    }

    /// `may_pass`: to another node, should the order be its by the time that it is asked.
    async fn query_here(
        &self,
        id: OrderId,
        request: Request,
        may_pass: bool,
    ) -> Result<Reply, OrdersError> {
        let shard = self.house.shard_of(id);
        loop {
            if let Some(reply) = self.shared(id, &request.command) {
                self.keep(id, request).await?;
                return Ok(reply);
            }
            match self.house.board.join(shard, id) {
                Flight::Lead(_lead) if may_pass => return self.tell(id, request).await,
                Flight::Lead(_lead) => return self.ask_actor(id, request, None).await,
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
        match house.commit(shard, transaction, Lane::Asked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(rejection)) => Err(OrdersError::Rejected(rejection)),
            Err(error) => Err(OrdersError::Store(error)),
        }
    }

    /// By the order's actor where it is ours; a fact is recorded here in any case, and anything else is
    /// passed to the owner.
    async fn ask(
        &self,
        id: OrderId,
        request: Request,
        call: Option<Arc<Call>>,
        asking: Asking,
    ) -> Result<Reply, OrdersError> {
        let house = &self.house;
        let shard = house.shard_of(id);
        let is_answer = call.is_some();
        if house.owns(shard) {
            // The shard may change hands while this waits for its turn: then nothing was done.
            match self.ask_actor(id, request.clone(), call).await {
                Err(OrdersError::NoOwner) => {}
                answered => return answered,
            }
        }
        if is_fact(&request.command) {
            return self.record(id, shard, &request).await;
        }
        // What a provider answered to a former owner is no news to the present one: its row is due again.
        match &house.options.peers {
            Some(peers) if !is_answer && request.command != Command::Tick => {
                peers.tell(shard, id, request, asking).await
            }
            _ => Err(OrdersError::NoOwner),
        }
    }

    /// Records a fact of an order that is not ours, in one transaction on its row. What it brings about
    /// stands in the row, too: the owner, who is told, does it.
    async fn record(
        &self,
        id: OrderId,
        shard: u16,
        request: &Request,
    ) -> Result<Reply, OrdersError> {
        let house = &self.house;
        if house.is_closed() {
            return Err(OrdersError::Stopping);
        }
        let admission = &house.thread_of(shard).admission;
        let Some(_permit) = admission.admit(Class::Fact) else {
            return Err(overloaded());
        };
        let wanted = house.recordings.of(id);
        let mut known = wanted.turn.lock().await;
        let done = carry_out(house, shard, id, known.take(), request, None).await;
        known.clone_from(&done.stored);
        drop(known);
        if done.committed
            && let Some(stored) = &done.stored
        {
            if matches!(request.command, Command::Capture(_)) {
                crash_point("c8");
            }
            house.announce(shard, id, stored.order.version);
        }
        done.answered
    }

    async fn ask_actor(
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
        // Though the house may have closed meanwhile: the command may be committed.
        answered.await.unwrap_or(Err(OrdersError::ActorLost))
    }

    /// The order as last committed, from its actor's memory or the store; starts no actor.
    pub async fn read(&self, id: OrderId) -> Result<Option<Arc<StoredOrder>>, OrdersError> {
        let house = &self.house;
        if let Some(live) = self.live_and_open(id) {
            return Ok(Some(live));
        }
        let wanted = house.readings.of(id);
        let stored = wanted.turn.share(house.parts.store.order(id)).await;
        stored.map_err(OrdersError::Store)
    }

    /// The same before a fact is told, and past whatever else is asked of the store (F15).
    pub async fn read_for_fact(
        &self,
        id: OrderId,
    ) -> Result<Option<Arc<StoredOrder>>, OrdersError> {
        let house = &self.house;
        if let Some(live) = self.live_and_open(id) {
            return Ok(Some(live));
        }
        let wanted = house.readings_for_facts.of(id);
        let read = house.parts.store.order_for_fact(id);
        wanted.turn.share(read).await.map_err(OrdersError::Store)
    }

    fn live_and_open(&self, id: OrderId) -> Option<Arc<StoredOrder>> {
        let house = &self.house;
        // Where others write, the store alone knows.
        if house.options.ownership.is_shared() {
            return None;
        }
        let live = house.board.live(house.shard_of(id), id)?;
        // Once it is over, its payer may have been erased past its actor's memory.
        live.order.is_open().then_some(live)
    }

    /// Announces each new version of the order from now on (the value is the last version known, 0
    /// where none is). Bounded memory: the entry goes when its last receiver does.
    pub fn watch(&self, id: OrderId) -> watch::Receiver<u64> {
        let shard = self.house.shard_of(id);
        let watcher = self.house.board.watch(shard, id);
        self.watch_elsewhere(shard, id);
        watcher
    }

    /// What the provider has answered of late about this order; changes with every answer, new version
    /// or not, usable or not. Subscribe before asking.
    pub fn heard(&self, id: OrderId) -> watch::Receiver<Heard> {
        let shard = self.house.shard_of(id);
        let heard = self.house.board.heard(shard, id);
        self.watch_elsewhere(shard, id);
        heard
    }

    fn watch_elsewhere(&self, shard: u16, id: OrderId) {
        if let Some(peers) = &self.house.options.peers
            && !self.house.owns(shard)
        {
            peers.watch(shard, id);
        }
    }

    /// What is known of an order without asking anybody: its version (0: none), and the provider's
    /// latest answers.
    pub fn known(&self, id: OrderId) -> (u64, Heard) {
        self.house.board.known(self.house.shard_of(id), id)
    }

    /// Does anybody here wait for news of this order?
    pub fn watches(&self, id: OrderId) -> bool {
        self.house.board.watches(self.house.shard_of(id), id)
    }

    /// Orders whose next version somebody here waits for.
    pub fn watched(&self) -> Vec<OrderId> {
        self.house.board.watched_orders()
    }

    /// Another node tells what is new. Where the order is ours and its actor does not know it yet, the
    /// actor reads its row.
    pub fn hear_news(&self, id: OrderId, news: News) {
        let house = &self.house;
        let shard = house.shard_of(id);
        match news {
            News::Version(version) => {
                house.board.announce(shard, id, version);
                let known = house.board.live(shard, id);
                let is_behind = known.is_none_or(|known| known.order.version < version);
                if house.owns(shard)
                    && is_behind
                    && let Some(address) = house
                        .shards
                        .get()
                        .and_then(|all| all.get(usize::from(shard)))
                {
                    address.do_send(Tell::tick(id, None));
                    // The payment that it tells of has an event, perhaps.
                    house.outbox_written.send_modify(|written| *written += 1);
                }
            }
            News::Heard(heard) => {
                house.board.hear(shard, id, |known| known.learn(heard));
            }
        }
    }

    /// Which shards are ours.
    pub fn ownership(&self) -> &Ownership {
        &self.house.options.ownership
    }

    /// The virtual shard of an order.
    pub fn shard_of(&self, id: OrderId) -> u16 {
        self.house.shard_of(id)
    }

    /// Has the orders of shards that are not ours any more leave memory, after what they are at. Returns
    /// whether all have left in time.
    pub async fn let_go(&self, shards: &[u16], patience: Duration) -> bool {
        let house = &self.house;
        let addresses = house.shards.get().map(Vec::as_slice).unwrap_or_default();
        for address in shards
            .iter()
            .filter_map(|shard| addresses.get(usize::from(*shard)))
        {
            address.do_send(LetGo);
        }
        let is_left = |shard: &u16| {
            let live = house.live.get(usize::from(*shard));
            live.is_none_or(|live| live.load(Ordering::Relaxed) == 0)
        };
        let all_left = async {
            loop {
                let mut left = std::pin::pin!(house.left.notified());
                left.as_mut().enable();
                if shards.iter().all(is_left) {
                    return;
                }
                left.await;
            }
        };
        tokio::time::timeout(patience, all_left).await.is_ok()
    }

    /// So many nodes ask the providers: each keeps to its part of every account's budget.
    pub fn share_budgets(&self, nodes: u32) {
        for line in self.house.lines.values() {
            line.share(nodes);
        }
    }

    /// Shards have become ours: what is due of them is looked for now.
    pub fn look_for_due(&self) {
        self.house.look.notify_one();
    }

    /// How many webhook events were written since the start, or may have been: a hint that wakes the
    /// relay.
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
