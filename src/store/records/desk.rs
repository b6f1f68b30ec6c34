//! Rows of operators and their sessions.

use super::Read;
use crate::sealing::TokenHash;
use crate::store::desk::{OperatorRow, SessionRow};
use crate::store::rows::{Columns, Parsing};

pub(in crate::store) const OPERATOR: &str =
    "SELECT key, name, password, created_at, disabled_at FROM operators";

pub(in crate::store) fn operator_row(row: &dyn Columns) -> Read<OperatorRow> {
    let row = Parsing::new("operators", row, "key");
    Ok(OperatorRow {
        name: row.get("name")?,
        password: row.get("password")?,
        created_at: row.time("created_at")?,
        disabled_at: row.time_if_any("disabled_at")?,
    })
}

pub(in crate::store) const SESSION: &str =
    "SELECT token, operator, created_at, seen_at FROM sessions";

pub(in crate::store) fn session_row(row: &dyn Columns) -> Read<SessionRow> {
    // Named by nothing: its key opens the console.
    let row = Parsing::named("sessions", row, "");
    Ok(SessionRow {
        token: TokenHash(row.bytes("token")?),
        operator: row.get("operator")?,
        created_at: row.time("created_at")?,
        seen_at: row.time("seen_at")?,
    })
}
