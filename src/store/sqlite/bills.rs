//! Bills: what is asked and what is written.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::SqliteStore;
use super::apply::{Failure, unique_rule};
use super::personal::thoroughly;
use super::reads::{many, one};
use crate::order::{BillId, MerchantId, OrderId, Timestamp};
use crate::sealing::TokenHash;
use crate::store::bills::{Bill, BillFilter, Bills, PayerLink, StoredBill};
use crate::store::records::bills::{
    Asked, BILL, BillColumns, NO_PAYER, PAYER_LINK, bills_query, is_free, payer_link, stored_bill,
};
use crate::store::rows::{Parsing, limit};
use crate::store::step::{broken, json};
use crate::store::{Rejection, StoreError};

#[async_trait]
impl Bills for SqliteStore {
    async fn bills_by_id(
        &self,
        merchant: MerchantId,
        bills: &[BillId],
    ) -> Result<Vec<StoredBill>, StoreError> {
        let ids = list(bills.iter().map(ToString::to_string));
        self.read(move |connection| {
            let values = params![merchant.to_string(), ids];
            many(connection, &by_id(), values, stored_bill)
        })
        .await
    }

    async fn bills_by_number(
        &self,
        merchant: MerchantId,
        numbers: &[String],
    ) -> Result<Vec<StoredBill>, StoreError> {
        let numbers = list(numbers.iter().cloned());
        self.read(move |connection| {
            let values = params![merchant.to_string(), numbers];
            many(connection, &by_number(), values, stored_bill)
        })
        .await
    }

    async fn bills(&self, filter: &BillFilter) -> Result<Vec<StoredBill>, StoreError> {
        let (sql, values) = bills_query(filter, '?');
        self.read(move |connection| {
            let values = values.into_iter().map(|value| match value {
                Asked::Text(text) => Value::from(text),
                Asked::Bytes(bytes) => Value::from(bytes),
                Asked::Number(number) => Value::from(number),
            });
            many(connection, &sql, params_from_iter(values), stored_bill)
        })
        .await
    }

    async fn payer_link(&self, hash: TokenHash) -> Result<Option<PayerLink>, StoreError> {
        self.read(move |connection| {
            let sql = format!("{PAYER_LINK} WHERE hash = ?1");
            one(connection, &sql, [hash.0], |row| payer_link(row, hash))
        })
        .await
    }

    async fn bills_with_people(
        &self,
        after: Option<BillId>,
        ended_before: Timestamp,
        rows: usize,
    ) -> Result<Vec<BillId>, StoreError> {
        self.read(move |connection| {
            let after = after.map_or_else(String::new, |id| id.to_string());
            let values = params![after, ended_before.as_millis(), limit(rows)];
            many(connection, WITH_PEOPLE, values, |row| {
                Parsing::new("bills", row, "id").parse("id")
            })
        })
        .await
    }
}

pub(super) fn by_id() -> String {
    format!("{BILL} WHERE bills.merchant = ?1 AND bills.id IN (SELECT value FROM json_each(?2))")
}

pub(super) fn by_number() -> String {
    format!(
        "{BILL} WHERE bills.merchant = ?1
           AND bills.merchant_bill_no IN (SELECT value FROM json_each(?2))"
    )
}

pub(super) const WITH_PEOPLE: &str = concat!(
    "SELECT id FROM bills WHERE erased_at IS NULL AND id > ?1
       AND coalesce(cancelled_at, pay_before, created_at) < ?2 AND ",
    is_free!(),
    " ORDER BY id LIMIT ?3"
);

/// Texts as one parameter.
fn list(texts: impl Iterator<Item = String>) -> String {
    serde_json::Value::from(texts.collect::<Vec<_>>()).to_string()
}

