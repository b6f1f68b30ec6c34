//! Ten thousand seeds: safety and liveness, every fault met, every mutation caught.
//!
//! ```text
//! ENROLLPAY_SIMULATION_SEEDS=1000000  so many seeds over all campaigns
//! ENROLLPAY_SIMULATION_SEED=17        this one only, with what happened last
//! ENROLLPAY_SIMULATION_LINES=5000     with that many lines of it
//! ENROLLPAY_SIMULATION_MARKS=1        prints the table of marks (with --no-capture)
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "how long a campaign took is a matter of real time"
)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use simulation::{Mark, Marks, Mode, Mutation, run, trace};

/// Of all four campaigns together.
const SEEDS: u64 = 10_000;
/// Of what happened last.
const LINES: usize = 100;

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A quarter of the seeds.
fn share(place: u64) -> Range<u64> {
    let each = number_from("ENROLLPAY_SIMULATION_SEEDS").unwrap_or(SEEDS) / 4;
    place * each..(place + 1) * each
}

/// Nothing may fail, and every fault must have been met.
fn campaign(mode: Mode, seeds: Range<u64>, never: &[Mark]) {
    if number_from("ENROLLPAY_SIMULATION_SEED").is_some() {
        return;
    }
    let began = Instant::now();
    let mut marks = Marks::default();
    let (mut steps, mut virtual_ms) = (0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        // A panic of the heart is a failure of its seed.
        let ran = catch_unwind(AssertUnwindSafe(|| run(seed, mode, None)))
            .unwrap_or_else(|_| panic!("{mode:?}, seed {seed} panicked"));
        if ran.failure.is_some() {
            let failure = trace(seed, mode, None, LINES).expect("one seed is one run");
            panic!("{failure}");
        }
        marks.add(&ran.marks);
        steps += ran.steps;
        virtual_ms += ran.virtual_ms;
    }
    let took = began.elapsed();
    println!(
        "{mode:?}: {count} seeds, {steps} steps, {} virtual hours in {took:?}",
        virtual_ms / 3_600_000
    );
    if number_from("ENROLLPAY_SIMULATION_MARKS").is_some() {
        print!("{}", marks.table());
    }
    let missing: Vec<_> = marks
        .missing()
        .into_iter()
        .filter(|mark| !never.contains(mark))
        .map(Mark::text)
        .collect();
    assert!(missing.is_empty(), "{mode:?}: no run has met: {missing:?}");
}

/// An hour's jump of a clock is an hour's delay: nothing that a bound could be put on.
const NOT_IN_LIVENESS: &[Mark] = &[Mark::ClockJumped];

#[test]
fn safety_holds() {
    campaign(Mode::Safety, share(0), &[]);
}

#[test]
fn safety_holds_for_more() {
    campaign(Mode::Safety, share(1), &[]);
}

#[test]
fn a_healthy_core_comes_to_rest() {
    campaign(Mode::Liveness, share(2), NOT_IN_LIVENESS);
}

#[test]
fn a_healthy_core_comes_to_rest_for_more() {
    campaign(Mode::Liveness, share(3), NOT_IN_LIVENESS);
}

/// What a failure's last line asks for.
fn replay(mode: Mode) {
    let Some(seed) = number_from("ENROLLPAY_SIMULATION_SEED") else {
        return;
    };
    let lines = number_from("ENROLLPAY_SIMULATION_LINES").and_then(|lines| lines.try_into().ok());
    if let Some(failure) = trace(seed, mode, None, lines.unwrap_or(LINES)) {
        panic!("{failure}");
    }
}

#[test]
fn safety_one_seed() {
    replay(Mode::Safety);
}

#[test]
fn liveness_one_seed() {
    replay(Mode::Liveness);
}

/// The promise that all the others stand on.
#[test]
fn one_seed_is_one_run() {
    for seed in 0..100 {
        for mode in [Mode::Safety, Mode::Liveness] {
            let (first, second) = (run(seed, mode, None), run(seed, mode, None));
            assert_eq!(first.digest, second.digest, "{mode:?}, seed {seed}");
            assert_eq!(first.steps, second.steps, "{mode:?}, seed {seed}");
        }
    }
    assert_ne!(
        run(1, Mode::Safety, None).digest,
        run(2, Mode::Safety, None).digest
    );
}

/// A mutation, the mode that must show it, and how its failure begins. Any of several rules may be the
/// first to see it.
type Caught = (Mutation, Mode, &'static [&'static str]);

const MUTATIONS: &[Caught] = &[
    (Mutation::AckBeforeCommit, Mode::Safety, &["A1"]),
    (Mutation::AnswerBeforeCommit, Mode::Safety, &["A5"]),
    (Mutation::SkipVersionCheck, Mode::Safety, &["O1"]),
    (Mutation::SkipFenceCheck, Mode::Safety, &["O2"]),
    (Mutation::ReuseEpoch, Mode::Safety, &["O3"]),
    (Mutation::CheckThenInsert, Mode::Safety, &["A2", "M2", "M7"]),
    (Mutation::ClaimByNodeClock, Mode::Safety, &["Q3"]),
    (Mutation::SkipRefunds, Mode::Liveness, &["M1"]),
    (Mutation::FreshRefundNumber, Mode::Safety, &["M5"]),
    (Mutation::ExpireWithoutClosing, Mode::Safety, &["Q4", "Q5"]),
    (Mutation::NotFoundIsClosed, Mode::Safety, &["Q4"]),
    (Mutation::UnknownIsRefused, Mode::Safety, &["Q4"]),
    (Mutation::EffectsBeforeCommit, Mode::Safety, &["O4"]),
    (Mutation::RepeatUnchecked, Mode::Safety, &["Q4", "O4"]),
    (Mutation::CallTimeFromDispatch, Mode::Safety, &["Q4"]),
    (Mutation::OutdatedAnswersCount, Mode::Safety, &["Q4"]),
    (Mutation::DropOutboxRow, Mode::Safety, &["E1"]),
    (Mutation::ReserialiseBody, Mode::Safety, &["E4"]),
    (Mutation::DeliverUnconditionally, Mode::Safety, &["E2"]),
    (Mutation::DeliverOutOfTurn, Mode::Safety, &["E3"]),
    (Mutation::NoSweep, Mode::Liveness, &["Q7", "M1"]),
    (Mutation::TrustMemory, Mode::Liveness, &["M1", "Q7"]),
    (Mutation::DropLedgerLine, Mode::Safety, &["M9"]),
    (Mutation::ForgetLateMoney, Mode::Safety, &["A1"]),
];

#[test]
fn every_mutation_is_caught() {
    let within = number_from("ENROLLPAY_SIMULATION_MUTATION_SEEDS").unwrap_or(10_000);
    let mut escaped = Vec::new();
    for (mutation, mode, expected) in MUTATIONS {
        let found = (0..within).find_map(|seed| {
            let ran = catch_unwind(|| run(seed, *mode, Some(*mutation)))
                .unwrap_or_else(|_| panic!("{mutation:?}, seed {seed} panicked"));
            Some((seed, ran.failure?))
        });
        match found {
            Some((seed, what)) => {
                println!("{mutation:?}: {} seeds: {what}", seed + 1);
                if !expected.iter().any(|rule| what.contains(rule)) {
                    escaped.push(format!("{mutation:?} shows as {what}"));
                }
            }
            None => escaped.push(format!("{mutation:?} is not caught in {within} seeds")),
        }
    }
    assert!(escaped.is_empty(), "{escaped:#?}");
}
