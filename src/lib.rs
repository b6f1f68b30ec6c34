//! enrollpay: a payment gateway for education enrolment fees.
//!
//! ```text
//!  merchants ─┐                                        ┌─► WeChat Pay, Alipay
//!  students  ─┤  http ──► actors ──► store             │
//!  providers ─┘  (edge)   (shell of  (the last word)   │
//!                          order,                      │
//!                          the heart) ──► provider ────┘
//!                             │
//!                             └─ outbox in the same commit ──► webhook ──► merchants
//! ```
//!
//! One command through the house: `http` authenticates and hands a [`order::Command`] to
//! [`actors::Orders`]; the order's actor lets [`order::decide()`] say what it means, commits events,
//! state and outbox in one transaction together with its neighbours', and only then answers and lets
//! the effects leave; their results come back as commands.
//!
//! Several nodes share the orders by shards: [`cluster`] knows who lives and who owns what; a command that
//! comes to another node takes one hop, a fact is recorded where it is heard.
//!
//! Where to start reading: [`order`] (what may happen), [`order::decide()`] (what it means),
//! [`actors`] (how it is carried out), [`store`] (what is refused).
//!
//! What is absent, and must stay so (held by `tests/it/house.rs`):
//! - `order` imports nothing of ours, does no I/O, reads no clock and throws no dice.
//! - Only `clock` reads the system's time; only `random` its dice.
//! - `store`, `locks` and `provider` do not know one another; SQL stands in `store` alone, the
//!   providers' words in `provider` alone.
//! - `simulator` shares no code with `provider`, and `demo` none with the gateway: the protocol and
//!   the public API are each written twice on purpose.
//! - Nobody imports `app` or `cli`.

pub mod actors;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod console;
pub mod demo;
pub mod faults;
pub mod http;
pub mod locks;
pub mod metrics;
pub mod operations;
pub mod order;
pub mod provider;
pub mod qr;
pub mod random;
pub mod reconcile;
pub mod retention;
pub mod sealing;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod view;
pub mod webhook;
