//! What wakes orders: timers in memory make it prompt, the sweep of due rows makes it certain.

use crate::happening::Happening;
use crate::mutation::Mutation;
use crate::node::{From, Tell};
use crate::order::{Command, Timestamp};
use crate::world::World;

impl World {
    /// A timer: it only makes prompt what the sweep makes certain.
    pub fn arm(&mut self, node: usize, index: usize, pause_ms: i64) {
        let process = &self.nodes[node];
        if !process.up || process.owned[self.shard_of(index)].is_none() {
            return;
        }
        let Some(due) = process.actors[index]
            .known
            .as_ref()
            .and_then(|known| known.next_due_at())
        else {
            return;
        };
        let wait = due.since(self.clock(node)).max(pause_ms);
        let at = self.now.plus_ms(wait);
        let life = process.life;
        let alarm = &mut self.nodes[node].actors[index].alarm;
        if alarm.is_some_and(|armed| armed <= at && armed > self.now) {
            return;
        }
        *alarm = Some(at);
        self.plan(wait, Happening::Alarm { node, life, index });
    }

    pub fn alarm(&mut self, node: usize, index: usize) {
        let actor = &mut self.nodes[node].actors[index];
        if actor.alarm.is_none_or(|armed| armed > self.now) {
            return;
        }
        actor.alarm = None;
        let due = actor.known.as_ref().and_then(|known| known.next_due_at());
        if due.is_some_and(|due| due <= self.clock(node)) {
            let tick = Tell {
                command: Command::Tick,
                from: From::Timer,
            };
            self.tell(node, index, tick);
        } else {
            self.arm(node, index, 10);
        }
    }

    pub fn sweep(&mut self, node: usize) {
        if self.now < self.nodes[node].sweep_at || self.mutated(Mutation::NoSweep) {
            return;
        }
        for index in self.store.due(self.clock(node)) {
            let owns = self.nodes[node].owned[self.shard_of(index)].is_some();
            let actor = &self.nodes[node].actors[index];
            if owns && actor.work.is_none() && actor.mailbox.is_empty() {
                let tick = Tell {
                    command: Command::Tick,
                    from: From::Sweep,
                };
                self.tell(node, index, tick);
            }
        }
        let next = self.store.next_due_at();
        self.plan_sweep(node, next.unwrap_or(self.now.plus_ms(600_000)));
    }

    /// The next sweep that can find something: sweeps that find nothing are not worth a step.
    pub fn plan_sweep(&mut self, node: usize, due: Timestamp) {
        let skew = self.nodes[node].skew_ms;
        let every = if self.is_quiet() { 60_000 } else { 5_000 };
        let at = due.minus_ms(skew).max(self.now.plus_ms(every));
        let process = &mut self.nodes[node];
        if process.up && (process.sweep_at <= self.now || at < process.sweep_at) {
            process.sweep_at = at;
            let life = process.life;
            self.queue.plan(at, Happening::Sweep { node, life });
        }
    }
}
