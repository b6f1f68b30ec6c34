//! PostgreSQL for tests: databases on a shared server, and servers of a test's own.

use std::fmt::{self, Write as _};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getuid};
use tempfile::TempDir;

use super::server::{Program, Server, command_as};

/// The server that `tests/servers` started for all tests.
const SHARED: &str = "ENROLLPAY_TEST_POSTGRES";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, or one of several that takes writes.
pub struct Postgres {
    /// `postgres://…` without the name of a database.
    origin: String,
    server: Option<Server<Postmaster>>,
}

/// An empty database of its own. It keeps the server it is on.
pub struct Database {
    name: String,
    pub server: Arc<Postgres>,
}

impl Postgres {
    /// The server of all tests, for databases only; where nobody named one, one for this process, for
    /// as long as somebody holds it.
    pub fn shared() -> Arc<Self> {
        static OWN: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        if let Ok(url) = std::env::var(SHARED) {
            let origin = url.rsplit_once('/').expect("a URL with a database").0;
            return Arc::new(Self {
                origin: origin.to_owned(),
                server: None,
            });
        }
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        own.upgrade().unwrap_or_else(|| {
            let server = Self::private();
            *own = Arc::downgrade(&server);
            server
        })
    }

    /// A server that this test may stop, kill and pause. It ends with its last owner.
    pub fn private() -> Arc<Self> {
        Self::private_with(&[])
    }

    /// The same with settings as in `postgresql.conf`.
    pub fn private_with(settings: &[(&str, &str)]) -> Arc<Self> {
        Self::private_in(&std::env::temp_dir(), settings)
    }

    /// The same with its data below this folder.
    pub fn private_in(parent: &Path, settings: &[(&str, &str)]) -> Arc<Self> {
        let folder = TempDir::with_prefix_in("enrollpay-postgres-", parent).unwrap();
        Self::started(Postmaster::new(folder.path(), settings), folder)
    }

    fn started(postmaster: Postmaster, folder: TempDir) -> Arc<Self> {
        let server = Server::start(postmaster, folder);
        Arc::new(Self {
            origin: format!("postgres://postgres@127.0.0.1:{}", server.port()),
            server: Some(server),
        })
    }

    /// A copy of the server at `primary` that follows it under this name.
    pub fn standby(primary: SocketAddr, name: &str, settings: &[(&str, &str)]) -> Arc<Self> {
        let folder = TempDir::with_prefix("enrollpay-standby-").unwrap();
        let postmaster = Postmaster::following(folder.path(), primary, name, settings);
        Self::started(postmaster, folder)
    }

    /// These private ones as whoever connects to the cluster sees them: the one that takes writes.
    pub fn whichever_writes(servers: &[&Self]) -> Arc<Self> {
        let addresses: Vec<_> = servers
            .iter()
            .map(|server| server.address().to_string())
            .collect();
        Arc::new(Self {
            origin: format!("postgres://postgres@{}", addresses.join(",")),
            server: None,
        })
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.control().port()))
    }

    /// Statements outside any database of a test; the rows of the last one.
    pub fn sql(&self, statements: &str) -> String {
        psql(&format!("{}/postgres", self.origin), statements)
    }

    /// A setting, at once; one with which no restart is needed.
    pub fn set(&self, key: &str, value: &str) {
        let loaded = self.sql("SELECT pg_conf_load_time()");
        self.sql(&format!("ALTER SYSTEM SET {key} = '{value}'"));
        self.sql("SELECT pg_reload_conf()");
        eventually(&format!("{key} = {value}"), || {
            let read = format!("SELECT pg_conf_load_time() > '{loaded}'");
            self.sql(&read) == "t" && self.sql(&format!("SHOW {key}")) == value
        });
    }

    /// Speaks TLS from here on, with this certificate and its key.
    pub fn secure(&self, certificate: &str, key: &str) {
        let data = self.control().folder().join("data");
        for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
            let file = data.join(name);
            fs::write(&file, pem).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            give_to_user(&file);
        }
        self.set("ssl", "on");
    }

    /// The process of a private one: `stop`, `kill9`, `pause`, `resume`, `restart`.
    pub fn control(&self) -> &Server<impl Program + use<>> {
        self.server.as_ref().expect("a private server")
    }

    pub fn database(self: &Arc<Self>) -> Database {
        let name = format!("test_{:016x}", rand::random::<u64>());
        psql(
            &format!("{}/postgres", self.origin),
            &format!("CREATE DATABASE {name}"),
        );
        let server = Arc::clone(self);
        Database { name, server }
    }
}

