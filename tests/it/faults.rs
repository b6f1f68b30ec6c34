//! The fault table (reliability §2.2) against real processes: each test ends healed, at rest and with
//! its books checked, and shows that its fault has bitten.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

mod proxy;
