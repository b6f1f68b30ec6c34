//! Money: whole fen of CNY in one type. No float ever touches it (clippy refuses).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The only currency there is (contract §1).
pub const CURRENCY: &str = "CNY";

/// An amount in fen (1/100 yuan). Amounts of orders and captures are 1..=[`Fen::MAX_ORDER`];
/// differences may be negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Fen(i64);

/// Why a text is not an amount in yuan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an amount in yuan with at most two decimals, such as \"140.00\"")]
pub struct NotAnAmount;

impl Fen {
    pub const ZERO: Self = Self(0);
    /// The largest amount an order may have: 10^9 fen, ten million yuan.
    pub const MAX_ORDER: Self = Self(1_000_000_000);

    pub const fn new(fen: i64) -> Self {
        Self(fen)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// Is this an amount that an order, a capture or a refund can have?
    pub const fn is_payable(self) -> bool {
        self.0 >= 1 && self.0 <= Self::MAX_ORDER.0
    }

    /// Sums without overflow; `None` where the sum cannot be represented.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// `14000` fen as `"140.00"`, the form of Alipay and of pages.
    pub fn to_yuan(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        format!("{sign}{}.{:02}", fen / 100, fen % 100)
    }

    /// Reads `"140.00"`, `"140.0"` or `"140"`; nothing else: no sign but minus, no exponent, no blanks.
    pub fn from_yuan(text: &str) -> Result<Self, NotAnAmount> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (yuan, decimals) = match digits.split_once('.') {
            Some((yuan, decimals)) if matches!(decimals.len(), 1 | 2) => (yuan, decimals),
            Some(_) => return Err(NotAnAmount),
            None => (digits, ""),
        };
        let only_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if yuan.is_empty() || !only_digits(yuan) || !only_digits(decimals) {
            return Err(NotAnAmount);
        }
        let yuan: i64 = yuan.parse().map_err(|_| NotAnAmount)?;
        let cents: i64 = format!("{decimals:0<2}").parse().map_err(|_| NotAnAmount)?;
        let fen = yuan
            .checked_mul(100)
            .and_then(|fen| fen.checked_add(cents))
            .ok_or(NotAnAmount)?;
        Ok(Self(if negative { -fen } else { fen }))
    }
}

impl fmt::Display for Fen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "¥{}", self.to_yuan())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_only_what_a_provider_may_write() {
        assert_eq!(Fen::from_yuan("140.00"), Ok(Fen::new(14_000)));
        assert_eq!(Fen::from_yuan("128.5"), Ok(Fen::new(12_850)));
        assert_eq!(Fen::from_yuan("-0.01"), Ok(Fen::new(-1)));
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "1.234",
            "1e2",
            "+1",
            " 1",
            "1,00",
            "--1",
            "９",
            "92233720368547758.08",
        ] {
            assert_eq!(Fen::from_yuan(wrong), Err(NotAnAmount), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn yuan_there_and_back(fen in -10_000_000_000i64..10_000_000_000) {
            prop_assert_eq!(Fen::from_yuan(&Fen::new(fen).to_yuan()), Ok(Fen::new(fen)));
        }
    }
}
