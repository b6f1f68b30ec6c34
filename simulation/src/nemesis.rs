//! Who breaks things: processes, locks, clocks, providers, the merchant's endpoint.

use crate::happening::Happening;
use crate::marks::Mark;
use crate::order::Timestamp;
use crate::world::{START, World};

/// How long after the people have left nothing much happens any more.
const QUIET_AFTER_MS: i64 = 1_800_000;
/// How long the nemesis stays after them.
const STAYS_MS: i64 = 1_200_000;

impl World {
    pub const fn is_quiet(&self) -> bool {
        self.now.since(START) > self.swarm.session_ms + QUIET_AFTER_MS
    }

    /// The first of each kind of trouble.
    pub fn unleash(&mut self) {
        for node in 0..self.swarm.nodes {
            let in_ms = self.dice.ms(0, 2_000);
            self.plan(in_ms, Happening::Restart(node));
        }
        self.again(self.swarm.crash_every, Happening::Crash(None));
        self.again(self.swarm.pause_every, Happening::Pause(None));
        self.again(self.swarm.flush_every, Happening::LocksEmptied);
        self.again(self.swarm.cut_every, Happening::LocksCut);
        self.again(self.swarm.jump_every, Happening::ClockJumps);
        self.again(self.swarm.provider_down_every, Happening::ProviderDown);
        self.again(self.swarm.endpoint_down_every, Happening::EndpointDown);
        self.again(self.swarm.poor_every, Happening::ProviderPoor);
    }

    fn again(&mut self, every: i64, what: Happening) {
        let stays = self.now.since(START) < self.swarm.session_ms + STAYS_MS;
        if every > 0 && stays {
            let in_ms = self.dice.ms(1, 2 * every);
            self.plan(in_ms, what);
        }
    }

    fn any_node(&mut self) -> usize {
        self.dice.index(self.nodes.len())
    }

    /// The node that is meant, if it still lives that life, or any that is up.
    fn victim(&mut self, which: Option<(usize, u32)>) -> Option<usize> {
        let (node, life) = which.unwrap_or_else(|| {
            let node = self.any_node();
            (node, self.nodes[node].life)
        });
        let process = &self.nodes[node];
        (!self.healed && process.up && process.life == life).then_some(node)
    }

    pub fn crash(&mut self, which: Option<(usize, u32)>) {
        if which.is_none() {
            self.again(self.swarm.crash_every, Happening::Crash(None));
        }
        let Some(node) = self.victim(which) else {
            return;
        };
        self.hit(Mark::NodeCrashed);
        self.note(|| format!("node {node} is killed"));
        if let Some(flush) = self.nodes[node].flush
            && !self.flushes[flush].landed
        {
            self.hit(Mark::CrashedWithFlush);
            if self.dice.chance(500) {
                self.flushes[flush].dropped = true;
                self.hit(Mark::CrashBeforeCommit);
            } else {
                self.hit(Mark::CrashAfterCommit);
            }
        } else if self.nodes[node].flush.is_some() {
            self.hit(Mark::CrashAfterCommit);
        }
        self.nodes[node].forget();
        let in_ms = self.dice.ms(500, 40_000);
        self.plan(in_ms, Happening::Restart(node));
    }

    pub fn restart(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        let skew = self.swarm.skew_ms;
        let skew_ms = self.dice.ms(-skew, skew + 1);
        let instance = self.dice.bits();
        let process = &mut self.nodes[node];
        process.up = true;
        process.instance = instance;
        process.skew_ms = skew_ms;
        process.sweep_at = Timestamp::from_millis(0);
        process.relay.look_at = Timestamp::from_millis(0);
        let life = process.life;
        self.note(|| format!("node {node} starts"));
        self.plan(0, Happening::Heartbeat { node, life });
        self.plan(10, Happening::Sweep { node, life });
        self.plan(20, Happening::RelayLooks { node, life });
    }

    pub fn pause(&mut self, which: Option<(usize, u32)>) {
        if which.is_none() {
            self.again(self.swarm.pause_every, Happening::Pause(None));
        }
        let Some(node) = self.victim(which) else {
            return;
        };
        self.hit(Mark::NodePaused);
        let in_ms = if self.dice.chance(500) {
            self.dice.ms(1_000, 45_000)
        } else {
            self.dice.ms(45_000, 150_000)
        };
        self.nodes[node].paused_until = self.now.plus_ms(in_ms);
        self.note(|| format!("node {node} sleeps for {in_ms} ms"));
    }

    pub fn locks_emptied(&mut self) {
        self.again(self.swarm.flush_every, Happening::LocksEmptied);
        self.hit(Mark::LocksFlushed);
        self.locks.0.fill(None);
    }

    pub fn locks_cut(&mut self) {
        self.again(self.swarm.cut_every, Happening::LocksCut);
        let node = self.any_node();
        let in_ms = self.dice.ms(5_000, 60_000);
        if !self.healed {
            self.nodes[node].cut_until = self.now.plus_ms(in_ms);
        }
    }

    pub fn clock_jumps(&mut self) {
        self.again(self.swarm.jump_every, Happening::ClockJumps);
        let node = self.any_node();
        if self.healed {
            return;
        }
        self.hit(Mark::ClockJumped);
        self.nodes[node].skew_ms = self.dice.pick(&[-3_600_000, -60_000, 0, 60_000, 3_600_000]);
        let skew = self.nodes[node].skew_ms;
        self.note(|| format!("the clock of node {node} is off by {skew} ms"));
        self.nodes[node].sweep_at = Timestamp::from_millis(0);
        self.plan_sweep(node, self.now);
    }

    pub fn provider_down(&mut self) {
        self.again(self.swarm.provider_down_every, Happening::ProviderDown);
        let account = self.dice.index(2);
        let in_ms = self.dice.ms(5_000, 180_000);
        if !self.healed {
            self.accounts[account].down_until = self.now.plus_ms(in_ms);
        }
    }

    pub fn provider_poor(&mut self) {
        self.again(self.swarm.poor_every, Happening::ProviderPoor);
        let account = self.dice.index(2);
        let in_ms = self.dice.ms(60_000, 3_600_000);
        if !self.healed {
            self.accounts[account].poor_until = self.now.plus_ms(in_ms);
        }
    }

    pub fn endpoint_down(&mut self) {
        self.again(self.swarm.endpoint_down_every, Happening::EndpointDown);
        let in_ms = self.dice.pick(&[60_000, 3_600_000, 300_000_000]);
        if !self.healed {
            self.endpoint_down_until = self.now.plus_ms(in_ms);
        }
    }

    /// From now on a core that works: every process up, every wire whole, every clock right.
    pub fn heal(&mut self) {
        self.note(|| "healed");
        self.healed = true;
        self.swarm.heal();
        self.swarm.session_ms = self.now.since(START);
        let now = self.now;
        for node in &mut self.nodes {
            node.paused_until = now;
            node.cut_until = now;
            node.skew_ms = 0;
        }
        for account in &mut self.accounts {
            account.down_until = now;
            account.poor_until = now;
        }
        self.endpoint_down_until = now;
        for folk in &mut self.folk {
            folk.until = now;
        }
    }
}
