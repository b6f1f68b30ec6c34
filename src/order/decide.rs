//! Command to events and effects: all branching lives here.

use super::command::Command;
use super::effect::Outcome;
use super::state::Order;
use super::time::Timestamp;

/// What `command` means for `order` at `now`. Pure: equal inputs give equal answers, here, in the
/// model, in replay.
pub fn decide(order: &Order, command: &Command, now: Timestamp) -> Outcome {
    let _ = (order, command, now);
    Outcome::Already(super::effect::Answer::NothingDue, Vec::new())
}

impl Order {
    /// When this order next needs a `Tick`; `None` where it waits for nothing but people.
    pub fn next_due_at(&self) -> Option<Timestamp> {
        None
    }
}
