//! A group may be written in batches, halved, and written one by one: what comes of it is what the
//! embedded store makes of the same group, which takes one after the other.

use std::sync::Arc;

use enrollpay::clock::ManualClock;
use enrollpay::order::{Order, OrderId};
use enrollpay::random::{Random, SeededRandom};
use enrollpay::sealing::TokenKind;
use enrollpay::store::postgres::Options;
use enrollpay::store::sqlite::{self, SqliteStore};
use enrollpay::store::{DeliveryState, Fence, Rejection, Store, TokenTarget, Transaction, Write};

use super::super::sample::*;
use super::opened;
use crate::support::postgres::Postgres;

/// Orders as the last commit left them, so that most steps fit.
struct School {
    random: Box<dyn Random>,
    orders: Vec<Order>,
    next: u32,
}

impl School {
    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    fn creation(&mut self) -> Transaction {
        let n = if self.next > 3 && self.below(8) == 0 {
            1 + u32::try_from(self.below(3)).unwrap()
        } else {
            self.next += 1;
            self.next
        };
        let mut write = creation(n);
        write.outbox = vec![outbox(&write.order, n * 8)];
        match self.below(12) {
            0 => {
                write.fence = Fence::Owner {
                    shard: 1,
                    epoch: 1,
                    instance: 1,
                }
            }
            1 => {
                write.fence = Fence::Owner {
                    shard: 1,
                    epoch: 9,
                    instance: 1,
                }
            }
            2 => write.not_after = Some(START.minus_ms(1)),
            _ => {}
        }
        let order = write.order.id;
        let mut transaction = alone(write);
        transaction.writes = vec![
            self.nonce(),
            self.key_started(),
            Write::Token {
                kind: TokenKind::Pay,
                hash: hash(u8::try_from(n % 250).unwrap()),
                target: TokenTarget {
                    order,
                    attempt: None,
                },
            },
            Write::Personal {
                order,
                slot: "order".to_owned(),
                sealed: sealed("\u{1}sealed"),
            },
        ];
        transaction
    }

    fn step(&mut self) -> Option<Transaction> {
        let place = self.below(self.orders.len().max(1));
        let before = self.orders.get(place)?.clone();
        let mut write = match (before.version, before.live_attempt().is_some()) {
            (_, false) if before.attempts.is_empty() => start(&before),
            (2, true) => claim(&before, u128::from(self.random.below(3))),
            (3, true) => {
                let transaction = format!("42{:03}", self.below(600));
                pay(&before, &transaction)
            }
            _ => close(&before),
        };
        if self.below(6) == 0 {
            // One that nobody sends: an attempt that never began.
            write.order.attempts.clear();
        }
        if self.below(5) == 0 {
            let id = u32::try_from(self.below(4_000)).unwrap() + 10_000;
            write.outbox = vec![outbox(&write.order, id)];
        }
        Some(alone(write))
    }

    fn nonce(&self) -> Write {
        Write::Nonce {
            key: key_id(1),
            nonce: self.below(400).to_string(),
            at: START,
        }
    }

    fn key_started(&self) -> Write {
        Write::IdempotencyStarted {
            merchant: merchant_id(1),
            key: self.below(400).to_string(),
            request_hash: [1; 32],
            instance: 1,
            at: START,
        }
    }

    fn other(&self) -> Transaction {
        let key = self.below(400).to_string();
        let write = match self.below(5) {
            0 => Write::IdempotencyFinished {
                merchant: merchant_id(1),
                key,
                status: 201,
                answer: sealed("\u{1}answer"),
                order: None,
            },
            1 => Write::IdempotencyDropped {
                merchant: merchant_id(1),
                key,
            },
            2 => Write::Delivery {
                event: event_id(8 * (1 + u32::try_from(self.below(60)).unwrap())),
                was: (
                    DeliveryState::Pending,
                    u16::try_from(self.below(2)).unwrap(),
                ),
                state: DeliveryState::Pending,
                tries: 1,
                next_at: Some(at(9)),
                note: "503".to_owned(),
                at: at(2),
            },
            3 => Write::Setting {
                name: key,
                value: "1".to_owned(),
            },
            _ => self.nonce(),
        };
        writes([write])
    }

    fn group(&mut self) -> Vec<Transaction> {
        let size = 1 + self.below(60);
        (0..size)
            .map(|_| match self.below(5) {
                0 | 1 => self.creation(),
                2 | 3 => self.step().unwrap_or_else(|| self.other()),
                _ => self.other(),
            })
            .collect()
    }
}

/// Rules are named in each store's own words.
fn in_short(verdicts: &[Result<(), Rejection>]) -> Vec<Result<(), Rejection>> {
    let short = |rejection| match rejection {
        Rejection::RuleBroken { .. } => Rejection::RuleBroken {
            rule: String::new(),
        },
        other => other,
    };
    let verdicts = verdicts.iter().cloned();
    verdicts.map(|verdict| verdict.map_err(short)).collect()
}

#[tokio::test]
async fn a_group_is_judged_as_by_the_embedded_store() {
    let database = Postgres::shared().database();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let embedded = SqliteStore::open(folder.path().join("store.db"), sqlite::Options::new(clock));
    let embedded: Arc<dyn Store> = Arc::new(embedded.unwrap());
    let store = opened(&database, Options::default()).await;
    let claimed = Write::ShardClaimed {
        shard: 1,
        epoch: 1,
        instance: 1,
        silent_ms: None,
        at: START,
    };
    for store in [&embedded, &store] {
        store.commit(vec![writes([claimed.clone()])]).await.unwrap();
    }
    let seed = 20_261_125;
    let mut school = School {
        random: Box::new(SeededRandom::new(seed)),
        orders: Vec::new(),
        next: 0,
    };
    let mut reasons = std::collections::BTreeMap::<&str, u32>::new();
    for round in 0..60 {
        let group = school.group();
        let expected = embedded.commit(group.clone()).await.unwrap();
        let found = store.commit(group.clone()).await.unwrap();
        assert_eq!(in_short(&found), in_short(&expected), "round {round}");
        for verdict in &expected {
            let reason = verdict.as_ref().err().map_or("stands", Rejection::reason);
            *reasons.entry(reason).or_default() += 1;
        }
        let touched: Vec<OrderId> = group
            .iter()
            .filter_map(|transaction| Some(transaction.order.as_ref()?.order.id))
            .collect();
        for id in touched {
            let left = embedded.order(id).await.unwrap();
            let stored = store.order(id).await.unwrap();
            let (left, stored) = (left.map(|o| o.order), stored.map(|o| o.order));
            assert_eq!(stored, left, "round {round}");
            assert_eq!(
                store.timeline(id).await.unwrap(),
                embedded.timeline(id).await.unwrap()
            );
            school.orders.retain(|known| known.id != id);
            school.orders.extend(left);
        }
    }
    assert!(reasons.len() >= 8, "{reasons:?}");
    let mut totals = [Vec::new(), Vec::new()];
    let mut counts = [Vec::new(), Vec::new()];
    for (place, store) in [&embedded, &store].into_iter().enumerate() {
        totals[place] = store.ledger_totals().await.unwrap();
        counts[place] = store.count_by_status().await.unwrap();
        counts[place].sort_by_key(|(status, _)| status.as_str());
    }
    assert_eq!(totals[0], totals[1]);
    assert_eq!(counts[0], counts[1]);
}
