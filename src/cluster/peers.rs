//! The client's side: commands for the orders of other nodes, subscriptions, news. Made before the
//! actors are started, told of them afterwards.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::auth::{Door, Key, PROOF, Stamp};
use super::directory::Directory;
use super::membership::{Membership, Neighbours};
use super::messages::{
    Answered, BODY_LIMIT, CHANGED, Made, NEWS, NewsItem, ORDERS, Told, WATCH, Watched, command_path,
};
use super::post::{Kind, Post, TTL, dropped};
use crate::actors::{self, Asking, NewOrder, News, Orders, OrdersError, Reply, Request};
use crate::clock::Clock;
use crate::order::OrderId;
use crate::random::Random;
use crate::store::StoredOrder;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A command's whole call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// News and subscriptions: others wait behind them.
const POST_TIMEOUT: Duration = Duration::from_secs(2);
/// A hint, and whoever gives it has better things to do.
const CHANGED_TIMEOUT: Duration = Duration::from_millis(300);
/// Shorter than the listener keeps a connection: one that is closed under a command costs its answer.
const POOL_IDLE: Duration = Duration::from_secs(10);
/// Connections per node that are kept.
const IDLE_CONNECTIONS: usize = 64;
/// Commands on their way to other nodes.
const MOST_UNDER_WAY: usize = 2_048;
/// How long an owner is looked for, while it is certain that none has heard of the command.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two looks into the directory.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// The same owner is asked again after this: it may have become one.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// The store is not looked at more often than this for one who waits.
const NUDGE_AGAIN: Duration = Duration::from_millis(100);
/// News and subscriptions wait so long for more of them.
const GATHER: Duration = Duration::from_millis(50);
/// How often all that is watched is gone through.
const LOOK_THROUGH: Duration = Duration::from_millis(500);
/// In one message.
const CHUNK: usize = 2_048;

/// Who we are to the others.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    pub instance: u128,
    /// `cluster.secret`: the same on all nodes.
    pub secret: SecretString,
}

/// What they are spoken to with.
#[derive(Clone, Debug)]
pub struct PeerParts {
    pub directory: Directory,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// The other nodes, and our door for them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub instance: u128,
    pub key: Key,
    pub door: Door,
    parts: PeerParts,
    client: reqwest::Client,
    /// Where calls run: a connection must not end with the thread of whoever came first.
    runtime: Handle,
    under_way: Semaphore,
    house: RwLock<Option<House>>,
    post: Mutex<Post>,
    /// Somebody elsewhere watches orders here: until then every commit is spared the lock.
    watched: AtomicBool,
    wake: Notify,
    nudged_at: Mutex<Option<Instant>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Peers").finish_non_exhaustive()
    }
}

/// What is there only once the actors are.
#[derive(Clone)]
struct House {
    orders: Orders,
    membership: Weak<Membership>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "no HTTP client for the other nodes could be made: expected the system's CA certificates (package ca-certificates)"
)]
pub struct NoClient;

/// What became of a call.
enum Sent {
    Answered(Vec<u8>),
    /// The node says that it has not begun, or was not reached at all.
    NotBegun,
    Unreached,
    /// It may have heard.
    Lost,
}

impl Sent {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::NotBegun => "not_begun",
            Self::Unreached => "unreached",
            Self::Lost => "lost",
        }
    }
}

impl Peers {
    /// Calls run on the runtime that this is called on.
    pub fn new(options: &PeerOptions, parts: PeerParts) -> Result<Self, NoClient> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("enrollpay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|_| NoClient)?;
        let key = Key::new(&options.secret);
        Ok(Self(Arc::new(Inner {
            instance: options.instance,
            door: Door::new(key.clone(), options.instance, Arc::clone(&parts.clock)),
            key,
            parts,
            client,
            runtime: Handle::current(),
            under_way: Semaphore::new(MOST_UNDER_WAY),
            house: RwLock::default(),
            post: Mutex::default(),
            watched: AtomicBool::new(false),
            wake: Notify::new(),
            nudged_at: Mutex::default(),
        })))
    }

    /// From now on others are answered.
    pub fn attach(&self, orders: Orders, membership: &Arc<Membership>) {
        let membership = Arc::downgrade(membership);
        let house = House { orders, membership };
        *self.0.house_mut() = Some(house);
    }

    /// The actors are ending: nobody is answered any more.
    pub fn detach(&self) {
        *self.0.house_mut() = None;
    }

