//! Deterministic simulation (reliability §3.2): the heart, unchanged, in a small world in which
//! everything else goes wrong. One seed is one run, and the same run every time.
//!
//! ```text
//!   people ──request──► nodes ──commit──► store            virtual time, one queue of happenings,
//!   wallets ─pay─► providers ──notice──► nodes             one die: no clock, no thread, no hash order
//!   nodes ──call──► providers, ──webhook──► endpoint       the nemesis: crashes, pauses, lost locks
//! ```
//!
//! The world keeps books of its own ([`audit`]): what was acknowledged must be on record, what left
//! must have been intended, what has ended must not be payable. Each run is in one of two modes
//! ([`Mode`]): *safety*, faults to the last moment; *liveness*, faults until a moment, then a healthy
//! core that must come to rest in bounded time. A [`Mutation`] breaks one rule of the shell on
//! purpose: a simulation that cannot fail proves nothing.
//!
//! The heart and the webhook schedule are the gateway's own files, compiled once more in this crate,
//! so that ten thousand runs can be optimised without making every build of the gateway slow.

#[path = "../../src/order/mod.rs"]
pub mod order;
#[path = "../../src/webhook/schedule.rs"]
pub mod schedule;

mod audit;
mod calls;
mod command_path;
mod dice;
mod flushes;
mod happening;
mod judge;
mod marks;
mod mutation;
mod nemesis;
mod node;
mod notices;
mod operators;
mod ownership;
mod people;
mod provider;
mod queue;
mod refunds;
mod relay;
mod run;
mod store;
mod swarm;
mod timers;
mod wallets;
mod world;

pub use marks::{Mark, Marks};
pub use mutation::Mutation;
pub use run::{Failure, Mode, Run, run, trace};
