//! Sealed values by their keys, and people who are to be forgotten (decision 4).

use async_trait::async_trait;

use super::PostgresStore;
use super::reads;
use crate::order::{AccountId, OrderId, Timestamp};
use crate::store::StoreError;
use crate::store::personal::{OlderValues, People, PersonalStore, SealedCount, SealedTable};
use crate::store::records::personal::{
    KEY_SECRETS, PAGE, SEALED_COUNTS, Walk, count_secrets, evidence_key, few, key_secret,
    older_secrets, page, people_row, sealed_count, waits_for_people,
};
use crate::store::rows::{Parsing, limit};

#[async_trait]
impl PersonalStore for PostgresStore {
    async fn sealed_counts(&self) -> Result<Vec<SealedCount>, StoreError> {
        let mut counts = self.many(SEALED_COUNTS, &[], sealed_count).await?;
        count_secrets(&mut counts, reads::merchants(self).await?);
        Ok(counts)
    }

    /// None: this store never had the first schema, and takes no event without its digest.
    async fn undigested(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn older_values(
        &self,
        table: SealedTable,
        newest: u8,
        after: i64,
    ) -> Result<OlderValues, StoreError> {
        if let Some(walk) = Walk::of(table) {
            let place = if table == SealedTable::Outbox {
                "position"
            } else {
                "place"
            };
            let sql = walk.query(place, '$');
            let newest: &[u8] = &[newest];
            let rows = self
                .many(&sql, &[&after, &newest, &PAGE], |row| walk.row(row))
                .await?;
            return Ok(page(rows));
        }
        if table == SealedTable::Merchants {
            return Ok(older_secrets(reads::merchants(self).await?, newest));
        }
        Ok(few(self.many(KEY_SECRETS, &[], key_secret).await?, newest))
    }

    async fn orders_with_people(
        &self,
        after: Option<OrderId>,
        created_before: Timestamp,
        rows: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        // Ids begin with the time at which they were made.
        let millis = u64::try_from(created_before.as_millis()).unwrap_or_default();
        let end = OrderId::from_ulid(ulid::Ulid::from_parts(millis, 0)).to_string();
        let after = after.map_or_else(String::new, |id| id.to_string());
        self.many(ORDERS_WITH_PEOPLE, &[&after, &end, &limit(rows)], |row| {
            Parsing::new("personal", row, "order_id").parse("order_id")
        })
        .await
    }

    async fn people_of(&self, order: OrderId) -> Result<Option<People>, StoreError> {
        self.one(PEOPLE_OF, &[&order.to_string()], people_row).await
    }

    async fn loose_evidence(
        &self,
        before: Timestamp,
        rows: usize,
    ) -> Result<Vec<(AccountId, String)>, StoreError> {
        self.many(
            LOOSE_EVIDENCE,
            &[&before.as_millis(), &limit(rows)],
            evidence_key,
        )
        .await
    }
}

const ORDERS_WITH_PEOPLE: &str = "SELECT DISTINCT order_id FROM personal
    WHERE order_id > $1 AND order_id < $2 ORDER BY order_id LIMIT $3";

const PEOPLE_OF: &str = concat!(
    "SELECT id,
        (SELECT at FROM order_events WHERE order_id = orders.id
         ORDER BY version DESC, position DESC LIMIT 1) AS changed_at,
        EXISTS (SELECT 1 FROM outbox WHERE order_id = orders.id AND state = 'pending')
            AS event_pending,
        EXISTS (SELECT 1 FROM evidence WHERE order_id = orders.id AND ",
    waits_for_people!(),
    ") AS evidence_waits,
        erased_at IS NULL OR EXISTS (SELECT 1 FROM personal WHERE order_id = orders.id) AS people
    FROM orders WHERE id = $1"
);

const LOOSE_EVIDENCE: &str = concat!(
    "SELECT account, reference FROM evidence
    WHERE first_seen < $1 AND length(body) > 0 AND (order_id IS NULL OR EXISTS
        (SELECT 1 FROM orders WHERE id = evidence.order_id AND erased_at IS NOT NULL))
      AND NOT (",
    waits_for_people!(),
    ") ORDER BY first_seen LIMIT $2"
);
