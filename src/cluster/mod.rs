//! This node among the others: which instances live, who of them owns which shard, and how they speak to
//! one another (architecture §2, reliability §4).
//!
//! Membership and ownership stand in the store; a lease of `Locks` comes first and saves work. One node
//! on the embedded store goes the same way, with nobody beside it.

mod auth;
mod directory;
mod membership;
mod messages;
mod peers;
mod post;
mod server;

pub use directory::Directory;
pub use membership::{JoinError, Membership, Neighbours, Options, Parts};
pub use peers::{NoClient, PeerOptions, PeerParts, Peers};
