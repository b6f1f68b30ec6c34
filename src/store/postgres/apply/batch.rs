//! Many transactions of the common kinds by one statement per table, all sent before the first answer
//! comes. Each statement answers with the steps that it refused. Where it refuses any, or breaks a
//! rule, the whole is undone: `apply` then finds out which step it was, and why.

use std::collections::HashSet;

use futures_util::future::join_all;
use tokio_postgres::types::ToSql;

use super::session::{Failure, Session};
use super::statements as sql;
use crate::order::{AttemptNumber, BillId, EventId, KeyId, MerchantId, OrderId, Timestamp};
use crate::store::rows::integer;
use crate::store::step::{MoneyRow, OrderStep, Rows, Step, actor_word, broken, delivery_word};
use crate::store::{Fence, Write, shard_hash};

type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// One statement with a column of values per parameter.
struct Query<'a> {
    sql: &'static str,
    params: Vec<Param<'a>>,
}

/// A statement for these rows, if there are any; each closure makes one column of them.
macro_rules! query {
    ($sql:expr, $rows:expr, $($column:expr),+ $(,)?) => {{
        let rows: Vec<_> = $rows.collect();
        (!rows.is_empty()).then(|| Query {
            sql: $sql,
            params: vec![$(Box::new(rows.iter().map($column).collect::<Vec<_>>()) as Param<'a>),+],
        })
    }};
}

/// What became of a batch.
pub(super) enum Outcome {
    /// Every step stands.
    Stands,
    /// These do not, and so none does.
    Refused(HashSet<usize>),
}

/// What two steps of one batch may not share: a statement would meet the same row twice.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Order(OrderId),
    Nonce(KeyId, &'a str),
    Idempotency(MerchantId, &'a str),
    Personal(OrderId, &'a str),
    Token([u8; 16]),
    OauthState([u8; 16]),
    Event(EventId),
    Merchants(KeyId),
    Bill(BillId),
}

/// Steps that may be written at once, by their places in the group.
#[derive(Default)]
pub(super) struct Batch<'a> {
    steps: Vec<(usize, &'a Step)>,
    keys: HashSet<Key<'a>>,
}

impl<'a> Batch<'a> {
    /// Takes a step in, unless it is not of the common kinds or meets one that is in already.
    pub fn take(&mut self, place: usize, step: &'a Step) -> bool {
        let Some(keys) = keys_of(step) else {
            return false;
        };
        let mut own = HashSet::new();
        if keys
            .into_iter()
            .any(|key| self.keys.contains(&key) || !own.insert(key))
        {
            return false;
        }
        self.keys.extend(own);
        self.steps.push((place, step));
        true
    }

    pub fn places(&self) -> Vec<usize> {
        self.steps.iter().map(|(place, _)| *place).collect()
    }

    /// Within a savepoint that the caller goes back to unless every step stands.
    pub async fn write(&self, session: &Session<'_>) -> Result<Outcome, Failure> {
        let queries = self.queries(session);
        let mut statements = Vec::with_capacity(queries.len());
        for query in &queries {
            statements.push(session.client.prepare_cached(query.sql).await?);
        }
        let params: Vec<Vec<&(dyn ToSql + Sync)>> = queries
            .iter()
            .map(|query| query.params.iter().map(|param| &**param as _).collect())
            .collect();
        let sent = statements
            .iter()
            .zip(&params)
            .map(|(statement, params)| session.client.query(statement, params));
        let mut refused = HashSet::new();
        // The first to fail is what failed; the rest say that they came after it.
        for answer in join_all(sent).await {
            for row in answer? {
                let place = usize::try_from(row.try_get::<_, i64>(0)?)
                    .map_err(|_| broken("a step has a place"))?;
                refused.insert(place);
            }
        }
        Ok(if refused.is_empty() {
            Outcome::Stands
        } else {
            Outcome::Refused(refused)
        })
    }

    fn queries(&self, session: &Session<'_>) -> Vec<Query<'a>> {
        let orders = self.orders();
        [
            self.nonces(),
            self.keys_started(),
            created(&orders),
            moved(&orders),
            events(&orders),
            touched(&orders),
            started(&orders),
            claimed(&orders),
            captured(&orders),
            ledger(&orders),
            outbox(&orders, session),
            self.tokens(),
            self.personal(),
            self.bills(),
            self.oauth_states(),
            self.keys_finished(),
            self.keys_dropped(),
            self.keys_used(),
            self.deliveries(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn writes(&self) -> impl Iterator<Item = (i64, &'a Write)> + use<'a, '_> {
        self.steps
            .iter()
            .flat_map(|(place, step)| step.writes.iter().map(|write| (at(*place), write)))
    }

    /// By their ids: whoever else writes some of them takes their locks in the same order.
    fn orders(&self) -> Vec<(i64, &'a OrderStep, &'a Rows)> {
        let mut orders: Vec<_> = self
            .steps
            .iter()
            .filter_map(|(place, step)| {
                let order = step.order.as_ref()?;
                Some((at(*place), order, order.rows.as_ref().ok()?))
            })
            .collect();
        orders.sort_by(|(_, one, _), (_, other, _)| one.id.cmp(&other.id));
        orders
    }

    fn nonces(&self) -> Option<Query<'a>> {
        query!(
            sql::NONCES,
            self.writes().filter_map(|(step, write)| match write {
                Write::Nonce { key, nonce, at } => Some((step, key, nonce.as_str(), at)),
                _ => None,
            }),
            |row| row.0,
            |row| row.1.to_string(),
            |row| row.2,
            |row| row.3.as_millis(),
        )
    }

    fn keys_started(&self) -> Option<Query<'a>> {
        query!(
            sql::KEYS_STARTED,
            self.writes().filter_map(|(step, write)| match write {
                Write::IdempotencyStarted {
                    merchant,
                    key,
                    request_hash,
                    instance,
                    at,
                } => Some((step, merchant, key.as_str(), request_hash, instance, at)),
                _ => None,
            }),
            |row| row.0,
            |row| row.1.to_string(),
            |row| row.2,
            |row| row.3.as_slice(),
            |row| row.4.to_be_bytes().to_vec(),
            |row| row.5.as_millis(),
        )
    }

    fn keys_finished(&self) -> Option<Query<'a>> {
        query!(
            sql::KEYS_FINISHED,
            self.writes().filter_map(|(step, write)| match write {
                Write::IdempotencyFinished {
                    merchant,
                    key,
                    status,
                    answer,
                    order,
                } => Some((step, merchant, key.as_str(), status, answer, order)),
                _ => None,
            }),
            |row| row.0,
            |row| row.1.to_string(),
            |row| row.2,
            |row| i64::from(*row.3),
            |row| row.4.0.as_slice(),
            |row| row.5.map(|order| order.to_string()),
        )
    }

    fn keys_dropped(&self) -> Option<Query<'a>> {
        query!(
            sql::KEYS_DROPPED,
            self.writes().filter_map(|(_, write)| match write {
                Write::IdempotencyDropped { merchant, key } => Some((merchant, key.as_str())),
                _ => None,
            }),
            |row| row.0.to_string(),
            |row| row.1,
        )
    }

    fn tokens(&self) -> Option<Query<'a>> {
        query!(
            sql::TOKENS,
            self.writes().filter_map(|(step, write)| match write {
                Write::Token { kind, hash, target } => Some((step, kind, hash, target)),
                _ => None,
            }),
            |row| row.0,
            |row| row.1.as_str(),
            |row| row.2.0.as_slice(),
            |row| row.3.order.to_string(),
            |row| row.3.attempt.map(AttemptNumber::get).map(i64::from),
        )
    }

    fn personal(&self) -> Option<Query<'a>> {
        query!(
            sql::PERSONAL,
            self.writes().filter_map(|(_, write)| match write {
                Write::Personal {
                    order,
                    slot,
                    sealed,
                } => Some((order, slot.as_str(), sealed)),
                _ => None,
            }),
            |row| row.0.to_string(),
            |row| row.1,
            |row| row.2.0.as_slice(),
        )
    }

    /// A step that two of whose bills are one falls out of the batch, and is refused by itself.
    fn bills(&self) -> Option<Query<'a>> {
        query!(
            sql::BILLS_CLAIMED,
            self.writes()
                .filter_map(|(step, write)| match write {
                    Write::BillsClaimed {
                        merchant,
                        order,
                        bills,
                    } => Some(bills.iter().map(move |bill| (step, merchant, order, bill))),
                    _ => None,
                })
                .flatten(),
            |row| row.0,
            |row| row.1.to_string(),
            |row| row.2.to_string(),
            |row| row.3.to_string(),
        )
    }

    fn oauth_states(&self) -> Option<Query<'a>> {
        query!(
            sql::OAUTH_STATES,
            self.writes().filter_map(|(_, write)| match write {
                Write::OauthState(state) => Some(state),
                _ => None,
            }),
            |state| state.state_hash.0.as_slice(),
            |state| state.order.to_string(),
            |state| i64::from(state.attempt.get()),
            |state| state.account.as_str(),
            |state| state.created_at.as_millis(),
        )
    }

    fn keys_used(&self) -> Option<Query<'a>> {
        query!(
            sql::KEYS_USED,
            self.writes().filter_map(|(_, write)| match write {
                Write::KeyUsed { key, at } => Some((key, at)),
                _ => None,
            }),
            |row| row.0.to_string(),
            |row| row.1.as_millis(),
        )
    }

    fn deliveries(&self) -> Option<Query<'a>> {
        query!(
            sql::DELIVERIES,
            self.writes().filter_map(|(step, write)| match write {
                Write::Delivery {
                    event,
                    was,
                    state,
                    tries,
                    next_at,
                    note,
                    at,
                } => Some((step, event, was, state, tries, next_at, note.as_str(), at)),
                _ => None,
            }),
            |row| row.0,
            |row| row.1.to_string(),
            |row| delivery_word(row.2.0),
            |row| i64::from(row.2.1),
            |row| delivery_word(*row.3),
            |row| i64::from(*row.4),
            |row| row.5.map(Timestamp::as_millis),
            |row| row.6,
            |row| row.7.as_millis(),
        )
    }
}

