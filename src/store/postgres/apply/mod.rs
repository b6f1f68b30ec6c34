//! One transaction as statements. The schema refuses what must not be; here its refusals get their
//! names. An error ends the savepoint it happens in, so whatever may be refused in the course of
//! things is asked for in a way that answers with a number of rows, and looked up only then.

mod batch;
mod bills;
mod desk;
mod keys;
mod money;
mod nodes;
mod operators;
mod personal;
mod reconciliation;
mod session;
mod statements;

use std::collections::VecDeque;

use tokio_postgres::Error;

use super::outcome::{self, Mark};
use crate::order::{AttemptNumber, Timestamp};
use crate::store::rows::integer;
use crate::store::step::{
    AttemptRow, OrderStep, Step, Turn, actor_word, broken, delivery_word, json, turn_of,
};
use crate::store::{Fence, OrderWrite, OutboxEntry, Rejection, Write, shard_hash};

use batch::{Batch, Outcome};
use session::changed;
pub(super) use session::{Failure, Session};

/// Begins a transaction and applies the steps, each standing or falling alone; COMMIT is the caller's.
/// What can be is written in batches; a step that a batch refuses is applied by itself, and so is one
/// that breaks a rule, once halving has found it.
pub(super) async fn group(
    session: &Session<'_>,
    steps: &[&Result<Step, Rejection>],
) -> Result<Mark, Error> {
    let (begun, mark) = tokio::join!(
        biased;
        session.run("BEGIN; SAVEPOINT step"),
        outcome::mark(session),
    );
    begun?;
    let mut mark = mark?;
    let mut verdicts: Vec<Result<(), Rejection>> = steps
        .iter()
        .map(|step| step.as_ref().map(drop).map_err(Clone::clone))
        .collect();
    let mut work = planned(steps);
    while let Some(next) = work.pop_front() {
        match next {
            Work::Alone(place) => {
                if let Some(Ok(step)) = steps.get(place)
                    && let Some(verdict) = verdicts.get_mut(place)
                {
                    *verdict = alone(session, step).await?;
                }
            }
            Work::Together(batch) => match batch.write(session).await {
                Ok(Outcome::Stands) if work.is_empty() => {}
                Ok(Outcome::Stands) => session.run("RELEASE step; SAVEPOINT step").await?,
                Ok(Outcome::Refused(refused)) => {
                    session.run("ROLLBACK TO step").await?;
                    let (fell, stands): (Vec<_>, Vec<_>) = batch
                        .places()
                        .into_iter()
                        .partition(|place| refused.contains(place));
                    for place in fell.into_iter().rev() {
                        work.push_front(Work::Alone(place));
                    }
                    again(&mut work, steps, &stands);
                }
                Err(Failure::Rejected(_)) => {
                    session.run("ROLLBACK TO step").await?;
                    let places = batch.places();
                    if let [place] = places[..] {
                        work.push_front(Work::Alone(place));
                    } else {
                        let (left, right) = places.split_at(places.len() / 2);
                        again(&mut work, steps, right);
                        again(&mut work, steps, left);
                    }
                }
                Err(Failure::Database(error)) => return Err(error),
            },
        }
    }
    mark.verdicts = verdicts;
    Ok(mark)
}

enum Work<'a> {
    Together(Batch<'a>),
    Alone(usize),
}

/// As few batches as the order of the steps allows: what is not of the common kinds, or meets what came
/// before, comes after it.
fn planned<'a>(steps: &[&'a Result<Step, Rejection>]) -> VecDeque<Work<'a>> {
    let mut work = VecDeque::new();
    let mut batch = Batch::default();
    for (place, step) in steps.iter().enumerate() {
        let Ok(step) = step else {
            continue;
        };
        if batch.take(place, step) {
            continue;
        }
        work.push_back(Work::Together(std::mem::take(&mut batch)));
        if !batch.take(place, step) {
            work.push_back(Work::Alone(place));
        }
    }
    work.push_back(Work::Together(batch));
    work.retain(|work| !matches!(work, Work::Together(batch) if batch.places().is_empty()));
    work
}

