//! Every way in which `locks.url` may say that Redis is run, against the real thing: TLS, an access list,
//! Sentinels, a Cluster.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use enrollpay::locks::redis::{Budget, RedisLocks, Taken};
use enrollpay::locks::{Acquired, Held, Locks};
use rustix::process::Signal;
use tempfile::TempDir;

use super::redis::{ask, locks_at, locks_with, settings};
use super::{LEASE, MINE, OTHERS};
use crate::support::certificates::Certificates;
use crate::support::eventually;
use crate::support::process::free_port;
use crate::support::redis::RedisServer;
use crate::support::server::{Program, Server, command_as};

const PATIENCE: Duration = Duration::from_mins(1);
const BUDGET: Budget = Budget {
    every: Duration::from_secs(1),
    burst: 5,
};

/// Everything that the gateway asks of Redis.
async fn does_everything(locks: &Arc<RedisLocks>, name: &str) -> bool {
    let budgets = locks.budgets(&"0123456789abcdef0123456789abcdef".to_owned().into());
    let acquired = [
        locks.acquire(name, MINE, LEASE).await,
        locks.acquire(name, MINE, LEASE).await,
        locks.acquire(name, OTHERS, LEASE).await,
    ];
    let held = [locks.holder(name).await, {
        locks.release(name, MINE).await;
        locks.holder(name).await
    }];
    let taken = budgets.take("merchant", name, BUDGET).await;
    acquired == [Acquired::Mine, Acquired::Mine, Acquired::Anothers]
        && held == [Held::By(MINE), Held::Nobody]
        && taken == Taken::Granted
        && locks.check().await.is_ok()
}

/// The access list that `config/production.example.toml` gives, for this way of running Redis.
fn access_list(more: Option<&str>) -> Vec<String> {
    const EXAMPLE: &str = include_str!("../../../config/production.example.toml");
    let rules = |marker: &str| {
        let line = EXAMPLE.lines().find_map(|line| line.split_once(marker));
        let (_, rules) = line.unwrap_or_else(|| panic!("no {marker:?} in the example"));
        let words = rules.split_whitespace().map(str::to_owned);
        words.collect::<Vec<_>>()
    };
    let mut words = rules("user enrollpay ");
    if let Some(more) = more {
        words.extend(rules(more));
    }
    let password = words.iter_mut().find(|word| word.starts_with('>'));
    ">hunter2".clone_into(password.expect("a password"));
    words
}

fn allow(server: &RedisServer, rules: &[String]) {
    let command = format!("ACL SETUSER enrollpay reset {}", rules.join(" "));
    let _: () = ask(&server.url(), &command);
}

const LOGIN: &str = "//enrollpay:hunter2@";

#[tokio::test]
async fn an_access_list_grants_what_is_used_and_nothing_else() {
    let server = RedisServer::private();
    let rules = access_list(None);
    allow(&server, &rules);
    let url = server.url().replace("//", LOGIN);
    assert!(does_everything(&locks_at(&url), "a").await);
    let denied: Vec<redis::Value> = ask(&server.url(), "ACL LOG");
    assert!(denied.is_empty(), "{denied:?}");

    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for (command, arguments) in [
        ("GET", &["other:a"][..]),
        ("SET", &["other:a", "1"]),
        ("KEYS", &["*"]),
        ("FLUSHALL", &[]),
        ("CONFIG", &["GET", "*"]),
        ("EVAL", &["return redis.call('GET', 'other:a')", "0"]),
        ("SCRIPT", &["FLUSH"]),
        ("PUBLISH", &["other", "a"]),
    ] {
        let mut command = redis::cmd(command);
        command.arg(arguments);
        let answer = command.query::<redis::Value>(&mut connection);
        let kind = answer.expect_err("a refusal").kind();
        let refused = redis::ErrorKind::Server(redis::ServerErrorKind::NoPerm);
        assert_eq!(kind, refused, "{command:?}");
    }

    // Each command in the list is needed.
    let granted: Vec<_> = rules.iter().filter(|rule| rule.starts_with('+')).collect();
    assert!(granted.len() > 5, "{rules:?}");
    for missing in granted {
        let mut rules = rules.clone();
        rules.retain(|rule| rule != missing);
        allow(&server, &rules);
        let _: () = ask(&server.url(), "SCRIPT FLUSH");
        let all = does_everything(&locks_at(&url), missing).await;
        assert!(!all, "{missing} is not used");
    }
}

