//! Which shards are whose: the lock saves work, the pair in the store decides (reliability §4).

use crate::happening::{Fate, Happening};
use crate::marks::Mark;
use crate::mutation::Mutation;
use crate::node::{Pending, Trouble, Waiter};
use crate::store::{Pair, Rejection, Transaction};
use crate::world::World;

/// How soon after waking a node counts as a sleeper.
const JUST_WOKE_MS: i64 = 10_000;

impl World {
    const fn lease_ms(&self) -> (i64, i64) {
        if self.is_quiet() {
            (1_200_000, 400_000)
        } else {
            (12_000, 4_000)
        }
    }

    pub fn heartbeat(&mut self, node: usize) {
        let (lease, every) = self.lease_ms();
        let jitter = self.dice.ms(0, every / 8);
        let life = self.nodes[node].life;
        self.plan(every + jitter, Happening::Heartbeat { node, life });
        if self.nodes[node].cut_until > self.now {
            // A renewal without an answer is not a lost lock; no lock is taken on a guess.
            self.hit(Mark::LocksUnreachable);
            return;
        }
        let instance = self.nodes[node].instance;
        for shard in 0..self.swarm.shards {
            let held = self.locks.0[shard].filter(|(_, _, until)| *until > self.now);
            let mine = held.is_some_and(|(_, holder, _)| holder == instance);
            let takes = mine || (held.is_none() && self.dice.chance(700));
            if takes {
                let until = self.now.plus_ms(lease);
                self.locks.0[shard] = Some((node, instance, until));
            }
            match self.nodes[node].owned[shard] {
                Some(pair) if !takes && self.store.shards[shard] != Some(pair) => {
                    self.drop_shard(node, shard);
                }
                None if takes && !self.nodes[node].claiming[shard] => self.claim(node, shard),
                _ => {}
            }
        }
    }

    /// Raises the epoch in the store; only its commit entitles to write.
    fn claim(&mut self, node: usize, shard: usize) {
        if self.dice.chance(self.swarm.read_fails) {
            self.hit(Mark::StoreReadFailed);
            return;
        }
        let found = self.store.shards[shard].map_or(0, |pair| pair.epoch);
        let epoch = if self.mutated(Mutation::ReuseEpoch) {
            found.max(1)
        } else {
            found + 1
        };
        self.nodes[node].claiming[shard] = true;
        let instance = self.nodes[node].instance;
        self.submit(
            node,
            Pending {
                transaction: Transaction::Claim {
                    shard,
                    pair: Pair { epoch, instance },
                },
                waiter: Waiter::Shard(shard),
            },
        );
    }

    pub fn claim_verdict(
        &mut self,
        node: usize,
        shard: usize,
        verdict: Result<Result<(), Rejection>, Fate>,
    ) {
        self.nodes[node].claiming[shard] = false;
        let instance = self.nodes[node].instance;
        match verdict {
            Ok(Ok(())) | Err(Fate::Unknown) => {
                // What stands in the row is what counts.
                let Some(pair) = self.store.shards[shard] else {
                    return;
                };
                if pair.instance != instance {
                    return;
                }
                if pair.epoch > 1 {
                    self.hit(Mark::TakenOver);
                }
                let others = self.nodes.iter().enumerate();
                if others
                    .into_iter()
                    .any(|(other, process)| other != node && process.owned[shard].is_some())
                {
                    self.hit(Mark::TwoBelievers);
                }
                self.note(|| format!("node {node} owns shard {shard} under epoch {}", pair.epoch));
                self.nodes[node].owned[shard] = Some(pair);
                self.plan_sweep(node, self.now);
                self.nudge_relays();
            }
            Ok(Err(_)) => self.hit(Mark::EpochMoved),
            Err(_) => self.hit(Mark::StoreRefused),
        }
    }

    /// It is another's: what was known of it may be wrong.
    pub fn drop_shard(&mut self, node: usize, shard: usize) {
        self.note(|| format!("node {node} drops shard {shard}"));
        let process = &mut self.nodes[node];
        process.owned[shard] = None;
        if self.now.since(process.paused_until) < JUST_WOKE_MS {
            self.hit(Mark::SleeperWoke);
        }
        for index in 0..self.swarm.orders {
            if self.shard_of(index) != shard {
                continue;
            }
            let actor = &mut self.nodes[node].actors[index];
            actor.known = None;
            actor.alarm = None;
            actor.under_way.clear();
            let waiting = std::mem::take(&mut actor.mailbox);
            for tell in waiting {
                self.answer(node, index, &tell, Err(Trouble::NotOwner));
            }
        }
    }
}
