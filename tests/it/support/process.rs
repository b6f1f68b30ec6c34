//! The programs under test as processes of their own: the provider simulators, which outlive a killed
//! gateway as the real providers do, and the gateway, which is killed, stopped and started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
#[cfg(feature = "fault-injection")]
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::eventually;
use crate::invariants::Kept;

/// The binary that the tests were built with.
pub const BINARY: &str = env!("CARGO_BIN_EXE_enrollpay");
/// Longer than any start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A command without the environment of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().env("RUST_BACKTRACE", "1");
    for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// A free port below the range from which the kernel takes those of outgoing connections: nobody
/// takes it while its owner restarts.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = 10_000 + rand::random::<u16>() % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free between 10000 and 30000");
}

/// One running process; its output is in a file, and is shown when the test fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{BINARY}: {error}"));
        Self {
            child,
            log,
            ended: None,
        }
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    /// Waits until it is gone.
    pub async fn end(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("the end of the process that writes {}", self.log.display());
        eventually(&what, patience, async || self.ended()).await
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let text = self.output();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.len().saturating_sub(60);
            eprintln!("--- the end of {}", self.log.display());
            for line in &lines[tail..] {
                eprintln!("{line}");
            }
        }
    }
}

/// WeChat Pay and Alipay.
#[derive(Debug)]
pub struct Simulators {
    pub origin: String,
    folder: PathBuf,
    pub client: reqwest::Client,
    _process: Process,
}

impl Simulators {
    pub async fn start(folder: &Path) -> Self {
        let folder = folder.join("providers");
        std::fs::create_dir_all(&folder).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command = command();
        command
            .args(["simulate", "--no-wallets", "--notify-delay-ms", "50"])
            .args(["--retry-divisor", "100", "--listen", &listen, "--folder"])
            .arg(&folder);
        let mut process = Process::start(command, folder.join("log"));
        let client = super::client();
        let origin = format!("http://{listen}");
        let accounts = folder.join("accounts.toml");
        eventually("the simulators", START, async || {
            assert_eq!(process.ended(), None, "the simulators ended");
            let answer = client.get(format!("{origin}/control/clock")).send().await;
            (answer.is_ok() && accounts.exists()).then_some(())
        })
        .await;
        Self {
            origin,
            folder,
            client,
            _process: process,
        }
    }

    /// What a gateway takes as its `--config`.
    pub fn accounts(&self) -> PathBuf {
        self.folder.join("accounts.toml")
    }
}

/// One node: its files, its addresses, and its process while it has one.
#[derive(Debug)]
pub struct Gateway {
    /// Where merchants, students and providers reach it.
    pub origin: String,
    monitoring: String,
    /// The operators' console.
    pub console: String,
    folder: PathBuf,
    accounts: PathBuf,
    environment: BTreeMap<String, String>,
    kept: Kept,
    process: Mutex<Option<Process>>,
}

