//! Several nodes on one PostgreSQL and one Redis, as a school that grows would run them. Where a test
//! wants to break something, the servers are its own and each line has a proxy in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::postgres::{Database, Postgres};
use super::process::{Gateway, Simulators, free_port};
use super::proxy::Proxy;
use super::redis::RedisServer;

/// Few and short, so that hand-overs are part of a test's minute.
pub const SHARDS: u64 = 8;
const LEASE_SECONDS: &str = "2";

/// What the nodes share.
#[derive(Debug)]
pub struct Cluster {
    pub database: Database,
    pub redis: Arc<RedisServer>,
    /// Where merchants, students and providers come in: each connection to the next node that lives.
    pub balancer: Proxy,
    /// One for each node, where the lines can be cut.
    pub links: Vec<Links>,
    public: Vec<SocketAddr>,
    nodes: Vec<BTreeMap<String, String>>,
}

/// The lines of one node.
#[derive(Debug)]
pub struct Links {
    pub store: Proxy,
    pub locks: Proxy,
    /// By which the others reach it.
    pub others: Proxy,
}

impl Cluster {
    /// On the servers that all tests share, in a database and a number of its own.
    pub fn new(nodes: usize) -> Self {
        Self::on(nodes, Postgres::shared().database())
    }

    /// The same on this database.
    pub fn on(nodes: usize, database: Database) -> Self {
        let redis = RedisServer::shared();
        let locks = redis.database().url();
        let store = database.url();
        let nodes = (0..nodes).map(|_| Addresses::new(&store, &locks));
        Self::of(database, redis, Vec::new(), &nodes.collect::<Vec<_>>())
    }

    /// On servers of its own, with a proxy in every line.
    pub fn breakable(nodes: usize, postgres: &Arc<Postgres>) -> Self {
        let redis = RedisServer::private();
        let database = postgres.database();
        let (mut links, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..nodes {
            let mut node = Addresses::new(&database.url(), &redis.url());
            let link = Links {
                store: Proxy::before_postgres(address_of(&node.store)),
                locks: Proxy::before(&[address_of(&node.locks)]),
                others: Proxy::before(&[node.listen]),
            };
            node.store = link.store.instead_of(&node.store);
            node.locks = link.locks.instead_of(&node.locks);
            node.internal = link.others.instead_of(&node.internal);
            links.push(link);
            addresses.push(node);
        }
        Self::of(database, redis, links, &addresses)
    }

    fn of(
        database: Database,
        redis: Arc<RedisServer>,
        links: Vec<Links>,
        nodes: &[Addresses],
    ) -> Self {
        let public: Vec<SocketAddr> = nodes.iter().map(|node| node.public).collect();
        let balancer = Proxy::before(&public);
        let secrets = Secrets::new();
        let origin = format!("http://{}", balancer.address());
        let nodes = (1..)
            .zip(nodes)
            .map(|(number, node)| node.environment(number, &origin, &secrets))
            .collect();
        Self {
            database,
            redis,
            balancer,
            links,
            public,
            nodes,
        }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.balancer.address())
    }

    /// The nodes, none of them started.
    pub fn gateways(
        &self,
        folder: &Path,
        simulators: &Simulators,
        environment: &[(&str, &str)],
    ) -> Vec<Gateway> {
        let nodes = (1..).zip(&self.nodes);
        nodes
            .map(|(number, own)| {
                let folder = folder.join(format!("node-{number}"));
                let mut all: Vec<(&str, &str)> = own
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect();
                all.extend(environment);
                Gateway::new(&folder, simulators, &all).keeps(&self.database.url())
            })
            .collect()
    }

    /// Whoever comes in is sent to these nodes alone.
    pub fn lead_to(&self, nodes: &[&Gateway]) {
        let nodes: Vec<_> = nodes.iter().map(|node| node.address()).collect();
        self.balancer.lead_to(&nodes);
    }

    /// Every line whole, and every node in use.
    pub fn heal(&self) {
        self.balancer.heal();
        self.balancer.lead_to(&self.public);
        for link in &self.links {
            link.store.heal();
            link.locks.heal();
            link.others.heal();
        }
    }
}

/// Where one node listens, and where it finds its servers.
struct Addresses {
    public: SocketAddr,
    listen: SocketAddr,
    internal: String,
    store: String,
    locks: String,
}

impl Addresses {
    fn new(store: &str, locks: &str) -> Self {
        let own = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listen = own();
        Self {
            public: own(),
            listen,
            internal: format!("http://{listen}"),
            store: store.to_owned(),
            locks: locks.to_owned(),
        }
    }

    fn environment(
        &self,
        number: u32,
        origin: &str,
        secrets: &Secrets,
    ) -> BTreeMap<String, String> {
        [
            ("SERVER__LISTEN", self.public.to_string()),
            ("SERVER__PUBLIC_URL", origin.to_owned()),
            ("STORE__URL", self.store.clone()),
            ("LOCKS__URL", self.locks.clone()),
            ("CLUSTER__NODE_ID", format!("node-{number}")),
            ("CLUSTER__LISTEN", self.listen.to_string()),
            ("CLUSTER__INTERNAL_URL", self.internal.clone()),
            ("CLUSTER__SECRET", secrets.cluster.clone()),
            ("CLUSTER__SHARDS", SHARDS.to_string()),
            ("CLUSTER__LEASE_SECONDS", LEASE_SECONDS.to_owned()),
            ("SECRETS__FIELD_KEYS", format!("1:{}", secrets.field)),
            ("SECRETS__INDEX_KEY", secrets.index.clone()),
            ("SECRETS__TOKEN_KEY", secrets.token.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// What every node must know alike.
struct Secrets {
    cluster: String,
    field: String,
    index: String,
    token: String,
}

impl Secrets {
    fn new() -> Self {
        let key = || STANDARD.encode(rand::random::<[u8; 32]>());
        Self {
            cluster: key(),
            field: key(),
            index: key(),
            token: key(),
        }
    }
}

/// Host and port of a URL.
fn address_of(url: &str) -> SocketAddr {
    let url: url::Url = url.parse().unwrap();
    let host = url.host_str().unwrap().parse().unwrap();
    SocketAddr::new(host, url.port().unwrap())
}
