//! The cluster that people start with one command: it takes payments through its proxy, goes on where a
//! node is killed, and leaves nothing running.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::books::trade_number;
use crate::support::process::{BINARY, Process, command};
use crate::support::student::{Student, Wallet, Wechat};
use crate::support::{client, eventually};

const START: Duration = Duration::from_mins(1);
/// A killed node's lease, twice, and some time to act.
const TAKEN_OVER: Duration = Duration::from_secs(40);
const SHARDS: u32 = 64;

fn script(name: &str) -> Command {
    let mut command = command();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cluster");
    // The same environment, another program.
    let mut script = Command::new(path.join(name));
    script.env_clear();
    for (key, value) in command.env_remove("RUST_BACKTRACE").get_envs() {
        if let Some(value) = value {
            script.env(key, value);
        }
    }
    script
}

struct Trial {
    up: Process,
    folder: PathBuf,
    public: String,
    simulators: String,
    school: String,
    client: reqwest::Client,
}

/// An order of the school's, of which a payer sits at the password page.
struct Asked {
    registration: String,
    trade: String,
}

impl Trial {
    async fn start(folder: &Path) -> Self {
        // PostgreSQL's own user has to get through.
        std::fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
        let own = folder.join("cluster");
        let mut up = script("up");
        up.args(["--binary", BINARY, "--folder"]).arg(&own);
        // Two that start at once would find the same ones free.
        let port = 10_000 + rand::random::<u16>() % 190 * 100;
        up.args(["--port", &port.to_string()]);
        up.env("TMPDIR", folder);
        let mut up = Process::start(up, folder.join("log"));
        let said = eventually("the cluster", START, async || {
            assert_eq!(up.ended(), None, "it ended");
            let said = up.output();
            said.contains("Stop everything").then_some(said)
        })
        .await;
        let address = |what: &str| {
            let line = said.lines().find(|line| line.contains(what)).unwrap();
            let url = line
                .split_whitespace()
                .find(|word| word.starts_with("http"));
            url::Url::parse(url.unwrap())
                .unwrap()
                .origin()
                .ascii_serialization()
        };
        Self {
            public: address("merchant API"),
            simulators: address("simulated wallets"),
            school: address("demo school"),
            up,
            folder: own,
            client: client(),
        }
    }

    fn node(&self, arguments: &[&str]) -> String {
        let mut node = script("node");
        node.arg("--folder").arg(&self.folder).args(arguments);
        let output = node.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until so many nodes own all shards together, each of them some.
    async fn settles(&self, up: usize) {
        let what = format!("{up} nodes with all shards");
        eventually(&what, TAKEN_OVER, async || {
            let owned: Vec<u32> = self
                .node(&[])
                .lines()
                .filter_map(|line| {
                    line.split_once(" up ")?
                        .1
                        .split_whitespace()
                        .next()?
                        .parse()
                        .ok()
                })
                .collect();
            (owned.len() == up && owned.iter().sum::<u32>() == SHARDS && !owned.contains(&0))
                .then_some(())
        })
        .await;
    }

    /// As the school's own programmer would ask; `Err`: nothing, or not now.
    fn call(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut call = command();
        call.arg("--config").arg(self.folder.join("enrollpay.toml"));
        call.arg("call").args(arguments).arg("--credentials");
        let output = call.arg(self.folder.join("school.json")).output().unwrap();
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    async fn press(&self, path: &str) -> Option<String> {
        let answer = self.client.post(format!("{}{path}", self.school));
        let answer = answer.send().await.unwrap();
        let location = answer.headers().get("location")?;
        Some(location.to_str().unwrap().to_owned())
    }

    /// A new registration, 点击缴费, and a phone up to the password page.
    async fn ask(&self, wallet: Wallet) -> Asked {
        let registration = self.press("/registrations").await.unwrap();
        let number = registration.rsplit_once('/').unwrap().1.to_owned();
        let cashier = eventually("a cashier page", TAKEN_OVER, async || {
            self.press(&format!("{registration}/pay")).await
        })
        .await;
        assert!(cashier.starts_with(&format!("{}/pay/", self.public)));
        let orders = self
            .call(&["GET", &format!("/v1/orders?merchant_order_no={number}")])
            .unwrap();
        let order = orders["data"][0]["id"].as_str().unwrap().to_owned();
        let attempts = format!("/v1/orders/{order}/attempts");
        let attempt = self.call(&["POST", &attempts, "--data", "{}"]).unwrap();
        let mut student = Student::stranger(wallet);
        let claimed = student.scan(&attempt).await.expect(200);
        assert_eq!(claimed["state"], "claimed", "{claimed}");
        student.press_pay().await.expect(200);
        Asked {
            registration,
            trade: trade_number(&order, attempt["number"].as_u64().unwrap()),
        }
    }

    /// The password, and then the school's own word that it was told.
    async fn pay(&self, asked: &Asked) {
        let lever = self.client.post(format!("{}/control/pay", self.simulators));
        let answer = lever.json(&json!({ "out_trade_no": asked.trade }));
        assert_eq!(answer.send().await.unwrap().status(), 200);
    }

    async fn until_told(&self, asked: &Asked) {
        let url = format!("{}{}/status", self.school, asked.registration);
        eventually("已缴费 at the school", TAKEN_OVER, async || {
            let answer = self.client.get(&url).send().await.unwrap();
            let status: Value = answer.json().await.unwrap();
            (status["status"] == "paid").then_some(())
        })
        .await;
    }
}

/// Those who work in this folder, or for it.
fn left_in(folder: &Path) -> Vec<String> {
    let text = folder.to_str().unwrap();
    let mut left = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let commands = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let commands = String::from_utf8_lossy(&commands).replace('\0', " ");
        let place = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        if commands.contains(text) || place.starts_with(folder) {
            left.push(format!("{} {commands}", path.display()));
        }
    }
    left
}

#[tokio::test]
async fn the_cluster_to_try_pays_without_a_node_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let mut trial = Trial::start(folder.path()).await;
    trial.settles(3).await;
    let first = trial.ask(Wechat).await;
    trial.pay(&first).await;
    trial.until_told(&first).await;

    // In the middle of payments: some of them were the killed node's.
    let mut paying = Vec::new();
    for wallet in [Wechat, Wallet::Alipay, Wechat, Wallet::Alipay] {
        paying.push(trial.ask(wallet).await);
    }
    trial.node(&["kill", "b"]);
    assert!(trial.node(&[]).contains("b  down"));
    for asked in &paying {
        trial.pay(asked).await;
    }
    for asked in &paying {
        trial.until_told(asked).await;
    }
    trial.settles(2).await;
    let after = trial.ask(Wechat).await;
    trial.pay(&after).await;
    trial.until_told(&after).await;

    trial.node(&["start", "b"]);
    trial.settles(3).await;

    assert!(!left_in(folder.path()).is_empty());
    // As Ctrl-C does.
    trial.up.signal(Signal::INT);
    let status = trial.up.end(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0), "{status}");
    // A child that only slept may outlive it by a moment.
    eventually("nothing left", Duration::from_secs(5), async || {
        left_in(folder.path()).is_empty().then_some(())
    })
    .await;
}
