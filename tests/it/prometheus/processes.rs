//! The gateway in demo mode and a Prometheus that scrapes it, each a process of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than any start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Asks until there is an answer; fails, naming what was waited for, once patience is over.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(left) => assert!(
                Instant::now() < deadline,
                "waited {patience:?} for {what}: {left}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client that follows nothing and asks no proxy.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// A free port below the range from which the kernel takes those of outgoing connections.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = 10_000 + rand::random::<u16>() % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free between 10000 and 30000");
}

/// A running process that ends with the test, and shows its last words where the test fails.
#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf, hint: &str) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; {hint}", command.get_program().display()));
        Self { child, log }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until an address answers 200.
    async fn ready(&mut self, url: &str) {
        let client = client();
        eventually(url, START, async || {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "{}: ended with {ended:?}",
                self.log.display()
            );
            match client.get(url).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.output();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of {}", self.log.display());
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// A node in demo mode, its simulated providers beside it.
#[derive(Debug)]
pub struct Gateway {
    pub origin: String,
    pub simulators: String,
    /// Where `/metrics` is, without a scheme.
    pub monitoring: String,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    process: Process,
}

impl Gateway {
    pub async fn start(folder: &Path) -> Self {
        let [public, admin, simulators, demo] =
            [(); 4].map(|()| format!("127.0.0.1:{}", free_port()));
        let environment: Vec<_> = [
            ("SERVER__LISTEN", public.as_str()),
            ("SERVER__WORKERS", "2"),
            ("ADMIN__LISTEN", &admin),
            ("CONSOLE__LISTEN", "127.0.0.1:0"),
            ("SIMULATOR__LISTEN", &simulators),
            ("DEMO__LISTEN", &demo),
            ("SHARDS__THREADS", "2"),
            ("CLUSTER__SHARDS", "4"),
            ("LIMITS__ADDRESS_PER_SECOND", "1000"),
            ("LIMITS__ADDRESS_BURST", "4000"),
            ("LIMITS__ATTEMPTS_PER_HOUR", "4"),
            // More than a production log says: what is not in it is in none.
            ("LOG__FILTER", "info,enrollpay=debug"),
        ]
        .into_iter()
        .map(|(key, value)| (format!("ENROLLPAY__{key}"), value.to_owned()))
        .collect();
        let process = Process::start(
            command(folder, &environment).arg("serve"),
            folder.join("gateway.log"),
            "the binary that the tests were built with",
        );
        let mut gateway = Self {
            origin: format!("http://{public}"),
            simulators: format!("http://{simulators}"),
            monitoring: admin,
            folder: folder.to_owned(),
            environment,
            process,
        };
        let url = format!("http://{}/readyz", gateway.monitoring);
        gateway.process.ready(&url).await;
        gateway
    }

    /// One of the commands beside the running node; its JSON.
    pub fn operate(&self, arguments: &[&str]) -> Value {
        let output = command(&self.folder, &self.environment)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What one of the commands prints, on both of its outputs.
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = command(&self.folder, &self.environment)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// The store and its log as they stand on the disk.
    pub fn store(&self) -> Vec<u8> {
        let file = |name| std::fs::read(self.folder.join("data").join(name)).unwrap();
        [file("enrollpay.db"), file("enrollpay.db-wal")].concat()
    }

    /// A file that the demo made beside its store.
    pub fn made(&self, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.join("data").join(file)).unwrap())
            .unwrap()
    }

    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.monitoring);
        let answer = client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    }

    /// All that it has written so far, on both of its outputs.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// The binary, without the environment of whoever runs the tests.
fn command(folder: &Path, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enrollpay"));
    command.env_clear().current_dir(folder);
    for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    command
}

/// A Prometheus with our alerts, whose patience is shortened to a second.
#[derive(Debug)]
pub struct Prometheus {
    origin: String,
    client: reqwest::Client,
    _process: Process,
}

impl Prometheus {
    pub async fn start(folder: &Path, gateway: &Gateway, rules: &str) -> Self {
        let folder = folder.join("prometheus");
        std::fs::create_dir(&folder).unwrap();
        let mut hasty = String::new();
        for line in rules.lines() {
            let indent = line.split("for: ").next().unwrap();
            if line.trim_start().starts_with("for: ") {
                writeln!(hasty, "{indent}for: 1s").unwrap();
            } else {
                writeln!(hasty, "{line}").unwrap();
            }
        }
        std::fs::write(folder.join("alerts.yml"), hasty).unwrap();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
             rule_files: [alerts.yml]\n\
             scrape_configs:\n- job_name: enrollpay\n  static_configs:\n  - targets: ['{}']\n",
            gateway.monitoring
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .current_dir(&folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={listen}"));
        let hint = "Debian package prometheus; tests/run installs it";
        let mut process = Process::start(&mut command, folder.join("log"), hint);
        let origin = format!("http://{listen}");
        process.ready(&format!("{origin}/-/ready")).await;
        Self {
            origin,
            client: client(),
            _process: process,
        }
    }

    /// `data` of an answer of its API, or what it has against the question.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut url: url::Url = format!("{}/api/v1/{path}", self.origin).parse().unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        let answer = self.client.get(url).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(format!("{parameters:?}: {answer}"))
        }
    }

    /// The values of an instant query's series, without those that are not numbers (yet).
    pub async fn query(&self, query: &str) -> Result<Vec<String>, String> {
        let data = self.ask("query", &[("query", query)]).await?;
        Ok(data["result"]
            .as_array()
            .ok_or_else(|| format!("{query}: {data}"))?
            .iter()
            .filter_map(|series| series["value"][1].as_str())
            .filter(|value| *value != "NaN")
            .map(str::to_owned)
            .collect())
    }

    pub async fn label_values(&self, label: &str, metric: &str) -> Vec<String> {
        let path = format!("label/{label}/values");
        let data = self.ask(&path, &[("match[]", metric)]).await.unwrap();
        serde_json::from_value(data).unwrap()
    }

    /// Alerts that fire: their labels and annotations.
    pub async fn firing(&self) -> Vec<Value> {
        let data = self.ask("alerts", &[]).await.unwrap();
        data["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .cloned()
            .collect()
    }

    /// Every rule with the health of its last evaluation.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.ask("rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap().iter();
        groups
            .flat_map(|group| group["rules"].as_array().unwrap())
            .cloned()
            .collect()
    }
}