/// Steps of one batch are of one batch without some of them, too.
fn again<'a>(
    work: &mut VecDeque<Work<'a>>,
    steps: &[&'a Result<Step, Rejection>],
    places: &[usize],
) {
    let mut batch = Batch::default();
    for place in places {
        if let Some(Ok(step)) = steps.get(*place) {
            batch.take(*place, step);
        }
    }
    if !batch.places().is_empty() {
        work.push_front(Work::Together(batch));
    }
}

/// One transaction in the savepoint that is open; leaves one open for the next.
async fn alone(session: &Session<'_>, step: &Step) -> Result<Result<(), Rejection>, Error> {
    match apply(session, step).await {
        Ok(()) => {
            session.run("RELEASE step; SAVEPOINT step").await?;
            Ok(Ok(()))
        }
        Err(Failure::Rejected(rejection)) => {
            session.run("ROLLBACK TO step").await?;
            Ok(Err(rejection))
        }
        Err(Failure::Database(error)) => Err(error),
    }
}

/// Applies one transaction. The caller undoes it where this fails.
async fn apply(session: &Session<'_>, step: &Step) -> Result<(), Failure> {
    if let Some(order) = &step.order {
        guard(session, &order.write).await?;
    }
    in_turn(session, step, Turn::Nonces).await?;
    in_turn(session, step, Turn::Keys).await?;
    if let Some(order) = &step.order {
        apply_order(session, order).await?;
    }
    in_turn(session, step, Turn::Rest).await
}

async fn in_turn(session: &Session<'_>, step: &Step, turn: Turn) -> Result<(), Failure> {
    for write in step.writes.iter().filter(|write| turn_of(write) == turn) {
        apply_write(session, write).await?;
    }
    Ok(())
}

/// A fence as parameters; all null where none is needed.
struct Pair {
    shard: Option<i64>,
    epoch: Option<i64>,
    instance: Option<Vec<u8>>,
}

impl Pair {
    fn of(fence: Fence) -> Self {
        match fence {
            Fence::None => Self {
                shard: None,
                epoch: None,
                instance: None,
            },
            Fence::Owner {
                shard,
                epoch,
                instance,
            } => Self {
                shard: Some(i64::from(shard)),
                // An epoch that no row can have is nobody's.
                epoch: Some(integer(epoch).unwrap_or_default()),
                instance: Some(instance.to_be_bytes().to_vec()),
            },
        }
    }
}

/// Parameters 1 to 4 of a statement that only the shard's owner may run, and only in time. A plain
/// look, without a lock on the row: where a claim commits in between, the order's version decides.
macro_rules! let_in {
    () => {
        "($1::bigint IS NULL OR EXISTS (SELECT 1 FROM shards
             WHERE shards.shard = $1 AND shards.epoch = $2::bigint
               AND shards.instance = $3::bytea))
         AND ($4::bigint IS NULL OR now_ms() < $4)"
    };
}

/// The fence, then the time.
async fn guard(session: &Session<'_>, write: &OrderWrite) -> Result<(), Failure> {
    if write.fence == Fence::None && write.not_after.is_none() {
        return Ok(());
    }
    let pair = Pair::of(write.fence);
    let row = session
        .one(
            "SELECT $1::bigint IS NULL OR EXISTS (SELECT 1 FROM shards
                 WHERE shards.shard = $1 AND shards.epoch = $2::bigint
                   AND shards.instance = $3::bytea),
                 $4::bigint IS NULL OR now_ms() < $4",
            &[
                &pair.shard,
                &pair.epoch,
                &pair.instance,
                &write.not_after.map(Timestamp::as_millis),
            ],
        )
        .await?;
    let said = |place| {
        row.as_ref()
            .and_then(|row| row.try_get::<_, bool>(place).ok())
            .unwrap_or_default()
    };
    if !said(0) {
        return Err(Rejection::FenceMoved.into());
    }
    if !said(1) {
        return Err(Rejection::TooLate.into());
    }
    Ok(())
}

