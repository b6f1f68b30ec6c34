//! Nodes of one process on one store, as processes on several machines would be.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use enrollpay::actors::ownership::Ownership;
use enrollpay::actors::{self, EventBody, Options, Orders, OrdersError, Parts, Reply, Shards};
use enrollpay::clock::Clock;
use enrollpay::cluster::{self, Directory, Membership, PeerOptions, PeerParts, Peers};
use enrollpay::locks::memory::MemoryLocks;
use enrollpay::order::{
    AttemptId, CaptureReport, Command, OrderId, OutTradeNo, RefundId, Timestamp, Wallet,
};
use enrollpay::provider::Providers;
use enrollpay::random::{Random, SeededRandom, SystemRandom};
use enrollpay::sealing::Sealer;
use enrollpay::store::sqlite::{Options as StoreOptions, SqliteStore};
use enrollpay::store::{Store as _, StoredOrder};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actors::bank::Bank;
use crate::actors::bench::{
    AMOUNT, Body, FIRST, START, STUDENT, account, claim, eventually, new_order, options, pay,
    payer_slot, request,
};

pub const SHARDS: u16 = 16;
pub const LEASE: Duration = Duration::from_secs(1);
pub const SECRET: &str = "one secret that all nodes of the test share";

/// From [`START`], as fast as everybody's.
#[derive(Debug)]
pub struct Running {
    began: Instant,
    /// How much it is ahead of the others.
    pub ahead_ms: i64,
}

impl Clock for Running {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        START.plus_ms(passed + self.ahead_ms)
    }
}

/// What all nodes share.
pub struct Cluster {
    pub store: Arc<SqliteStore>,
    pub locks: Arc<MemoryLocks>,
    pub bank: Arc<Bank>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub sealer: Sealer,
    began: Instant,
    _folder: TempDir,
}

impl Default for Cluster {
    fn default() -> Self {
        let began = Instant::now();
        let clock: Arc<dyn Clock> = Arc::new(Running { began, ahead_ms: 0 });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.db");
        let sealing: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let store = SqliteStore::open(file, StoreOptions::new(Arc::clone(&clock)));
        Self {
            store: Arc::new(store.unwrap()),
            locks: Arc::default(),
            bank: Arc::new(Bank::new(account().as_str(), Wallet::Wechat, &[])),
            clock,
            random: Arc::new(SystemRandom),
            sealer: Sealer::new(&[(1, [3; 32])], &[1; 32], &[2; 32], sealing),
            began,
            _folder: folder,
        }
    }
}

pub struct Node {
    pub instance: u128,
    pub orders: Orders,
    pub shards: Shards,
    pub ownership: Ownership,
    pub membership: Arc<Membership>,
    pub peers: Peers,
    pub directory: Directory,
    pub url: String,
    server: ServerHandle,
    stop: CancellationToken,
}

