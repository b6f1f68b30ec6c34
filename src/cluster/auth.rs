//! Who speaks: both sides prove that they know `cluster.secret`, by an HMAC over everything that a
//! request and its answer mean. A request counts once, for one receiver, for half a minute.
//!
//! What travels is not hidden: personal data are sealed before, and the network is the school's own.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::order::Timestamp;

pub(super) const FROM: &str = "x-enrollpay-from";
pub(super) const TO: &str = "x-enrollpay-to";
pub(super) const AT: &str = "x-enrollpay-at";
pub(super) const NONCE: &str = "x-enrollpay-nonce";
pub(super) const REMAINING: &str = "x-enrollpay-remaining";
pub(super) const PROOF: &str = "x-enrollpay-proof";

/// How far two nodes' clocks may be apart, transit included.
const WINDOW_MS: i64 = 30_000;
/// A nonce may come again for twice the window: a request may be from the future, too.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Nonces in each of two generations. More requests are not let in.
const MOST_NONCES: usize = 1 << 19;
/// A caller's clock may be off by so much before its request counts as older than it is.
const TOLERATED_MS: i64 = 5_000;

/// The secret that all nodes share, at work. Cheap to clone.
#[derive(Clone)]
pub(super) struct Key(hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(***)")
    }
}

/// What a request says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub from: u128,
    /// Addresses are used again: this names the process.
    pub to: u128,
    pub at: Timestamp,
    pub nonce: u128,
    /// The caller waits for so long from `at`.
    pub remaining_ms: u64,
}

impl Stamp {
    /// As headers, in the one spelling that is signed.
    pub(super) fn headers(&self) -> [(&'static str, String); 5] {
        [
            (FROM, format!("{:032x}", self.from)),
            (TO, format!("{:032x}", self.to)),
            (AT, self.at.as_millis().to_string()),
            (NONCE, format!("{:032x}", self.nonce)),
            (REMAINING, self.remaining_ms.to_string()),
        ]
    }

    /// `header` reads one.
    pub(super) fn read<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Option<Self> {
        let hex = |name| u128::from_str_radix(header(name)?, 16).ok();
        let stamp = Self {
            from: hex(FROM)?,
            to: hex(TO)?,
            at: Timestamp::from_millis(header(AT)?.parse().ok()?),
            nonce: hex(NONCE)?,
            remaining_ms: header(REMAINING)?.parse().ok()?,
        };
        let same = |(name, text): (_, String)| header(name) == Some(text.as_str());
        stamp.headers().into_iter().all(same).then_some(stamp)
    }
}

impl Key {
    pub(super) fn new(secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The proof that goes with a request.
    pub(super) fn prove_request(&self, path: &str, stamp: &Stamp, body: &[u8]) -> String {
        let text = request_text("POST", path, stamp, body);
        STANDARD.encode(hmac::sign(&self.0, text.as_bytes()))
    }

    fn is_request(
        &self,
        method: &str,
        path: &str,
        stamp: &Stamp,
        body: &[u8],
        proof: &str,
    ) -> bool {
        self.is(&request_text(method, path, stamp, body), proof)
    }

    /// The proof that goes with the answer to the request of this stamp.
    pub(super) fn prove_answer(&self, stamp: &Stamp, status: u16, body: &[u8]) -> String {
        let text = answer_text(stamp, status, body);
        STANDARD.encode(hmac::sign(&self.0, text.as_bytes()))
    }

    pub(super) fn is_answer(&self, stamp: &Stamp, status: u16, body: &[u8], proof: &str) -> bool {
        self.is(&answer_text(stamp, status, body), proof)
    }

    /// In constant time.
    fn is(&self, text: &str, proof: &str) -> bool {
        STANDARD
            .decode(proof)
            .is_ok_and(|proof| hmac::verify(&self.0, text.as_bytes(), &proof).is_ok())
    }
}

fn request_text(method: &str, path: &str, stamp: &Stamp, body: &[u8]) -> String {
    let [from, to, at, nonce, remaining] = stamp.headers().map(|(_, text)| text);
    let body = hash(body);
    format!("request\n{method}\n{path}\n{from}\n{to}\n{at}\n{nonce}\n{remaining}\n{body}\n")
}

fn answer_text(stamp: &Stamp, status: u16, body: &[u8]) -> String {
    let [from, to, _, nonce, _] = stamp.headers().map(|(_, text)| text);
    let body = hash(body);
    format!("answer\n{from}\n{to}\n{nonce}\n{status}\n{body}\n")
}

fn hash(body: &[u8]) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, body))
}

