//! What keeps personal data closed: sealing per field, look-up by keyed hash, and the tokens of
//! addresses, which are derived and never stored (architecture §4).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::random::Random;

/// Where a sealed value stands. It is bound to its place: moved elsewhere it does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub table: &'static str,
    pub column: &'static str,
    pub row: &'a str,
}

impl Place<'_> {
    fn aad(&self) -> Vec<u8> {
        format!("{}\n{}\n{}", self.table, self.column, self.row).into_bytes()
    }
}

/// A sealed value: one byte of key number, a random nonce, ciphertext and tag. Empty: what stood there
/// was erased.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl Sealed {
    /// The number of the key that sealed it; `None` once erased.
    pub fn key_number(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub const fn is_erased(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Sealed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealed({} bytes)", self.0.len())
    }
}

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotOpen {
    #[error(
        "sealed with field key {number}, which is not configured: add it to secrets.field_keys"
    )]
    UnknownKey { number: u8 },
    #[error("the sealed value is damaged or stands in another place than it was sealed for")]
    Damaged,
}

/// Which kind of address a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// `/pay/{token}`, by order.
    Pay,
    /// `/s/{scan_token}`, by attempt.
    Scan,
    /// `/receipts/{token}`, by order.
    Receipt,
    /// `/bills/{token}`: drawn by lot for one payer, and not kept among the others.
    Bills,
}

impl TokenKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Scan => "scan",
            Self::Receipt => "receipt",
            Self::Bills => "bills",
        }
    }
}

/// What the store keeps of a token: enough to find it, not enough to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 16]);

/// A keyed hash of all bytes of a body: tells whether they are still the same without keeping them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BodyDigest(pub [u8; 32]);

/// The keys of `secrets.*` at work. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    keys: Arc<Keys>,
    random: Arc<dyn Random>,
}

struct Keys {
    /// By number; the last one seals, all of them open.
    field: Vec<(u8, LessSafeKey)>,
    index: hmac::Key,
    token: hmac::Key,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealer(***)")
    }
}

impl Sealer {
    /// `field_keys` are 256-bit keys by number, the newest last (at least one).
    pub fn new(
        field_keys: &[(u8, [u8; 32])],
        index_key: &[u8; 32],
        token_key: &[u8; 32],
        random: Arc<dyn Random>,
    ) -> Self {
        let field = field_keys
            .iter()
            .map(|(number, bytes)| {
                let key = UnboundKey::new(&AES_256_GCM, bytes).expect("a 256-bit key");
                (*number, LessSafeKey::new(key))
            })
            .collect();
        Self {
            keys: Arc::new(Keys {
                field,
                index: hmac::Key::new(hmac::HMAC_SHA256, index_key),
                token: hmac::Key::new(hmac::HMAC_SHA256, token_key),
            }),
            random,
        }
    }

    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Sealed {
        let (number, key) = self.keys.field.last().expect("at least one field key");
        let nonce: [u8; NONCE_LEN] = self.random.bytes();
        let mut sealed = vec![*number];
        sealed.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.aad()),
            &mut text,
        )
        .expect("a field is far below the limit of AES-GCM");
        sealed.append(&mut text);
        Sealed(sealed)
    }

    pub fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Vec<u8>, CannotOpen> {
        let (number, rest) = sealed.0.split_first().ok_or(CannotOpen::Damaged)?;
        let (nonce, text) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(CannotOpen::Damaged)?;
        let (_, key) = self
            .keys
            .field
            .iter()
            .find(|(candidate, _)| candidate == number)
            .ok_or(CannotOpen::UnknownKey { number: *number })?;
        let mut text = text.to_vec();
        let plain = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place.aad()),
                &mut text,
            )
            .map_err(|_| CannotOpen::Damaged)?;
        Ok(plain.to_vec())
    }

    /// The number of the key that seals from now on.
    pub fn newest_key(&self) -> u8 {
        let (number, _) = self.keys.field.last().expect("at least one field key");
        *number
    }

    /// The numbers of all keys that open, the newest last.
    pub fn key_numbers(&self) -> impl Iterator<Item = u8> + '_ {
        self.keys.field.iter().map(|(number, _)| *number)
    }

    /// The same value under the newest key; `None` where it stands under it already.
    pub fn reseal(&self, place: Place<'_>, sealed: &Sealed) -> Result<Option<Sealed>, CannotOpen> {
        if sealed.key_number() == Some(self.newest_key()) {
            return Ok(None);
        }
        let plain = Zeroizing::new(self.open(place, sealed)?);
        Ok(Some(self.seal(place, &plain)))
    }

    /// What a body's bytes are compared by, whatever key they are sealed under.
    pub fn body_digest(&self, body: &[u8]) -> BodyDigest {
        let tag = hmac_of(&self.keys.index, &[b"outbox.body", body]);
        BodyDigest(*tag.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }

    /// A keyed hash to look a personal value up by, or to compare it: `kind` keeps apart what must
    /// not be compared (an openid and a phone).
    pub fn index(&self, kind: &str, value: &str) -> u128 {
        first_128(hmac_of(&self.keys.index, &[kind.as_bytes(), value.as_bytes()]).as_ref())
    }

    /// The address token of a thing: always the same for the same generation, 22 characters.
    pub fn token(&self, kind: TokenKind, id: &str, generation: u32) -> String {
        let tag = hmac_of(
            &self.keys.token,
            &[
                kind.as_str().as_bytes(),
                id.as_bytes(),
                generation.to_string().as_bytes(),
            ],
        );
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..16])
    }

    /// What proves that a receipt with this number is ours: 60 bits as [`CHECK_CODE_LENGTH`] figures and
    /// capitals, so that a person can type them. Derived like a token, and kept nowhere.
    pub fn check_code(&self, number: &str) -> String {
        let tag = hmac_of(&self.keys.token, &[b"verify", number.as_bytes(), b"0"]);
        let bits = first_128(tag.as_ref());
        (1..=CHECK_CODE_LENGTH)
            .filter_map(|place| {
                let value = usize::try_from(bits >> (128 - 5 * place) & 31).ok()?;
                Some(char::from(*CHECK_CODE_SIGNS.get(value)?))
            })
            .collect()
    }
}

