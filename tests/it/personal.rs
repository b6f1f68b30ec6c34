//! Personal data: sealed under keys that change, forgotten when it is no longer needed, while orders and
//! money stay (decision 4; reliability P1, E4, E5).
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

mod bench;
mod canaries;
mod erasure;
mod jobs;
mod rotation;
mod schema;
