//! Opening the store: its pools, what is checked of the server, the schema.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, PoolConfig, RecyclingMethod, Runtime,
    Timeouts,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, Config};

use super::address::{Address, AddressError};
use super::roles;
use super::schema;

/// Held by whoever migrates, so that nodes that start together do it one after another.
const MIGRATION_LOCK: i64 = 0x656e_726f_6c6c_7079;
const OLDEST_SERVER: i32 = 15;
/// What makes a commit durable before it is answered (A1).
const DURABLE: [(&str, &[&str]); 3] = [
    ("fsync", &["on"]),
    ("full_page_writes", &["on"]),
    (
        "synchronous_commit",
        &["on", "remote_write", "remote_apply"],
    ),
];

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bring the schema up to date; otherwise one that is behind is an error.
    pub migrate: bool,
    /// The role whose rights the service has; that of the URL where none is named. Whoever migrates
    /// grants it what it needs.
    pub service_role: Option<String>,
    /// PEM certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections for everything.
    pub general: usize,
    /// Connections for facts of providers alone, and the questions before them.
    pub callbacks: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            migrate: true,
            service_role: None,
            ca_file: None,
            general: 16,
            callbacks: 4,
        }
    }
}

/// Why the database cannot be a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{place} cannot be reached or used: {why}; check store.url and the server's log")]
    Database { place: String, why: String },
    #[error("{place} is PostgreSQL {found}, expected {OLDEST_SERVER} or newer: upgrade the server")]
    TooOld { place: String, found: i32 },
    #[error(
        "{place} does not keep what it commits: {setting} is {found}, expected {expected}; change the server's configuration"
    )]
    NotDurable {
        place: String,
        setting: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("{place} speaks {found}, expected UTF8: make the database with ENCODING 'UTF8'")]
    Encoding { place: String, found: String },
    #[error(
        "{place} has tables and is not a store of this program; name an empty database in store.url"
    )]
    NotOurs { place: String },
    #[error(
        "{place} has schema version {found}, this program needs {expected}: run enrollpay migrate"
    )]
    SchemaBehind {
        place: String,
        found: i64,
        expected: i64,
    },
    #[error(
        "{place} has schema version {found}, this program knows versions up to {expected}: use the newer program that made it"
    )]
    SchemaAhead {
        place: String,
        found: i64,
        expected: i64,
    },
    #[error(
        "{place} was restored from a dump: run enrollpay migrate, so that new events follow the old"
    )]
    Restored { place: String },
    #[error(
        "{place}: the schema cannot be brought up to date: {source}; restore a backup or report this"
    )]
    Migration {
        place: String,
        source: Box<refinery::Error>,
    },
    #[error(
        "{place}: role {role} cannot be given its rights: {why}; make it with CREATE ROLE and GRANT it to the user of store.url"
    )]
    Role {
        place: String,
        role: String,
        why: String,
    },
}

/// What an error of the client comes to, its causes included. What the server says comes without its
/// details, which may quote the values of a row.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(said) = cause.downcast_ref::<DbError>() {
            return format!("{} ({})", said.message(), said.code().code());
        }
        let inner = cause.to_string();
        if !told.contains(&inner) {
            told = format!("{told}: {inner}");
        }
        next = cause.source();
    }
    told
}

pub(super) fn database<E: std::error::Error + 'static>(place: &str) -> impl Fn(E) -> OpenError {
    move |error| OpenError::Database {
        place: place.to_owned(),
        why: told(&error),
    }
}

/// Brings the schema up to date (or checks it) and makes the two pools: for everything, and for facts.
pub(super) async fn open(url: &str, options: &Options) -> Result<(Pool, Pool), OpenError> {
    let address = Address::parse(url, options.ca_file.as_deref())?;
    prepare(&address, options).await?;
    let pool = |size| pool(&address, options, size);
    let (general, callbacks) = (pool(options.general)?, pool(options.callbacks)?);
    // The first of each tells whether the service's role is let in.
    for one in [&general, &callbacks] {
        drop(one.get().await.map_err(database(&address.place))?);
    }
    Ok((general, callbacks))
}

/// Brings the schema up to date, whatever the options say. Gives the version it has now.
pub(super) async fn migrate(url: &str, options: &Options) -> Result<i64, OpenError> {
    let address = Address::parse(url, options.ca_file.as_deref())?;
    let options = Options {
        migrate: true,
        ..options.clone()
    };
    prepare(&address, &options).await
}

/// On a connection of its own: one that is cut takes the lock with it, and no pool gets it back locked.
async fn prepare(address: &Address, options: &Options) -> Result<i64, OpenError> {
    let failed = database(&address.place);
    let (mut client, connection) = address
        .migrating()
        .connect(address.tls.clone())
        .await
        .map_err(&failed)?;
    let connection = tokio::spawn(connection);
    let prepared = prepare_on(&mut client, address, options).await;
    drop(client);
    // It ends by itself now that nobody can ask anything of it.
    let _ = connection.await;
    prepared
}