/// The signs of a check code: no letter that looks like a figure.
const CHECK_CODE_SIGNS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Signs of a check code.
pub const CHECK_CODE_LENGTH: usize = 12;

/// The hash under which a token is found.
pub fn token_hash(kind: TokenKind, token: &str) -> TokenHash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.as_str().as_bytes());
    context.update(b"\n");
    context.update(token.as_bytes());
    TokenHash(first_128(context.finish().as_ref()).to_be_bytes())
}

fn hmac_of(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign()
}

fn first_128(bytes: &[u8]) -> u128 {
    let first = bytes.first_chunk::<16>().expect("SHA-256 has 32 bytes");
    u128::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    const PLACE: Place<'_> = Place {
        table: "personal",
        column: "sealed",
        row: "ord_1",
    };

    fn sealer(keys: &[(u8, [u8; 32])]) -> Sealer {
        Sealer::new(keys, &[1; 32], &[2; 32], Arc::new(SeededRandom::new(7)))
    }

    #[test]
    fn opens_only_in_its_own_place() {
        let sealer = sealer(&[(1, [3; 32])]);
        let name = sealer.seal(PLACE, "测试考生".as_bytes());
        assert_eq!(sealer.open(PLACE, &name).unwrap(), "测试考生".as_bytes());
        let elsewhere = Place {
            row: "ord_2",
            ..PLACE
        };
        assert_eq!(sealer.open(elsewhere, &name), Err(CannotOpen::Damaged));
        assert_eq!(
            sealer.open(PLACE, &Sealed(vec![1, 2])),
            Err(CannotOpen::Damaged)
        );
    }

    #[test]
    fn an_older_key_still_opens_and_the_newest_seals() {
        let old = sealer(&[(1, [3; 32])]);
        let sealed = old.seal(PLACE, b"x");
        let both = sealer(&[(1, [3; 32]), (2, [4; 32])]);
        assert_eq!(both.open(PLACE, &sealed).unwrap(), b"x");
        let newer = both.seal(PLACE, b"x");
        assert_eq!(
            old.open(PLACE, &newer),
            Err(CannotOpen::UnknownKey { number: 2 })
        );
    }

    #[test]
    fn resealing_changes_the_key_and_nothing_else() {
        let sealed = sealer(&[(1, [3; 32])]).seal(PLACE, b"x");
        let both = sealer(&[(1, [3; 32]), (2, [4; 32])]);
        let newer = both.reseal(PLACE, &sealed).unwrap().unwrap();
        assert_eq!(newer.key_number(), Some(2));
        assert_eq!(sealer(&[(2, [4; 32])]).open(PLACE, &newer).unwrap(), b"x");
        assert_eq!(both.reseal(PLACE, &newer), Ok(None));
        assert_eq!(
            sealer(&[(2, [4; 32])]).reseal(PLACE, &sealed),
            Err(CannotOpen::UnknownKey { number: 1 })
        );
        let erased = Sealed(Vec::new());
        assert!(erased.is_erased());
        assert_eq!(both.open(PLACE, &erased), Err(CannotOpen::Damaged));
        assert_eq!(
            both.body_digest(b"x"),
            sealer(&[(9, [9; 32])]).body_digest(b"x")
        );
        assert_ne!(both.body_digest(b"x"), both.body_digest(b"y"));
    }

    #[test]
    fn a_check_code_is_of_one_number_and_one_key() {
        let sealer = sealer(&[(1, [3; 32])]);
        let code = sealer.check_code("01KAH8Z6D0W2F4M6P8R0T2V4X6");
        assert_eq!(code.len(), CHECK_CODE_LENGTH);
        assert!(
            code.bytes().all(|sign| CHECK_CODE_SIGNS.contains(&sign)),
            "{code}"
        );
        assert_eq!(code, sealer.check_code("01KAH8Z6D0W2F4M6P8R0T2V4X6"));
        assert_ne!(code, sealer.check_code("01KAH8Z6D0W2F4M6P8R0T2V4X7"));
        let other = Sealer::new(
            &[(1, [3; 32])],
            &[1; 32],
            &[9; 32],
            Arc::new(SeededRandom::new(7)),
        );
        assert_ne!(code, other.check_code("01KAH8Z6D0W2F4M6P8R0T2V4X6"));
    }

    #[test]
    fn tokens_differ_by_kind_id_and_generation() {
        let sealer = sealer(&[(1, [3; 32])]);
        let token = sealer.token(TokenKind::Pay, "ord_1", 0);
        assert_eq!(token.len(), 22);
        assert_eq!(token, sealer.token(TokenKind::Pay, "ord_1", 0));
        assert_ne!(token, sealer.token(TokenKind::Scan, "ord_1", 0));
        assert_ne!(token, sealer.token(TokenKind::Pay, "ord_1", 1));
        assert_ne!(
            token_hash(TokenKind::Pay, &token),
            token_hash(TokenKind::Scan, &token)
        );
    }
}
