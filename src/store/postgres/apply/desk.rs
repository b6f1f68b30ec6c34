//! Operators and their sessions.

use super::session::{Failure, Session, changed};
use crate::order::Timestamp;
use crate::store::Rejection;
use crate::store::desk::{DeskWrite, OperatorRow};

pub(super) async fn apply(session: &Session<'_>, write: &DeskWrite) -> Result<(), Failure> {
    match write {
        DeskWrite::OperatorAdded(row) => {
            let added = session
                .execute(
                    "INSERT INTO operators (key, name, password, created_at, disabled_at)
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key) DO NOTHING",
                    &[
                        &OperatorRow::key(&row.name),
                        &row.name,
                        &row.password,
                        &row.created_at.as_millis(),
                        &row.disabled_at.map(Timestamp::as_millis),
                    ],
                )
                .await?;
            if added == 0 {
                return Err(Rejection::OperatorTaken.into());
            }
        }
        DeskWrite::OperatorChanged(row) => {
            let key = OperatorRow::key(&row.name);
            let updated = session
                .execute(
                    "UPDATE operators SET password = $2, disabled_at = $3 WHERE key = $1",
                    &[
                        &key,
                        &row.password,
                        &row.disabled_at.map(Timestamp::as_millis),
                    ],
                )
                .await?;
            changed(updated, "an operator is there before anything changes")?;
            session
                .execute("DELETE FROM sessions WHERE operator = $1", &[&key])
                .await?;
        }
        DeskWrite::SessionBegun {
            session: begun,
            forget_before,
        } => {
            session
                .execute(
                    "DELETE FROM sessions WHERE created_at < $1",
                    &[&forget_before.as_millis()],
                )
                .await?;
            session
                .execute(
                    "INSERT INTO sessions (token, operator, created_at, seen_at)
                     VALUES ($1, $2, $3, $4)",
                    &[
                        &begun.token.0.as_slice(),
                        &begun.operator,
                        &begun.created_at.as_millis(),
                        &begun.seen_at.as_millis(),
                    ],
                )
                .await?;
        }
        DeskWrite::SessionSeen { token, at } => {
            session
                .execute(
                    "UPDATE sessions SET seen_at = $2 WHERE token = $1 AND seen_at < $2",
                    &[&token.0.as_slice(), &at.as_millis()],
                )
                .await?;
        }
        DeskWrite::SessionEnded { token } => {
            session
                .execute(
                    "DELETE FROM sessions WHERE token = $1",
                    &[&token.0.as_slice()],
                )
                .await?;
        }
    }
    Ok(())
}
