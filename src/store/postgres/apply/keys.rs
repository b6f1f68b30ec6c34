//! What is taken once and forgotten after a while: nonces, idempotency keys, OAuth states.

use tokio_postgres::Row;

use super::session::{Failure, Session, changed};
use crate::order::{MerchantId, Timestamp};
use crate::sealing::Sealed;
use crate::store::step::broken;
use crate::store::{IdempotencyRow, Rejection, Write};

pub(super) async fn apply(session: &Session<'_>, write: &Write) -> Result<(), Failure> {
    match write {
        Write::Nonce { key, nonce, at } => {
            let key = key.to_string();
            let taken = session
                .execute(
                    "INSERT INTO nonces (key_id, nonce, seen_at) VALUES ($1, $2, $3)
                     ON CONFLICT (key_id, nonce) DO NOTHING",
                    &[&key, nonce, &at.as_millis()],
                )
                .await?;
            if taken == 0 {
                return Err(replayed(session, &key, nonce).await?.into());
            }
        }
        Write::IdempotencyStarted {
            merchant,
            key,
            request_hash,
            instance,
            at,
        } => {
            start(session, *merchant, key, request_hash, *instance, *at).await?;
        }
        Write::IdempotencyResumed {
            merchant,
            key,
            was: (by, since),
            instance,
            at,
        } => {
            let resumed = session
                .execute(
                    "UPDATE idempotency SET instance = $5, started_at = $6
                     WHERE merchant = $1 AND key = $2 AND status IS NULL
                       AND instance = $3 AND started_at = $4",
                    &[
                        &merchant.to_string(),
                        key,
                        &by.to_be_bytes().as_slice(),
                        &since.as_millis(),
                        &instance.to_be_bytes().as_slice(),
                        &at.as_millis(),
                    ],
                )
                .await?;
            if resumed == 0 {
                let taken = key_taken(session, *merchant, key).await?;
                return Err(taken
                    .unwrap_or_else(|| broken("a taken key has a row"))
                    .into());
            }
        }
        Write::IdempotencyFinished {
            merchant,
            key,
            status,
            answer,
            order,
        } => changed(
            session
                .execute(
                    "UPDATE idempotency SET status = $3, answer = $4, order_id = $5
                     WHERE merchant = $1 AND key = $2 AND status IS NULL",
                    &[
                        &merchant.to_string(),
                        key,
                        &i64::from(*status),
                        &answer.0,
                        &order.map(|order| order.to_string()),
                    ],
                )
                .await?,
            "an Idempotency-Key is finished once, after it was started",
        )?,
        Write::IdempotencyDropped { merchant, key } => {
            // A finished one is kept: its answer was given (A5).
            session
                .execute(
                    "DELETE FROM idempotency
                     WHERE merchant = $1 AND key = $2 AND status IS NULL",
                    &[&merchant.to_string(), key],
                )
                .await?;
        }
        Write::OauthState(state) => {
            let payer = state.used.and_then(|(_, payer)| payer);
            session
                .execute(
                    "INSERT INTO oauth_states (state_hash, order_id, attempt, account, created_at,
                         code_hash, payer)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    &[
                        &state.state_hash.0.as_slice(),
                        &state.order.to_string(),
                        &i64::from(state.attempt.get()),
                        &state.account.as_str(),
                        &state.created_at.as_millis(),
                        &state.used.map(|(code, _)| code.0.to_vec()),
                        &payer.map(|payer| payer.to_be_bytes().to_vec()),
                    ],
                )
                .await?;
        }
        Write::OauthStateUsed {
            state_hash,
            code_hash,
            payer,
        } => changed(
            session
                .execute(
                    "UPDATE oauth_states SET code_hash = $2, payer = coalesce(payer, $3)
                     WHERE state_hash = $1 AND (code_hash IS NULL OR code_hash = $2)
                       AND (payer IS NULL OR $3::bytea IS NULL OR payer = $3)",
                    &[
                        &state_hash.0.as_slice(),
                        &code_hash.0.as_slice(),
                        &payer.map(|payer| payer.to_be_bytes().to_vec()),
                    ],
                )
                .await?,
            "an OAuth state is used with one code, for one payer",
        )?,
        _ => {}
    }
    Ok(())
}

async fn replayed(session: &Session<'_>, key: &str, nonce: &str) -> Result<Rejection, Failure> {
    let row = session
        .one(
            "SELECT seen_at FROM nonces WHERE key_id = $1 AND nonce = $2",
            &[&key, &nonce],
        )
        .await?
        .ok_or_else(|| broken("a nonce that was taken has a row"))?;
    Ok(Rejection::NonceReplayed {
        first_seen: Timestamp::from_millis(row.try_get(0)?),
    })
}

async fn start(
    session: &Session<'_>,
    merchant: MerchantId,
    key: &str,
    request_hash: &[u8],
    instance: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    // Whoever had the key may drop it just before it is looked up: then it is free.
    for _ in 0..3 {
        let started = session
            .execute(
                "INSERT INTO idempotency (merchant, key, request_hash, started_at, instance)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (merchant, key) DO NOTHING",
                &[
                    &merchant.to_string(),
                    &key,
                    &request_hash,
                    &at.as_millis(),
                    &instance.to_be_bytes().as_slice(),
                ],
            )
            .await?;
        if started > 0 {
            return Ok(());
        }
        if let Some(taken) = key_taken(session, merchant, key).await? {
            return Err(taken.into());
        }
    }
    Err(broken("a taken key has a row").into())
}

/// The row that has the key.
async fn key_taken(
    session: &Session<'_>,
    merchant: MerchantId,
    key: &str,
) -> Result<Option<Rejection>, Failure> {
    let row = session
        .one(
            "SELECT request_hash, instance, started_at, status, answer FROM idempotency
             WHERE merchant = $1 AND key = $2",
            &[&merchant.to_string(), &key],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = idempotency_row(&row, merchant, key)
        .ok_or_else(|| broken("a row of idempotency is as it was written"))?;
    Ok(Some(Rejection::IdempotencyKeyTaken(Box::new(row))))
}

fn idempotency_row(row: &Row, merchant: MerchantId, key: &str) -> Option<IdempotencyRow> {
    let status: Option<i64> = row.try_get(3).ok()?;
    let answer: Option<Vec<u8>> = row.try_get(4).ok()?;
    let status = status.map(u16::try_from).transpose().ok()?;
    let instance: Vec<u8> = row.try_get(1).ok()?;
    Some(IdempotencyRow {
        merchant,
        key: key.to_owned(),
        request_hash: row.try_get::<_, Vec<u8>>(0).ok()?.try_into().ok()?,
        instance: u128::from_be_bytes(instance.try_into().ok()?),
        started_at: Timestamp::from_millis(row.try_get(2).ok()?),
        answer: status.zip(answer.map(Sealed)),
    })
}