    /// Sends news and subscriptions until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let inner = &self.0;
        let mut look = tokio::time::interval(LOOK_THROUGH);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                tokio::select! {
                    () = inner.wake.notified() => tokio::time::sleep(GATHER).await,
                    _ = look.tick() => inner.look_through(),
                }
                inner.send_what_waits();
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }
}

/// What an owner is asked to do, there or here.
#[async_trait]
trait Errand: Send + Sync {
    type Message: Serialize + Sync;
    type Answer: DeserializeOwned + Send;
    fn path(&self) -> String;
    fn message(&self) -> &Self::Message;
    async fn here(&self, orders: &Orders) -> Result<Self::Answer, OrdersError>;
}

struct Telling {
    id: OrderId,
    told: Told,
}

#[async_trait]
impl Errand for Telling {
    type Message = Told;
    type Answer = Reply;

    fn path(&self) -> String {
        command_path(self.id)
    }

    fn message(&self) -> &Told {
        &self.told
    }

    async fn here(&self, orders: &Orders) -> Answered {
        let Told { asking, request } = self.told.clone();
        orders.tell_as_owner(self.id, request, asking).await
    }
}

#[async_trait]
impl Errand for NewOrder {
    type Message = Self;
    type Answer = StoredOrder;

    fn path(&self) -> String {
        ORDERS.to_owned()
    }

    fn message(&self) -> &Self {
        self
    }

    async fn here(&self, orders: &Orders) -> Made {
        let made = orders.create_as_owner(self.clone()).await;
        made.map(Arc::unwrap_or_clone)
    }
}

#[async_trait]
impl actors::Peers for Peers {
    async fn tell(
        &self,
        shard: u16,
        id: OrderId,
        request: Request,
        asking: Asking,
    ) -> Result<Reply, OrdersError> {
        let told = Told { asking, request };
        self.0.ask_owner(shard, Telling { id, told }).await
    }

    async fn create(&self, shard: u16, new: NewOrder) -> Result<StoredOrder, OrdersError> {
        self.0.ask_owner(shard, new).await
    }

    fn watch(&self, shard: u16, id: OrderId) {
        self.0.post().want(shard, id);
        self.0.wake.notify_one();
    }

    fn tell_news(&self, shard: u16, id: OrderId, news: News) {
        self.0.tell_news(shard, id, news);
    }
}

#[async_trait]
impl Neighbours for Peers {
    async fn changed(&self) {
        let others = self.0.parts.directory.addresses();
        let others = others
            .into_iter()
            .filter(|(who, _)| *who != self.0.instance);
        join_all(others.map(|node| Inner::post_to(&self.0, node, CHANGED, &(), CHANGED_TIMEOUT)))
            .await;
    }
}

impl Inner {
    fn post(&self) -> MutexGuard<'_, Post> {
        // Nothing panics under the lock; were it otherwise, hints are still hints.
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn house_mut(&self) -> std::sync::RwLockWriteGuard<'_, Option<House>> {
        self.house.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn house(&self) -> Option<House> {
        let house = self.house.read().unwrap_or_else(PoisonError::into_inner);
        house.clone()
    }

    pub(super) fn orders(&self) -> Option<Orders> {
        self.house().map(|house| house.orders)
    }

    /// Who owns which shard may have changed.
    pub(super) fn nudge(&self) {
        if let Some(membership) = self.house().and_then(|house| house.membership.upgrade()) {
            membership.nudge();
        }
    }

    /// The same, for many who wait at once.
    fn nudge_at_times(&self) {
        let mut nudged_at = self
            .nudged_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if nudged_at.is_none_or(|at| at.elapsed() >= NUDGE_AGAIN) {
            *nudged_at = Some(Instant::now());
            drop(nudged_at);
            self.nudge();
        }
    }

    /// Another who owns the shard.
    fn owner(&self, shard: u16) -> Option<(u128, String)> {
        let owner = self.parts.directory.owner(shard);
        owner.filter(|(who, _)| *who != self.instance)
    }

