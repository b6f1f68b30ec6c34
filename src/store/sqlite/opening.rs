//! Getting hold of the file: the lock that keeps a second process out, the settings that make it
//! durable, the schema.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::clock::Clock;

mod embedded {
    refinery::embed_migrations!("src/store/sqlite/migrations");
}
use embedded::migrations;

/// Written into the file's header, so that nobody else's database is taken for a store.
const APPLICATION_ID: i32 = 0x656e_7270;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What makes a commit durable before it returns (A1), and how SQLite says that it is so.
const DURABLE: [(&str, &str); 3] = [
    ("journal_mode", "wal"),
    ("synchronous", "2"),
    ("foreign_keys", "1"),
];

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's own clock: it judges `not_after`.
    pub clock: Arc<dyn Clock>,
    /// Bring the schema up to date; otherwise one that is behind is an error.
    pub migrate: bool,
    /// Connections for reading, each on its own thread.
    pub readers: usize,
}

impl Options {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            migrate: true,
            readers: 3,
        }
    }
}

/// Why the file cannot be a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another process, and only one may open it: stop that one first")]
    InUse { path: PathBuf },
    #[error("cannot make or open {path}: {source}; check the folder and its permissions")]
    Files { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not a store of this program: found application id {found:#x}, expected {APPLICATION_ID:#x}; name another file in store.url"
    )]
    NotOurs { path: PathBuf, found: i32 },
    #[error(
        "{path} has schema version {found}, this program needs {expected}: run enrollpay migrate"
    )]
    SchemaBehind {
        path: PathBuf,
        found: i64,
        expected: i64,
    },
    #[error(
        "{path} has schema version {found}, this program knows versions up to {expected}: use the newer program that made it"
    )]
    SchemaAhead {
        path: PathBuf,
        found: i64,
        expected: i64,
    },
    #[error(
        "{path} cannot be made durable: {setting} is {found}, expected {expected}; move it to a local disk"
    )]
    NotDurable {
        path: PathBuf,
        setting: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("no thread could be started for {path}: {source}; raise the limit of processes")]
    Thread { path: PathBuf, source: io::Error },
    #[error(
        "{path}: the schema cannot be brought up to date: {source}; restore a backup or report this"
    )]
    Migration {
        path: PathBuf,
        source: Box<refinery::Error>,
    },
    #[error(
        "{path} cannot be opened as a database: {source}; check that it is a sound SQLite file"
    )]
    Database {
        path: PathBuf,
        source: rusqlite::Error,
    },
}

/// Makes the folder and the file where missing, for us alone, and takes the lock beside it. The
/// lock goes with the returned file, or with the process.
pub(super) fn hold(path: &Path) -> Result<File, OpenError> {
    let files = |source| OpenError::Files {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        make_folder(folder).map_err(files)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = open_private(Path::new(&name)).map_err(files)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(OpenError::InUse {
                path: path.to_owned(),
            });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(files(source)),
    }
    // SQLite gives its side files the permissions of this one. An existing file is left alone: to
    // close any handle of it would drop the locks that SQLite may hold on it.
    if !path.try_exists().map_err(files)? {
        open_private(path).map_err(files)?;
    }
    Ok(lock)
}