async fn apply_order(session: &Session<'_>, step: &OrderStep) -> Result<(), Failure> {
    let order = &step.write.order;
    let version = integer(order.version).ok_or_else(|| broken("a version fits 63 bits"))?;
    if version == 1 {
        insert_order(session, step).await?;
    } else {
        let pair = Pair::of(step.write.fence);
        let replaced = session
            .execute(
                concat!(
                    "UPDATE orders SET version = $6::bigint, status = $7, next_due_at = $8, state = $9
                     WHERE id = $5 AND version = $6::bigint - 1 AND ",
                    let_in!()
                ),
                &[
                    &pair.shard,
                    &pair.epoch,
                    &pair.instance,
                    &step.write.not_after.map(Timestamp::as_millis),
                    &step.id,
                    &version,
                    &order.status().as_str(),
                    &step.write.next_due_at.map(Timestamp::as_millis),
                    &step.state,
                ],
            )
            .await?;
        if replaced == 0 {
            guard(session, &step.write).await?;
            return Err(Rejection::VersionMoved.into());
        }
    }
    insert_events(session, step).await?;
    let rows = step.rows.as_ref().map_err(Clone::clone)?;
    for attempt in &rows.touched {
        let updated = session
            .execute(
                "UPDATE attempts SET status = $3 WHERE order_id = $1 AND number = $2",
                &[&step.id, &i64::from(attempt.number.get()), &attempt.status],
            )
            .await?;
        changed(updated, "an attempt starts before anything happens to it")?;
    }
    for attempt in &rows.started {
        insert_attempt(session, &step.id, attempt).await?;
    }
    for (attempt, claim) in &rows.claims {
        let claimed = session
            .execute(
                "INSERT INTO claims (order_id, attempt, payer, claimed_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (order_id, attempt) DO NOTHING",
                &[
                    &step.id,
                    &i64::from(attempt.get()),
                    &claim.payer.0.to_be_bytes().as_slice(),
                    &claim.at.as_millis(),
                ],
            )
            .await?;
        if claimed == 0 {
            return Err(Rejection::AlreadyClaimed.into());
        }
    }
    money::keep(session, step, &rows.money).await?;
    for entry in &step.write.outbox {
        insert_outbox(session, step, entry).await?;
    }
    Ok(())
}

async fn insert_order(session: &Session<'_>, step: &OrderStep) -> Result<(), Failure> {
    let order = &step.write.order;
    let snapshot = step
        .write
        .snapshot
        .as_ref()
        .ok_or_else(|| broken("a new order has a snapshot"))?;
    let pair = Pair::of(step.write.fence);
    let inserted = session
        .execute(
            concat!(
                "INSERT INTO orders (id, merchant, merchant_order_no, version, status, amount,
                     created_at, next_due_at, payer_index, purpose, state, snapshot, shard_hash)
                 SELECT $5, $6, $7, 1, $8, $9, $10, $11::bigint, $12, $13::text, $14, $15, $16
                 WHERE ",
                let_in!(),
                " ON CONFLICT DO NOTHING"
            ),
            &[
                &pair.shard,
                &pair.epoch,
                &pair.instance,
                &step.write.not_after.map(Timestamp::as_millis),
                &step.id,
                &step.merchant,
                &snapshot.merchant_order_no,
                &order.status().as_str(),
                &order.terms.amount.get(),
                &order.created_at.as_millis(),
                &step.write.next_due_at.map(Timestamp::as_millis),
                &snapshot.payer_index.to_be_bytes().as_slice(),
                &snapshot.purpose,
                &step.state,
                &step.snapshot,
                &i64::from(shard_hash(order.id)),
            ],
        )
        .await?;
    if inserted > 0 {
        return Ok(());
    }
    guard(session, &step.write).await?;
    let existing = session
        .one(
            "SELECT id FROM orders WHERE merchant = $1 AND merchant_order_no = $2",
            &[&step.merchant, &snapshot.merchant_order_no],
        )
        .await?;
    Err(match existing {
        Some(row) => Rejection::MerchantOrderNoTaken {
            existing: row
                .try_get::<_, String>(0)?
                .parse()
                .map_err(|_| broken("orders.id holds order ids"))?,
        },
        // The id is there under another number.
        None => Rejection::VersionMoved,
    }
    .into())
}