#[tokio::test]
async fn tls_wants_a_certificate_of_an_authority_we_know() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::new();
    for (name, pem) in [
        ("ca.pem", &made.authority),
        ("server.pem", &made.server),
        ("server.key", &made.key),
    ] {
        std::fs::write(folder.path().join(name), pem).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port();
    let _server = RedisServer::private_with(&[
        ("tls-port", &port.to_string()),
        ("tls-cert-file", &path("server.pem")),
        ("tls-key-file", &path("server.key")),
        ("tls-ca-cert-file", &path("ca.pem")),
        ("tls-auth-clients", "no"),
    ]);
    let url = format!("rediss://127.0.0.1:{port}");
    let known = settings(&[("LOCKS__URL", &*url), ("LOCKS__CA_FILE", &path("ca.pem"))]);
    assert!(does_everything(&locks_with(&known), "a").await);

    let stranger = locks_at(&url);
    assert_eq!(stranger.acquire("a", MINE, LEASE).await, Acquired::Unknown);
    let why = stranger.check().await.unwrap_err().to_string();
    assert!(why.contains("certificate"), "{why}");
    // What is no certificate is refused before anybody is dialled.
    let wrong = settings(&[
        ("LOCKS__URL", &*url),
        ("LOCKS__CA_FILE", &path("server.key")),
    ]);
    let random = Arc::new(enrollpay::random::SystemRandom);
    assert!(enrollpay::locks::redis::connect(&wrong, random).is_err());
}

struct Sentinel {
    primary: u16,
}

impl Program for Sentinel {
    const NAME: &str = "Sentinel";
    const STOP: Signal = Signal::TERM;

    fn command(&self, folder: &Path, port: u16) -> Command {
        let file = folder.join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor pay 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds pay 500\nsentinel failover-timeout pay 2000\n",
            folder.display(),
            self.primary,
        );
        std::fs::write(&file, settings).unwrap();
        let mut command = command_as(None, Path::new("redis-server"));
        command.arg(file).arg("--sentinel");
        command
    }

    fn is_ready(&self, _folder: &Path, port: u16, process: u32) -> bool {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let Ok(mut connection) = client.get_connection() else {
            return false;
        };
        let info: String = redis::cmd("INFO")
            .query(&mut connection)
            .unwrap_or_default();
        info.contains(&format!("process_id:{process}\r\n"))
    }
}

