//! A provider that answers nothing is left alone for a while, and then asked by one call at a time
//! (F20). Nothing is lost by it: what is due stays due, by its row.

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::Outcome;

/// So many calls in a row without a usable answer open the circuit.
const PATIENCE: u32 = 8;
/// The first and the longest pause before a probe. Short: a payment whose callback was lost waits for it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(super) enum Circuit {
    /// Calls pass. So many in a row have proved nothing.
    Closed { unknown: u32 },
    /// No call passes before `until`; then one, and nobody else until it is answered.
    Open {
        until: Instant,
        pause: Duration,
        probing: bool,
    },
}

/// May a call pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// One call, to see.
    Probe,
    Shut {
        until: Option<Instant>,
    },
}

impl Circuit {
    pub(super) const fn new() -> Self {
        Self::Closed { unknown: 0 }
    }

    pub(super) fn gate(&self) -> Gate {
        match self {
            Self::Closed { .. } => Gate::Open,
            Self::Open { probing: true, .. } => Gate::Shut { until: None },
            Self::Open { until, .. } if Instant::now() < *until => Gate::Shut {
                until: Some(*until),
            },
            Self::Open { .. } => Gate::Probe,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// The probe leaves.
    pub(super) fn probe(&mut self) {
        if let Self::Open { probing, .. } = self {
            *probing = true;
        }
    }

    /// Learns from what became of a call; `None`: it never left, or was given up before it ended.
    pub(super) fn came_to(
        &mut self,
        outcome: Option<Outcome>,
        was_probe: bool,
        spread: impl FnOnce(Duration) -> Duration,
    ) {
        match (outcome, &mut *self) {
            // A provider that says "too many" is there.
            (Some(Outcome::Ok | Outcome::Refused | Outcome::Limited), _) => *self = Self::new(),
            (Some(_), Self::Closed { unknown }) => {
                *unknown += 1;
                if *unknown >= PATIENCE {
                    *self = Self::Open {
                        until: Instant::now() + FIRST_PAUSE + spread(FIRST_PAUSE / 4),
                        pause: FIRST_PAUSE,
                        probing: false,
                    };
                }
            }
            (
                _,
                Self::Open {
                    until,
                    pause,
                    probing,
                },
            ) if was_probe => {
                *pause = (*pause * 2).min(LONGEST_PAUSE);
                *until = Instant::now() + *pause + spread(*pause / 4);
                *probing = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: Duration) -> Duration {
        Duration::ZERO
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_many_unknown_answers_and_closes_with_the_first_word() {
        let mut circuit = Circuit::new();
        for _ in 0..7 {
            circuit.came_to(Some(Outcome::Timeout), false, none);
        }
        circuit.came_to(Some(Outcome::Refused), false, none);
        for _ in 0..7 {
            circuit.came_to(Some(Outcome::Unavailable), false, none);
            assert_eq!(
                circuit.gate(),
                Gate::Open,
                "one answer began the count anew"
            );
        }
        circuit.came_to(Some(Outcome::Network), false, none);
        for pause in [1, 2, 4, 8, 8] {
            let until = Instant::now() + Duration::from_secs(pause);
            assert_eq!(circuit.gate(), Gate::Shut { until: Some(until) });
            tokio::time::sleep_until(until).await;
            assert_eq!(circuit.gate(), Gate::Probe);
            circuit.probe();
            assert_eq!(circuit.gate(), Gate::Shut { until: None }, "one at a time");
            // A straggler from before says nothing new.
            circuit.came_to(Some(Outcome::Timeout), false, none);
            assert_eq!(circuit.gate(), Gate::Shut { until: None });
            circuit.came_to(None, true, none);
        }
        circuit.came_to(Some(Outcome::Ok), false, none);
        assert_eq!(circuit.gate(), Gate::Open);
    }
}
