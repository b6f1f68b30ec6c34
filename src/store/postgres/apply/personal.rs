//! Values under another key, and people who are forgotten (decision 4).

use super::bills;
use super::session::{Failure, Session, changed};
use crate::order::{AccountId, OrderId, Timestamp};
use crate::store::personal::{Cell, Resealed};
use crate::store::rows::integer;
use crate::store::step::{broken, json};
use crate::store::{Merchant, PERSONAL_FIELDS, Rejection};

/// Compare and set: what was written meanwhile is under the newest key already.
pub(super) async fn reseal(session: &Session<'_>, change: &Resealed) -> Result<(), Failure> {
    let Resealed {
        cell,
        was,
        now,
        digest,
    } = change;
    match cell {
        Cell::Personal { order, slot } => {
            session
                .execute(
                    "UPDATE personal SET sealed = $4
                     WHERE order_id = $1 AND slot = $2 AND sealed = $3",
                    &[&order.to_string(), slot, &was.0, &now.0],
                )
                .await?
        }
        Cell::Body { event, .. } => {
            session
                .execute(
                    "UPDATE outbox SET body = $3, body_digest = coalesce($4, body_digest)
                     WHERE id = $1 AND body = $2",
                    &[
                        &event.to_string(),
                        &was.0,
                        &now.0,
                        &digest.map(|digest| digest.0.to_vec()),
                    ],
                )
                .await?
        }
        Cell::Answer { merchant, key } => {
            session
                .execute(
                    "UPDATE idempotency SET answer = $4
                     WHERE merchant = $1 AND key = $2 AND answer = $3",
                    &[&merchant.to_string(), key, &was.0, &now.0],
                )
                .await?
        }
        Cell::Evidence { account, reference } => {
            session
                .execute(
                    "UPDATE evidence SET body = $4
                     WHERE account = $1 AND reference = $2 AND body = $3",
                    &[&account.as_str(), reference, &was.0, &now.0],
                )
                .await?
        }
        Cell::Bill { bill } => {
            session
                .execute(
                    "UPDATE bills SET sealed = $3 WHERE id = $1 AND sealed = $2",
                    &[&bill.to_string(), &was.0, &now.0],
                )
                .await?
        }
        Cell::KeySecret { key } => {
            session
                .execute(
                    "UPDATE merchant_keys SET sealed_secret = $3
                     WHERE id = $1 AND sealed_secret = $2",
                    &[&key.to_string(), &was.0, &now.0],
                )
                .await?
        }
        Cell::WebhookSecret { merchant } => {
            let id = merchant.to_string();
            let found = session
                .one(
                    "SELECT record FROM merchants WHERE id = $1 FOR UPDATE",
                    &[&id],
                )
                .await?;
            let Some(row) = found else {
                return Ok(());
            };
            let mut record: Merchant = serde_json::from_str(row.try_get(0)?)
                .map_err(|_| broken("merchants.record holds merchants"))?;
            for secret in &mut record.webhook_secrets {
                if secret.sealed == *was {
                    secret.sealed = now.clone();
                }
            }
            session
                .execute(
                    "UPDATE merchants SET record = $2 WHERE id = $1",
                    &[&id, &json(&record)?],
                )
                .await?
        }
    };
    Ok(())
}

/// Takes the people out of an order that is over, in one transaction. The order's row is held first:
/// what its step writes, events above all, comes before or after. Evidence may come at any time; what
/// comes after is erased at its own age.
pub(super) async fn erase_people(
    session: &Session<'_>,
    order: OrderId,
    version: u64,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    let id = order.to_string();
    let held = session
        .exists(
            "SELECT 1 FROM orders
             WHERE id = $1 AND version = $2 AND status IN ('paid', 'closed') FOR UPDATE",
            &[&id, &integer(version)],
        )
        .await?;
    let stands = held
        && session
            .exists(
                "SELECT 1 WHERE NOT EXISTS
                     (SELECT 1 FROM outbox WHERE order_id = $1 AND state = 'pending')
                   AND NOT EXISTS (SELECT 1 FROM evidence WHERE order_id = $1
                     AND settled_at IS NULL AND reason IN
                         ('unknown_number', 'unreadable', 'recorded_elsewhere', 'foreign_refund'))",
                &[&id],
            )
            .await?;
    if !stands {
        return Err(Rejection::VersionMoved.into());
    }
    session
        .execute("DELETE FROM personal WHERE order_id = $1", &[&id])
        .await?;
    let personal_fields: &[&str] = &PERSONAL_FIELDS;
    session
        .execute(
            "UPDATE orders SET erased_at = $2, payer_index = $3,
                 snapshot = (snapshot::jsonb || jsonb_build_object(
                     'payer_masked', '{\"name\":null,\"id_number\":null,\"phone\":null}'::jsonb,
                     'payer_index', $4::text::jsonb,
                     'has_display_fields', false,
                     'field_hashes', (SELECT coalesce(jsonb_agg(hash ORDER BY place), '[]')
                         FROM jsonb_array_elements(snapshot::jsonb -> 'field_hashes')
                             WITH ORDINALITY AS hashes (hash, place)
                         WHERE hash ->> 0 <> ALL ($5::text[]))))::text
             WHERE id = $1 AND erased_at IS NULL",
            &[
                &id,
                &at.as_millis(),
                &payer_index.to_be_bytes().as_slice(),
                &payer_index.to_string(),
                &personal_fields,
            ],
        )
        .await?;
    for sql in [
        "UPDATE outbox SET body = '' WHERE order_id = $1 AND length(body) > 0",
        "UPDATE idempotency SET answer = '' WHERE order_id = $1 AND length(answer) > 0",
        "UPDATE evidence SET body = '' WHERE order_id = $1 AND length(body) > 0",
    ] {
        session.execute(sql, &[&id]).await?;
    }
    bills::erase_of(session, &id, payer_index, at).await
}

pub(super) async fn erase_evidence(
    session: &Session<'_>,
    account: &AccountId,
    reference: &str,
) -> Result<(), Failure> {
    changed(
        session
            .execute(
                "UPDATE evidence SET body = '' WHERE account = $1 AND reference = $2",
                &[&account.as_str(), &reference],
            )
            .await?,
        "evidence is kept before it is erased",
    )
}
