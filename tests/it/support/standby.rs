//! A primary and a standby that follows it, over a line that a test may cut, and the change from the one
//! to the other.

use std::sync::Arc;
use std::time::Duration;

use super::eventually;
use super::postgres::{Database, Postgres};
use super::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "standby";

pub struct Replicated {
    pub primary: Arc<Postgres>,
    pub standby: Arc<Postgres>,
    /// From the standby to the primary.
    pub line: Proxy,
}

impl Replicated {
    /// A commit is answered once the standby has it on its disk.
    pub fn synchronous() -> Self {
        let servers = Self::asynchronous();
        let names = format!("ANY 1 ({NAME})");
        servers.primary.set("synchronous_standby_names", &names);
        servers
    }

    /// A commit is answered whatever the standby has.
    pub fn asynchronous() -> Self {
        let primary = Postgres::private();
        let line = Proxy::before(&[primary.address()]);
        // Which statements it was asked, and by whom; and it notices soon that its line was cut.
        let settings = [
            ("log_statement", "all"),
            ("log_line_prefix", "%a: "),
            ("wal_receiver_timeout", "5s"),
        ];
        let standby = Postgres::standby(line.address(), NAME, &settings);
        Self {
            primary,
            standby,
            line,
        }
    }

    /// A database of the two, by a URL that names both; `first` is asked first.
    pub async fn database(&self, first: &Arc<Postgres>) -> Database {
        let made = self.primary.database();
        self.caught_up().await;
        let both = if Arc::ptr_eq(first, &self.primary) {
            [&*self.primary, &*self.standby]
        } else {
            [&*self.standby, &*self.primary]
        };
        made.on(&Postgres::whichever_writes(&both))
    }

    /// Waits until the standby has and shows what the primary has now.
    pub async fn caught_up(&self) {
        let written = self.primary.sql("SELECT pg_current_wal_lsn()");
        self.shows(&written).await;
    }

    async fn shows(&self, position: &str) {
        let asked = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        eventually("the standby to catch up", PATIENCE, async || {
            (self.standby.sql(&asked) == "t").then_some(())
        })
        .await;
    }

    /// `kill -9` of the primary; what reached the standby shows there from here on.
    pub async fn primary_dies(&self) {
        self.primary.control().kill9();
        let received = self.standby.sql("SELECT pg_last_wal_receive_lsn()");
        self.shows(&received).await;
    }

    /// The standby takes writes from here on.
    pub fn promote(&self) {
        let promoted = self.standby.sql("SELECT pg_promote(true, 30)");
        assert_eq!(promoted, "t");
    }

    /// How many commits of the primary wait for the standby.
    pub fn commits_that_wait(&self) -> u32 {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        self.primary.sql(waiting).parse().unwrap()
    }
}