fn at(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// `None`: not of the common kinds.
fn keys_of(step: &Step) -> Option<Vec<Key<'_>>> {
    let mut keys = Vec::new();
    if let Some(order) = &step.order {
        let rows = order.rows.as_ref().ok()?;
        let is_common = |row: &MoneyRow| {
            matches!(
                row,
                MoneyRow::Capture { refund: None, .. } | MoneyRow::Line { .. }
            )
        };
        let outbox = &order.write.outbox;
        if !rows.money.iter().all(is_common)
            || integer(order.write.order.version).is_none()
            || !outbox.iter().all(|entry| entry.body_digest.is_some())
        {
            return None;
        }
        keys.push(Key::Order(order.write.order.id));
        keys.extend(outbox.iter().map(|entry| Key::Event(entry.id)));
    }
    for write in &step.writes {
        if let Write::BillsClaimed { bills, .. } = write {
            keys.extend(bills.iter().copied().map(Key::Bill));
            continue;
        }
        keys.push(match write {
            Write::Nonce { key, nonce, .. } => Key::Nonce(*key, nonce),
            Write::IdempotencyStarted { merchant, key, .. }
            | Write::IdempotencyFinished { merchant, key, .. }
            | Write::IdempotencyDropped { merchant, key } => Key::Idempotency(*merchant, key),
            Write::Token { hash, .. } => Key::Token(hash.0),
            Write::Personal { order, slot, .. } => Key::Personal(*order, slot),
            Write::OauthState(state) if state.used.is_none() => Key::OauthState(state.state_hash.0),
            Write::KeyUsed { key, .. } => Key::Merchants(*key),
            Write::Delivery { event, .. } => Key::Event(*event),
            _ => return None,
        });
    }
    Some(keys)
}

