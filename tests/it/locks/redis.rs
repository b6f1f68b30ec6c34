//! Leases in a real Redis, and what they say while it is paused, killed, emptied or out of hearing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use enrollpay::app::redis_settings;
use enrollpay::config::Config;
use enrollpay::locks::redis::{RedisLocks, RedisSettings, connect};
use enrollpay::locks::{Acquired, Held, Locks};
use enrollpay::random::SystemRandom;

use super::proxy::Proxy;
use super::{LEASE, MINE, OTHERS};
use crate::support::eventually;
use crate::support::redis::{Numbered, RedisServer};

/// All tries of one command, and a busy machine.
const BOUND: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(20);

/// As the program reads them.
pub fn settings(environment: &[(&str, &str)]) -> RedisSettings {
    let keys = [
        ("STORE__URL", "postgres://enrollpay@127.0.0.1/enrollpay"),
        ("CLUSTER__NODE_ID", "node-1"),
        ("CLUSTER__LISTEN", "127.0.0.1:0"),
        ("CLUSTER__SECRET", "0123456789abcdef0123456789abcdef"),
    ];
    let keys = keys.iter().chain(environment);
    let keys = keys.map(|(key, value)| (format!("ENROLLPAY__{key}"), (*value).to_owned()));
    let config = Config::load(None, keys).unwrap();
    redis_settings(&config).unwrap().expect("Redis")
}

pub fn locks_at(url: &str) -> Arc<RedisLocks> {
    locks_with(&settings(&[("LOCKS__URL", url)]))
}

pub fn locks_with(settings: &RedisSettings) -> Arc<RedisLocks> {
    Arc::new(connect(settings, Arc::new(SystemRandom)).unwrap())
}

/// A command of the test's own.
pub fn ask<T: redis::FromRedisValue>(url: &str, command: &str) -> T {
    let client = redis::Client::open(url).unwrap();
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command
        .query(&mut client.get_connection().unwrap())
        .unwrap()
}

fn empty() -> Numbered {
    RedisServer::shared().database()
}

#[tokio::test]
async fn a_lease_is_one_holders() {
    let redis = empty();
    super::a_lease_is_one_holders(locks_at(&redis.url())).await;
}

#[tokio::test]
async fn only_its_holder_releases_it() {
    let redis = empty();
    super::only_its_holder_releases_it(locks_at(&redis.url())).await;
}

#[tokio::test]
async fn one_of_many_gets_it() {
    let redis = empty();
    super::one_of_many_gets_it(locks_at(&redis.url())).await;
}

#[tokio::test]
async fn many_at_once_are_each_its_own() {
    let redis = empty();
    super::many_at_once_are_each_its_own(locks_at(&redis.url())).await;
}

#[tokio::test]
async fn of_two_nodes_one_gets_it() {
    let redis = empty();
    let nodes = [locks_at(&redis.url()), locks_at(&redis.url())];
    for round in 0..50 {
        let name = format!("shard:{round}");
        let (one, two) = tokio::join!(
            nodes[0].acquire(&name, MINE, LEASE),
            nodes[1].acquire(&name, OTHERS, LEASE),
        );
        let (winner, loser) = match (one, two) {
            (Acquired::Mine, Acquired::Anothers) => (MINE, &nodes[1]),
            (Acquired::Anothers, Acquired::Mine) => (OTHERS, &nodes[0]),
            both => panic!("{both:?}"),
        };
        assert_eq!(loser.holder(&name).await, Held::By(winner));
    }
}

/// Reliability §4.2: what a person finds who looks.
#[tokio::test]
async fn a_key_says_who_has_it_and_ends_by_itself() {
    let redis = empty();
    let locks = locks_at(&redis.url());
    locks.acquire("shard:17", 0xAB, LEASE).await;
    let value: String = ask(&redis.url(), "GET enrollpay:shard:17");
    let parts: Vec<&str> = value.split(':').collect();
    assert_eq!(parts[..2], ["node-1", &format!("{:032x}", 0xAB)]);
    assert_eq!((parts.len(), parts[2].len()), (3, 32), "{value}");
    let left: u64 = ask(&redis.url(), "PTTL enrollpay:shard:17");
    assert!((5_000..=10_000).contains(&left), "{left}");

    // A lease longer than Redis can count is a long one.
    let ever = locks.acquire("ever", MINE, Duration::MAX).await;
    assert_eq!(ever, Acquired::Mine);
    // Another process with our number is another holder all the same.
    let copy = locks_at(&redis.url());
    assert_eq!(copy.acquire("ever", MINE, LEASE).await, Acquired::Anothers);
    // What nobody of ours has written is somebody's, and nobody knows whose.
    let _: () = ask(&redis.url(), "SET enrollpay:strange value");
    assert_eq!(
        locks.acquire("strange", MINE, LEASE).await,
        Acquired::Anothers
    );
    assert_eq!(locks.holder("strange").await, Held::Unknown);
    // Gateways with another prefix do not meet.
    let environment = [("LOCKS__URL", &*redis.url()), ("LOCKS__PREFIX", "other:")];
    let other = locks_with(&settings(&environment));
    assert_eq!(other.acquire("ever", OTHERS, LEASE).await, Acquired::Mine);
}