pub(super) fn create(connection: &Connection, bills: &[Bill]) -> Result<(), Failure> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO bills (id, merchant, merchant_bill_no, amount, pay_before, created_at, content,
             payer_masked, payer_index, personal_hashes, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for bill in bills {
        let columns = BillColumns::of(bill)?;
        let inserted = insert.execute(params![
            columns.id,
            columns.merchant,
            bill.merchant_bill_no,
            bill.amount.get(),
            bill.pay_before.map(Timestamp::as_millis),
            bill.created_at.as_millis(),
            columns.content,
            columns.payer_masked,
            bill.payer_index.to_be_bytes(),
            columns.personal_hashes,
            bill.sealed.0,
        ]);
        match inserted {
            Ok(_) => {}
            Err(error) if unique_rule(&error).is_some() => {
                let existing = connection
                    .prepare_cached(
                        "SELECT id FROM bills WHERE merchant = ?1 AND merchant_bill_no = ?2",
                    )?
                    .query_row(params![columns.merchant, bill.merchant_bill_no], |row| {
                        row.get::<_, String>(0)
                    })
                    .optional()?
                    .and_then(|id| id.parse().ok())
                    .ok_or_else(|| broken("a bill's id is nobody else's"))?;
                return Err(Rejection::MerchantBillNoTaken { existing }.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(super) fn claim(
    connection: &Connection,
    merchant: MerchantId,
    order: OrderId,
    bills: &[BillId],
) -> Result<(), Failure> {
    let (merchant, order) = (merchant.to_string(), order.to_string());
    let claimed = connection
        .prepare_cached(concat!(
            "UPDATE bills SET order_id = ?2
             WHERE merchant = ?1 AND id IN (SELECT value FROM json_each(?3))
               AND cancelled_at IS NULL AND erased_at IS NULL AND ",
            is_free!()
        ))?
        .execute(params![
            merchant,
            order,
            list(bills.iter().map(ToString::to_string))
        ])?;
    if claimed == bills.len() {
        return Ok(());
    }
    let mut is_ours = connection
        .prepare_cached("SELECT 1 FROM bills WHERE merchant = ?1 AND order_id = ?2 AND id = ?3")?;
    for bill in bills {
        if !is_ours.exists(params![merchant, order, bill.to_string()])? {
            return Err(Rejection::BillTaken { bill: *bill }.into());
        }
    }
    Err(broken("the bills of an order are named once").into())
}

pub(super) fn cancel(
    connection: &Connection,
    merchant: MerchantId,
    bill: BillId,
    at: Timestamp,
) -> Result<(), Failure> {
    let cancelled = connection
        .prepare_cached(concat!(
            "UPDATE bills SET cancelled_at = coalesce(cancelled_at, ?3)
             WHERE merchant = ?1 AND id = ?2 AND ",
            is_free!()
        ))?
        .execute(params![
            merchant.to_string(),
            bill.to_string(),
            at.as_millis()
        ])?;
    taken(cancelled, bill)
}

fn taken(rows: usize, bill: BillId) -> Result<(), Failure> {
    if rows == 0 {
        return Err(Rejection::BillTaken { bill }.into());
    }
    Ok(())
}

pub(super) fn link(connection: &Connection, link: &PayerLink) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO payer_links (hash, merchant, payer_index, payer_masked, return_url,
                 created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            link.hash.0,
            link.merchant.to_string(),
            link.payer_index.to_be_bytes(),
            json(&link.payer_masked)?,
            link.return_url,
            link.created_at.as_millis(),
            link.expires_at.as_millis(),
        ])?;
    Ok(())
}

/// A bill that was never paid loses its payer, and nobody finds it any more.
pub(super) fn erase(
    connection: &Connection,
    bill: BillId,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    thoroughly(connection, || {
        let erased = connection
            .prepare_cached(concat!(
                "UPDATE bills SET sealed = X'', payer_masked = ?2, payer_index = ?3,
                     personal_hashes = '[]', erased_at = ?4, cancelled_at = coalesce(cancelled_at,
                         CASE WHEN pay_before IS NULL OR pay_before > ?4 THEN ?4 END)
                 WHERE id = ?1 AND erased_at IS NULL AND ",
                is_free!()
            ))?
            .execute(params![
                bill.to_string(),
                NO_PAYER,
                payer_index.to_be_bytes(),
                at.as_millis()
            ])?;
        taken(erased, bill)
    })
}

/// The bills that an order paid lose their payer with it.
pub(super) fn erase_of(
    connection: &Connection,
    order: &str,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE bills SET sealed = X'', payer_masked = ?2, payer_index = ?3,
                 personal_hashes = '[]', erased_at = ?4
             WHERE order_id = ?1 AND erased_at IS NULL
               AND (SELECT status FROM orders WHERE id = ?1) = 'paid'",
        )?
        .execute(params![
            order,
            NO_PAYER,
            payer_index.to_be_bytes(),
            at.as_millis()
        ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::opening::in_memory;
    use super::super::reads::tests::full_scans;
    use super::*;
    use crate::store::bills::BillStatus;
    use ulid::Ulid;

    #[test]
    fn bills_are_read_from_an_index_whatever_is_asked_for() {
        let connection = in_memory();
        let everything = BillFilter {
            merchant: MerchantId::from_ulid(Ulid(1)),
            payer_index: Some(1),
            status: None,
            merchant_bill_no: Some("1".to_owned()),
            before: Some(BillId::from_ulid(Ulid(1))),
            limit: 1,
            now: Timestamp::default(),
        };
        let mut asked = vec![by_id(), by_number(), WITH_PEOPLE.to_owned()];
        for bits in 0..8u32 {
            let keeps = |bit: u32| bits & (1 << bit) != 0;
            for status in BillStatus::ALL.map(Some).into_iter().chain([None]) {
                let mut filter = everything.clone();
                filter.payer_index = filter.payer_index.filter(|_| keeps(0));
                filter.merchant_bill_no = filter.merchant_bill_no.filter(|_| keeps(1));
                filter.before = filter.before.filter(|_| keeps(2));
                filter.status = status;
                let (sql, values) = bills_query(&filter, '?');
                let parameters = connection.prepare(&sql).unwrap().parameter_count();
                assert_eq!(parameters, values.len(), "{sql}");
                asked.push(sql);
            }
        }
        for sql in asked {
            let scans = full_scans(&connection, &sql);
            let scans: Vec<_> = scans
                .into_iter()
                .filter(|step| !step.contains("json_each"))
                .collect();
            assert_eq!(scans, Vec::<String>::new(), "{sql}");
        }
    }
}
