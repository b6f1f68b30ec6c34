//! What operators leave behind: their word on evidence, and the log of all they did.

use super::session::{Failure, Session};
use crate::order::{AccountId, OperatorHash, Timestamp};
use crate::store::rows::integer;
use crate::store::step::broken;
use crate::store::{AuditEntry, CHAIN_START};

/// Held to the end of the transaction by whoever appends to the log: entries follow one another.
const AUDIT_LOCK: i64 = 0x656e_726f_6c6c_6175;

/// The first person's word proposes, another's settles.
pub(super) async fn settle_evidence(
    session: &Session<'_>,
    account: &AccountId,
    reference: &str,
    operator: OperatorHash,
    at: Timestamp,
) -> Result<(), Failure> {
    let operator = operator.0.to_be_bytes();
    let row = session
        .one(
            "SELECT proposed_by FROM evidence WHERE account = $1 AND reference = $2 FOR UPDATE",
            &[&account.as_str(), &reference],
        )
        .await?
        .ok_or_else(|| broken("only what was kept as evidence can be settled"))?;
    let sql = match row.try_get::<_, Option<Vec<u8>>>(0)? {
        None => {
            "UPDATE evidence SET proposed_by = $3, proposed_at = $4
             WHERE account = $1 AND reference = $2"
        }
        Some(first) if first == operator => return Ok(()),
        Some(_) => {
            "UPDATE evidence SET settled_by = $3, settled_at = $4
             WHERE account = $1 AND reference = $2 AND settled_at IS NULL"
        }
    };
    session
        .execute(
            sql,
            &[
                &account.as_str(),
                &reference,
                &operator.as_slice(),
                &at.as_millis(),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn append_audit(session: &Session<'_>, entry: &AuditEntry) -> Result<(), Failure> {
    session
        .one("SELECT pg_advisory_xact_lock($1)", &[&AUDIT_LOCK])
        .await?;
    let last = session
        .one("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1", &[])
        .await?;
    let (id, previous) = match last {
        None => (0, CHAIN_START),
        Some(row) => (
            row.try_get::<_, i64>(0)?,
            row.try_get::<_, Vec<u8>>(1)?
                .try_into()
                .map_err(|_| broken("a hash has 32 bytes"))?,
        ),
    };
    let id = u64::try_from(id)
        .ok()
        .and_then(|id| id.checked_add(1))
        .ok_or_else(|| broken("the audit log's numbers begin with 1"))?;
    let entry = entry.clone().chained(id, previous);
    session
        .execute(
            "INSERT INTO audit (id, at, operator, action, target, outcome, previous, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &integer(entry.id),
                &entry.at.as_millis(),
                &entry.operator,
                &entry.action,
                &entry.target,
                &entry.outcome,
                &entry.previous.as_slice(),
                &entry.hash.as_slice(),
            ],
        )
        .await?;
    Ok(())
}