impl Gateway {
    /// A node that was never started, in a folder of its own.
    pub fn new(folder: &Path, simulators: &Simulators, environment: &[(&str, &str)]) -> Self {
        let folder = folder.join("gateway");
        std::fs::create_dir_all(&folder).unwrap();
        let (public, admin, console) = (free_port(), free_port(), free_port());
        let store = folder.join("enrollpay.db");
        let mut all: BTreeMap<String, String> = [
            ("SERVER__LISTEN", format!("127.0.0.1:{public}")),
            ("SERVER__WORKERS", "2".to_owned()),
            ("SERVER__DRAIN_SECONDS", "10".to_owned()),
            ("ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
            ("CONSOLE__LISTEN", format!("127.0.0.1:{console}")),
            ("SIMULATOR__LISTEN", "127.0.0.1:0".to_owned()),
            ("DEMO__LISTEN", "127.0.0.1:0".to_owned()),
            ("STORE__URL", format!("sqlite:{}", store.display())),
            ("SHARDS__THREADS", "2".to_owned()),
            ("CLUSTER__SHARDS", "4".to_owned()),
            ("ORDER__QR_SECONDS", "180".to_owned()),
            ("LIMITS__ADDRESS_PER_SECOND", "1000".to_owned()),
            ("LIMITS__ADDRESS_BURST", "4000".to_owned()),
            (
                "WEBHOOKS__RETRY_SECONDS",
                "1,1,1,1,1,1,1,1,1,1,1,1".to_owned(),
            ),
            ("LOG__FORMAT", "text".to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("ENROLLPAY__{key}"), value))
        .collect();
        all.extend(
            environment
                .iter()
                .map(|(key, value)| (format!("ENROLLPAY__{key}"), (*value).to_owned())),
        );
        Self {
            origin: format!("http://{}", all["ENROLLPAY__SERVER__LISTEN"]),
            monitoring: format!("http://127.0.0.1:{admin}"),
            console: format!("http://127.0.0.1:{console}"),
            kept: Kept::File(store),
            folder,
            accounts: simulators.accounts(),
            environment: all,
            process: Mutex::new(None),
        }
    }

    /// The same on a PostgreSQL database.
    pub fn keeps(mut self, database: &str) -> Self {
        let folder = self.folder.display().to_string();
        self.set("DATA__FOLDER", &folder);
        self.kept = Kept::Database(database.to_owned());
        self
    }

    /// The file of the embedded store.
    pub fn store(&self) -> PathBuf {
        self.folder.join("enrollpay.db")
    }

    /// Where its rows are.
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    pub fn command(&self) -> Command {
        let mut command = command();
        command
            .arg("--config")
            .arg(&self.accounts)
            .envs(&self.environment);
        command
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process, which is about to end.
    fn ending(&self) -> Process {
        self.process().take().expect("a started gateway")
    }

    fn signal(&self, signal: Signal) {
        let mut process = self.process();
        process.as_mut().expect("a started gateway").signal(signal);
    }

    /// Starts the process and does not wait. `extra`: environment of this start alone.
    pub fn launch(&self, extra: &[(&str, &str)]) {
        let mut process = self.process();
        assert!(process.is_none(), "the gateway runs already");
        let mut command = self.command();
        command.arg("serve").envs(extra.iter().copied());
        *process = Some(Process::start(command, self.folder.join("log")));
    }

    /// How it ended, if it did by itself.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut process = self.process();
        process.as_mut().expect("a started gateway").ended()
    }

    /// Waits until it takes callbacks.
    pub async fn ready(&self) {
        eventually("a ready gateway", START, async || {
            assert_eq!(self.ended(), None, "the gateway ended at its start");
            self.complaint().await.filter(String::is_empty)
        })
        .await;
    }

    /// What it says of itself, where it answers; empty once it is ready.
    pub async fn complaint(&self) -> Option<String> {
        let url = format!("{}/readyz", self.monitoring);
        let answer = super::client().get(url).send().await.ok()?;
        if answer.status().is_success() {
            return Some(String::new());
        }
        answer.text().await.ok()
    }

    /// Where it is reached without a balancer.
    pub fn address(&self) -> SocketAddr {
        self.origin.trim_start_matches("http://").parse().unwrap()
    }

    pub fn is_running(&self) -> bool {
        let mut process = self.process();
        process
            .as_mut()
            .is_some_and(|process| process.ended().is_none())
    }

    /// Waits for a crash point to bite.
    #[cfg(feature = "fault-injection")]
    pub async fn crashed(&self, patience: Duration) {
        let status = self.ending().end(patience).await;
        assert_eq!(status.signal(), Some(9), "killed by itself: {status}");
    }

    pub async fn kill9(&self) {
        let mut process = self.ending();
        process.signal(Signal::KILL);
        process.end(Duration::from_secs(10)).await;
    }

    /// Not dead, and silent: its connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and the exit status.
    pub async fn terminate(&self) -> ExitStatus {
        let mut process = self.ending();
        process.signal(Signal::TERM);
        process.end(Duration::from_secs(30)).await
    }

    /// Starts it where it does not run, and waits.
    pub async fn restart(&self) {
        if !self.is_running() {
            *self.process() = None;
        }
        self.launch(&[]);
        self.ready().await;
    }

    /// Another start on the same store, for as long as it lasts.
    pub fn second(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.command();
        command.arg("serve").envs(environment.iter().copied());
        Process::start(command, self.folder.join("second.log"))
    }

    /// One of the commands beside the running node; its JSON.
    pub fn operate(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same, for a command that prints a line for each of its rows.
    pub fn operate_rows(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    pub fn run_with(&self, arguments: &[&str], extra: &[(&str, &str)]) -> Output {
        let mut command = self.command();
        command.args(arguments).envs(extra.iter().copied());
        command.output().unwrap()
    }

    /// Starts a command and does not wait for it.
    pub fn begin(&self, arguments: &[&str], extra: &[(&str, &str)]) -> Process {
        let mut command = self.command();
        command.args(arguments).envs(extra.iter().copied());
        Process::start(command, self.folder.join("begun.log"))
    }

    /// A key of the configuration, from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        let key = format!("ENROLLPAY__{key}");
        self.environment.insert(key, value.to_owned());
    }

    /// All that its starts have written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The sum of a counter's series whose labels contain all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let url = format!("{}/metrics", self.monitoring);
        let text = super::client()
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines()
            .filter(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }
}