impl Cluster {
    /// So many nodes, once each has its share.
    pub async fn nodes(&self, count: u128) -> Vec<Node> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            nodes.push(self.node(number).await);
        }
        eventually(async || {
            let owned: usize = nodes.iter().map(Node::owned).sum();
            let knows_all = |node: &Node| {
                (0..SHARDS).all(|shard| {
                    node.directory.owner(shard).is_some_and(|(instance, _)| {
                        let named = nodes.iter().find(|other| other.instance == instance);
                        named.is_some_and(|named| named.ownership.owns(shard))
                    })
                })
            };
            owned == usize::from(SHARDS)
                && nodes.iter().all(|node| node.owned() > 0 && knows_all(node))
        })
        .await;
        nodes
    }

    pub async fn node(&self, number: u128) -> Node {
        let instance = 1_000 + number;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let directory = Directory::default();
        let peers = self.peers(instance, SECRET, 0, &directory);
        let ownership = Ownership::new(instance, SHARDS, true);
        let membership = Arc::new(Membership::new(
            cluster::Options {
                node: format!("node-{number}"),
                internal_url: Some(url.clone()),
                shards: SHARDS,
                lease: LEASE,
            },
            cluster::Parts {
                store: self.store.clone(),
                locks: self.locks.clone(),
                clock: Arc::clone(&self.clock),
                random: Arc::clone(&self.random),
                ownership: ownership.clone(),
                directory: directory.clone(),
            },
            Some(Arc::new(peers.clone())),
        ));
        membership.join().await.unwrap();
        let shards = actors::start(
            Options {
                shards: SHARDS,
                threads: 0,
                mailbox: 256,
                ownership: ownership.clone(),
                peers: Some(Arc::new(peers.clone())),
                // What pages hear, they hear from the other nodes.
                reread_ms: 3_600_000,
                ..options()
            },
            Parts {
                store: self.store.clone(),
                providers: Providers::new([Arc::clone(&self.bank) as _]),
                sealer: self.sealer.clone(),
                clock: Arc::clone(&self.clock),
                random: Arc::clone(&self.random),
                webhook_body: Arc::new(Body::default()) as Arc<dyn EventBody>,
            },
        );
        let orders = shards.orders();
        peers.attach(orders.clone(), &membership);
        let server = peers.serve(listener, 1).unwrap();
        let handle = server.handle();
        actix::spawn(server);
        let stop = CancellationToken::new();
        actix::spawn({
            let (membership, orders, stop) =
                (Arc::clone(&membership), orders.clone(), stop.clone());
            async move { membership.run(Some(orders), stop).await }
        });
        actix::spawn({
            let (peers, stop) = (peers.clone(), stop.clone());
            async move { peers.run(stop).await }
        });
        Node {
            instance,
            orders,
            shards,
            ownership,
            membership,
            peers,
            directory,
            url,
            server: handle,
            stop,
        }
    }

    /// A client whose clock is ahead of the others'.
    pub fn peers(
        &self,
        instance: u128,
        secret: &str,
        ahead_ms: i64,
        directory: &Directory,
    ) -> Peers {
        let options = PeerOptions {
            instance,
            secret: SecretString::from(secret),
        };
        let parts = PeerParts {
            directory: directory.clone(),
            clock: Arc::new(Running {
                began: self.began,
                ahead_ms,
            }),
            random: Arc::clone(&self.random),
        };
        Peers::new(&options, parts).unwrap()
    }

    /// A new order of this node's.
    pub async fn order(&self, node: &Node) -> OrderId {
        let id = node.orders.new_id(self.clock.now());
        let new = new_order(id, &self.sealer);
        node.orders.create(new).await.unwrap();
        id
    }

    /// One whose trade was made for [`STUDENT`].
    pub async fn made(&self, node: &Node) -> OrderId {
        let id = self.order(node).await;
        node.tell(id, self.start()).await.unwrap();
        let mut scan = request(claim(STUDENT));
        scan.writes.push(payer_slot(&self.sealer, id, "openid-1"));
        node.orders.tell(id, scan).await.unwrap();
        node.tell(id, pay()).await.unwrap();
        eventually(async || self.stored(id).await.order.version >= 5).await;
        id
    }

    pub fn start(&self) -> Command {
        Command::StartAttempt {
            id: AttemptId::from_ulid(self.random.ulid(self.clock.now())),
            wallet: None,
        }
    }

    /// The payment of an order's first attempt, as the bank has it.
    pub fn report(&self, order: OrderId) -> CaptureReport {
        let number = OutTradeNo {
            order,
            attempt: FIRST,
        };
        let succeeded_at = self.clock.now();
        self.bank.pay(number, succeeded_at);
        CaptureReport {
            attempt: FIRST,
            account: account(),
            application: "wx8888888888888888".into(),
            transaction_id: format!("tx-{number}").into(),
            amount: AMOUNT,
            currency: "CNY".into(),
            succeeded_at,
            surplus_refund: RefundId::from_ulid(self.random.ulid(succeeded_at)),
        }
    }

    pub async fn stored(&self, id: OrderId) -> StoredOrder {
        self.store.order(id).await.unwrap().unwrap()
    }

    pub async fn stop(&self, nodes: Vec<Node>) {
        for node in nodes {
            node.stop.cancel();
            node.server.stop(false).await;
            node.shards.stop(Duration::from_secs(5)).await;
            node.peers.detach();
        }
        self.store.close().await;
    }
}

impl Node {
    pub fn owned(&self) -> usize {
        let all = 0..SHARDS;
        all.filter(|shard| self.ownership.owns(*shard)).count()
    }

    pub fn owns(&self, id: OrderId) -> bool {
        self.ownership.owns(self.orders.shard_of(id))
    }

    pub async fn tell(&self, id: OrderId, command: Command) -> Result<Reply, OrdersError> {
        self.orders.tell(id, request(command)).await
    }

    /// No heartbeat, no renewal, no answer to anybody from now on.
    pub async fn fall_silent(&self) {
        self.stop.cancel();
        self.server.stop(false).await;
    }
}
