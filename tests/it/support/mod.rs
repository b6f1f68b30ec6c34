//! Everything around the binary under test: the providers, a school with its server, payers with
//! phones. A [`World`] has one of each; its [`World::finish`] waits for rest, stops the gateway and
//! holds the store against the providers' books.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

pub mod books;
pub mod certificates;
pub mod cluster;
pub mod disk;
pub mod front;
pub mod ground;
pub mod merchant;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod server;
pub mod standby;
pub mod story;
pub mod student;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::invariants;
use books::trade_number;
use cluster::Cluster;
use merchant::Merchant;
use process::{Gateway, Simulators};
use receiver::Receiver;
use student::{Student, Wallet};

/// Asks until there is an answer; fails, naming what was waited for, once patience is over.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A client that follows nothing and asks no proxy.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // Every request comes on a connection of its own, and so to any node.
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// How long an attempt, its closing and its refund may take to end.
const REST: Duration = Duration::from_secs(90);
/// Many leases.
const SETTLED: Duration = Duration::from_secs(30);

/// Which store and which locks: they come in pairs (contract §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pair {
    /// SQLite and locks in the process, for one node.
    #[default]
    Sqlite,
    /// PostgreSQL and Redis, for so many nodes.
    Postgres(usize),
}

/// The same stories on either pair: `on_sqlite::…` and `on_postgres::…`, there on two nodes.
macro_rules! on_either_pair {
    ($(#[$meta:meta])* $($story:ident),+ $(,)?) => {
        $crate::support::on_sqlite! { $(#[$meta])* $($story),+ }
        $crate::support::on_postgres! { $(#[$meta])* $($story),+ }
    };
}
macro_rules! on_sqlite {
    ($(#[$meta:meta])* $($story:ident),+ $(,)?) => {
        $(#[$meta])*
        mod on_sqlite {
            $(#[actix_web::test]
            async fn $story() {
                super::$story($crate::support::Pair::Sqlite).await;
            })+
        }
    };
}
macro_rules! on_postgres {
    ($(#[$meta:meta])* $($story:ident),+ $(,)?) => {
        $(#[$meta])*
        mod on_postgres {
            $(#[actix_web::test]
            async fn $story() {
                super::$story($crate::support::Pair::Postgres(2)).await;
            })+
        }
    };
}
pub(crate) use {on_either_pair, on_postgres, on_sqlite};

pub struct World {
    /// The node, or the first of them.
    pub gateway: Gateway,
    /// The others.
    pub peers: Vec<Gateway>,
    /// What the nodes share, where there may be several.
    pub cluster: Option<Cluster>,
    pub simulators: Simulators,
    pub receiver: Receiver,
    pub merchant: Merchant,
    // Last: the processes above still write into it.
    #[expect(dead_code, reason = "it is removed with the world")]
    folder: tempfile::TempDir,
}

/// An order whose code somebody has claimed and confirmed: its trade is made.
pub struct Asked {
    pub order: String,
    /// Our number of its trade.
    pub trade: String,
    pub attempt: Value,
}

impl World {
    /// Providers, one gateway on the embedded pair, and a merchant with a webhook server.
    /// `environment`: keys of the gateway's configuration without their prefix.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        Self::on(Pair::Sqlite, environment).await
    }

    /// The same on this pair.
    pub async fn on(on: Pair, environment: &[(&str, &str)]) -> Self {
        match on {
            Pair::Sqlite => Self::build(None, environment).await,
            Pair::Postgres(nodes) => Self::cluster(Cluster::new(nodes), environment).await,
        }
    }

    /// The same on these servers.
    pub async fn cluster(cluster: Cluster, environment: &[(&str, &str)]) -> Self {
        Self::build(Some(cluster), environment).await
    }

    async fn build(cluster: Option<Cluster>, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulators = Simulators::start(folder.path()).await;
        let nodes = match &cluster {
            None => vec![Gateway::new(folder.path(), &simulators, environment)],
            Some(cluster) => cluster.gateways(folder.path(), &simulators, environment),
        };
        // The first makes the store's tables.
        nodes[0].restart().await;
        for node in &nodes[1..] {
            node.launch(&[]);
        }
        for node in &nodes[1..] {
            node.ready().await;
        }
        let receiver = Receiver::start();
        let merchant = Merchant::register(&nodes[0], &receiver);
        let merchant = match &cluster {
            None => merchant,
            Some(cluster) => merchant.at(&cluster.origin()),
        };
        let mut nodes = nodes.into_iter();
        let world = Self {
            gateway: nodes.next().unwrap(),
            peers: nodes.collect(),
            cluster,
            simulators,
            receiver,
            merchant,
            folder,
        };
        world.settled().await;
        world
    }

    /// Waits until every shard has its owner, and each node its share: then no order changes hands.
    pub async fn settled(&self) {
        if self.cluster.is_none() {
            return;
        }
        eventually("shards on every node", SETTLED, async || {
            let mut owned = Vec::new();
            for node in self.nodes() {
                owned.push(node.metric("enrollpay_shards_owned", &[]).await);
            }
            let all = owned.iter().sum::<u64>() == cluster::SHARDS;
            (all && !owned.contains(&0)).then_some(())
        })
        .await;
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Gateway> {
        std::iter::once(&self.gateway).chain(&self.peers)
    }

    /// A counter, over all nodes.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let mut sum = 0;
        for node in self.nodes() {
            sum += node.metric(name, labels).await;
        }
        sum
    }

    /// Starts a code of this order and has somebody claim it.
    pub async fn scan(&self, order: &str, wallet: Wallet) -> (Value, Student) {
        let attempt = self.merchant.start(order).await;
        let mut student = Student::stranger(wallet);
        let claimed = student.scan(&attempt).await.expect(200);
        assert_eq!(claimed["state"], "claimed", "{claimed}");
        (attempt, student)
    }

    /// A new order up to the moment at which the wallet would ask for the password.
    pub async fn ask(&self, wallet: Wallet) -> Asked {
        self.ask_with(wallet, json!({})).await
    }

    pub async fn ask_with(&self, wallet: Wallet, more: Value) -> Asked {
        let order = self.merchant.create_with(more).await;
        let order = order["id"].as_str().unwrap().to_owned();
        let (attempt, mut student) = self.scan(&order, wallet).await;
        student.press_pay().await.expect(200);
        let trade = trade_number(&order, attempt["number"].as_u64().unwrap());
        Asked {
            order,
            trade,
            attempt,
        }
    }

    /// A new order that is paid, and its merchant told.
    pub async fn paid(&self, wallet: Wallet) -> Asked {
        let asked = self.ask(wallet).await;
        self.simulators.pay(&asked.trade).await;
        self.merchant.until_status(&asked.order, "paid").await;
        self.receiver.wait(&asked.order, "order.paid").await;
        asked
    }

    /// Somebody sits at the password page until the order's deadline has passed at the provider, and
    /// pays all the same: money that goes back.
    pub async fn late_payment(&self) -> Asked {
        const WAITS_MS: i64 = 150_000;
        let deadline = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(130);
        let more = json!({ "pay_before": deadline.to_string() });
        let asked = self.ask_with(student::Wechat, more).await;
        self.simulators.open(&asked.trade).await;
        self.simulators.advance(WAITS_MS).await;
        self.simulators.pay_late(&asked.trade).await;
        self.simulators.advance(-WAITS_MS).await;
        asked
    }

    /// Waits until nothing is under way, here or at the providers.
    pub async fn rest(&self) {
        let mut left = String::new();
        let deadline = Instant::now() + REST;
        while Instant::now() < deadline {
            let books = self.simulators.books().await;
            match invariants::unrest(self.gateway.kept(), &books).await {
                None => return,
                Some(what) => left = what,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited {REST:?} for rest: {left}");
    }

    /// Rest, an orderly stop, and the books.
    pub async fn finish(self) {
        self.finish_and(async || {}).await;
    }

    /// The same, with a look of the test's own at what is left.
    pub async fn finish_and(self, look: impl AsyncFnOnce()) {
        if let Some(cluster) = &self.cluster {
            cluster.heal();
        }
        for node in self.nodes() {
            if !node.is_running() {
                node.restart().await;
            }
        }
        self.rest().await;
        for node in self.nodes() {
            let status = node.terminate().await;
            assert_eq!(status.code(), Some(0), "an orderly stop");
        }
        self.check().await;
        let broken = invariants::told_as_kept(self.gateway.kept(), &self.receiver.all()).await;
        assert!(broken.is_empty(), "webhooks: {broken:#?}");
        assert_eq!(
            self.receiver.refused(),
            0,
            "webhooks with a wrong signature"
        );
        look().await;
    }

    /// Holds the store against the providers' books. No node may run.
    pub async fn check(&self) {
        let books = self.simulators.books().await;
        let broken = invariants::check_invariants(self.gateway.kept(), &books).await;
        assert!(broken.is_empty(), "broken invariants: {broken:#?}");
    }
}
