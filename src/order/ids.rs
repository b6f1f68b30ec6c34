//! Ids: a prefix that names the kind and a ULID (contract §1), and the numbers derived from them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Why a text is not the id that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct NotAnId {
    expected: &'static str,
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_ulid(ulid: Ulid) -> Self {
                Self(ulid)
            }

            pub const fn ulid(self) -> Ulid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix($prefix)
                    .and_then(parse_ulid)
                    .map(Self)
                    .ok_or(NotAnId { expected: concat!("\"", $prefix, "\" and a ULID") })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

prefixed_id!(/** One payment asked for by a merchant. */ OrderId, "ord_");
prefixed_id!(/** One QR code of an order. */ AttemptId, "att_");
prefixed_id!(/** One refund. */ RefundId, "rfd_");
prefixed_id!(/** One webhook event. */ EventId, "evt_");
prefixed_id!(/** An upstream enrolment system. */ MerchantId, "mch_");
prefixed_id!(/** A merchant's API key. */ KeyId, "key_");
prefixed_id!(/** What a payer owes, to be ticked and paid. */ BillId, "bil_");

/// Only the one spelling that we write: 26 upper-case characters that fit 128 bits.
fn parse_ulid(text: &str) -> Option<Ulid> {
    let ulid = Ulid::from_string(text).ok()?;
    (ulid.to_string() == text).then_some(ulid)
}

/// One school's account at a provider, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(Arc<str>);

impl AccountId {
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Which of an order's attempts: 1 for the first. At most [`AttemptNumber::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct AttemptNumber(u16);

impl AttemptNumber {
    pub const FIRST: Self = Self(1);
    /// Two characters of base 32.
    pub const MAX: Self = Self(1023);

    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    pub const fn get(self) -> u16 {
        self.0
    }

    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl TryFrom<u16> for AttemptNumber {
    type Error = NotAnId;

    fn try_from(number: u16) -> Result<Self, NotAnId> {
        Self::new(number).ok_or(NotAnId {
            expected: "an attempt's number, 1 to 1023",
        })
    }
}

impl From<AttemptNumber> for u16 {
    fn from(number: AttemptNumber) -> Self {
        number.get()
    }
}

const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Our number of a trade at the provider: the order's ULID and a two-character attempt number, 28
/// characters of `0-9A-Z`, so that a callback finds its order without a look-up (contract §1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutTradeNo {
    pub order: OrderId,
    pub attempt: AttemptNumber,
}

impl fmt::Display for OutTradeNo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = usize::from(self.attempt.get());
        write!(
            formatter,
            "{}{}{}",
            self.order.ulid(),
            char::from(BASE32[number / 32]),
            char::from(BASE32[number % 32]),
        )
    }
}

impl fmt::Debug for OutTradeNo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for OutTradeNo {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let parse = || {
            let (ulid, number) = text.is_ascii().then(|| text.split_at_checked(26))??;
            let [high, low] = number.as_bytes() else {
                return None;
            };
            let digit = |byte: &u8| BASE32.iter().position(|symbol| symbol == byte);
            let number = u16::try_from(digit(high)? * 32 + digit(low)?).ok()?;
            Some(Self {
                order: OrderId::from_ulid(parse_ulid(ulid)?),
                attempt: AttemptNumber::new(number)?,
            })
        };
        parse().ok_or(NotAnId {
            expected: "a ULID and two characters of base 32",
        })
    }
}

impl Serialize for OutTradeNo {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OutTradeNo {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_out_trade_no_finds_its_attempt(ulid: u128, number in 1u16..=1023) {
            let number = OutTradeNo {
                order: OrderId::from_ulid(Ulid(ulid)),
                attempt: AttemptNumber::new(number).unwrap(),
            };
            let text = number.to_string();
            prop_assert_eq!(text.len(), 28);
            prop_assert_eq!(text.parse(), Ok(number));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text: String) {
            prop_assert!(text.parse::<OutTradeNo>().is_err());
            prop_assert!(text.parse::<OrderId>().is_err());
        }
    }

    #[test]
    fn one_spelling_only() {
        let id = OrderId::from_ulid(Ulid(u128::MAX));
        let lower = id.to_string().to_lowercase();
        assert!(lower.parse::<OrderId>().is_err());
        assert!("ord_80000000000000000000000000".parse::<OrderId>().is_err());
    }
}
