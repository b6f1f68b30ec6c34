//! Several nodes on one store.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "leases last in real time")]

mod membership;