#[tokio::test]
async fn a_renewal_after_somebody_took_it_says_so() {
    let redis = empty();
    let (one, two) = (locks_at(&redis.url()), locks_at(&redis.url()));
    let short = Duration::from_millis(300);
    assert_eq!(one.acquire("a", MINE, short).await, Acquired::Mine);
    let asked = Instant::now();
    eventually("the lease to end", PATIENCE, async || {
        (two.acquire("a", OTHERS, LEASE).await == Acquired::Mine).then_some(())
    })
    .await;
    assert!(asked.elapsed() > short / 2);
    assert_eq!(one.acquire("a", MINE, LEASE).await, Acquired::Anothers);
    one.release("a", MINE).await;
    assert_eq!(one.holder("a").await, Held::By(OTHERS));
}

#[tokio::test]
async fn a_renewal_prolongs_the_lease() {
    let redis = empty();
    let locks = locks_at(&redis.url());
    locks.acquire("a", MINE, Duration::from_secs(3)).await;
    locks.acquire("a", MINE, Duration::from_mins(1)).await;
    let left: u64 = ask(&redis.url(), "PTTL enrollpay:a");
    assert!(left > 50_000, "{left}");
}

/// F5, and a server that forgot our scripts.
#[tokio::test]
async fn an_emptied_redis_gets_the_key_again() {
    let server = RedisServer::private();
    let locks = locks_at(&server.url());
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    let _: () = ask(&server.url(), "FLUSHALL");
    let _: () = ask(&server.url(), "SCRIPT FLUSH");
    assert_eq!(locks.holder("a").await, Held::Nobody);
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    assert_eq!(locks.holder("a").await, Held::By(MINE));
    // Somebody was faster.
    let _: () = ask(&server.url(), "FLUSHALL");
    locks_at(&server.url()).acquire("a", OTHERS, LEASE).await;
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Anothers);
}