type Orders<'a> = [(i64, &'a OrderStep, &'a Rows)];

fn pair(step: &OrderStep) -> Option<(u16, u64, u128)> {
    match step.write.fence {
        Fence::None => None,
        Fence::Owner {
            shard,
            epoch,
            instance,
        } => Some((shard, epoch, instance)),
    }
}

fn created<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::ORDERS_CREATED,
        orders.iter().filter_map(|(step, order, _)| {
            let snapshot = order.write.snapshot.as_ref()?;
            Some((*step, *order, snapshot))
        }),
        |row| row.0,
        |row| pair(row.1).map(|pair| i64::from(pair.0)),
        |row| pair(row.1).map(|pair| integer(pair.1).unwrap_or_default()),
        |row| pair(row.1).map(|pair| pair.2.to_be_bytes().to_vec()),
        |row| row.1.write.not_after.map(Timestamp::as_millis),
        |row| row.1.id.as_str(),
        |row| row.1.merchant.as_str(),
        |row| row.2.merchant_order_no.as_str(),
        |row| row.1.write.order.status().as_str(),
        |row| row.1.write.order.terms.amount.get(),
        |row| row.1.write.order.created_at.as_millis(),
        |row| row.1.write.next_due_at.map(Timestamp::as_millis),
        |row| row.2.payer_index.to_be_bytes().to_vec(),
        |row| row.2.purpose.as_deref(),
        |row| row.1.state.as_str(),
        |row| row.1.snapshot.as_deref(),
        |row| i64::from(shard_hash(row.1.write.order.id)),
    )
}

fn moved<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::ORDERS_MOVED,
        orders
            .iter()
            .filter(|(_, order, _)| order.write.snapshot.is_none())
            .map(|(step, order, _)| (*step, *order)),
        |row| row.0,
        |row| pair(row.1).map(|pair| i64::from(pair.0)),
        |row| pair(row.1).map(|pair| integer(pair.1).unwrap_or_default()),
        |row| pair(row.1).map(|pair| pair.2.to_be_bytes().to_vec()),
        |row| row.1.write.not_after.map(Timestamp::as_millis),
        |row| row.1.id.as_str(),
        |row| integer(row.1.write.order.version),
        |row| row.1.write.order.status().as_str(),
        |row| row.1.write.next_due_at.map(Timestamp::as_millis),
        |row| row.1.state.as_str(),
    )
}

