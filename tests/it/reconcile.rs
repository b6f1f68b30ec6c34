//! Bills against the books: the comparison for any mixture of trouble (`matching`), what a run does with
//! it (`run`), the balance (`flows`), the job (`nightly`), what merchants see (`api`), and a whole day
//! (`day`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
pub mod bench;
mod cli;
pub mod day;
mod flows;
mod matching;
mod nightly;
mod run;
