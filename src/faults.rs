//! Crash points: places where a test kills the process, to prove that what was durable is enough to
//! go on from (reliability §2.1). Nothing of it exists unless the `fault-injection` feature is on,
//! and a release profile refuses that feature.
//!
//! `ENROLLPAY_CRASH=c4:1` sends SIGKILL to the process when it reaches point `c4` for the first time.
//! `ENROLLPAY_PANIC=c4:1` panics there instead, with the words of `ENROLLPAY_PANIC_WORDS`.

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!(
    "the fault-injection feature kills the process on purpose: build without it, or in the dev profile"
);

/// Dies here where `ENROLLPAY_CRASH` names this point and this is the time it names.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub const fn crash_point(_name: &str) {}

/// Dies here where `ENROLLPAY_CRASH` names this point and this is the time it names.
#[cfg(feature = "fault-injection")]
pub fn crash_point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    static PANIC: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PANICKED: AtomicU64 = AtomicU64::new(0);

    let is_due = |wanted: &OnceLock<_>, variable: &str, reached: &AtomicU64| {
        let wanted = wanted.get_or_init(|| parse(&std::env::var(variable).ok()?));
        wanted.as_ref().is_some_and(|(point, nth)| {
            point == name && reached.fetch_add(1, Ordering::SeqCst) + 1 == *nth
        })
    };
    if is_due(&PANIC, "ENROLLPAY_PANIC", &PANICKED) {
        let words = std::env::var("ENROLLPAY_PANIC_WORDS").unwrap_or_default();
        panic!("{words}");
    }
    if is_due(&WANTED, "ENROLLPAY_CRASH", &REACHED) {
        // Where the kernel refuses even this, the test that waits for the death says so.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// `c4:1` or `c4`: the point's name, and which time counts (the first where none is named).
#[cfg(any(feature = "fault-injection", test))]
fn parse(wanted: &str) -> Option<(String, u64)> {
    let (name, nth) = wanted.split_once(':').unwrap_or((wanted, "1"));
    Some((name.to_owned(), nth.parse().ok().filter(|nth| *nth > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_point_and_a_time() {
        assert_eq!(parse("c4:2"), Some(("c4".to_owned(), 2)));
        assert_eq!(parse("c12"), Some(("c12".to_owned(), 1)));
        assert_eq!(parse("c4:0"), None);
        assert_eq!(parse("c4:x"), None);
    }
}
