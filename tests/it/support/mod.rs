//! Everything around the binary under test: the providers, a school with its server, payers with
//! phones. A [`World`] has one of each; its [`World::finish`] waits for rest, stops the gateway and
//! holds the store against the providers' books.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

pub mod books;
pub mod front;
pub mod merchant;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod server;
pub mod student;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::invariants;
use books::trade_number;
use merchant::Merchant;
use process::{Gateway, Simulators};
use receiver::Receiver;
use student::{Student, Wallet};

/// Asks until there is an answer; fails, naming what was waited for, once patience is over.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A client that follows nothing and asks no proxy.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // Sooner than any server here ends an idle connection.
        .pool_idle_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// How long an attempt, its closing and its refund may take to end.
const REST: Duration = Duration::from_secs(90);

pub struct World {
    pub gateway: Gateway,
    pub simulators: Simulators,
    pub receiver: Receiver,
    pub merchant: Merchant,
    // Last: the processes above still write into it.
    #[expect(dead_code, reason = "it is removed with the world")]
    pub folder: tempfile::TempDir,
}

/// An order whose code somebody has claimed and confirmed: its trade is made.
pub struct Asked {
    pub order: String,
    /// Our number of its trade.
    pub trade: String,
    pub attempt: Value,
}

impl World {
    /// Providers, gateway and a merchant with a webhook server. `environment`: keys of the
    /// gateway's configuration without their prefix.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulators = Simulators::start(folder.path()).await;
        let gateway = Gateway::start(folder.path(), &simulators, environment).await;
        let receiver = Receiver::start();
        let merchant = Merchant::register(&gateway, &receiver);
        Self {
            gateway,
            simulators,
            receiver,
            merchant,
            folder,
        }
    }

    /// Starts a code of this order and has somebody claim it.
    pub async fn scan(&self, order: &str, wallet: Wallet) -> (Value, Student) {
        let attempt = self.merchant.start(order).await;
        let mut student = Student::stranger(wallet);
        let claimed = student.scan(&attempt).await.expect(200);
        assert_eq!(claimed["state"], "claimed", "{claimed}");
        (attempt, student)
    }

    /// A new order up to the moment at which the wallet would ask for the password.
    pub async fn ask(&self, wallet: Wallet) -> Asked {
        self.ask_with(wallet, json!({})).await
    }

    pub async fn ask_with(&self, wallet: Wallet, more: Value) -> Asked {
        let order = self.merchant.create_with(more).await;
        let order = order["id"].as_str().unwrap().to_owned();
        let (attempt, mut student) = self.scan(&order, wallet).await;
        student.press_pay().await.expect(200);
        let trade = trade_number(&order, attempt["number"].as_u64().unwrap());
        Asked {
            order,
            trade,
            attempt,
        }
    }

    /// A new order that is paid, and its merchant told.
    pub async fn paid(&self, wallet: Wallet) -> Asked {
        let asked = self.ask(wallet).await;
        self.simulators.pay(&asked.trade).await;
        self.merchant.until_status(&asked.order, "paid").await;
        self.receiver.wait(&asked.order, "order.paid").await;
        asked
    }

    /// Somebody sits at the password page until the order's deadline has passed at the provider, and
    /// pays all the same: money that goes back.
    pub async fn late_payment(&self) -> Asked {
        const WAITS_MS: i64 = 150_000;
        let deadline = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(130);
        let more = json!({ "pay_before": deadline.to_string() });
        let asked = self.ask_with(student::Wechat, more).await;
        self.simulators.open(&asked.trade).await;
        self.simulators.advance(WAITS_MS).await;
        self.simulators.pay_late(&asked.trade).await;
        self.simulators.advance(-WAITS_MS).await;
        asked
    }

    /// Waits until nothing is under way, here or at the providers.
    pub async fn rest(&self) {
        let mut left = String::new();
        let deadline = Instant::now() + REST;
        while Instant::now() < deadline {
            let books = self.simulators.books().await;
            match invariants::unrest(&self.gateway.kept(), &books).await {
                None => return,
                Some(what) => left = what,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited {REST:?} for rest: {left}");
    }

    /// Rest, an orderly stop, and the books.
    pub async fn finish(self) {
        self.finish_and(async || {}).await;
    }

    /// The same, with a look of the test's own at what is left.
    pub async fn finish_and(mut self, look: impl AsyncFnOnce()) {
        if !self.gateway.is_running() {
            self.gateway.restart().await;
        }
        self.rest().await;
        let status = self.gateway.terminate().await;
        assert_eq!(status.code(), Some(0), "an orderly stop");
        self.check().await;
        let broken = invariants::told_as_kept(&self.gateway.kept(), &self.receiver.all()).await;
        assert!(broken.is_empty(), "webhooks: {broken:#?}");
        assert_eq!(
            self.receiver.refused(),
            0,
            "webhooks with a wrong signature"
        );
        look().await;
    }

    /// Holds the store against the providers' books. The gateway must not run.
    pub async fn check(&self) {
        let books = self.simulators.books().await;
        let broken = invariants::check_invariants(&self.gateway.kept(), &books).await;
        assert!(broken.is_empty(), "broken invariants: {broken:#?}");
    }
}
