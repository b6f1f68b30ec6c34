//! Redis for tests: numbered databases on a shared server, and servers of a test's own.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::server::{Program, Server, command_as};

/// The server that `tests/servers` started for all tests.
const SHARED: &str = "ENROLLPAY_TEST_REDIS";
/// As many as `tests/servers` asks for.
const DATABASES: u64 = 10_000;

/// A server; `redis://…` without the number of a database.
pub struct RedisServer {
    origin: String,
    server: Option<Server<Redis>>,
}

/// An empty numbered database. Publishing is the whole server's: for that take a private one.
pub struct Numbered {
    number: u64,
    pub server: Arc<RedisServer>,
}

impl RedisServer {
    /// The server of all tests, for databases only; where nobody named one, one for this process, for
    /// as long as somebody holds it.
    pub fn shared() -> Arc<Self> {
        static OWN: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        if let Ok(origin) = std::env::var(SHARED) {
            let server = None;
            return Arc::new(Self { origin, server });
        }
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        own.upgrade().unwrap_or_else(|| {
            let server = Self::private();
            *own = Arc::downgrade(&server);
            server
        })
    }

    /// A server that this test may stop, kill and pause. It ends with its last owner, and keeps nothing
    /// over a restart.
    pub fn private() -> Arc<Self> {
        Self::private_with(&[])
    }

    /// The same with settings as in `redis.conf`; `("appendonly", "yes")` keeps.
    pub fn private_with(settings: &[(&str, &str)]) -> Arc<Self> {
        let folder = TempDir::with_prefix("enrollpay-redis-").unwrap();
        let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        let settings = settings.iter().map(own).collect();
        let server = Server::start(Redis { settings }, folder);
        Arc::new(Self {
            origin: format!("redis://127.0.0.1:{}", server.port()),
            server: Some(server),
        })
    }

    /// The process of a private one: `stop`, `kill9`, `pause`, `resume`, `restart`.
    pub fn control(&self) -> &Server<impl Program + use<>> {
        self.server.as_ref().expect("a private server")
    }

    /// One command, as it would be typed, and the beginning of its answer.
    pub fn say(&self, command: &str) -> String {
        let address = self.origin.trim_start_matches("redis://");
        ask(address, command).expect("an answer from Redis")
    }

    /// The whole of it: database 0.
    pub fn url(&self) -> String {
        self.origin.clone()
    }

    pub fn database(self: &Arc<Self>) -> Numbered {
        let answer = self.say("INCR enrollpay:tests");
        let count: u64 = answer.trim_start_matches(':').trim().parse().unwrap();
        // Database 0 has the counter.
        let number = 1 + (count - 1) % (DATABASES - 1);
        let server = Arc::clone(self);
        Numbered { number, server }
    }
}

impl Numbered {
    pub fn url(&self) -> String {
        format!("{}/{}", self.server.origin, self.number)
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl fmt::Debug for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// One command and the beginning of its answer.
fn ask(address: &str, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = vec![0; 1024];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

struct Redis {
    settings: Vec<(String, String)>,
}

impl Program for Redis {
    const NAME: &str = "Redis";
    const STOP: Signal = Signal::TERM;

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = command_as(None, Path::new("redis-server"));
        let port = port.to_string();
        command
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--databases", &DATABASES.to_string(), "--dir"])
            .arg(folder);
        for (key, value) in &self.settings {
            command.args([&format!("--{key}"), value]);
        }
        command
    }

    fn is_ready(&self, _folder: &Path, port: u16, process: u32) -> bool {
        let answer = ask(&format!("127.0.0.1:{port}"), "INFO server").unwrap_or_default();
        answer.contains(&format!("\r\nprocess_id:{process}\r\n"))
    }
}
