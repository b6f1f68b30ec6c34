//! A house whose time is virtual: real actors over a real store on one thread with a paused clock, so
//! that minutes of waiting cost nothing. Time stands still while the store works.

#![expect(clippy::unwrap_used, reason = "a test ends where its house is broken")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enrollpay::actors::{
    self, Budget, EventBody, Options, Orders, OrdersError, Parts, Reply, Shards, Verdict,
};
use enrollpay::clock::{Clock, ManualClock};
use enrollpay::order::{
    AttemptId, CodeMode, Command, LatePayment, Offer, OrderId, OutTradeNo, PayerHash, Product,
    Timestamp, Wallet,
};
use enrollpay::provider::{Provider, Providers};
use enrollpay::random::{Random, SeededRandom, SystemRandom};
use enrollpay::sealing::Sealer;
use enrollpay::store::{Store, StoredOrder};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::time::Instant;

use super::bank::Bank;
use super::bench::{Body, FIRST, Gate, PUBLIC_URL, START, new_order, request};
use crate::support::ground::embedded;

/// Runs a test in virtual time.
pub fn run(test: impl Future<Output = ()>) {
    actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    })
    .block_on(test);
}

/// The house's clock: tokio's, as the time of day. The store's clock, which its threads read, follows.
#[derive(Debug)]
struct Flowing {
    since: Instant,
    store: ManualClock,
}

impl Clock for Flowing {
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.since.elapsed().as_millis()).unwrap();
        let now = START.plus_ms(millis);
        self.store.set(now);
        now
    }
}

pub struct House {
    pub banks: Vec<Arc<Bank>>,
    pub gate: Arc<Gate>,
    pub shards: Shards,
    pub orders: Orders,
    clock: Arc<Flowing>,
    random: Arc<dyn Random>,
    sealer: Sealer,
    #[expect(dead_code, reason = "the store's folder goes with the house")]
    folder: TempDir,
}

impl House {
    pub fn new(banks: Vec<Bank>, budget: Budget) -> Self {
        let banks: Vec<_> = banks.into_iter().map(Arc::new).collect();
        // Real time is spent on waiting for the disk alone: where there is memory, it holds the store.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let store_clock = ManualClock::at(START);
        let clock = Arc::new(Flowing {
            since: Instant::now(),
            store: store_clock.clone(),
        });
        let gate = Gate::over(embedded(folder.path(), Arc::new(store_clock)), true);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let sealing: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let sealer = Sealer::new(&[(1, [3; 32])], &[1; 32], &[2; 32], sealing);
        let accounts = banks.iter().map(|bank| bank.account().id.clone());
        let budgets: HashMap<_, _> = accounts.map(|account| (account, budget)).collect();
        let providers = banks
            .iter()
            .map(|bank| Arc::clone(bank) as Arc<dyn Provider>);
        let shards = actors::start(
            Options {
                shards: 4,
                threads: 0,
                queue: 8_192,
                budgets,
                public_url: PUBLIC_URL.to_owned(),
                ..Options::default()
            },
            Parts {
                store: Arc::clone(&gate) as Arc<dyn Store>,
                providers: Providers::new(providers),
                sealer: sealer.clone(),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                random: Arc::clone(&random),
                webhook_body: Arc::new(Body::default()) as Arc<dyn EventBody>,
            },
        );
        Self {
            banks,
            gate,
            orders: shards.orders(),
            shards,
            clock,
            random,
            sealer,
            folder,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits for this moment, in milliseconds after [`START`].
    pub async fn until(&self, millis: u64) {
        tokio::time::sleep_until(self.clock.since + Duration::from_millis(millis)).await;
    }

    pub async fn tell(&self, id: OrderId, command: Command) -> Result<Reply, OrdersError> {
        self.orders.tell(id, request(command)).await
    }

    /// A new order of everybody's accounts, due at `pay_before`.
    pub async fn order(&self, mode: CodeMode, pay_before: Timestamp) -> OrderId {
        let id = OrderId::from_ulid(self.random.ulid(START));
        let mut new = new_order(id, &self.sealer);
        new.terms.pay_before = Some(pay_before);
        new.terms.late_payment = LatePayment::Refund;
        new.terms.mode = mode;
        new.terms.offers = self
            .banks
            .iter()
            .map(|bank| Offer {
                wallet: bank.account().wallet,
                account: bank.account().id.clone(),
                application: bank.account().application.clone(),
            })
            .collect();
        self.orders.create(new).await.unwrap();
        id
    }

    /// Shows a code; native mode names the wallet.
    pub async fn show(&self, id: OrderId, wallet: Option<Wallet>) {
        let command = Command::StartAttempt {
            id: AttemptId::from_ulid(self.random.ulid(START)),
            wallet,
        };
        let reply = self.tell(id, command).await.unwrap();
        assert_eq!(reply.verdict, Verdict::Applied);
    }

    /// Somebody scans the code and presses 确认付款.
    pub async fn claim_and_press(&self, id: OrderId, product: Product) {
        let payer = PayerHash(u128::from(id.ulid()));
        let claim = Command::Claim {
            attempt: FIRST,
            payer,
            product,
        };
        let claimed = self.tell(id, claim).await.unwrap();
        assert_eq!(claimed.verdict, Verdict::Applied);
        let pay = Command::Pay {
            attempt: FIRST,
            payer,
        };
        let pressed = self.tell(id, pay).await.unwrap();
        assert_eq!(pressed.verdict, Verdict::Applied);
    }

    pub async fn stored(&self, id: OrderId) -> StoredOrder {
        self.gate.order(id).await.unwrap().unwrap()
    }
}

pub fn number_of(id: OrderId) -> OutTradeNo {
    OutTradeNo {
        order: id,
        attempt: FIRST,
    }
}

/// Does the same for many, some hundreds at a time.
pub async fn for_each<T, F: Future>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
) -> Vec<F::Output> {
    futures_util::stream::iter(items)
        .map(work)
        .buffered(1_000)
        .collect()
        .await
}
