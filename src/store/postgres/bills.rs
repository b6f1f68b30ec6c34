//! What is asked about bills.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::order::{BillId, MerchantId, Timestamp};
use crate::sealing::TokenHash;
use crate::store::StoreError;
use crate::store::bills::{BillFilter, Bills, PayerLink, StoredBill};
use crate::store::records::bills::{
    Asked, BILL, PAYER_LINK, bills_query, is_free, payer_link, stored_bill,
};
use crate::store::rows::{Parsing, limit};

#[async_trait]
impl Bills for PostgresStore {
    async fn bills_by_id(
        &self,
        merchant: MerchantId,
        bills: &[BillId],
    ) -> Result<Vec<StoredBill>, StoreError> {
        let ids: Vec<String> = bills.iter().map(BillId::to_string).collect();
        let sql = format!("{BILL} WHERE bills.merchant = $1 AND bills.id = ANY ($2)");
        self.many(&sql, &[&merchant.to_string(), &ids], stored_bill)
            .await
    }

    async fn bills_by_number(
        &self,
        merchant: MerchantId,
        numbers: &[String],
    ) -> Result<Vec<StoredBill>, StoreError> {
        let sql = format!("{BILL} WHERE bills.merchant = $1 AND bills.merchant_bill_no = ANY ($2)");
        self.many(&sql, &[&merchant.to_string(), &numbers], stored_bill)
            .await
    }

    async fn bills(&self, filter: &BillFilter) -> Result<Vec<StoredBill>, StoreError> {
        let (sql, values) = bills_query(filter, '$');
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| -> &(dyn ToSql + Sync) {
                match value {
                    Asked::Text(text) => text,
                    Asked::Bytes(bytes) => bytes,
                    Asked::Number(number) => number,
                }
            })
            .collect();
        self.many(&sql, &values, stored_bill).await
    }

    async fn payer_link(&self, hash: TokenHash) -> Result<Option<PayerLink>, StoreError> {
        let sql = format!("{PAYER_LINK} WHERE hash = $1");
        self.one(&sql, &[&hash.0.as_slice()], |row| payer_link(row, hash))
            .await
    }

    async fn bills_with_people(
        &self,
        after: Option<BillId>,
        ended_before: Timestamp,
        rows: usize,
    ) -> Result<Vec<BillId>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        self.many(
            WITH_PEOPLE,
            &[&after, &ended_before.as_millis(), &limit(rows)],
            |row| Parsing::new("bills", row, "id").parse("id"),
        )
        .await
    }
}

const WITH_PEOPLE: &str = concat!(
    "SELECT id FROM bills WHERE erased_at IS NULL AND id > $1
       AND coalesce(cancelled_at, pay_before, created_at) < $2 AND ",
    is_free!(),
    " ORDER BY id LIMIT $3"
);
