//! Who lives and who owns which shard.

use super::session::{Failure, Session};
use crate::order::Timestamp;
use crate::store::rows::integer;
use crate::store::{Rejection, Write};

pub(super) async fn apply(session: &Session<'_>, write: &Write) -> Result<(), Failure> {
    match write {
        Write::ShardClaimed {
            shard,
            epoch,
            instance,
            silent_ms,
            at,
        } => claim(session, (*shard, *epoch), *instance, *silent_ms, *at).await?,
        Write::ShardReleased {
            shard,
            epoch,
            instance,
        } => {
            session
                .execute(
                    "UPDATE shards SET instance = NULL
                     WHERE shard = $1 AND epoch = $2 AND instance = $3",
                    &[
                        &i64::from(*shard),
                        &integer(*epoch),
                        &instance.to_be_bytes().as_slice(),
                    ],
                )
                .await?;
        }
        Write::InstanceSeen {
            instance,
            node,
            internal_url,
            lease_ms,
        } => {
            session
                .execute(
                    "INSERT INTO instances (instance, node, internal_url, alive_until)
                     VALUES ($1, $2, $3, now_ms() + $4)
                     ON CONFLICT (instance) DO UPDATE SET node = excluded.node,
                         internal_url = excluded.internal_url, alive_until = excluded.alive_until",
                    &[
                        &instance.to_be_bytes().as_slice(),
                        node,
                        internal_url,
                        lease_ms,
                    ],
                )
                .await?;
        }
        Write::InstanceGone { instance } => {
            session
                .execute(
                    "DELETE FROM instances WHERE instance = $1",
                    &[&instance.to_be_bytes().as_slice()],
                )
                .await?;
        }
        _ => {}
    }
    Ok(())
}

async fn claim(
    session: &Session<'_>,
    (shard, epoch): (u16, u64),
    instance: u128,
    silent_ms: Option<i64>,
    at: Timestamp,
) -> Result<(), Failure> {
    let shard = i64::from(shard);
    let instance = instance.to_be_bytes();
    if let Some(silent_ms) = silent_ms {
        let held = session
            .exists(
                "SELECT 1 FROM shards JOIN instances ON instances.instance = shards.instance
                 WHERE shards.shard = $1 AND shards.instance <> $2
                   AND alive_until + $3 > now_ms()",
                &[&shard, &instance.as_slice(), &silent_ms],
            )
            .await?;
        if held {
            return Err(Rejection::ShardHeld.into());
        }
    }
    let raised = session
        .execute(
            "INSERT INTO shards (shard, epoch, instance, claimed_at)
             SELECT $1::bigint, $2::bigint, $3, $4
             WHERE $2 = 1 OR EXISTS (SELECT 1 FROM shards WHERE shard = $1)
             ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch,
                 instance = excluded.instance, claimed_at = excluded.claimed_at
             WHERE shards.epoch = excluded.epoch - 1",
            &[
                &shard,
                &integer(epoch),
                &instance.as_slice(),
                &at.as_millis(),
            ],
        )
        .await?;
    if raised > 0 {
        return Ok(());
    }
    let found: Option<i64> = match session
        .one("SELECT epoch FROM shards WHERE shard = $1", &[&shard])
        .await?
    {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    Err(Rejection::EpochMoved {
        epoch: found
            .and_then(|epoch| u64::try_from(epoch).ok())
            .unwrap_or_default(),
    }
    .into())
}
