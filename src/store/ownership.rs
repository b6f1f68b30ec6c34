//! Which instance answers for which orders, as the store knows it (architecture §2, reliability §4).

use std::sync::Arc;

use crate::order::OrderId;

/// What an order's shard is computed from: the same for ever, whatever the number of shards. A ULID's
/// low half is random already; the multiplication also spreads numbers that are not.
pub fn shard_hash(id: OrderId) -> u32 {
    let bits = u128::from(id.ulid());
    let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    let mixed = low.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    u32::try_from(mixed).unwrap_or_default()
}

/// The order's virtual shard among `shards`.
pub fn shard_of(id: OrderId, shards: u16) -> u16 {
    u16::try_from(shard_hash(id) % u32::from(shards.max(1))).unwrap_or_default()
}

/// The shards whose orders are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    All,
    /// These of so many.
    Some {
        shards: u16,
        mine: Arc<[u16]>,
    },
}

impl Owned {
    pub fn contains(&self, id: OrderId) -> bool {
        match self {
            Self::All => true,
            Self::Some { shards, mine } => mine.contains(&shard_of(id, *shards)),
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::Some { mine, .. } if mine.is_empty())
    }
}

/// Who writes for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRow {
    pub shard: u16,
    pub epoch: u64,
    /// `None`: it was given back, and whoever comes first may claim it.
    pub instance: Option<u128>,
}

/// A gateway process that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    pub instance: u128,
    /// `cluster.node_id`: the same through restarts.
    pub node: String,
    /// Where other nodes reach it; `None` on the embedded store.
    pub internal_url: Option<String>,
    /// Milliseconds until its time is over by the store's clock; negative: it has been silent for so
    /// long beyond it.
    pub left_ms: i64,
}

impl InstanceRow {
    pub const fn is_alive(&self) -> bool {
        self.left_ms > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    #[test]
    fn shards_are_even_and_never_change() {
        let mut counts = [0_u32; 64];
        for number in 0..64_000_u128 {
            counts[usize::from(shard_of(OrderId::from_ulid(Ulid(number)), 64))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)));
        assert_eq!(shard_of(OrderId::from_ulid(Ulid(1)), 64), 57);
    }
}
