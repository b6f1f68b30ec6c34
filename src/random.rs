//! The only source of randomness. Everyone else is handed a [`Random`], so a test can repeat a run.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom as Source};
use ulid::Ulid;

use crate::order::Timestamp;

/// Random bytes fit for keys and tokens.
pub trait Random: Send + Sync + fmt::Debug {
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Random + '_ {
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A ULID of `now`: 48 bits of time, 80 random bits.
    pub fn ulid(&self, now: Timestamp) -> Ulid {
        let millis = u64::try_from(now.as_millis()).unwrap_or_default();
        Ulid::from_parts(millis, u128::from_be_bytes(self.bytes::<16>()))
    }

    /// Lower-case hex digits, two a byte.
    pub fn hex<const N: usize>(&self) -> String {
        use fmt::Write as _;
        self.bytes::<N>()
            .iter()
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// Uniform in `0..bound` (0 where `bound` is 0): for jitter, not for keys.
    pub fn below(&self, bound: u64) -> u64 {
        u64::from_be_bytes(self.bytes::<8>())
            .checked_rem(bound)
            .unwrap_or_default()
    }
}

/// The operating system's generator.
#[derive(Clone, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        Source::new()
            .fill(bytes)
            .expect("the operating system hands out random bytes");
    }
}

/// Repeatable bytes from a seed: for tests only, predictable by design.
#[derive(Debug)]
pub struct SeededRandom(std::sync::Mutex<rand::rngs::StdRng>);

impl SeededRandom {
    pub fn new(seed: u64) -> Self {
        use rand::SeedableRng as _;
        Self(std::sync::Mutex::new(rand::rngs::StdRng::seed_from_u64(
            seed,
        )))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::Rng as _;
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}