async fn insert_events(session: &Session<'_>, step: &OrderStep) -> Result<(), Failure> {
    for (entry, event) in step.write.events.iter().zip(&step.events) {
        session
            .execute(
                "INSERT INTO order_events
                     (order_id, version, position, at, actor, request_id, event)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[
                    &step.id,
                    &integer(entry.version),
                    &i64::from(entry.position),
                    &entry.at.as_millis(),
                    &actor_word(entry.actor),
                    &entry.request_id,
                    event,
                ],
            )
            .await?;
    }
    Ok(())
}

async fn insert_attempt(
    session: &Session<'_>,
    order: &str,
    attempt: &AttemptRow,
) -> Result<(), Failure> {
    session
        .execute(
            "INSERT INTO attempts (order_id, number, id, status, started_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                &order,
                &i64::from(attempt.number.get()),
                &attempt.id,
                &attempt.status,
                &attempt.started_at.as_millis(),
                &attempt.expires_at.as_millis(),
            ],
        )
        .await?;
    Ok(())
}

async fn insert_outbox(
    session: &Session<'_>,
    step: &OrderStep,
    entry: &OutboxEntry,
) -> Result<(), Failure> {
    let digest = entry
        .body_digest
        .ok_or_else(|| broken("E4: an event comes with the digest of its bytes"))?;
    session
        .execute(
            "INSERT INTO outbox (position, id, merchant, order_id, version, kind, body, body_digest,
                 created_at, state, tries, next_at, note, changed_at, shard_hash)
             VALUES (outbox_place() + $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $9,
                 $14)",
            &[
                &session.turn(),
                &entry.id.to_string(),
                &step.merchant,
                &step.id,
                &integer(entry.version),
                &entry.kind.as_str(),
                &entry.body.0,
                &digest.0.as_slice(),
                &entry.created_at.as_millis(),
                &delivery_word(entry.state),
                &i64::from(entry.tries),
                &entry.next_at.map(Timestamp::as_millis),
                &entry.note,
                &i64::from(shard_hash(entry.order)),
            ],
        )
        .await?;
    Ok(())
}

