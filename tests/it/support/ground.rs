//! What a gateway in this process stands on: the store and the locks of either pair, empty and its own.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use enrollpay::actors::Options;
use enrollpay::actors::ownership::Ownership;
use enrollpay::app::shared_limits;
use enrollpay::clock::Clock;
use enrollpay::cluster::{self, Directory, Membership};
use enrollpay::http::Limits;
use enrollpay::http::limits::Limiters;
use enrollpay::locks::Locks;
use enrollpay::locks::memory::MemoryLocks;
use enrollpay::locks::redis::RedisLocks;
use enrollpay::random::{Random, SystemRandom};
use enrollpay::store::personal::PersonalStore;
use enrollpay::store::postgres::{self, PostgresStore};
use enrollpay::store::sqlite::{self, SqliteStore};
use secrecy::SecretString;
use tempfile::TempDir;

use super::Pair;
use super::postgres::{Database, Postgres};
use super::redis::{Numbered, RedisServer};
use crate::locks::redis::locks_at;

/// Longer than any test: nobody renews it.
const LEASE: Duration = Duration::from_mins(10);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub enum Ground {
    Sqlite {
        folder: TempDir,
        locks: Arc<MemoryLocks>,
    },
    Postgres {
        database: Database,
        locks: Arc<RedisLocks>,
        redis: Numbered,
    },
}

impl Ground {
    pub fn of(on: Pair) -> Self {
        match on {
            Pair::Sqlite => Self::in_folder(tempfile::tempdir().unwrap()),
            // In this process it is one node, however many the pair has elsewhere.
            Pair::Postgres(_) => {
                let redis = RedisServer::shared().database();
                Self::Postgres {
                    database: Postgres::shared().database(),
                    locks: locks_at(&redis.url()),
                    redis,
                }
            }
        }
    }

    pub fn in_folder(folder: TempDir) -> Self {
        let locks = Arc::default();
        Self::Sqlite { folder, locks }
    }

    /// By `clock`; on PostgreSQL the store's clock stands still where that one is now.
    pub async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn PersonalStore> {
        match self {
            Self::Sqlite { folder, .. } => embedded(folder.path(), clock),
            Self::Postgres { database, .. } => {
                let options = postgres::Options {
                    general: 8,
                    callbacks: 4,
                    ..postgres::Options::default()
                };
                let store = PostgresStore::open(&database.url(), options).await.unwrap();
                // The server's own clock would hold a test's still day to be over, or not yet begun.
                database.sql(&format!(
                    "CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS
                     'SELECT {}::bigint'",
                    clock.now().as_millis()
                ));
                Arc::new(store)
            }
        }
    }

    /// The same options for the only node there, once it has every shard.
    pub async fn joined(
        &self,
        options: Options,
        store: &Arc<dyn PersonalStore>,
        clock: Arc<dyn Clock>,
    ) -> Options {
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let locks = match self {
            Self::Sqlite { locks, .. } => Arc::clone(locks) as Arc<dyn Locks>,
            Self::Postgres { locks, .. } => Arc::clone(locks) as Arc<dyn Locks>,
        };
        let is_shared = matches!(self, Self::Postgres { .. });
        let instance = u128::from_be_bytes(random.bytes());
        let ownership = Ownership::new(instance, options.shards, is_shared);
        let membership = Membership::new(
            cluster::Options {
                node: "node-1".to_owned(),
                internal_url: None,
                shards: options.shards,
                lease: LEASE,
            },
            cluster::Parts {
                store: Arc::clone(store) as _,
                locks,
                clock,
                random,
                ownership: ownership.clone(),
                directory: Directory::default(),
            },
            None,
        );
        membership.join().await.unwrap();
        assert!((0..options.shards).all(|shard| ownership.owns(shard)));
        Options {
            ownership,
            // As a node is started on either.
            flushes: if is_shared { 4 } else { 1 },
            ..options
        }
    }

    /// Counted in Redis where it has the locks.
    pub fn limiters(&self, limits: &Limits) -> Limiters {
        match self {
            Self::Sqlite { .. } => Limiters::new(limits),
            Self::Postgres { locks, .. } => {
                let shared = shared_limits(locks, &SecretString::from(SECRET));
                Limiters::shared(limits, shared)
            }
        }
    }

    /// Every byte of the embedded store's files.
    pub fn bytes(&self) -> Vec<u8> {
        let Self::Sqlite { folder, .. } = self else {
            panic!("a server's files are its own");
        };
        let files = std::fs::read_dir(folder.path()).unwrap();
        files
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect()
    }
}

/// The embedded store in this folder.
pub fn embedded(folder: &Path, clock: Arc<dyn Clock>) -> Arc<SqliteStore> {
    let options = sqlite::Options::new(clock);
    Arc::new(SqliteStore::open(folder.join("orders.db"), options).unwrap())
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { folder, .. } => write!(f, "{}", folder.path().display()),
            Self::Postgres {
                database, redis, ..
            } => write!(f, "{database:?} {redis:?}"),
        }
    }
}