/// F8: the primary dies before its replica has heard of a lock. Two believe that they hold it, and the
/// locks go on.
#[tokio::test]
async fn sentinels_name_who_took_over_and_a_lock_may_be_lost() {
    let (primary, replica) = (RedisServer::private(), RedisServer::private());
    let rules = access_list(Some("with Sentinels also "));
    let port = primary.control().port();
    for server in [&primary, &replica] {
        allow(server, &rules);
    }
    let _: () = ask(&replica.url(), &format!("REPLICAOF 127.0.0.1 {port}"));
    let folder = TempDir::with_prefix("enrollpay-sentinel-").unwrap();
    let sentinel = Server::start(Sentinel { primary: port }, folder);
    // The first is not there: the next is asked.
    let url = format!(
        "redis+sentinel:{LOGIN}127.0.0.1:1,127.0.0.1:{}/pay?db=0",
        sentinel.port()
    );
    let (locks, other) = (locks_at(&url), locks_at(&url));
    assert!(does_everything(&locks, "a").await);
    assert_eq!(locks.acquire("kept", MINE, PATIENCE).await, Acquired::Mine);
    let sentinels = format!("redis://127.0.0.1:{}", sentinel.port());
    eventually(
        "the sentinel and the replica to know",
        PATIENCE,
        async || {
            let known: Vec<redis::Value> = ask(&sentinels, "SENTINEL REPLICAS pay");
            let kept: Option<String> = ask(&replica.url(), "GET enrollpay:kept");
            (known.len() == 1 && kept.is_some()).then_some(())
        },
    )
    .await;

    replica.control().pause();
    let _: () = ask(&primary.url(), "CLIENT KILL TYPE replica");
    assert_eq!(locks.acquire("lost", MINE, PATIENCE).await, Acquired::Mine);
    primary.control().kill9();
    replica.control().resume();

    eventually("the replica to take over", PATIENCE, async || {
        (other.acquire("lost", OTHERS, LEASE).await == Acquired::Mine).then_some(())
    })
    .await;
    eventually("the first to hear of it", PATIENCE, async || {
        (locks.acquire("lost", MINE, LEASE).await == Acquired::Anothers).then_some(())
    })
    .await;
    assert_eq!(
        other.acquire("kept", OTHERS, LEASE).await,
        Acquired::Anothers
    );
    assert_eq!(locks.acquire("kept", MINE, LEASE).await, Acquired::Mine);
    assert!(does_everything(&locks, "b").await);
    let denied: Vec<redis::Value> = ask(&replica.url(), "ACL LOG");
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn a_cluster_spreads_the_locks_and_loses_those_of_a_dead_node() {
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            RedisServer::private_with(&[
                ("databases", "1"),
                ("cluster-enabled", "yes"),
                ("cluster-port", &bus),
                ("cluster-require-full-coverage", "no"),
                ("cluster-node-timeout", "1000"),
            ])
        })
        .collect();
    let rules = access_list(Some("with a Cluster also "));
    for node in &nodes {
        allow(node, &rules);
    }
    let addresses: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.control().port()))
        .collect();
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .arg("--cluster-yes")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    eventually("every node to know", PATIENCE, async || {
        nodes
            .iter()
            .all(|node| {
                let info: String = ask(&node.url(), "CLUSTER INFO");
                info.contains("cluster_state:ok")
            })
            .then_some(())
    })
    .await;

    let url = format!("redis+cluster:{LOGIN}127.0.0.1:1,{}", addresses[0]);
    let (locks, other) = (locks_at(&url), locks_at(&url));
    assert!(does_everything(&locks, "a").await);
    super::many_at_once_are_each_its_own(locks.clone()).await;
    let names: Vec<String> = (0..64).map(|number| format!("shard:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    locks.release(names[7], OTHERS).await;
    assert_eq!(
        locks.acquire_many(&names, MINE, PATIENCE).await,
        vec![Acquired::Mine; 64]
    );
    for node in &nodes {
        let keys: usize = ask(&node.url(), "DBSIZE");
        assert!((5..50).contains(&keys), "spread: {keys}");
        let denied: Vec<redis::Value> = ask(&node.url(), "ACL LOG");
        assert!(denied.is_empty(), "{denied:?}");
    }

    nodes[2].control().kill9();
    let acquired = other.acquire_many(&names, OTHERS, LEASE).await;
    let count = |kind| {
        acquired
            .iter()
            .filter(|acquired| **acquired == kind)
            .count()
    };
    assert_eq!(count(Acquired::Mine), 0, "{acquired:?}");
    assert!(count(Acquired::Anothers) > 20, "{acquired:?}");
    assert!(count(Acquired::Unknown) > 5, "{acquired:?}");
    nodes[2].control().restart();
    // It keeps no list of its own.
    allow(&nodes[2], &rules);
    eventually("the third node to be back", PATIENCE, async || {
        let acquired = locks.acquire_many(&names, MINE, PATIENCE).await;
        (acquired == vec![Acquired::Mine; 64]).then_some(())
    })
    .await;
}
