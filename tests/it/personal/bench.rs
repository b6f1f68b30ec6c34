//! A store in a folder of its own with one value of every kind, each sealed in its place.

use std::path::PathBuf;
use std::sync::Arc;

use enrollpay::clock::ManualClock;
use enrollpay::order::{AccountId, Order};
use enrollpay::random::SeededRandom;
use enrollpay::retention::erase::Erase;
use enrollpay::retention::reseal::Reseal;
use enrollpay::sealing::{Place, Sealed, Sealer};
use enrollpay::store::personal::PersonalStore;
use enrollpay::store::sqlite::{Options, SqliteStore};
use enrollpay::store::{
    DeliveryState, DuplicatePolicy, EvidenceRow, EvidenceStanding, Masks, Merchant, MerchantKey,
    OrderWrite, OutboxEntry, Rejection, Store as _, Transaction, WebhookSecret, Write,
};
use tempfile::TempDir;

use crate::store::sample::*;

pub const OLD: (u8, [u8; 32]) = (1, [3; 32]);
pub const NEW: (u8, [u8; 32]) = (2, [4; 32]);

pub fn sealer(keys: &[(u8, [u8; 32])]) -> Sealer {
    Sealer::new(keys, &[1; 32], &[2; 32], Arc::new(SeededRandom::new(7)))
}

/// The slots that an order may have, and what each value is bound to.
pub fn slots() -> [(String, &'static str, String); 4] {
    let refund = refund_id(1);
    [
        ("order".to_owned(), "order", order_id(1).to_string()),
        ("payer:1".to_owned(), "payer", format!("{}/1", order_id(1))),
        (format!("refund:{refund}"), "refund", refund.to_string()),
        (format!("repair:{refund}"), "repair", refund.to_string()),
    ]
}

pub struct Bench {
    pub folder: TempDir,
    pub store: Arc<SqliteStore>,
    pub clock: ManualClock,
}

impl Bench {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let clock = ManualClock::at(at(100));
        let options = Options::new(Arc::new(clock.clone()));
        let store = SqliteStore::open(folder.path().join("store.db"), options).unwrap();
        Self {
            folder,
            store: Arc::new(store),
            clock,
        }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub fn jobs(&self) -> Arc<dyn PersonalStore> {
        self.store.clone()
    }

    pub fn reseal(&self, sealer: &Sealer) -> Reseal {
        Reseal::new(self.jobs(), sealer.clone())
    }

    pub fn erase(&self) -> Erase {
        Erase::new(
            self.jobs(),
            Arc::new(self.clock.clone()),
            Arc::new(SeededRandom::new(5)),
        )
    }

    pub async fn commit(&self, transaction: Transaction) -> Result<(), Rejection> {
        self.store
            .commit(vec![transaction])
            .await
            .unwrap()
            .remove(0)
    }

    pub async fn write(&self, write: Write) {
        assert_eq!(self.commit(writes([write])).await, Ok(()));
    }

    pub async fn step(&self, write: OrderWrite) -> Order {
        let order = write.order.clone();
        assert_eq!(self.commit(alone(write)).await, Ok(()));
        order
    }

    /// Order `n`, created, shown, claimed and paid; the event of it still on its way.
    pub async fn paid(&self, n: u32, sealer: &Sealer) -> Order {
        let created = self.step(creation(n)).await;
        let shown = self.step(start(&created)).await;
        let claimed = self.step(claim(&shown, 1)).await;
        let mut paying = pay(&claimed, &format!("4200{n}"));
        let entry = an_event(sealer, &paying.order, n);
        paying.outbox.push(entry);
        self.step(paying).await
    }

    pub async fn delivered(&self, n: u32) {
        self.write(Write::Delivery {
            event: event_id(n),
            was: (DeliveryState::Pending, 0),
            state: DeliveryState::Delivered,
            tries: 1,
            next_at: None,
            note: "status 204".to_owned(),
            at: at(6),
        })
        .await;
    }

    /// Everything that can be sealed, about order 1, which is paid and told of.
    pub async fn furnish(&self, sealer: &Sealer) -> Order {
        let order = self.paid(1, sealer).await;
        self.delivered(1).await;
        for (slot, column, row) in slots() {
            let place = place("personal", column, &row);
            self.write(Write::Personal {
                order: order.id,
                sealed: sealer.seal(place, slot.as_bytes()),
                slot,
            })
            .await;
        }
        let merchant = merchant_id(1);
        let row = format!("{merchant}/key-1");
        for write in [
            Write::IdempotencyStarted {
                merchant,
                key: "key-1".to_owned(),
                request_hash: [7; 32],
                instance: 1,
                at: at(1),
            },
            Write::IdempotencyFinished {
                merchant,
                key: "key-1".to_owned(),
                status: 201,
                answer: sealer.seal(place("idempotency", "answer", &row), b"answer"),
                order: Some(order.id),
            },
            evidence(sealer, "WAIT_BUYER_PAY", "4200", Some(order.id), 1),
            Write::Merchant(self::merchant(sealer)),
            Write::MerchantKey(MerchantKey {
                id: key_id(1),
                merchant,
                sealed_secret: sealer.seal(
                    place("merchant_keys", "secret", &key_id(1).to_string()),
                    b"sk_1",
                ),
                created_at: at(1),
                valid_until: None,
                last_used_at: None,
            }),
        ] {
            self.write(write).await;
        }
        order
    }
}

pub fn place<'a>(table: &'static str, column: &'static str, row: &'a str) -> Place<'a> {
    Place { table, column, row }
}

pub fn account() -> AccountId {
    AccountId::new("school-wechat")
}

pub fn evidence(
    sealer: &Sealer,
    reason: &str,
    reference: &str,
    order: Option<enrollpay::order::OrderId>,
    seconds: i64,
) -> Write {
    let row = format!("{}/{reference}", account());
    Write::Evidence(EvidenceRow {
        account: account(),
        reference: reference.to_owned(),
        reason: reason.to_owned(),
        body: sealer.seal(place("evidence", "body", &row), b"notice"),
        order,
        first_seen: at(seconds),
        standing: EvidenceStanding::Open,
    })
}

pub fn merchant(sealer: &Sealer) -> Merchant {
    let id = merchant_id(1);
    let row = id.to_string();
    let secret = |text: &str, until| WebhookSecret {
        sealed: sealer.seal(place("merchants", "webhook_secret", &row), text.as_bytes()),
        until,
    };
    Merchant {
        id,
        name: "school".to_owned(),
        display_name: "学校".to_owned(),
        help_lines: [None, None],
        webhook_url: None,
        webhook_secrets: vec![secret("whsec_2", None), secret("whsec_1", Some(at(9)))],
        return_hosts: Vec::new(),
        duplicate: DuplicatePolicy::Warn,
        masks: Masks::Standard,
        payer_must_be_registrant: false,
        accounts: vec![account()],
        created_at: at(1),
    }
}

/// An event of the order's present version, sealed as the actors seal it.
pub fn an_event(sealer: &Sealer, order: &Order, n: u32) -> OutboxEntry {
    let body = format!(r#"{{"id":"{}"}}"#, event_id(n));
    OutboxEntry {
        body: sealer.seal(
            place("outbox", "body", &event_id(n).to_string()),
            body.as_bytes(),
        ),
        body_digest: Some(sealer.body_digest(body.as_bytes())),
        ..outbox(order, n)
    }
}

pub async fn slot(bench: &Bench, slot: &str) -> Option<Sealed> {
    bench.store.personal(order_id(1), slot).await.unwrap()
}