/// Why a request is not let in. Nothing of it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Without all it needs to be judged.
    Malformed,
    TooLarge,
    /// Its body did not come, or not in time.
    Broken,
    /// From another time than ours.
    Stale,
    /// Not by one who knows the secret, or not as that one wrote it.
    Forged,
    /// Heard before.
    Replayed,
    /// From here on whoever asks has proven who it is, and is told: it is another instance that is meant.
    Receiver,
    /// Whoever asks has stopped waiting.
    TooLate,
    /// Too many requests to remember.
    Full,
    /// We do not read what it says, or are not ready for it.
    Unreadable,
}

impl Refused {
    /// Its name as a metric label.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Broken => "broken",
            Self::Stale => "stale",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Receiver => "receiver",
            Self::TooLate => "too_late",
            Self::Full => "full",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Lets requests in.
#[derive(Debug)]
pub(super) struct Door {
    key: Key,
    instance: u128,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

impl Door {
    pub(super) fn new(key: Key, instance: u128, clock: Arc<dyn Clock>) -> Self {
        Self {
            key,
            instance,
            clock,
            seen: Mutex::default(),
        }
    }

    /// Is it of our time? Asked before the body is read.
    pub(super) fn is_timely(&self, stamp: &Stamp) -> bool {
        self.clock.now().since(stamp.at).abs() <= WINDOW_MS
    }

    /// `waited`: since the request's head was here.
    pub(super) fn let_in(
        &self,
        method: &str,
        path: &str,
        stamp: &Stamp,
        body: &[u8],
        proof: &str,
        waited: Duration,
    ) -> Result<(), Refused> {
        if !self.key.is_request(method, path, stamp, body, proof) {
            return Err(Refused::Forged);
        }
        if !self.is_timely(stamp) {
            return Err(Refused::Stale);
        }
        if stamp.to != self.instance {
            return Err(Refused::Receiver);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take(stamp.nonce)?;
        drop(seen);
        let remaining = i64::try_from(stamp.remaining_ms).unwrap_or(i64::MAX);
        let on_its_way = self.clock.now().since(stamp.at);
        let is_over = waited >= Duration::from_millis(stamp.remaining_ms)
            || on_its_way.saturating_sub(TOLERATED_MS) >= remaining;
        if is_over {
            return Err(Refused::TooLate);
        }
        Ok(())
    }
}

/// Nonces of the last minute, and of the one before.
#[derive(Debug)]
struct Seen {
    since: Instant,
    now: HashSet<u128>,
    before: HashSet<u128>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            now: HashSet::new(),
            before: HashSet::new(),
        }
    }
}

impl Seen {
    fn take(&mut self, nonce: u128) -> Result<(), Refused> {
        if self.since.elapsed() >= REMEMBERED {
            self.before = std::mem::take(&mut self.now);
            self.since = Instant::now();
        }
        if self.before.contains(&nonce) || self.now.contains(&nonce) {
            return Err(Refused::Replayed);
        }
        if self.now.len() >= MOST_NONCES {
            return Err(Refused::Full);
        }
        self.now.insert(nonce);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_168_800);
    const STAMP: Stamp = Stamp {
        from: 1,
        to: 2,
        at: NOW,
        nonce: 3,
        remaining_ms: 10_000,
    };

    fn key(secret: &str) -> Key {
        Key::new(&SecretString::from(secret))
    }

