//! One run: a seed and a mode.

use std::fmt;

use crate::happening::Happening;
use crate::marks::Marks;
use crate::mutation::Mutation;
use crate::world::World;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// The longest code that a run may have, and what the provider may take to end it (Q7).
const ATTEMPTS_REST_MS: i64 = 300_000 + 10 * MINUTE_MS;
/// Room for three days of a dead endpoint.
const ALL_RESTS_MS: i64 = 96 * HOUR_MS;

/// What a run must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Faults to the last moment; nothing wrong is ever done.
    Safety,
    /// Faults until a moment, then a healthy core: everything comes to rest.
    Liveness,
}

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    pub marks: Marks,
    pub steps: u64,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: i64,
    /// Equal for two runs of one seed.
    pub digest: u64,
    pub failure: Option<String>,
}

/// A run that failed, with what a person needs.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub mode: Mode,
    pub what: String,
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(formatter, "{line}")?;
        }
        let (seed, mode) = (self.seed, self.mode);
        writeln!(formatter, "{mode:?}, seed {seed}: {}", self.what)?;
        let test = match mode {
            Mode::Safety => "safety",
            Mode::Liveness => "liveness",
        };
        write!(
            formatter,
            "replay: ENROLLPAY_SIMULATION_SEED={seed} cargo nextest run -p simulation -E 'test(={test}_one_seed)'"
        )
    }
}

/// One seed, one run.
pub fn run(seed: u64, mode: Mode, mutation: Option<Mutation>) -> Run {
    let mut world = World::new(seed, mutation, 0);
    play(&mut world, mode);
    Run {
        marks: world.marks,
        steps: world.steps,
        virtual_ms: world.now.since(crate::world::START),
        digest: world.digest,
        failure: world.failure,
    }
}

/// The same run again, with the last `lines` of what happened; `None` where it does not fail.
pub fn trace(seed: u64, mode: Mode, mutation: Option<Mutation>, lines: usize) -> Option<Failure> {
    let mut world = World::new(seed, mutation, lines);
    play(&mut world, mode);
    let trace = world.take_trace();
    world.failure.map(|what| Failure {
        seed,
        mode,
        what,
        trace,
    })
}

fn play(world: &mut World, mode: Mode) {
    let session_ms = world.swarm.session_ms;
    match mode {
        Mode::Safety => {
            // Some runs see the late notices and the bill, most end with the people.
            let end_ms = if world.dice.chance(250) {
                session_ms + 8 * HOUR_MS
            } else {
                session_ms + 40 * MINUTE_MS
            };
            world.plan(session_ms + 35 * MINUTE_MS, Happening::Bill);
            world.plan(session_ms + 10 * MINUTE_MS, Happening::OperatorResends);
            for minutes in [1, 3, 6, 10, 20, 30] {
                world.plan(session_ms + minutes * MINUTE_MS, Happening::OperatorsAct);
            }
            world.plan(end_ms, Happening::End);
        }
        Mode::Liveness => {
            // An hour's jump of a clock is an hour's delay: nothing a bound could be put on.
            world.swarm.jump_every = 0;
            world.honest = world.swarm.is_honest();
            let heal_ms = world.dice.ms(session_ms / 3, session_ms);
            world.plan(heal_ms, Happening::Heal);
            world.plan(heal_ms + ATTEMPTS_REST_MS, Happening::AttemptsMustRest);
            for hours in [1, 30] {
                world.plan(heal_ms + hours * HOUR_MS, Happening::OperatorResends);
            }
            for hours in [2, 6, 12, 24, 36, 48, 60] {
                world.plan(heal_ms + hours * HOUR_MS, Happening::OperatorsAct);
            }
            for hours in [7, 31] {
                world.plan(heal_ms + hours * HOUR_MS, Happening::Bill);
            }
            world.plan(heal_ms + ALL_RESTS_MS, Happening::End);
        }
    }
    world.unleash();
    world.invite();
    world.run();
    if world.failure.is_none() {
        world.judge();
    }
    if world.failure.is_none() && mode == Mode::Liveness {
        world.judge_rest();
    }
}
