//! Webhook events that were not delivered, and those that shall be once more.

use serde_json::{Value, json};

use super::{OperationError, Operations, Operator, id, not_found};
use crate::order::{EventId, MerchantId};
use crate::store::{DeliveryState, OutboxEntry, Write};

/// Events that are read, and released, at once.
const PAGE: usize = 500;
const RESENT: &str = "resend asked for by an operator";
const PARKED: &str = "parked by an operator";
const RELEASED: &str = "released by an operator";

impl Operations {
    pub(super) async fn event_list(&self, all: bool) -> Result<Value, OperationError> {
        let events = self.store.outbox_undelivered(all, 1000).await?;
        Ok(Value::Array(events.iter().map(event_json).collect()))
    }

    /// Sends a delivered or parked event again: the same id and bytes.
    pub(super) async fn event_resend(
        &self,
        by: &Operator,
        event: &str,
    ) -> Result<Value, OperationError> {
        let entry = self.event(event).await?;
        self.again(by, "event resend", entry, RESENT).await
    }

    /// Stops trying for now: the receiver is known to be away, or to choke on this one.
    pub(super) async fn event_park(
        &self,
        by: &Operator,
        event: &str,
    ) -> Result<Value, OperationError> {
        let entry = self.event(event).await?;
        if entry.state != DeliveryState::Pending {
            return Err(OperationError::State("the event is not on its way"));
        }
        let now = self.clock.now();
        self.write(vec![
            Write::Delivery {
                event: entry.id,
                was: (entry.state, entry.tries),
                state: DeliveryState::Parked,
                tries: entry.tries,
                next_at: None,
                note: PARKED.to_owned(),
                at: now,
            },
            self.audit(by, "event park", &entry.id.to_string(), "done"),
        ])
        .await?;
        Ok(event_json(&OutboxEntry {
            state: DeliveryState::Parked,
            note: PARKED.to_owned(),
            ..entry
        }))
    }

    /// Unparks one event.
    pub(super) async fn event_release(
        &self,
        by: &Operator,
        event: &str,
    ) -> Result<Value, OperationError> {
        let entry = self.event(event).await?;
        if entry.state != DeliveryState::Parked {
            return Err(OperationError::State(
                "the event is not parked; `event resend` sends a delivered one again",
            ));
        }
        self.again(by, "event release", entry, RELEASED).await
    }

    /// Unparks all events of a merchant.
    pub(super) async fn events_release(
        &self,
        by: &Operator,
        merchant: &str,
    ) -> Result<Value, OperationError> {
        let merchant: MerchantId = self.merchant(merchant).await?.id;
        let (mut after, mut released) = (0, 0_usize);
        loop {
            let page = self.store.events_after(merchant, after, &[], PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let now = self.clock.now();
            let mut writes: Vec<Write> = page
                .iter()
                .filter(|(_, event)| {
                    event.state == DeliveryState::Parked && !event.body.is_erased()
                })
                .map(|(_, event)| event.again(now, RELEASED))
                .collect();
            if !writes.is_empty() {
                released += writes.len();
                let outcome = format!("done, {} events", writes.len());
                writes.push(self.audit(by, "event release", &merchant.to_string(), &outcome));
                self.write(writes).await?;
            }
        }
        Ok(json!({ "merchant_id": merchant, "released": released }))
    }

    async fn again(
        &self,
        by: &Operator,
        action: &str,
        entry: OutboxEntry,
        note: &str,
    ) -> Result<Value, OperationError> {
        self.write(vec![
            entry.again(self.clock.now(), note),
            self.audit(by, action, &entry.id.to_string(), "done"),
        ])
        .await?;
        Ok(event_json(&OutboxEntry {
            state: DeliveryState::Pending,
            tries: 0,
            note: note.to_owned(),
            ..entry
        }))
    }

    async fn event(&self, event: &str) -> Result<OutboxEntry, OperationError> {
        let id: EventId = id("event", event)?;
        let entry = self.store.outbox_event(id).await?;
        let entry = entry.ok_or_else(|| not_found("event", event))?;
        if entry.body.is_erased() {
            return Err(OperationError::Erased { event: id });
        }
        Ok(entry)
    }
}

fn event_json(event: &OutboxEntry) -> Value {
    json!({
        "event_id": event.id,
        "type": event.kind,
        "merchant_id": event.merchant,
        "order_id": event.order,
        "version": event.version,
        "state": event.state,
        "tries": event.tries,
        "note": event.note,
    })
}