fn events<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::EVENTS,
        orders.iter().flat_map(|(_, order, _)| {
            let events = order.write.events.iter().zip(&order.events);
            events.map(|(entry, event)| (*order, entry, event.as_str()))
        }),
        |row| row.0.id.as_str(),
        |row| integer(row.1.version),
        |row| i64::from(row.1.position),
        |row| row.1.at.as_millis(),
        |row| actor_word(row.1.actor),
        |row| row.1.request_id.as_deref(),
        |row| row.2,
    )
}

fn touched<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::ATTEMPTS_TOUCHED,
        orders.iter().flat_map(|(step, order, rows)| {
            rows.touched.iter().map(|attempt| (*step, *order, attempt))
        }),
        |row| row.0,
        |row| row.1.id.as_str(),
        |row| i64::from(row.2.number.get()),
        |row| row.2.status,
    )
}

fn started<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::ATTEMPTS_STARTED,
        orders
            .iter()
            .flat_map(|(_, order, rows)| rows.started.iter().map(|attempt| (*order, attempt))),
        |row| row.0.id.as_str(),
        |row| i64::from(row.1.number.get()),
        |row| row.1.id.as_str(),
        |row| row.1.status,
        |row| row.1.started_at.as_millis(),
        |row| row.1.expires_at.as_millis(),
    )
}

fn claimed<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::CLAIMS,
        orders.iter().flat_map(|(step, order, rows)| {
            rows.claims.iter().map(|claim| (*step, *order, claim))
        }),
        |row| row.0,
        |row| row.1.id.as_str(),
        |row| i64::from(row.2.0.get()),
        |row| row.2.1.payer.0.to_be_bytes().to_vec(),
        |row| row.2.1.at.as_millis(),
    )
}

fn captured<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::CAPTURES,
        orders.iter().flat_map(|(step, order, rows)| {
            rows.money.iter().filter_map(|row| match row {
                MoneyRow::Capture {
                    account, capture, ..
                } => Some((*step, *order, account, capture)),
                _ => None,
            })
        }),
        |row| row.0,
        |row| row.2.as_str(),
        |row| row.3.transaction_id.as_ref(),
        |row| row.1.id.as_str(),
        |row| i64::from(row.3.attempt.get()),
        |row| row.3.wallet.as_str(),
        |row| row.3.amount.get(),
        |row| row.3.succeeded_at.as_millis(),
        |row| row.3.heard_at.as_millis(),
    )
}

fn ledger<'a>(orders: &Orders<'a>) -> Option<Query<'a>> {
    query!(
        sql::LEDGER,
        orders.iter().flat_map(|(_, order, rows)| {
            rows.money.iter().filter_map(|row| match row {
                MoneyRow::Line {
                    version,
                    position,
                    line,
                    book,
                    amount,
                    at,
                } => Some((*order, *version, *position, *line, book, *amount, *at)),
                _ => None,
            })
        }),
        |row| row.0.id.as_str(),
        |row| integer(row.1),
        |row| i64::from(row.2),
        |row| i64::from(row.3),
        |row| row.4.as_str(),
        |row| row.5,
        |row| row.6.as_millis(),
    )
}

/// In the order in which they were handed in.
fn outbox<'a>(orders: &Orders<'a>, session: &Session<'_>) -> Option<Query<'a>> {
    let mut steps: Vec<_> = orders
        .iter()
        .map(|(step, order, _)| (*step, *order))
        .collect();
    steps.sort_by_key(|(step, _)| *step);
    query!(
        sql::OUTBOX,
        steps.iter().flat_map(|(_, order)| {
            let entries = order.write.outbox.iter();
            entries.map(|entry| (session.turn(), *order, entry))
        }),
        |row| row.0,
        |row| row.2.id.to_string(),
        |row| row.1.merchant.as_str(),
        |row| row.1.id.as_str(),
        |row| integer(row.2.version),
        |row| row.2.kind.as_str(),
        |row| row.2.body.0.as_slice(),
        |row| row.2.body_digest.as_ref().map(|digest| digest.0.as_slice()),
        |row| row.2.created_at.as_millis(),
        |row| delivery_word(row.2.state),
        |row| i64::from(row.2.tries),
        |row| row.2.next_at.map(Timestamp::as_millis),
        |row| row.2.note.as_str(),
        |row| i64::from(shard_hash(row.2.order)),
    )
}
