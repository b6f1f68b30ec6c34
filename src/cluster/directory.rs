//! Who is where, as of the last look at the store. What it says may be outdated: whoever is asked as an
//! owner and is not one says so.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;

use crate::store::{InstanceRow, ShardRow};

/// Owners and addresses. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<u16, u128>,
    addresses: HashMap<u128, String>,
}

impl Directory {
    pub(super) fn learn(&self, shards: &[ShardRow], instances: &[InstanceRow]) {
        let known = Known {
            owners: shards
                .iter()
                .filter_map(|row| Some((row.shard, row.instance?)))
                .collect(),
            addresses: instances
                .iter()
                .filter(|row| row.is_alive())
                .filter_map(|row| Some((row.instance, row.internal_url.clone()?)))
                .collect(),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The instance that owns a shard, and where it is reached.
    pub fn owner(&self, shard: u16) -> Option<(u128, String)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let owner = known.owners.get(&shard)?;
        Some((*owner, known.addresses.get(owner)?.clone()))
    }

    /// Where an instance that lives is reached.
    pub fn address(&self, instance: u128) -> Option<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.addresses.get(&instance).cloned()
    }

    /// Every instance that lives, we among them.
    pub fn addresses(&self) -> Vec<(u128, String)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = known.addresses.iter();
        pairs.map(|(id, url)| (*id, url.clone())).collect()
    }
}

/// Who should own a shard: rendezvous hashing (Thaler and Ravishankar, 1998) by node name, so that a
/// restart changes nothing and a node that comes or goes moves its own share only.
pub(super) fn preferred<'a>(
    shard: u16,
    alive: impl IntoIterator<Item = &'a InstanceRow>,
) -> Option<u128> {
    alive
        .into_iter()
        .max_by_key(|row| (score(&row.node, shard), Reverse(row.instance)))
        .map(|row| row.instance)
}

fn score(node: &str, shard: u16) -> [u8; 8] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&shard.to_be_bytes());
    context.update(node.as_bytes());
    let mut score = [0; 8];
    score.copy_from_slice(&context.finish().as_ref()[..8]);
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u128) -> InstanceRow {
        InstanceRow {
            instance: number,
            node: format!("node-{number}"),
            internal_url: None,
            left_ms: 1,
        }
    }

    #[test]
    fn a_node_that_goes_moves_its_own_share_only() {
        let three = [node(1), node(2), node(3)];
        let two = [node(1), node(3)];
        let mut shares = HashMap::new();
        for shard in 0..1_024 {
            let before = preferred(shard, &three).unwrap();
            *shares.entry(before).or_insert(0) += 1;
            if before != 2 {
                assert_eq!(preferred(shard, &two), Some(before));
            }
        }
        assert!(
            shares.values().all(|share| (240..450).contains(share)),
            "{shares:?}"
        );
        assert_eq!(preferred(0, &[]), None);
    }
}
