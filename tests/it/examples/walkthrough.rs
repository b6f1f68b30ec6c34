//! The page followed step by step: its commands in a shell, a gateway in demo mode beside it, and a
//! student in between.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::page::part;
use super::school::{bare, examples, members};
use super::{PUBLISHED, SUBJECT};
use crate::support::books::trade_number;
use crate::support::merchant::Merchant;
use crate::support::process::{BINARY, Process, free_port};
use crate::support::student::{Alipay, Student, Wallet, Wechat};
use crate::support::{client, eventually};

const PATIENCE: Duration = Duration::from_mins(1);

/// The ports on the page, and those of this test.
struct Ports(Vec<(&'static str, String)>);

impl Ports {
    fn address(&self, documented: &str) -> &str {
        let all = &self.0;
        &all.iter().find(|(port, _)| *port == documented).unwrap().1
    }

    fn step(&self, name: &str) -> String {
        let mut text = part("walkthrough.sh", name);
        for (documented, ours) in &self.0 {
            text = text.replace(&format!("127.0.0.1:{documented}"), ours);
        }
        text
    }
}

/// The reader's terminal.
struct Terminal {
    shell: Child,
    log: PathBuf,
    read: usize,
}

impl Terminal {
    fn open(folder: &Path) -> Self {
        let log = folder.join("terminal");
        let file = File::create(&log).unwrap();
        let mut command = bare("sh");
        command.arg("-eu").current_dir(folder).stdin(Stdio::piped());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self {
            shell: command.spawn().unwrap(),
            log,
            read: 0,
        }
    }

    /// Types a step; what came of it.
    async fn types(&mut self, step: &str) -> String {
        const DONE: &str = "== done\n";
        let mut keyboard = self.shell.stdin.as_ref().unwrap();
        keyboard.write_all(step.as_bytes()).unwrap();
        keyboard.write_all(b"echo '== done'\n").unwrap();
        let (log, from) = (self.log.clone(), self.read);
        let shell = &mut self.shell;
        let shown = eventually(step, PATIENCE, async || {
            let shown = std::fs::read_to_string(&log).unwrap();
            if let Some(text) = shown[from..].strip_suffix(DONE) {
                return Some(text.to_owned());
            }
            let ended = shell.try_wait().unwrap();
            assert!(ended.is_none(), "{step}{ended:?}: {}", &shown[from..]);
            None
        })
        .await;
        self.read += shown.len() + DONE.len();
        shown
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Scans the newest code of this order, confirms and pays.
async fn pays(merchant: &Merchant, wallet: Wallet, order: &str, simulators: &str) {
    let attempt = merchant.start(order).await;
    let mut student = Student::stranger(wallet);
    student.scan(&attempt).await.expect(200);
    student.press_pay().await.expect(200);
    let number = trade_number(order, attempt["number"].as_u64().unwrap());
    let lever = client().post(format!("http://{simulators}/control/pay"));
    let answer = lever.json(&json!({ "out_trade_no": number }));
    assert_eq!(answer.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_page_can_be_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir_all(here.join("target/release")).unwrap();
    symlink(BINARY, here.join("target/release/enrollpay")).unwrap();
    symlink(examples().join(".."), here.join("docs")).unwrap();
    let documented = ["8080", "8081", "8082", "8083", "8084", "9000"];
    let ports = documented.map(|port| (port, format!("127.0.0.1:{}", free_port())));
    let ports = Ports(ports.to_vec());
    let simulators = ports.address("8083").to_owned();
    let gateway = ports.address("8080");

    let mut command = bare("target/release/enrollpay");
    command.current_dir(here);
    for (section, port) in [
        ("SERVER", "8080"),
        ("ADMIN", "8081"),
        ("CONSOLE", "8082"),
        ("SIMULATOR", "8083"),
        ("DEMO", "8084"),
    ] {
        let key = format!("ENROLLPAY__{section}__LISTEN");
        command.env(key, ports.address(port));
    }
    let mut process = Process::start(command, here.join("gateway"));
    eventually("the gateway", PATIENCE, async || {
        assert_eq!(process.ended(), None, "it ended");
        process.output().contains("Stop with Ctrl-C").then_some(())
    })
    .await;

    let mut terminal = Terminal::open(here);
    assert_eq!(terminal.types(&ports.step("school")).await, "");
    let mut second = bare("sh");
    second.current_dir(here).arg("-euc");
    // Its own process, so that ending it ends the receiver.
    let step = ports.step("receiver").replace("python3", "exec python3");
    let receiver = Process::start(
        {
            second.arg(step);
            second
        },
        here.join("receiver"),
    );
    eventually("the receiver", PATIENCE, async || {
        receiver.output().contains("listening on").then_some(())
    })
    .await;
    let told = async |kind: &str, order: &str| {
        let what = format!(" {kind} {order}");
        eventually(&what, PATIENCE, async || {
            let output = receiver.output();
            let mut lines = output.lines();
            lines
                .any(|line| line.starts_with("new ") && line.contains(&what))
                .then_some(())
        })
        .await;
    };

    let made = members(&terminal.types(&ports.step("create")).await);
    let order = &*made["id"];
    let registered: Value =
        serde_json::from_slice(&std::fs::read(here.join("data/school.json")).unwrap()).unwrap();
    let merchant = Merchant::of(&registered, &format!("http://{gateway}"));
    pays(&merchant, Wechat, order, &simulators).await;
    told("order.paid", order).await;
    let seen = terminal.types(&ports.step("paid")).await;
    assert!(seen.contains("status paid\n"), "{seen}");
    assert!(
        seen.ends_with(&format!("ZK202104-000123 {SUBJECT} 14000\n")),
        "{seen}"
    );

    let seen = terminal.types(&ports.step("refund")).await;
    assert!(seen.contains("amount 3500\n"), "{seen}");
    told("refund.succeeded", order).await;
    let seen = terminal.types(&ports.step("refunded")).await;
    assert!(seen.contains("refund_status partial\n"), "{seen}");
    let seen = members(&terminal.types(&ports.step("cancel")).await);
    assert_eq!(seen["status"], "closed");
    told("order.closed", &seen["id"]).await;
    let seen = terminal.types(&ports.step("explain")).await;
    assert!(
        seen.contains("order.paid") && seen.contains("\"trade_made\""),
        "{seen}"
    );

    // The notice never comes, and the payment is found all the same.
    let seen = terminal.types(&ports.step("lose")).await;
    let (_, printed) = seen.split_once(']').unwrap();
    let lost = members(printed)["id"].clone();
    pays(&merchant, Alipay, &lost, &simulators).await;
    let found = members(&terminal.types(&ports.step("found")).await);
    assert_eq!((&found["id"], &*found["status"]), (&lost, "paid"));
    told("order.paid", &lost).await;
    terminal.types(&ports.step("heal")).await;

    let seen = terminal.types(&ports.step("reconcile")).await;
    assert!(seen.contains(r#""state": "finished""#), "{seen}");
    let seen = terminal.types(&ports.step("self-check")).await;
    assert_eq!(seen, PUBLISHED.repeat(4));
}