async fn prepare_on(
    client: &mut Client,
    address: &Address,
    options: &Options,
) -> Result<i64, OpenError> {
    let place = &address.place;
    let failed = || database::<tokio_postgres::Error>(place);
    check_server(client, place).await?;
    if !options.migrate {
        schema::check(client, place).await?;
        if is_restored(client).await.map_err(failed())? {
            return Err(OpenError::Restored {
                place: place.clone(),
            });
        }
        return Ok(schema::newest());
    }
    client
        .execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK])
        .await
        .map_err(failed())?;
    schema::migrate(client, place).await?;
    if is_restored(client).await.map_err(failed())? {
        client
            .execute(
                "UPDATE outbox_base SET base =
                     greatest(base, (SELECT (max(position) >> 16) + 1 FROM outbox))",
                &[],
            )
            .await
            .map_err(failed())?;
    }
    if let Some(role) = &options.service_role {
        roles::grant(client, role)
            .await
            .map_err(|error| OpenError::Role {
                place: place.clone(),
                role: role.clone(),
                why: told(&error),
            })?;
    }
    Ok(schema::newest())
}

async fn check_server(client: &Client, place: &str) -> Result<(), OpenError> {
    let failed = || database::<tokio_postgres::Error>(place);
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4 / 10000,
                 current_setting('server_encoding'),
                 current_setting('synchronous_standby_names'),
                 (SELECT count(*) FROM pg_stat_replication)",
            &[],
        )
        .await
        .map_err(failed())?;
    let found: i32 = row.try_get(0).map_err(failed())?;
    if found < OLDEST_SERVER {
        return Err(OpenError::TooOld {
            place: place.to_owned(),
            found,
        });
    }
    let found: String = row.try_get(1).map_err(failed())?;
    if found != "UTF8" {
        return Err(OpenError::Encoding {
            place: place.to_owned(),
            found,
        });
    }
    if let Some((setting, expected, found)) = undurable(client).await.map_err(failed())? {
        return Err(OpenError::NotDurable {
            place: place.to_owned(),
            setting,
            found,
            expected,
        });
    }
    let standbys: String = row.try_get(2).map_err(failed())?;
    let attached: i64 = row.try_get(3).map_err(failed())?;
    if standbys.is_empty() && attached > 0 {
        tracing::warn!(
            attached,
            "the store's standbys are asynchronous: a failover may lose what was committed last, \
             and reconciliation has to find it; name them in synchronous_standby_names"
        );
    }
    Ok(())
}

/// The first setting that loses commits.
async fn undurable(
    client: &Client,
) -> Result<Option<(&'static str, &'static str, String)>, tokio_postgres::Error> {
    for (setting, expected) in DURABLE {
        let row = client
            .query_one("SELECT current_setting($1)", &[&setting])
            .await?;
        let found: String = row.try_get(0)?;
        if !expected.contains(&found.as_str()) {
            return Ok(Some((setting, "on", found)));
        }
    }
    Ok(None)
}

/// Does the outbox have positions from the future of this server's transactions?
async fn is_restored(client: &Client) -> Result<bool, tokio_postgres::Error> {
    // In this order: what is written between the two has a number below the second.
    let newest: Option<i64> = client
        .query_one("SELECT max(position) >> 16 FROM outbox", &[])
        .await?
        .try_get(0)?;
    let next: i64 = client
        .query_one("SELECT outbox_place() >> 16", &[])
        .await?
        .try_get(0)?;
    Ok(newest.is_some_and(|newest| newest >= next))
}

fn pool(address: &Address, options: &Options, size: usize) -> Result<Pool, OpenError> {
    let connect = OnOneRuntime {
        address: address.clone(),
        runtime: Handle::current(),
    };
    let manager = Manager::from_connect(
        address.serving(options.service_role.as_deref()),
        connect,
        // A connection whose server went away shows at its next use, and no statement of ours is
        // tried twice blindly.
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let mut config = PoolConfig::new(size.max(1));
    config.timeouts = Timeouts {
        wait: Some(Duration::from_millis(500)),
        create: Some(Duration::from_secs(2)),
        recycle: Some(Duration::from_secs(1)),
    };
    // A server that took over may be configured otherwise than the one before.
    let durable = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move {
            match undurable(client).await.map_err(HookError::Backend)? {
                None => Ok(()),
                Some((setting, expected, found)) => Err(HookError::message(format!(
                    "it does not keep what it commits: {setting} is {found}, expected {expected}"
                ))),
            }
        })
    });
    Pool::builder(manager)
        .config(config)
        .runtime(Runtime::Tokio1)
        .post_create(durable)
        .build()
        .map_err(database(&address.place))
}

/// Has every connection of a pool driven by the runtime that opened the store: those of the HTTP
/// workers end before it, and with them whatever they drove.
struct OnOneRuntime {
    address: Address,
    runtime: Handle,
}

type Connected = (Client, JoinHandle<()>);

impl Connect for OnOneRuntime {
    fn connect(
        &self,
        config: &Config,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>>
    {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(self.address.tls.clone()).await?;
            let place = self.address.place.clone();
            let driven = self.runtime.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(
                        place,
                        why = told(&error),
                        "a connection to the store was lost"
                    );
                }
            });
            Ok((client, driven))
        })
    }
}
