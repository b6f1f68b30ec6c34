//! An enrolment system that is one of the examples: its commands, its receiver, its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use super::{SUBJECT, now};
use crate::support::merchant::{Answer, Merchant};
use crate::support::process::{Gateway, Process, free_port};
use crate::support::{client, eventually};

/// A virtual machine and a compiler may have to start first.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Curl,
    Java,
    Php,
    Python,
}

pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples")
}

/// Output of a program that has to be there.
pub fn output(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; tests/run installs it", program.display()))
}

/// Nothing of the environment of whoever runs the tests.
pub fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C.UTF-8");
    for kept in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

pub struct School {
    language: Language,
    pub merchant: Merchant,
    webhook_secret: String,
    /// Where its receiver listens.
    address: String,
    folder: tempfile::TempDir,
}

impl School {
    /// Registers it beside the running node.
    pub fn open(language: Language, gateway: &Gateway) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let made = gateway.operate(&[
            "merchant",
            "create",
            "--name",
            "测试考区",
            "--webhook-url",
            &format!("http://{address}/webhooks"),
            "--account",
            "wechat=demo-wechat",
            "--account",
            "alipay=demo-alipay",
        ]);
        let folder = tempfile::tempdir().unwrap();
        if language == Language::Java {
            // Compiled once instead of at each start; the documented way is what `receive` goes.
            let mut compiler = bare("javac");
            compiler.args(["-encoding", "UTF-8", "-d"]);
            compiler.arg(folder.path());
            let done = output(compiler.arg(examples().join("java/Enrollpay.java")));
            assert!(done.status.success(), "{done:?}");
        }
        Self {
            language,
            merchant: Merchant::of(&made, &gateway.origin),
            webhook_secret: made["webhook_secret"].as_str().unwrap().to_owned(),
            address,
            folder,
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("received")
    }

    fn configured(&self, mut command: Command) -> Command {
        command
            .env("ENROLLPAY_URL", &self.merchant.origin)
            .env("ENROLLPAY_KEY_ID", &self.merchant.key_id)
            .env("ENROLLPAY_SECRET", &self.merchant.secret)
            .env("ENROLLPAY_WEBHOOK_SECRET", &self.webhook_secret)
            .env("ENROLLPAY_LISTEN", &self.address)
            .env("ENROLLPAY_STATE", self.state());
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let (program, first) = match self.language {
            Language::Curl => ("sh", vec![examples().join("curl/enrollpay.sh")]),
            Language::Java => (
                "java",
                vec!["-cp".into(), self.folder.path().into(), "Enrollpay".into()],
            ),
            Language::Php => ("php", vec![examples().join("php/enrollpay.php")]),
            Language::Python => ("python3", vec![examples().join("python/enrollpay.py")]),
        };
        let mut command = self.configured(bare(program));
        command.args(first).args(arguments);
        command
    }

