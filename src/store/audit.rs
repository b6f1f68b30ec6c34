//! The log of what operators did: a chain in which each entry carries the hash of the one before, so
//! that an edited, missing or moved one shows. Whoever keeps the newest hash elsewhere sees a cut end
//! as well.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::order::Timestamp;

/// What the first entry has for its predecessor's hash.
pub const CHAIN_START: [u8; 32] = [0; 32];

/// Entries that are read at once.
const PAGE: usize = 500;

/// One thing that one operator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// 1 for the first. The store gives it, and the two hashes.
    pub id: u64,
    pub at: Timestamp,
    /// User id and name, as the socket or the login gave them; nothing more of a person.
    pub operator: String,
    pub action: String,
    pub target: String,
    pub outcome: String,
    pub previous: [u8; 32],
    pub hash: [u8; 32],
}

impl AuditEntry {
    /// One to be written.
    pub fn new(
        at: Timestamp,
        operator: impl Into<String>,
        action: impl Into<String>,
        target: impl Into<String>,
        outcome: impl Into<String>,
    ) -> Self {
        Self {
            id: 0,
            at,
            operator: operator.into(),
            action: action.into(),
            target: target.into(),
            outcome: outcome.into(),
            previous: CHAIN_START,
            hash: CHAIN_START,
        }
    }

    /// The same as the entry `id` that follows the one with hash `previous`.
    #[must_use]
    pub fn chained(mut self, id: u64, previous: [u8; 32]) -> Self {
        self.id = id;
        self.previous = previous;
        self.hash = self.expected_hash();
        self
    }

    /// SHA-256 over the hash before and every field, each text with its length: no two entries have
    /// the same bytes.
    fn expected_hash(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&self.previous);
        context.update(&self.id.to_be_bytes());
        context.update(&self.at.as_millis().to_be_bytes());
        for text in [&self.operator, &self.action, &self.target, &self.outcome] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// Where the chain is not whole.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditBroken {
    #[error("entry {id} of the audit log was changed, or one before it is missing")]
    Entry { id: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks a run of entries that follows entry `after` with hash `previous` (0 and [`CHAIN_START`] for
/// the first). Gives the hash of the last.
pub fn verify_chain(
    after: u64,
    previous: [u8; 32],
    entries: &[AuditEntry],
) -> Result<[u8; 32], AuditBroken> {
    let mut last = (after, previous);
    for entry in entries {
        let follows = entry.id == last.0.saturating_add(1) && entry.previous == last.1;
        if !follows || entry.hash != entry.expected_hash() {
            return Err(AuditBroken::Entry { id: entry.id });
        }
        last = (entry.id, entry.hash);
    }
    Ok(last.1)
}

/// Checks the whole log. Gives how many entries it has and the hash of the last.
pub async fn verify_audit(store: &dyn Store) -> Result<(u64, [u8; 32]), AuditBroken> {
    let (mut after, mut hash) = (0, CHAIN_START);
    loop {
        let entries = store.audit(after, PAGE).await?;
        let Some(last) = entries.last().map(|entry| entry.id) else {
            return Ok((after, hash));
        };
        hash = verify_chain(after, hash, &entries)?;
        after = last;
    }
}