    fn door(clock: &ManualClock) -> Door {
        Door::new(key("secret"), 2, Arc::new(clock.clone()))
    }

    fn knock(door: &Door, stamp: &Stamp) -> Result<(), Refused> {
        let proof = key("secret").prove_request("/changed", stamp, b"{}");
        door.let_in("POST", "/changed", stamp, b"{}", &proof, Duration::ZERO)
    }

    #[test]
    fn every_word_of_a_request_is_proven() {
        let door = door(&ManualClock::at(NOW));
        let proof = key("secret").prove_request("/changed", &STAMP, b"{}");
        let try_in = |method, path, stamp: Stamp, body: &[u8], proof: &str| {
            door.let_in(method, path, &stamp, body, proof, Duration::ZERO)
        };
        let changed = [
            Stamp { from: 9, ..STAMP },
            Stamp { to: 9, ..STAMP },
            Stamp { nonce: 9, ..STAMP },
            Stamp {
                at: NOW.plus_ms(1),
                ..STAMP
            },
            Stamp {
                remaining_ms: 9,
                ..STAMP
            },
        ];
        for stamp in changed {
            let answer = try_in("POST", "/changed", stamp, b"{}", &proof);
            assert_eq!(answer, Err(Refused::Forged), "{stamp:?}");
        }
        let forged = Err(Refused::Forged);
        assert_eq!(try_in("PUT", "/changed", STAMP, b"{}", &proof), forged);
        assert_eq!(try_in("POST", "/news", STAMP, b"{}", &proof), forged);
        assert_eq!(try_in("POST", "/changed", STAMP, b"[]", &proof), forged);
        assert_eq!(try_in("POST", "/changed", STAMP, b"{}", ""), forged);
        let other = key("another").prove_request("/changed", &STAMP, b"{}");
        assert_eq!(try_in("POST", "/changed", STAMP, b"{}", &other), forged);
        assert_eq!(try_in("POST", "/changed", STAMP, b"{}", &proof), Ok(()));
    }

    #[test]
    fn a_request_counts_once_for_one_receiver_in_its_time() {
        let clock = ManualClock::at(NOW);
        let door = door(&clock);
        assert_eq!(knock(&door, &STAMP), Ok(()));
        assert_eq!(knock(&door, &STAMP), Err(Refused::Replayed));
        let elsewhere = Stamp { to: 7, ..STAMP };
        assert_eq!(knock(&door, &elsewhere), Err(Refused::Receiver));
        let next = Stamp { nonce: 4, ..STAMP };
        clock.advance_ms(15_000);
        assert_eq!(knock(&door, &next), Err(Refused::TooLate));
        clock.advance_ms(15_001);
        assert_eq!(knock(&door, &next), Err(Refused::Stale));
        clock.set(NOW.minus_ms(30_001));
        assert_eq!(knock(&door, &next), Err(Refused::Stale));
    }

    #[test]
    fn an_answer_is_to_one_request() {
        let key = key("secret");
        let proof = key.prove_answer(&STAMP, 200, b"{}");
        assert!(key.is_answer(&STAMP, 200, b"{}", &proof));
        assert!(!key.is_answer(&STAMP, 421, b"{}", &proof));
        assert!(!key.is_answer(&STAMP, 200, b"[]", &proof));
        assert!(!key.is_answer(&Stamp { nonce: 4, ..STAMP }, 200, b"{}", &proof));
    }

    #[test]
    fn one_spelling_of_a_stamp() {
        let headers = STAMP.headers();
        let read = |headers: &[(&'static str, String)]| {
            Stamp::read(|name| {
                let found = headers.iter().find(|(other, _)| *other == name)?;
                Some(found.1.as_str())
            })
        };
        assert_eq!(read(&headers), Some(STAMP));
        for place in 0..headers.len() {
            let mut other = headers.clone();
            other[place].1 = format!("+{}", other[place].1);
            assert_eq!(read(&other), None, "{other:?}");
        }
        assert_eq!(read(&headers[1..]), None);
    }
}