async fn apply_write(session: &Session<'_>, write: &Write) -> Result<(), Failure> {
    match write {
        Write::Nonce { .. }
        | Write::IdempotencyStarted { .. }
        | Write::IdempotencyResumed { .. }
        | Write::IdempotencyFinished { .. }
        | Write::IdempotencyDropped { .. }
        | Write::OauthState(_)
        | Write::OauthStateUsed { .. } => keys::apply(session, write).await?,
        Write::ShardClaimed { .. }
        | Write::ShardReleased { .. }
        | Write::InstanceSeen { .. }
        | Write::InstanceGone { .. } => nodes::apply(session, write).await?,
        Write::BillsCreated(_)
        | Write::BillsClaimed { .. }
        | Write::BillCancelled { .. }
        | Write::PayerLink(_)
        | Write::BillErased { .. } => bills::apply(session, write).await?,
        Write::Token { kind, hash, target } => changed(
            session
                .execute(
                    "INSERT INTO tokens (kind, hash, order_id, attempt) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (kind, hash) DO UPDATE SET attempt = excluded.attempt
                     WHERE tokens.order_id = excluded.order_id
                       AND tokens.attempt IS NOT DISTINCT FROM excluded.attempt",
                    &[
                        &kind.as_str(),
                        &hash.0.as_slice(),
                        &target.order.to_string(),
                        &target.attempt.map(AttemptNumber::get).map(i64::from),
                    ],
                )
                .await?,
            "a token leads to one place",
        )?,
        Write::Personal {
            order,
            slot,
            sealed,
        } => {
            session
                .execute(
                    "INSERT INTO personal (order_id, slot, sealed) VALUES ($1, $2, $3)
                     ON CONFLICT (order_id, slot) DO UPDATE SET sealed = excluded.sealed",
                    &[&order.to_string(), slot, &sealed.0],
                )
                .await?;
        }
        Write::Evidence(row) => {
            // The first copy stays: a notice may come sixteen times.
            session
                .execute(
                    "INSERT INTO evidence (account, reference, reason, body, first_seen, order_id)
                     VALUES ($1, $2, $3, $4, $5, (SELECT id FROM orders WHERE id = $6))
                     ON CONFLICT (account, reference) DO NOTHING",
                    &[
                        &row.account.as_str(),
                        &row.reference,
                        &row.reason,
                        &row.body.0,
                        &row.first_seen.as_millis(),
                        &row.order.map(|order| order.to_string()),
                    ],
                )
                .await?;
        }
        Write::EvidenceSettled {
            account,
            reference,
            operator,
            at,
        } => operators::settle_evidence(session, account, reference, *operator, *at).await?,
        Write::Audit(entry) => operators::append_audit(session, entry).await?,
        Write::Desk(write) => desk::apply(session, write).await?,
        Write::Merchant(merchant) => {
            session
                .execute(
                    "INSERT INTO merchants (id, record) VALUES ($1, $2)
                     ON CONFLICT (id) DO UPDATE SET record = excluded.record",
                    &[&merchant.id.to_string(), &json(merchant)?],
                )
                .await?;
        }
        Write::MerchantKey(key) => changed(
            session
                .execute(
                    "INSERT INTO merchant_keys (id, merchant, sealed_secret, created_at,
                         valid_until, last_used_at)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (id) DO UPDATE SET sealed_secret = excluded.sealed_secret,
                         valid_until = excluded.valid_until,
                         last_used_at = coalesce(excluded.last_used_at, merchant_keys.last_used_at)
                     WHERE merchant_keys.merchant = excluded.merchant",
                    &[
                        &key.id.to_string(),
                        &key.merchant.to_string(),
                        &key.sealed_secret.0,
                        &key.created_at.as_millis(),
                        &key.valid_until.map(Timestamp::as_millis),
                        &key.last_used_at.map(Timestamp::as_millis),
                    ],
                )
                .await?,
            "a key never changes hands",
        )?,
        Write::KeyUsed { key, at } => {
            session
                .execute(
                    "UPDATE merchant_keys SET last_used_at = $2
                     WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
                    &[&key.to_string(), &at.as_millis()],
                )
                .await?;
        }
        Write::Delivery {
            event,
            was: (was_state, was_tries),
            state,
            tries,
            next_at,
            note,
            at,
        } => {
            let moved = session
                .execute(
                    "UPDATE outbox SET state = $2, tries = $3, next_at = $4, note = $5,
                         changed_at = $6
                     WHERE id = $1 AND state = $7 AND tries = $8",
                    &[
                        &event.to_string(),
                        &delivery_word(*state),
                        &i64::from(*tries),
                        &next_at.map(Timestamp::as_millis),
                        note,
                        &at.as_millis(),
                        &delivery_word(*was_state),
                        &i64::from(*was_tries),
                    ],
                )
                .await?;
            if moved == 0 {
                return Err(Rejection::DeliveryMoved.into());
            }
        }
        Write::Setting { name, value } => {
            session
                .execute(
                    "INSERT INTO settings (name, value) VALUES ($1, $2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    &[name, value],
                )
                .await?;
        }
        Write::Reconciliation(write) => reconciliation::apply(session, write).await?,
        Write::Resealed(change) => personal::reseal(session, change).await?,
        Write::PeopleErased {
            order,
            version,
            payer_index,
            at,
        } => personal::erase_people(session, *order, *version, *payer_index, *at).await?,
        Write::EvidenceErased { account, reference } => {
            personal::erase_evidence(session, account, reference).await?;
        }
    }
    Ok(())
}
