//! What operators leave behind: their word on evidence, and the log of all they did.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::Failure;
use crate::order::{AccountId, OperatorHash, Timestamp};
use crate::store::rows::integer;
use crate::store::step::broken;
use crate::store::{AuditEntry, CHAIN_START};

/// The first person's word proposes, another's settles.
pub(super) fn settle_evidence(
    connection: &Connection,
    account: &AccountId,
    reference: &str,
    operator: OperatorHash,
    at: Timestamp,
) -> Result<(), Failure> {
    let operator = operator.0.to_be_bytes();
    let proposed_by: Option<Option<Vec<u8>>> = connection
        .prepare_cached("SELECT proposed_by FROM evidence WHERE account = ?1 AND reference = ?2")?
        .query_row(params![account.as_str(), reference], |row| row.get(0))
        .optional()?;
    let sql = match proposed_by {
        None => return Err(broken("only what was kept as evidence can be settled").into()),
        Some(None) => {
            "UPDATE evidence SET proposed_by = ?3, proposed_at = ?4
             WHERE account = ?1 AND reference = ?2"
        }
        Some(Some(first)) if first == operator => return Ok(()),
        Some(Some(_)) => {
            "UPDATE evidence SET settled_by = ?3, settled_at = ?4
             WHERE account = ?1 AND reference = ?2 AND settled_at IS NULL"
        }
    };
    connection.prepare_cached(sql)?.execute(params![
        account.as_str(),
        reference,
        operator,
        at.as_millis()
    ])?;
    Ok(())
}

pub(super) fn append_audit(connection: &Connection, entry: &AuditEntry) -> Result<(), Failure> {
    let last: Option<(i64, [u8; 32])> = connection
        .prepare_cached("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (id, previous) = last.unwrap_or((0, CHAIN_START));
    let id = u64::try_from(id)
        .ok()
        .and_then(|id| id.checked_add(1))
        .ok_or_else(|| broken("the audit log's numbers begin with 1"))?;
    let entry = entry.clone().chained(id, previous);
    connection
        .prepare_cached(
            "INSERT INTO audit (id, at, operator, action, target, outcome, previous, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            integer(entry.id),
            entry.at.as_millis(),
            entry.operator,
            entry.action,
            entry.target,
            entry.outcome,
            entry.previous,
            entry.hash,
        ])?;
    Ok(())
}