    /// Asks the shard's owner, or ourselves should we have become it: for as long as it is certain that
    /// none has begun.
    async fn ask_owner<E: Errand>(
        self: &Arc<Self>,
        shard: u16,
        errand: E,
    ) -> Result<E::Answer, OrdersError> {
        let Ok(_under_way) = self.under_way.try_acquire() else {
            return Err(OrdersError::Overloaded {
                retry_after_seconds: 1,
            });
        };
        let until = Instant::now() + PATIENCE;
        let mut asked: Option<(u128, Instant)> = None;
        loop {
            let orders = self.orders().ok_or(OrdersError::NoOwner)?;
            if orders.ownership().owns(shard) {
                match errand.here(&orders).await {
                    Err(OrdersError::NoOwner) => {}
                    answered => return answered,
                }
            } else if let Some(owner) = self.owner(shard)
                && asked.is_none_or(|(who, at)| who != owner.0 || at.elapsed() >= ASK_AGAIN)
            {
                let who = owner.0;
                let path = errand.path();
                let sent = self.post_to(owner, &path, errand.message(), CALL_TIMEOUT);
                match sent.await {
                    Sent::Answered(body) => match serde_json::from_slice(&body) {
                        // It has not begun either.
                        Ok(Err(OrdersError::NoOwner | OrdersError::Stopping)) => {}
                        Ok(answered) => return answered,
                        Err(error) => {
                            tracing::error!(shard, %error, "another node's answer is not readable");
                            return Err(OrdersError::ActorLost);
                        }
                    },
                    Sent::NotBegun | Sent::Unreached => {}
                    Sent::Lost => return Err(OrdersError::ActorLost),
                }
                asked = Some((who, Instant::now()));
            }
            if Instant::now() >= until {
                return Err(OrdersError::NoOwner);
            }
            self.nudge_at_times();
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// One call, with the proofs of both sides.
    async fn post_to(
        self: &Arc<Self>,
        (to, url): (u128, String),
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Sent {
        let began = Instant::now();
        let kind = kind(path);
        let Ok(body) = serde_json::to_vec(body) else {
            return Sent::NotBegun;
        };
        let sent = if body.len() > BODY_LIMIT {
            tracing::error!(
                kind,
                bytes = body.len(),
                "a message is longer than nodes read"
            );
            Sent::NotBegun
        } else {
            let (inner, path) = (Arc::clone(self), path.to_owned());
            let call = async move { inner.call(to, &url, &path, body, timeout).await };
            // What was sent is waited for though nobody may be any more.
            self.runtime.spawn(call).await.unwrap_or(Sent::Lost)
        };
        let outcome = sent.outcome();
        metrics::counter!("enrollpay_peer_calls_total", "kind" => kind, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("enrollpay_peer_call_duration_seconds", "kind" => kind)
            .record(began.elapsed());
        if !matches!(sent, Sent::Answered(_)) {
            let node = format_args!("{to:032x}");
            tracing::debug!(kind, outcome, %node, "another node did not answer");
        }
        sent
    }

    async fn call(
        &self,
        to: u128,
        url: &str,
        path: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Sent {
        let stamp = Stamp {
            from: self.instance,
            to,
            at: self.parts.clock.now(),
            nonce: u128::from_be_bytes(self.parts.random.bytes()),
            remaining_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let proof = self.key.prove_request(path, &stamp, &body);
        let mut request = self
            .client
            .post(format!("{}{path}", url.trim_end_matches('/')))
            .timeout(timeout)
            .header(PROOF, proof);
        for (name, value) in stamp.headers() {
            request = request.header(name, value);
        }
        let mut response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Sent::Unreached,
            Err(_) => return Sent::Lost,
        };
        let status = response.status().as_u16();
        let proof = response.headers().get(PROOF).cloned();
        let mut answer = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if answer.len() + chunk.len() <= BODY_LIMIT => {
                    answer.extend_from_slice(&chunk);
                }
                Ok(Some(_)) | Err(_) => return Sent::Lost,
                Ok(None) => break,
            }
        }
        let proof = proof.as_ref().and_then(|proof| proof.to_str().ok());
        let is_proven =
            proof.is_some_and(|proof| self.key.is_answer(&stamp, status, &answer, proof));
        match status {
            // Whoever it is, it is not the node that was asked.
            _ if !is_proven => {
                tracing::warn!(status, "an answer came that no node of ours has signed");
                Sent::Lost
            }
            200 => Sent::Answered(answer),
            _ => Sent::NotBegun,
        }
    }

    fn tell_news(&self, shard: u16, id: OrderId, news: News) {
        let Some(orders) = self.orders() else { return };
        let owns = orders.ownership().owns(shard);
        if owns && !self.watched.load(Ordering::Acquire) {
            return;
        }
        let owner = if owns { None } else { self.owner(shard) };
        let mut post = self.post();
        let mut tells = false;
        for receiver in post.subscribers(id, self.instance) {
            if owner.as_ref().is_none_or(|(who, _)| *who != receiver) {
                post.queue(receiver, id, news, false);
                tells = true;
            }
        }
        if let Some((owner, _)) = owner {
            post.queue(owner, id, news, true);
            tells = true;
        }
        drop(post);
        if tells {
            self.wake.notify_one();
        }
    }

    /// Another node has news.
    pub(super) fn hear_news(&self, orders: &Orders, from: u128, items: &[NewsItem]) {
        for item in items {
            for news in item.news() {
                orders.hear_news(item.id, news);
                if item.pass_on && orders.ownership().owns(orders.shard_of(item.id)) {
                    let mut post = self.post();
                    for receiver in post.subscribers(item.id, from) {
                        post.queue(receiver, item.id, news, false);
                    }
                }
            }
        }
        self.wake.notify_one();
    }

    /// Another node watches orders, and is told at once what is known of those it did not watch before:
    /// something may have happened since it looked.
    pub(super) fn subscribe(&self, orders: &Orders, from: u128, watched: &Watched) {
        let ttl = Duration::from_millis(watched.ttl_ms);
        let mut post = self.post();
        let new = post.subscribe(from, &watched.ids, ttl);
        self.watched.store(true, Ordering::Release);
        for id in new {
            let (version, heard) = orders.known(id);
            if version > 0 {
                post.queue(from, id, News::Version(version), false);
            }
            if heard != actors::Heard::default() {
                post.queue(from, id, News::Heard(heard), false);
            }
        }
        drop(post);
        self.wake.notify_one();
    }

    fn look_through(&self) {
        let Some(orders) = self.orders() else { return };
        let is_elsewhere = |shard: u16| !orders.ownership().owns(shard);
        // Pages that were opened while their order was ours, too.
        let watched = orders.watched();
        let alive: HashMap<_, _> = self.parts.directory.addresses().into_iter().collect();
        let mut post = self.post();
        for id in watched {
            let shard = orders.shard_of(id);
            if is_elsewhere(shard) {
                post.want(shard, id);
            }
        }
        post.look_through(
            |shard, id| is_elsewhere(shard) && orders.watches(id),
            |shard| self.owner(shard).map(|(who, _)| who),
        );
        post.forget_receivers(|receiver| alive.contains_key(&receiver));
        self.watched.store(!post.is_unwatched(), Ordering::Release);
    }

    fn send_what_waits(self: &Arc<Self>) {
        let mut post = self.post();
        let news = post.take_news();
        let watches = post.take_fresh(|shard| self.owner(shard).map(|(who, _)| who));
        drop(post);
        for (receiver, items) in news {
            let inner = Arc::clone(self);
            self.runtime
                .spawn(async move { inner.send_news(receiver, &items).await });
        }
        for (owner, ids) in watches {
            let inner = Arc::clone(self);
            self.runtime
                .spawn(async move { inner.send_watches(owner, &ids).await });
        }
    }

    async fn send_news(self: &Arc<Self>, receiver: u128, items: &[NewsItem]) {
        for chunk in items.chunks(CHUNK) {
            if !self.is_told(receiver, NEWS, &chunk).await {
                dropped(chunk.len());
            }
        }
        self.post().is_through(Kind::News, receiver);
        // There may be more by now.
        self.wake.notify_one();
    }

    async fn send_watches(self: &Arc<Self>, owner: u128, ids: &[OrderId]) {
        for chunk in ids.chunks(CHUNK) {
            let watched = Watched {
                ids: chunk.to_vec(),
                ttl_ms: u64::try_from(TTL.as_millis()).unwrap_or(u64::MAX),
            };
            if !self.is_told(owner, WATCH, &watched).await {
                self.post().untold(chunk);
            }
        }
        self.post().is_through(Kind::Watch, owner);
        self.wake.notify_one();
    }

    async fn is_told(self: &Arc<Self>, receiver: u128, path: &str, body: &impl Serialize) -> bool {
        let Some(url) = self.parts.directory.address(receiver) else {
            return false;
        };
        let sent = self
            .post_to((receiver, url), path, body, POST_TIMEOUT)
            .await;
        matches!(sent, Sent::Answered(_))
    }
}

/// A call's name as a metric label.
fn kind(path: &str) -> &'static str {
    match path {
        WATCH => "watch",
        NEWS => "news",
        CHANGED => "changed",
        ORDERS => "create",
        _ => "command",
    }
}