    /// What it prints.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = output(&mut self.command(arguments));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complains of.
    pub fn fail(&self, arguments: &[&str]) -> String {
        let output = output(&mut self.command(arguments));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The members that it prints of an answer.
    pub fn order(&self, arguments: &[&str]) -> BTreeMap<String, String> {
        members(&self.succeed(arguments))
    }

    /// The order as it was told of it.
    pub fn kept(&self, order: &str) -> Option<Value> {
        let text = std::fs::read(self.state().join(format!("orders/{order}.json"))).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// What it did about a paid order.
    pub fn enrolled(&self, order: &str) -> Option<String> {
        std::fs::read_to_string(self.state().join("enrolled").join(order)).ok()
    }

    /// Starts its receiver as the page says.
    pub async fn receive(&self) -> Receiver {
        let command = match self.language {
            Language::Curl | Language::Python => self.command(&["receive"]),
            Language::Java => {
                let mut command = self.configured(bare("java"));
                command.arg("-Dfile.encoding=UTF-8");
                command.arg(examples().join("java/Enrollpay.java"));
                command.arg("receive");
                command
            }
            Language::Php => {
                let mut command = self.configured(bare("php"));
                command.args(["-S", &self.address]);
                command.arg(examples().join("php/enrollpay.php"));
                command
            }
        };
        let mut process = Process::start(command, self.folder.path().join("log"));
        let url = format!("http://{}", self.address);
        eventually("the example's receiver", PATIENCE, async || {
            assert_eq!(process.ended(), None, "it ended");
            client().get(&url).send().await.ok().map(drop)
        })
        .await;
        Receiver { process, url }
    }
}

/// `name value` lines.
pub fn members(printed: &str) -> BTreeMap<String, String> {
    printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The example's own server.
pub struct Receiver {
    process: Process,
    url: String,
}

impl Receiver {
    /// Waits for a line that holds all of this.
    pub async fn line(&self, parts: &[&str]) -> String {
        let what = format!("{parts:?} at the example's receiver");
        eventually(&what, PATIENCE, async || {
            let all = self.process.output();
            let mut lines = all.lines();
            let found = lines.find(|line| parts.iter().all(|part| line.contains(part)));
            found.map(str::to_owned)
        })
        .await
    }

    async fn deliver(&self, id: &str, timestamp: i64, signatures: &str, body: &str) -> Answer {
        let request = client()
            .post(format!("{}/webhooks", self.url))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures)
            .header("content-type", "application/json")
            .body(body.to_owned());
        Answer::of(request.send().await.unwrap()).await.unwrap()
    }

    /// Deliveries that nobody sent, that somebody recorded, that come too late; `order` is paid.
    pub async fn believes_only_what_is_true(&self, school: &School, order: &str) {
        let stranger =
            standardwebhooks::Webhook::new("whsec_c3RyYW5nZXJzIGtleSwgbm90IG91cnMh").unwrap();
        let ours = standardwebhooks::Webhook::new(&school.webhook_secret).unwrap();
        let unpaid = "ord_00000000000000000000000001";
        let event = |id: &str, order: &str, version: u64| {
            json!({ "id": id, "type": "order.paid", "data": { "order": {
                "id": order, "status": "paid", "refund_status": "none", "version": version,
                "merchant_order_no": "ZK-0", "subject": SUBJECT, "amount_paid": 14000,
            } } })
            .to_string()
        };
        let id = "evt_00000000000000000000000001";
        let body = event(id, unpaid, 9);
        let sign =
            |judge: &standardwebhooks::Webhook, at| judge.sign(id, at, body.as_bytes()).unwrap();
        let says = |answer: &Answer| {
            (
                answer.status,
                String::from_utf8(answer.body.clone()).unwrap(),
            )
        };

        let forged = self
            .deliver(id, now(), &sign(&stranger, now()), &body)
            .await;
        assert_eq!(says(&forged), (401, "refused signature".to_owned()));
        let at = now();
        let altered = body.replace("14000", "1");
        let altered = self.deliver(id, at, &sign(&ours, at), &altered).await;
        assert_eq!(says(&altered), (401, "refused signature".to_owned()));
        let nothing = self.deliver(id, at, "v1,", &body).await;
        assert_eq!(says(&nothing), (401, "refused signature".to_owned()));
        for at in [now() - 310, now() + 310] {
            let recorded = self.deliver(id, at, &sign(&ours, at), &body).await;
            assert_eq!(says(&recorded), (401, "refused timestamp".to_owned()));
        }
        assert_eq!(school.kept(unpaid), None);
        assert_eq!(school.enrolled(unpaid), None);

        // While a secret is being changed, two signatures come; and this one is older than what is known.
        let late = event(id, order, 1);
        let at = now();
        let both = [&stranger, &ours].map(|judge| judge.sign(id, at, late.as_bytes()).unwrap());
        let late = self.deliver(id, at, &both.join(" "), &late).await;
        let line = format!("older {id} order.paid {order} paid");
        assert_eq!(says(&late), (200, line));
    }
}
