//! Opening the store: its pools, what is checked of the server, the schema.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, PoolConfig, RecyclingMethod, Runtime, Timeouts,
};
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use super::address::{Address, AddressError};
use super::connecting::{self, CONNECTING, Connections};
use super::durability::{self, Risk, Unfit};
use super::roles;
use super::schema;

/// Held by whoever migrates, so that nodes that start together do it one after another.
const MIGRATION_LOCK: i64 = 0x656e_726f_6c6c_7079;
const OLDEST_SERVER: i32 = 15;

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
    #[error(
        "{place} is {found} and takes no writes, and nothing is read where nothing is written: name the primary in store.url, beside it or in its place"
    )]
    ReadOnly { place: String, found: &'static str },
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

/// What a store stands on.
#[derive(Debug)]
pub(super) struct Opened {
    /// For everything.
    pub general: Pool,
    /// For facts.
    pub callbacks: Pool,
    pub connections: Connections,
}

/// Brings the schema up to date (or checks it) and makes the two pools.
pub(super) async fn open(url: &str, options: &Options) -> Result<Opened, OpenError> {
    let address = Address::parse(url, options.ca_file.as_deref())?;
    let prepared = async |client: &mut Client| {
        prepare(client, &address, options).await?;
        if let Some(risk) = risk(client, &address).await? {
            tracing::warn!(
                place = address.place,
                setting = risk.setting,
                found = risk.found,
                advised = risk.advised,
                "the store may lose acknowledged commits: {risk}"
            );
        }
        Ok(())
    };
    beside(&address, prepared).await?;
    let connections = Connections::new(address.clone());
    let pool = |size| pool(&address, &connections, options, size);
    let (general, callbacks) = (pool(options.general)?, pool(options.callbacks)?);
    // The first of each tells whether the service's role is let in.
    for one in [&general, &callbacks] {
        drop(one.get().await.map_err(database(&address.place))?);
    }
    Ok(Opened {
        general,
        callbacks,
        connections,
    })
}

/// Brings the schema up to date, whatever the options say. Gives the version it has now.
pub(super) async fn migrate(url: &str, options: &Options) -> Result<i64, OpenError> {
    let address = Address::parse(url, options.ca_file.as_deref())?;
    let options = Options {
        migrate: true,
        ..options.clone()
    };
    beside(&address, async |client| {
        prepare(client, &address, &options).await
    })
    .await
}

/// Looks at the server and changes nothing: by what a failover may lose what was acknowledged.
pub(super) async fn look_for_risk(url: &str, options: &Options) -> Result<Option<Risk>, OpenError> {
    let address = Address::parse(url, options.ca_file.as_deref())?;
    beside(&address, async |client| {
        check_server(client, &address.place).await?;
        risk(client, &address).await
    })
    .await
}

async fn risk(client: &Client, address: &Address) -> Result<Option<Risk>, OpenError> {
    let servers = Address::servers(&address.migrating()).len();
    durability::risk(client, servers)
        .await
        .map_err(database(&address.place))
}

/// On a connection of its own: one that is cut takes the lock with it, and no pool gets it back locked.
async fn beside<T>(
    address: &Address,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let place = || address.place.clone();
    let (mut client, connection) = match connecting::one(address, &address.migrating()).await {
        Some(Ok(connected)) => connected,
        Some(Err(error)) if connecting::takes_no_writes(&error) => {
            return Err(OpenError::ReadOnly {
                place: place(),
                found: "a standby or read-only",
            });
        }
        Some(Err(error)) => return Err(database(&address.place)(error)),
        None => {
            return Err(OpenError::Database {
                place: place(),
                why: format!("no answer within {} s", CONNECTING.as_secs()),
            });
        }
    };
    let connection = tokio::spawn(connection);
    let done = work(&mut client).await;
    drop(client);
    // It ends by itself now that nobody can ask anything of it.
    let _ = connection.await;
    done
}

async fn prepare(
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
    let place = || place.to_owned();
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4 / 10000,
                 current_setting('server_encoding')",
            &[],
        )
        .await
        .map_err(failed())?;
    let found: i32 = row.try_get(0).map_err(failed())?;
    if found < OLDEST_SERVER {
        return Err(OpenError::TooOld {
            place: place(),
            found,
        });
    }
    let found: String = row.try_get(1).map_err(failed())?;
    if found != "UTF8" {
        return Err(OpenError::Encoding {
            place: place(),
            found,
        });
    }
    match durability::unfit(client).await.map_err(failed())? {
        None => Ok(()),
        Some(Unfit::ReadOnly { found }) => Err(OpenError::ReadOnly {
            place: place(),
            found,
        }),
        Some(Unfit::NotDurable {
            setting,
            found,
            expected,
        }) => Err(OpenError::NotDurable {
            place: place(),
            setting,
            found,
            expected,
        }),
    }
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

fn pool(
    address: &Address,
    connections: &Connections,
    options: &Options,
    size: usize,
) -> Result<Pool, OpenError> {
    let manager = Manager::from_connect(
        address.serving(options.service_role.as_deref()),
        connections.clone(),
        // A connection whose server went away shows at its next use, and no statement of ours is
        // tried twice blindly.
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let mut config = PoolConfig::new(size.max(1));
    config.timeouts = Timeouts {
        wait: Some(Duration::from_millis(500)),
        create: Some(CONNECTING),
        recycle: Some(Duration::from_secs(1)),
    };
    // A server that took over may be configured otherwise than the one before.
    let fit = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move {
            match durability::unfit(client)
                .await
                .map_err(HookError::Backend)?
            {
                None => Ok(()),
                Some(unfit) => Err(HookError::message(unfit.to_string())),
            }
        })
    });
    Pool::builder(manager)
        .config(config)
        .runtime(Runtime::Tokio1)
        .post_create(fit)
        .build()
        .map_err(database(&address.place))
}
