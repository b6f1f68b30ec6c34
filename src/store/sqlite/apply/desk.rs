//! Operators and their sessions.

use rusqlite::{Connection, params};

use super::{Failure, changed};
use crate::order::Timestamp;
use crate::store::Rejection;
use crate::store::desk::{DeskWrite, OperatorRow};

pub(super) fn apply(connection: &Connection, write: &DeskWrite) -> Result<(), Failure> {
    match write {
        DeskWrite::OperatorAdded(row) => {
            let added = connection
                .prepare_cached(
                    "INSERT INTO operators (key, name, password, created_at, disabled_at)
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (key) DO NOTHING",
                )?
                .execute(params![
                    OperatorRow::key(&row.name),
                    row.name,
                    row.password,
                    row.created_at.as_millis(),
                    row.disabled_at.map(Timestamp::as_millis),
                ])?;
            if added == 0 {
                return Err(Rejection::OperatorTaken.into());
            }
        }
        DeskWrite::OperatorChanged(row) => {
            let key = OperatorRow::key(&row.name);
            let updated = connection
                .prepare_cached(
                    "UPDATE operators SET password = ?2, disabled_at = ?3 WHERE key = ?1",
                )?
                .execute(params![
                    key,
                    row.password,
                    row.disabled_at.map(Timestamp::as_millis)
                ])?;
            changed(updated, "an operator is there before anything changes")?;
            connection
                .prepare_cached("DELETE FROM sessions WHERE operator = ?1")?
                .execute([key])?;
        }
        DeskWrite::SessionBegun {
            session,
            forget_before,
        } => {
            connection
                .prepare_cached("DELETE FROM sessions WHERE created_at < ?1")?
                .execute([forget_before.as_millis()])?;
            connection
                .prepare_cached(
                    "INSERT INTO sessions (token, operator, created_at, seen_at)
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    session.token.0,
                    session.operator,
                    session.created_at.as_millis(),
                    session.seen_at.as_millis(),
                ])?;
        }
        DeskWrite::SessionSeen { token, at } => {
            connection
                .prepare_cached(
                    "UPDATE sessions SET seen_at = ?2 WHERE token = ?1 AND seen_at < ?2",
                )?
                .execute(params![token.0, at.as_millis()])?;
        }
        DeskWrite::SessionEnded { token } => {
            connection
                .prepare_cached("DELETE FROM sessions WHERE token = ?1")?
                .execute([token.0])?;
        }
    }
    Ok(())
}
