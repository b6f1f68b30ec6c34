//! A provider's bill of one day against our books, and what is missing here recorded like a callback
//! (reliability R1). Money that no notice and no query told us of is found by it, next day at worst.
//!
//! Start reading at [`Reconciler::run`] (`run`: fetch, compare, repair, store), then `matching` (the
//! comparison, pure), `repair` (news to orders), `flows` (the balance). `nightly` runs it every morning
//! and catches up on days that were missed.

pub mod flows;
pub mod matching;
mod metric;
mod nightly;
mod repair;
mod result;
mod run;

pub use nightly::{Nightly, Schedule};
pub use run::{LEASE, Parts, ReconcileError, Reconciler};