/// A thread of the store's own, so that blocking calls disturb no runtime.
pub(super) fn thread(
    path: &Path,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .map_err(|source| OpenError::Thread {
            path: path.to_owned(),
            source,
        })
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The writer's connection, durable and with the schema this program needs.
pub(super) fn connect(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let mut connection = writable(path)?;
    if options.migrate {
        run_migrations(path, &mut connection)?;
    } else {
        check_schema(path, &connection)?;
    }
    Ok(connection)
}

pub(super) fn migrate(path: &Path) -> Result<i64, OpenError> {
    let mut connection = writable(path)?;
    run_migrations(path, &mut connection)?;
    schema_version(&connection).map_err(database(path))
}

/// A connection that may write: the writer's, or the checkpointer's.
pub(super) fn writable(path: &Path) -> Result<Connection, OpenError> {
    let failed = database(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    refuse_strangers(path, &connection)?;
    // Each of these two answers with its new value.
    for sql in [
        "PRAGMA journal_mode = WAL",
        // With pages of 4 KiB this bounds the log at 128 MiB; the checkpointer keeps it shorter.
        "PRAGMA wal_autocheckpoint = 32768",
    ] {
        connection.query_row(sql, [], |_| Ok(())).map_err(&failed)?;
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -131072;
             PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = 268435456;",
        )
        .map_err(&failed)?;
    refuse_undurable(path, &connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Settings are asked back: SQLite passes over in silence what a file system cannot do.
fn refuse_undurable(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    for (setting, expected) in DURABLE {
        let found = connection
            .query_row(&format!("PRAGMA {setting}"), [], |row| {
                row.get::<_, Value>(0)
            })
            .map_err(database(path))?;
        let found = match found {
            Value::Integer(number) => number.to_string(),
            Value::Text(word) => word,
            other => format!("{other:?}"),
        };
        if found != expected {
            return Err(OpenError::NotDurable {
                path: path.to_owned(),
                setting,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// A connection that can only read, and only what is committed.
pub(super) fn readable(path: &Path) -> Result<Connection, OpenError> {
    let failed = database(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    connection
        .execute_batch(
            "PRAGMA query_only = ON; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;",
        )
        .map_err(&failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// An empty file becomes ours; one with tables must already be.
fn refuse_strangers(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let failed = database(path);
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i32>(0))
            .map_err(&failed)
    };
    let found = number("PRAGMA application_id")?;
    if found == APPLICATION_ID {
        return Ok(());
    }
    if found != 0 || number("SELECT count(*) FROM sqlite_schema")? > 0 {
        return Err(OpenError::NotOurs {
            path: path.to_owned(),
            found,
        });
    }
    connection
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(&failed)
}

fn run_migrations(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    refuse_newer(path, connection)?;
    #[cfg(feature = "fault-injection")]
    dies_before_the_commit(connection).map_err(database(path))?;
    // Each migration and the line that records it stand or fall together.
    migrations::runner()
        .set_grouped(true)
        .run(connection)
        .map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
    #[cfg(feature = "fault-injection")]
    connection
        .commit_hook(None::<fn() -> bool>)
        .map_err(database(path))?;
    check_schema(path, connection)
}

/// c16: every statement of the migrations has run, and nothing of them is committed.
#[cfg(feature = "fault-injection")]
fn dies_before_the_commit(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    connection.commit_hook(Some(|| {
        crate::faults::crash_point("c16");
        false
    }))
}

fn check_schema(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    refuse_newer(path, connection)?;
    let found = schema_version(connection).map_err(database(path))?;
    let expected = newest_version();
    if found < expected {
        return Err(OpenError::SchemaBehind {
            path: path.to_owned(),
            found,
            expected,
        });
    }
    Ok(())
}

fn refuse_newer(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let found = schema_version(connection).map_err(database(path))?;
    let expected = newest_version();
    if found > expected {
        return Err(OpenError::SchemaAhead {
            path: path.to_owned(),
            found,
            expected,
        });
    }
    Ok(())
}

/// 0 where no migration ever ran.
fn schema_version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    const HISTORY: &str = "refinery_schema_history";
    if !connection.table_exists(None, HISTORY)? {
        return Ok(0);
    }
    connection.query_row(
        "SELECT coalesce(max(version), 0) FROM refinery_schema_history",
        [],
        |row| row.get(0),
    )
}

fn newest_version() -> i64 {
    migrations::runner()
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or_default()
}

fn database(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    move |source| OpenError::Database {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
pub(super) fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrations::runner()
        .set_grouped(true)
        .run(&mut connection)
        .unwrap();
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_loses_commits_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let _held = hold(&path).unwrap();
        let connection = writable(&path).unwrap();
        assert!(refuse_undurable(&path, &connection).is_ok());
        for (sql, name) in [
            ("PRAGMA synchronous = NORMAL", "synchronous"),
            (
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF",
                "foreign_keys",
            ),
            (
                "PRAGMA foreign_keys = ON; PRAGMA journal_mode = DELETE",
                "journal_mode",
            ),
        ] {
            connection.execute_batch(sql).unwrap();
            let refused = refuse_undurable(&path, &connection);
            let Err(OpenError::NotDurable { setting, .. }) = refused else {
                panic!("{sql} was taken for durable");
            };
            assert_eq!(setting, name);
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let _held = hold(&path).unwrap();
        let mut connection = writable(&path).unwrap();
        run_migrations(&path, &mut connection).unwrap();
        let reader = readable(&path).unwrap();
        let written = reader.execute("INSERT INTO settings (name, value) VALUES ('a', 'b')", []);
        assert!(written.is_err());
    }
}
