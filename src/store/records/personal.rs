//! Rows that tell where sealed values stand, and whose people are still known.

use super::Read;
use crate::order::AccountId;
use crate::sealing::Sealed;
use crate::store::Merchant;
use crate::store::personal::{Cell, OlderValues, People, SealedCount, SealedTable};
use crate::store::rows::{Columns, Parsing};

/// Rows looked at in one page of a walk.
pub(in crate::store) const PAGE: i64 = 500;

pub(in crate::store) const SEALED_COUNTS: &str =
    "SELECT place, key, held FROM sealed_counts WHERE held > 0 ORDER BY place, key";

pub(in crate::store) fn sealed_count(row: &dyn Columns) -> Read<SealedCount> {
    let row = Parsing::new("sealed_counts", row, "place");
    let place: String = row.get("place")?;
    let table = SealedTable::ALL
        .into_iter()
        .find(|table| table.as_str() == place)
        .ok_or_else(|| row.wrong("not a table of sealed values"))?;
    let [key] = row.bytes("key")?;
    Ok(SealedCount {
        table,
        key,
        values: row.number("held")?,
    })
}

/// Merchants' webhook secrets stand in JSON and are few: they are counted when asked for.
pub(in crate::store) fn count_secrets(counts: &mut Vec<SealedCount>, merchants: Vec<Merchant>) {
    for (_, sealed) in webhook_secrets(merchants) {
        let Some(key) = sealed.key_number() else {
            continue;
        };
        let table = SealedTable::Merchants;
        match counts
            .iter_mut()
            .find(|count| (count.table, count.key) == (table, key))
        {
            Some(count) => count.values += 1,
            None => counts.push(SealedCount {
                table,
                key,
                values: 1,
            }),
        }
    }
}

fn webhook_secrets(merchants: Vec<Merchant>) -> impl Iterator<Item = (Cell, Sealed)> {
    merchants.into_iter().flat_map(|merchant| {
        let id = merchant.id;
        merchant
            .webhook_secrets
            .into_iter()
            .map(move |secret| (Cell::WebhookSecret { merchant: id }, secret.sealed))
    })
}

/// One page that holds them all.
pub(in crate::store) fn older_secrets(merchants: Vec<Merchant>, newest: u8) -> OlderValues {
    few(webhook_secrets(merchants), newest)
}

pub(in crate::store) const KEY_SECRETS: &str =
    "SELECT id, sealed_secret FROM merchant_keys ORDER BY id";

pub(in crate::store) fn key_secret(row: &dyn Columns) -> Read<(Cell, Sealed)> {
    let row = Parsing::new("merchant_keys", row, "id");
    let key = row.parse("id")?;
    Ok((Cell::KeySecret { key }, Sealed(row.get("sealed_secret")?)))
}

/// What is not under the newest key, of a table that one page holds.
pub(in crate::store) fn few(
    values: impl IntoIterator<Item = (Cell, Sealed)>,
    newest: u8,
) -> OlderValues {
    let older = |(_, sealed): &(Cell, Sealed)| sealed.key_number().is_some_and(|key| key != newest);
    OlderValues {
        values: values.into_iter().filter(older).collect(),
        next: None,
    }
}

/// A walk through a table that many pages make up.
pub(in crate::store) struct Walk {
    table: SealedTable,
    /// The columns that name a value.
    key: &'static str,
    value: &'static str,
    cell: fn(&Parsing<'_>) -> Read<Cell>,
}

impl Walk {
    /// `None` for tables that one page holds.
    pub fn of(table: SealedTable) -> Option<Self> {
        let (key, value, cell): (_, _, fn(&Parsing<'_>) -> Read<Cell>) = match table {
            SealedTable::Personal => ("order_id, slot", "sealed", |row| {
                Ok(Cell::Personal {
                    order: row.parse("order_id")?,
                    slot: row.get("slot")?,
                })
            }),
            SealedTable::Outbox => ("id, length(body_digest) > 0 AS digested", "body", |row| {
                Ok(Cell::Body {
                    event: row.parse("id")?,
                    digested: row.get("digested")?,
                })
            }),
            SealedTable::Idempotency => ("merchant, key", "answer", |row| {
                Ok(Cell::Answer {
                    merchant: row.parse("merchant")?,
                    key: row.get("key")?,
                })
            }),
            SealedTable::Evidence => ("account, reference", "body", |row| {
                Ok(Cell::Evidence {
                    account: AccountId::new(row.get::<String>("account")?),
                    reference: row.get("reference")?,
                })
            }),
            SealedTable::Bills => ("id", "sealed", |row| {
                Ok(Cell::Bill {
                    bill: row.parse("id")?,
                })
            }),
            SealedTable::Merchants | SealedTable::MerchantKeys => return None,
        };
        Some(Self {
            table,
            key,
            value,
            cell,
        })
    }

    /// Asks for a page past a place (the first parameter), at most so many rows (the third), with the
    /// values that are not under the newest key (the second) or lack their digest. `place`: the column
    /// that the walk goes by; `mark`: how a database begins a parameter's number.
    pub fn query(&self, place: &str, mark: char) -> String {
        let (key, value) = (self.key, self.value);
        let undigested = match self.table {
            SealedTable::Outbox => " OR length(body_digest) = 0",
            _ => "",
        };
        format!(
            "SELECT {place} AS place, {key}, CASE WHEN length({value}) > 0
                 AND (substr({value}, 1, 1) <> {mark}2{undigested}) THEN {value} END AS sealed
             FROM {} WHERE {place} > {mark}1 ORDER BY {place} LIMIT {mark}3",
            self.table.as_str()
        )
    }

    /// A row of the page: its place in the walk, and its value where that is of interest.
    pub fn row(&self, row: &dyn Columns) -> Read<(i64, Option<(Cell, Sealed)>)> {
        let row = Parsing::named(self.table.as_str(), row, "");
        let value = match row.get::<Option<Vec<u8>>>("sealed")? {
            Some(sealed) => Some(((self.cell)(&row)?, Sealed(sealed))),
            None => None,
        };
        Ok((row.get("place")?, value))
    }
}

pub(in crate::store) fn page(rows: Vec<(i64, Option<(Cell, Sealed)>)>) -> OlderValues {
    let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= PAGE;
    let next = rows.last().map(|(place, _)| *place).filter(|_| full);
    let values = rows.into_iter().filter_map(|(_, value)| value).collect();
    OlderValues { values, next }
}

pub(in crate::store) fn people_row(row: &dyn Columns) -> Read<People> {
    let row = Parsing::new("orders", row, "id");
    Ok(People {
        changed_at: row.time("changed_at")?,
        event_pending: row.get("event_pending")?,
        evidence_waits: row.get("evidence_waits")?,
        any: row.get("people")?,
    })
}

pub(in crate::store) fn evidence_key(row: &dyn Columns) -> Read<(AccountId, String)> {
    let row = Parsing::new("evidence", row, "reference");
    Ok((
        AccountId::new(row.get::<String>("account")?),
        row.get("reference")?,
    ))
}

/// Evidence that two people have still to settle: whatever its age, they need what it says.
macro_rules! waits_for_people {
    () => {
        "settled_at IS NULL AND reason IN
            ('unknown_number', 'unreadable', 'recorded_elsewhere', 'foreign_refund')"
    };
}

pub(in crate::store) use waits_for_people;