/// What a Redis that does not answer makes of each question, in time.
async fn nothing_is_known(locks: &Arc<RedisLocks>) {
    let names: Vec<String> = (0..64).map(|number| format!("shard:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let asked = Instant::now();
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Unknown);
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    let asked = Instant::now();
    let (many, (), (), held, checked) = tokio::join!(
        locks.acquire_many(&names, MINE, LEASE),
        locks.release_many(&names, MINE),
        locks.release("a", MINE),
        locks.holder("a"),
        locks.check(),
    );
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    assert_eq!(many, vec![Acquired::Unknown; 64]);
    assert_eq!(held, Held::Unknown);
    assert!(checked.is_err());
}

/// F7: a paused server is not a lost lock, nor a free one.
#[tokio::test]
async fn a_paused_redis_is_unknown_and_knows_everything_when_it_is_back() {
    let server = RedisServer::private();
    let (locks, other) = (locks_at(&server.url()), locks_at(&server.url()));
    let long = Duration::from_mins(1);
    assert_eq!(locks.acquire("kept", MINE, long).await, Acquired::Mine);
    let short = Duration::from_millis(500);
    assert_eq!(locks.acquire("lost", MINE, short).await, Acquired::Mine);
    assert_eq!(
        locks.check().await.map_err(|error| error.to_string()),
        Ok(())
    );

    server.control().pause();
    nothing_is_known(&locks).await;
    server.control().resume();

    eventually("an answer", PATIENCE, async || {
        let held = other.holder("kept").await;
        (held == Held::By(MINE)).then_some(())
    })
    .await;
    assert_eq!(
        other.acquire("kept", OTHERS, LEASE).await,
        Acquired::Anothers
    );
    assert_eq!(locks.acquire("kept", MINE, long).await, Acquired::Mine);
    // Its lease ended meanwhile.
    assert_eq!(other.acquire("lost", OTHERS, LEASE).await, Acquired::Mine);
    assert_eq!(locks.acquire("lost", MINE, LEASE).await, Acquired::Anothers);
}

/// F4.
#[tokio::test]
async fn a_killed_redis_is_unknown_and_empty_when_it_is_back() {
    let server = RedisServer::private();
    let locks = locks_at(&server.url());
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    server.control().kill9();
    nothing_is_known(&locks).await;
    server.control().restart();
    assert_eq!(locks.holder("a").await, Held::Nobody);
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
}

/// A start does not wait for Redis, and says what is wrong with it.
#[tokio::test]
async fn nobody_there_and_a_wrong_password_are_told_apart() {
    let nobody = locks_at("redis://pay:hunter2@127.0.0.1:1");
    nothing_is_known(&nobody).await;
    let server = RedisServer::private();
    let _: () = ask(&server.url(), "CONFIG SET requirepass right");
    let stranger = locks_at(&server.url().replace("//", "//:hunter2@"));
    nothing_is_known(&stranger).await;
    let whys = [
        nobody.check().await.unwrap_err().to_string(),
        stranger.check().await.unwrap_err().to_string(),
    ];
    assert!(whys[0].contains("refused"), "{whys:?}");
    assert!(whys[1].to_lowercase().contains("password"), "{whys:?}");
    for said in [&whys[0], &whys[1], &format!("{nobody:?} {stranger:?}")] {
        assert!(!said.contains("hunter2"), "{said}");
    }
    let friend = locks_at(&server.url().replace("//", "//:right@"));
    assert_eq!(friend.acquire("a", MINE, LEASE).await, Acquired::Mine);
}

/// The server did as it was asked, and the answer was lost: the next question finds out.
#[tokio::test]
async fn a_lost_answer_is_found_out_by_reading() {
    let server = RedisServer::private();
    let proxy = Proxy::before(server.control().port()).await;
    let (locks, other) = (locks_at(&proxy.url()), locks_at(&server.url()));
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);

    proxy.mute();
    let acquiring = {
        let locks = Arc::clone(&locks);
        tokio::spawn(async move { locks.acquire("b", MINE, LEASE).await })
    };
    eventually("the command to arrive", PATIENCE, async || {
        (other.holder("b").await == Held::By(MINE)).then_some(())
    })
    .await;
    assert!(!acquiring.is_finished(), "nobody has told it");
    assert_eq!(other.acquire("b", OTHERS, LEASE).await, Acquired::Anothers);
    assert_eq!(acquiring.await.unwrap(), Acquired::Mine);
    assert_eq!(proxy.connections(), 2, "the silent one was given up");

    // The answer to a renewal is lost, and so is the lock.
    proxy.mute();
    let renewing = {
        let locks = Arc::clone(&locks);
        tokio::spawn(async move { locks.acquire("c", MINE, LEASE).await })
    };
    eventually("the command to arrive", PATIENCE, async || {
        (other.holder("c").await == Held::By(MINE)).then_some(())
    })
    .await;
    let _: () = ask(&server.url(), "DEL enrollpay:c");
    assert_eq!(other.acquire("c", OTHERS, LEASE).await, Acquired::Mine);
    assert_eq!(renewing.await.unwrap(), Acquired::Anothers);

    // No answer at all is no answer, though the key is ours.
    proxy.mute_all();
    assert_eq!(locks.acquire("d", MINE, LEASE).await, Acquired::Unknown);
    assert_eq!(other.holder("d").await, Held::By(MINE));
}

/// The same with a server that stops between the question and its answer.
#[tokio::test]
async fn a_pause_in_the_middle_of_a_command_is_found_out_too() {
    let server = RedisServer::private();
    let proxy = Proxy::before(server.control().port()).await;
    let locks = locks_at(&proxy.url());
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    server.control().pause();
    let acquiring = {
        let locks = Arc::clone(&locks);
        tokio::spawn(async move { locks.acquire("b", MINE, LEASE).await })
    };
    eventually("a second connection", PATIENCE, async || {
        (proxy.connections() == 2).then_some(())
    })
    .await;
    server.control().resume();
    assert_eq!(acquiring.await.unwrap(), Acquired::Mine);
    assert_eq!(locks.holder("b").await, Held::By(MINE));
}

/// The connection lives where the locks were made: workers come and go.
#[tokio::test]
async fn a_worker_that_ends_takes_no_connection_with_it() {
    let server = RedisServer::private();
    let proxy = Proxy::before(server.control().port()).await;
    let locks = locks_at(&proxy.url());
    let first = {
        let locks = Arc::clone(&locks);
        tokio::task::spawn_blocking(move || {
            let worker = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            worker.block_on(locks.acquire("a", MINE, LEASE))
        })
    };
    assert_eq!(first.await.unwrap(), Acquired::Mine);
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    assert_eq!(proxy.connections(), 1);
}