impl Database {
    pub fn url(&self) -> String {
        let database = format!("{}/{}", self.server.origin, self.name);
        if self.server.origin.contains(',') {
            format!("{database}?target_session_attrs=read-write")
        } else {
            database
        }
    }

    /// The same database as another server has it.
    pub fn on(&self, server: &Arc<Postgres>) -> Self {
        Self {
            name: self.name.clone(),
            server: Arc::clone(server),
        }
    }

    /// Another one with the same rows. Whoever is connected to this one is cut off.
    pub fn copy(&self) -> Self {
        let name = format!("test_{:016x}", rand::random::<u64>());
        let postgres = format!("{}/postgres", self.server.origin);
        let cut = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        psql(&postgres, &cut);
        let copy = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        psql(&postgres, &copy);
        let server = Arc::clone(&self.server);
        Self { name, server }
    }

    /// Statements from outside; the rows of the last one, a line each, `|` between columns.
    pub fn sql(&self, statements: &str) -> String {
        psql(&self.url(), statements)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

fn psql(url: &str, statements: &str) -> String {
    let output = Command::new("psql")
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .args(["-d", url, "-c", statements])
        .output()
        .unwrap_or_else(|error| panic!("psql, of Debian's postgresql-client: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statements}: {error}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

struct Postmaster {
    programs: PathBuf,
}

impl Postmaster {
    /// Makes the data below `folder`.
    fn new(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let programs = programs();
        give_to_user(folder);
        let output = command_as(user(), &programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            // As most servers: an order that leans on bytes shows.
            .args(["--locale-provider=icu", "--icu-locale=en-US", "-D"])
            .arg(folder.join("data"))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb: {error}");
        // Durable as in production, small otherwise. Shared memory in the folder: a killed server
        // leaves none.
        let defaults = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("shared_buffers", "32MB"),
            ("dynamic_shared_memory_type", "mmap"),
            ("max_wal_size", "128MB"),
        ];
        let mut lines = String::new();
        for (key, value) in defaults.iter().chain(settings) {
            writeln!(lines, "{key} = '{value}'").unwrap();
        }
        // Read after postgresql.conf; the last word counts.
        let file = folder.join("data/postgresql.auto.conf");
        fs::write(file, lines).unwrap();
        Self { programs }
    }

    /// Copies the data of `primary` below `folder`, as of a standby of this name.
    fn following(
        folder: &Path,
        primary: SocketAddr,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let programs = programs();
        give_to_user(folder);
        let (host, port) = (primary.ip(), primary.port());
        let output = command_as(user(), &programs.join("pg_basebackup"))
            .args(["--checkpoint=fast", "--no-sync", "-R", "-D"])
            .arg(folder.join("data"))
            .arg("-d")
            .arg(format!(
                "host={host} port={port} user=postgres application_name={name}"
            ))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pg_basebackup: {error}");
        let file = folder.join("data/postgresql.auto.conf");
        let mut lines = fs::read_to_string(&file).unwrap();
        for (key, value) in settings {
            writeln!(lines, "{key} = '{value}'").unwrap();
        }
        fs::write(file, lines).unwrap();
        Self { programs }
    }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Program for Postmaster {
    const NAME: &str = "PostgreSQL";
    /// Fast: open connections are cut.
    const STOP: Signal = Signal::INT;

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = command_as(user(), &self.programs.join("postgres"));
        command.args(["-p", &port.to_string(), "-D"]);
        command.arg(folder.join("data"));
        command
    }

    fn is_ready(&self, folder: &Path, _port: u16, process: u32) -> bool {
        // Its own word for it: the process in the first line, its state in the last.
        let file = folder.join("data/postmaster.pid");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().next() == Some(&process.to_string())
            && text.lines().last().map(str::trim) == Some("ready")
    }
}

fn give_to_user(path: &Path) {
    if let Some(user) = user() {
        let id = |flag| {
            let output = Command::new("id").args([flag, user]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.trim().parse().expect("the id of the server's user")
        };
        chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
    }
}

/// Whose the server is: it refuses to be root's.
fn user() -> Option<&'static str> {
    getuid().is_root().then_some("postgres")
}

/// Debian keeps each version in a folder of its own, off the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .filter(|(_, programs)| programs.join("postgres").exists())
        .max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .map(|(_, programs)| programs)
        .or_else(|| std::env::split_paths(&path).find(|folder| folder.join("initdb").exists()))
        .expect("no PostgreSQL here: apt-get install postgresql")
}
