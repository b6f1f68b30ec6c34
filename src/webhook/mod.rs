//! Telling merchants (contract §4, "Webhooks to the merchant"): what the outbox holds is delivered,
//! signed, at least once, per order in version order, for at least 75 hours, and then parked in view.
//!
//! [`relay`] is the loop that takes due rows and records what became of them: start reading there.
//! [`deliver`] is one try over HTTP, [`schedule`] says when the next one is, [`sign`] makes the
//! headers of the Standard Webhooks specification, [`guard`] keeps the gateway from dialling inwards.

mod deliver;
pub mod guard;
pub mod relay;
pub mod schedule;
pub mod sign;

pub use deliver::StartError;
pub use relay::{Options, Parts, Relay, start};
pub use schedule::Schedule;
