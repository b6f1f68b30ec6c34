//! Does the server keep what it commits (A1), and would the one that takes over from it? Asked at each
//! opening and of each new connection, since a server that took over may be configured otherwise.

use std::fmt;

use tokio_postgres::{Client, SimpleQueryMessage};

/// What makes a commit durable before it is answered.
const DURABLE: [(&str, &[&str]); 3] = [
    ("fsync", &["on"]),
    ("full_page_writes", &["on"]),
    (
        "synchronous_commit",
        &["on", "remote_write", "remote_apply"],
    ),
];
const EXPECTED: &str = "on";

/// Why a server is not written to, nor read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It follows another, or its sessions are read-only: what it shows decides nothing (F18).
    ReadOnly { found: &'static str },
    /// It loses commits.
    NotDurable {
        setting: &'static str,
        found: String,
        expected: &'static str,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnly { found } => write!(formatter, "it is {found} and takes no writes"),
            Self::NotDurable {
                setting,
                found,
                expected,
            } => write!(
                formatter,
                "it does not keep what it commits: {setting} is {found}, expected {expected}"
            ),
        }
    }
}

/// Asks the server of this session, in one word and one answer.
pub(super) async fn unfit(client: &Client) -> Result<Option<Unfit>, tokio_postgres::Error> {
    let answer = client
        .simple_query(
            "SELECT pg_is_in_recovery(), current_setting('transaction_read_only'),
                 current_setting('fsync'), current_setting('full_page_writes'),
                 current_setting('synchronous_commit')",
        )
        .await?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let said = |column| row.as_ref().and_then(|row| row.get(column));
    if said(0) != Some("f") {
        return Ok(Some(Unfit::ReadOnly { found: "a standby" }));
    }
    if said(1) != Some("off") {
        return Ok(Some(Unfit::ReadOnly { found: "read-only" }));
    }
    let settings = DURABLE.into_iter().zip([2, 3, 4]);
    Ok(settings
        .map(|((setting, expected), column)| (setting, expected, said(column).unwrap_or_default()))
        .find(|(_, expected, found)| !expected.contains(found))
        .map(|(setting, _, found)| Unfit::NotDurable {
            setting,
            found: found.to_owned(),
            expected: EXPECTED,
        }))
}

/// A setting under which the server is fit to be a store, and what was acknowledged may be lost all the
/// same: when another takes over from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// As in `postgresql.conf`.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// What makes it a risk here.
    pub because: String,
    pub advised: &'static str,
}

impl fmt::Display for Risk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} is '{}' and {}: a failover may lose what was acknowledged last, and reconciliation has \
             to bring it back; {}",
            self.setting, self.found, self.because, self.advised
        )
    }
}

/// `servers`: how many the URL names. Several are named for one to take over from another.
pub(super) async fn risk(
    client: &Client,
    servers: usize,
) -> Result<Option<Risk>, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT current_setting('synchronous_standby_names'),
                 (SELECT count(*) FROM pg_stat_replication)",
            &[],
        )
        .await?;
    let (found, attached): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let because = if attached > 0 {
        format!("standbys are attached ({attached})")
    } else {
        format!("store.url names {servers} servers")
    };
    let is_risky = found.trim().is_empty() && (attached > 0 || servers > 1);
    Ok(is_risky.then_some(Risk {
        setting: "synchronous_standby_names",
        found,
        because,
        advised: "set it to 'ANY 1 (…)' with the names of two standbys",
    }))
}
